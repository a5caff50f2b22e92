"""The CPU backend: NumPy on threads and processes. table.py lists its faster operations."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from minigan.arrays import Array, Shape
from minigan.arrays.backend import Operations
from minigan.arrays.staging import StagingBuffer
from minigan.backends.cpu.chunks import ThreadWorkspace
from minigan.backends.cpu.threads import OneThread, get_team
from minigan.backends.workspace import FastBackend, ScratchMemory
from minigan.checks import expect_size
from minigan.errors import StateError
from minigan.parallel.group import Group
from minigan.parallel.shared_memory import shared_memory


class SharedStagingBuffer(StagingBuffer):
    """A staging buffer in shared memory: all processes read the rows that one has written."""

    def __init__(self, backend: "CpuBackend", shape: Shape, dtype: Any = None):
        self.array, self.rows = shared_memory(shape, dtype or backend.dtype), 0
        self.process = os.getpid()

    def host_rows(self, n: int) -> np.ndarray:
        if self.process != os.getpid():
            raise StateError("a staging buffer is shared with the process that made it: make one")
        return super().host_rows(n)


class CpuMemory(ScratchMemory):
    """Scratch memory for the workers of a team too."""

    def __init__(self, backend: FastBackend, workers: int):
        super().__init__(backend)
        self.workspaces = [ThreadWorkspace(backend) for _ in range(workers)]


class CpuBackend(FastBackend):
    """CpuBackend(dtype, operations=table.OPERATIONS): made by get_backend.

    threads   how many CPUs to work on: as threads, or as processes in a captured step; by default
              all that this process may use
    winograd  False: without winograd.py; slower with many channels, smaller rounding errors
    ranks     as in FastBackend
    compiled  does `operations` have kernels that numba compiles?
    """

    name = "numpy"
    memory: CpuMemory

    def __init__(
        self,
        dtype: Any = "float32",
        threads: int | None = None,
        winograd: bool = True,
        operations: Operations | None = None,
        ranks: Group | None = None,
        compiled: bool = False,
    ):
        super().__init__(dtype, np, ranks)
        if threads is not None:
            threads = expect_size("threads", threads, 1, 1024)
        self.winograd, self.compiled = winograd, compiled
        self.operations = operations or {}
        team = get_team(threads)
        self.team = OneThread(team.size) if self.ranks.size > 1 else team
        self.memory = CpuMemory(self, team.size)

    def run(self, work: Callable[[int, ThreadWorkspace, int], object], count: int) -> None:
        """work(i, workspace, worker) for i in 0..count-1, on the team, each with scratch memory.

        It belongs to the calling thread: another may use this backend at the same time.
        """
        workspaces = self.memory.workspaces
        self.team.run(lambda i, worker: work(i, workspaces[worker], worker), count)

    def opaque_call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """function(*arguments): a call that a trace records as a whole, see trace.py."""
        return function(*arguments)

    def draw_uniform(self, generator: np.random.Generator, out: Array) -> None:
        generator.random(dtype=self.dtype, out=out)  # in place

    def staging_buffer(self, shape: Shape, dtype: Any = None) -> StagingBuffer:
        return SharedStagingBuffer(self, shape, dtype)
