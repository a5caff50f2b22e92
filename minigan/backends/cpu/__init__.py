"""The fast CPU backend: what stands above the definitions. Start reading at table.py."""
