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


class ThreadWorkspace(Workspace):
    """The scratch memory of one worker."""

    def __init__(self, backend: FastBackend):
        super().__init__(backend)
        self.ones: Array = np.empty(0)
        self.frames: dict[tuple[str, Shape], Array] = {}  # name, shape of one image -> memory

    def frame(self, name: str, shape: Shape, dtype: Any) -> Array:
        """-> array of zeros, except where the caller writes: a border around images.

        shape  (n, ...): a name has one shape, except for n
        """
        key, size = (name, shape[1:]), prod(shape)
        if key not in self.frames or self.frames[key].size < size:
            self.frames[key] = np.zeros(size, dtype)
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
    """out (c,) = sums over the rows (m, c), as a product with ones: ten times as fast as np.sum."""
    if workspace.ones.size < len(rows):
        workspace.ones = np.ones(len(rows), rows.dtype)
    workspace.backend.xp.matmul(workspace.ones[: len(rows)], rows, out=out)


def add_sums(sums: Array, total: Array, memory: Workspace) -> None:
    """total (c,) += Σ over chunks of sums (chunks, c)"""
    xp, out = memory.backend.xp, memory.get("sum of chunks", total.shape, total.dtype)
    xp.add.reduce(sums, axis=0, out=out)
    xp.add(total, out, out=total)


def tile_row(vector: Array, name: str, pixels: int, memory: Workspace) -> Array:
    """vector (c,) -> (pixels·c,), repeated for each pixel: NumPy is faster on one long row."""
    row = memory.get(name, (pixels, *vector.shape), vector.dtype)
    memory.backend.xp.copyto(row, vector)
    return row.reshape(-1)
