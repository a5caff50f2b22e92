"""Faster kernels for the CPU backend, compiled by numba: the extra `numba`. table.py lists them."""
