"""Staging buffers: arrays that stay in place while the host rewrites them.

A captured step (backends/gpu/graph.py, backends/cpu/parallel_step.py) reads its inputs from the
same memory at every call. So the host writes there before each call:

    buffer.host_rows(n)[...] = images    memory on the host
    x = buffer.upload()                  the array that the step reads
"""

from typing import Any

import numpy as np

from minigan.arrays.types import Array, Shape


class StagingBuffer:
    """StagingBuffer(backend, (rows, ...)): made by backend.staging_buffer.

    On a CPU the host writes the array itself.
    """

    def __init__(self, backend: Any, shape: Shape, dtype: Any = None):
        self.array = backend.xp.empty(shape, dtype or backend.dtype)
        self.rows = 0

    def host_rows(self, n: int) -> np.ndarray:
        """-> host memory for n rows, to write before upload()."""
        self.rows = n
        host: np.ndarray = self.array[:n]
        return host

    def upload(self) -> Array:
        """-> the first n rows of the array, as written; valid until the next host_rows()."""
        return self.array[: self.rows]
