"""The GPU backend: what stands above the definitions, on CuPy. Start reading at table.py."""
