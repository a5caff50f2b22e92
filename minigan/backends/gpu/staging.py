"""The staging buffer on a GPU: two halves of pinned memory alternate, so that the host never waits.

A GPU copies from pinned memory by itself, once everything launched before is done; a copy from
other memory makes the host wait for that. An event after each copy signals that its half may be
written again: two uploads later it has nearly always happened.
"""

from functools import cached_property
from typing import Any

import numpy as np

from minigan.arrays import Array, Backend, Shape
from minigan.arrays.staging import StagingBuffer


class PinnedStagingBuffer(StagingBuffer):
    """A staging buffer on CuPy."""

    def __init__(self, backend: Backend, shape: Shape, dtype: Any = None):
        super().__init__(backend, shape, dtype)
        self.cuda = cuda = backend.xp.cuda
        self.copied = [cuda.Event(disable_timing=True) for _ in range(2)]
        self.slot = 0

    @cached_property
    def halves(self) -> list[np.ndarray]:  # never needed for images that are on the device already
        array = self.array
        memory = [self.cuda.alloc_pinned_memory(array.nbytes) for _ in range(2)]
        return [np.frombuffer(one, array.dtype, array.size).reshape(array.shape) for one in memory]

    def host_rows(self, n: int) -> np.ndarray:
        self.slot, self.rows = 1 - self.slot, n
        self.copied[self.slot].synchronize()
        return self.halves[self.slot][:n]

    def upload(self) -> Array:
        array = self.array[: self.rows]
        array.set(self.halves[self.slot][: self.rows], stream=self.cuda.get_current_stream())
        self.copied[self.slot].record()
        return array
