"""The GPU backend: faster versions of the definitions, on CuPy. Start reading at table.py."""
