"""The batch in chunks, and sums over chunks in an order that depends on nothing but their number."""

from math import prod
from typing import Any

import numpy as np

from minigan.arrays.backend import Array, Backend, Shape, Workspace

# Bytes that the largest array of a chunk may fill. A core's own cache has 1 or 2 MiB, but its share of the common
# cache serves a large copy almost as well, and every NumPy call costs a microsecond in which the other threads wait
CACHE = 2**21


class Desk(Workspace):
    """The scratch memory of one thread."""

    def __init__(self, backend: Backend):
        super().__init__(backend)
        self.ones: Array = backend.empty((0,))
        self.frames: dict[tuple[str, Shape], Array] = {}  # name, shape of one image -> memory

    def frame(self, name: str, shape: Shape, dtype: Any) -> Array:
        """-> array that is zero but for what this name's user has written: a frame to put pictures into.

        shape  (n, ...): a name has one shape, but for n
        """
        key, size = (name, shape[1:]), prod(shape)
        if key not in self.frames or self.frames[key].size < size:
            self.frames[key] = np.zeros(size, dtype)
        return self.backend.lent(self.frames[key][:size].reshape(shape))


def chunks(n: int, images: int, workers: int) -> list[slice]:
    """n images in chunks of at most `images`, as many for each worker -> list of slices."""
    count = min(n, workers * -(-n // (workers * min(images, n))))
    return [slice(i * n // count, (i + 1) * n // count) for i in range(count)]


def contiguous(array: Array, name: str, memory: Workspace) -> Array:
    """-> array, or a copy of it in the layer's memory where it is not contiguous."""
    if array.flags.c_contiguous:
        return array
    copy = memory.get(f"contiguous {name}", array.shape, array.dtype)
    copy[...] = array
    return copy


def column_sums(rows: Array, out: Array, desk: Desk) -> None:
    """out (c,) = sums over the rows (m, c), as a product with a row of ones: BLAS is ten times np.sum's speed here."""
    if desk.ones.size < len(rows):
        desk.ones = np.ones(len(rows), rows.dtype)
    np.matmul(desk.ones[: len(rows)], rows, out=out)


def add_sums(sums: Array, total: Array, memory: Workspace) -> None:
    """total (c,) += Σ over chunks of sums (chunks, c)"""
    out = memory.get("sum of chunks", total.shape, total.dtype)
    np.add.reduce(sums, axis=0, out=out)
    np.add(total, out, out=total)


def spread(vector: Array, name: str, pixels: int, memory: Workspace) -> Array:
    """vector (c,) -> (pixels·c,), once for each pixel: NumPy is twice as fast along a long row as along many short ones."""
    row = memory.get(name, (pixels, *vector.shape), vector.dtype)
    row[...] = vector
    return row.reshape(-1)
