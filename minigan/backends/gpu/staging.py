"""The inbox on a GPU: two halves of pinned memory take turns, so that the host need not wait for the device.

A GPU copies from pinned memory by itself, when all that was asked for before is done; a copy from other
memory makes the host wait for that. An event after each copy tells when its half may be written again: two sends later
it nearly always has happened.
"""

from math import prod
from typing import Any

import numpy as np

from minigan.arrays.backend import Array, Shape
from minigan.arrays.staging import Inbox
from minigan.backends.gpu.backend import CupyBackend


class PinnedInbox(Inbox):
    """Inbox on CuPy."""

    def __init__(self, backend: CupyBackend, shape: Shape, dtype: Any = None):
        super().__init__(backend, shape, dtype)
        cuda, size, dtype = backend.xp.cuda, prod(shape), self.array.dtype
        memory = [cuda.alloc_pinned_memory(size * dtype.itemsize) for _ in range(2)]
        self.halves = [np.frombuffer(half, dtype, size).reshape(shape) for half in memory]
        self.current_stream = cuda.get_current_stream
        self.copied = [cuda.Event(disable_timing=True) for _ in range(2)]
        self.turn = 0

    def open(self, n: int) -> np.ndarray:
        self.turn, self.rows = 1 - self.turn, n
        self.copied[self.turn].synchronize()
        return self.halves[self.turn][:n]

    def send(self) -> Array:
        array = self.array[: self.rows]
        array.set(self.halves[self.turn][: self.rows], stream=self.current_stream())
        self.copied[self.turn].record()
        return array
