"""The batch in chunks, and sums over chunks in an order that depends on nothing but their number."""

from math import prod

import numpy as np

from minigan.backends.base import Workspace

# Bytes that the largest array of a chunk may fill. A core's own cache has 1 or 2 MiB, but its share of the common
# cache serves a large copy almost as well, and every NumPy call costs a microsecond in which the other threads wait
CACHE = 2**22


class Desk(Workspace):
    """The scratch memory of one thread."""

    def __init__(self, backend):
        super().__init__(backend)
        self.ones = backend.empty((0,))

    def frame(self, name, shape, dtype):
        """-> array that is zero but for what this name's user has written: a frame to put pictures into.

        shape  (n, ...): a name has one shape, but for n
        """
        name = (name, *shape[1:])
        if self.memory.get(name) is None or self.memory[name].size < prod(shape):
            self.memory[name] = np.zeros(prod(shape), dtype)
        return self.memory[name][: prod(shape)].reshape(shape)


def chunks(n, images, workers):
    """n images in chunks of at most `images`, as many for each worker -> list of slices."""
    count = min(n, workers * -(-n // (workers * min(images, n))))
    return [slice(i * n // count, (i + 1) * n // count) for i in range(count)]


def contiguous(array, name, memory):
    """-> array, or a copy of it in the layer's memory where it is not contiguous."""
    if array.flags.c_contiguous:
        return array
    copy = memory.get(f"contiguous {name}", array.shape, array.dtype)
    copy[...] = array
    return copy


def column_sums(rows, out, desk):
    """out (c,) = sums over the rows (m, c), as a product with a row of ones: BLAS is ten times np.sum's speed here."""
    if desk.ones.size < len(rows):
        desk.ones = np.ones(len(rows), rows.dtype)
    np.matmul(desk.ones[: len(rows)], rows, out=out)


def add_sums(sums, total, memory):
    """total (c,) += Σ over chunks of sums (chunks, c)"""
    out = memory.get("sum of chunks", total.shape, total.dtype)
    np.sum(sums, axis=0, out=out)
    np.add(total, out, out=total)


def spread(vector, name, pixels, memory):
    """vector (c,) -> (pixels·c,), once for each pixel: NumPy is twice as fast along a long row as along many short ones."""
    row = memory.get(name, (pixels, *vector.shape), vector.dtype)
    row[...] = vector
    return row.reshape(-1)
