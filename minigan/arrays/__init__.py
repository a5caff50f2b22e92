"""The base: types, the plain backend, im2col, staging buffers."""

from minigan.arrays.backend import Backend
from minigan.arrays.types import Array, Padding, Pair, Shape

__all__ = ["Array", "Backend", "Padding", "Pair", "Shape"]
