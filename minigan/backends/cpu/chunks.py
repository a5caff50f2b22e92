"""The batch in chunks, and deterministic sums over them: the order depends only on their number."""

from math import prod
from typing import Any

import numpy as np

from minigan.arrays import Array, Shape
from minigan.backends.workspace import FastBackend, Workspace

# Bytes that the largest array of a chunk may fill. A core's own cache has 1 or 2 MiB, but its share
# of the shared cache is almost as good for a large copy, and every NumPy call costs a microsecond
# in which the other threads wait
CACHE = 2**21
LINE = 64  # bytes in a line of a cache: a vector that lies in two takes longer to load
STRIPS = 256  # float32 adds up this many numbers one after another, or up to twice as many


class ThreadWorkspace(Workspace):
    """The scratch memory of one worker."""

    def __init__(self, backend: FastBackend):
        super().__init__(backend)
        self.ones = np.ones(2 * STRIPS, backend.dtype)
        self.frames: dict[tuple[str, Shape], Array] = {}  # name, shape of one image -> memory

    def frame(self, name: str, shape: Shape, dtype: Any) -> Array:
        """-> array (n, ...) of zeros, except where the caller writes: a border around images."""
        key, size = (name, shape[1:]), prod(shape)
        if key not in self.frames or self.frames[key].size < size:
            room = np.zeros(size + LINE, dtype)
            start = -room.ctypes.data % LINE // room.itemsize
            self.frames[key] = room[start : start + size]
        return self.frames[key][:size].reshape(shape)


def chunks(n: int, images: int, workers: int) -> list[slice]:
    """n images -> slices of at most `images` each, the same number for each worker."""
    count = min(n, workers * -(-n // (workers * min(images, n))))
    return [slice(i * n // count, (i + 1) * n // count) for i in range(count)]


def contiguous(array: Array, name: str, memory: Workspace) -> Array:
    """-> array, or a contiguous copy of it in the block's memory."""
    if array.flags.c_contiguous:
        return array
    copy = memory.get(f"contiguous {name}", array.shape, array.dtype)
    memory.backend.xp.copyto(copy, array)
    return copy


def column_sums(rows: Array, out: Array, workspace: ThreadWorkspace) -> None:
    """out (c,), float64 = sums over the rows (m, c), to a few roundings of float32.

    A product with ones is ten times as fast as np.sum, but BLAS adds row after row in float32. So
    long columns are added up in rounds: strips of neighboring rows as if each were one long row;
    then the rows of the strip that this leaves, and those behind the last strip.
    """
    xp, (m, c) = workspace.backend.xp, rows.shape
    while m >= 2 * STRIPS:
        strip = m // STRIPS
        count = m // strip
        whole = count * strip
        sums = workspace.get(f"sums of {count} x {strip}", (strip + m - whole, c), rows.dtype)
        strips = rows[:whole].reshape(count, strip * c)
        xp.matmul(workspace.ones[:count], strips, out=sums[:strip].reshape(-1))
        if whole < m:
            xp.copyto(sums[strip:], rows[whole:])
        rows, m = sums, len(sums)
    xp.matmul(workspace.ones[:m], rows, out=out)


def tile_row(vector: Array, name: str, pixels: int, memory: Workspace) -> Array:
    """vector (c,) -> (pixels·c,), repeated for each pixel: NumPy is faster on one long row."""
    row = memory.get(name, (pixels, *vector.shape))
    memory.backend.xp.copyto(row, vector)
    return row.reshape(-1)
