"""The fast CPU backend: faster versions of the definitions. Start reading at table.py."""
