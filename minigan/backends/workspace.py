"""Memory that the fast backends reuse: after the first steps, a step allocates nothing.

(But for three things on a CPU: the losses run the definitions, a few numbers per image; BatchNorm
pools its statistics, a few numbers per channel; optimizers take two blocks of numbers per thread.)
"""

import threading
from math import prod
from sys import getrefcount
from typing import Any

import numpy as np

from minigan.arrays import Array, Backend, Shape
from minigan.parallel.group import Group

FEW = 8  # at most this many scalars are kept by one round at a time
probe = [np.empty(1)]
UNSHARED = getrefcount(probe[0])  # reference count of an array that only a list holds


class Workspace:
    """Named memory, allocated once and reused.

    A name's memory grows to the largest size requested and never shrinks, so a smaller last
    batch is a leading view of the same memory.
    """

    def __init__(self, backend: Backend):
        self.backend = backend
        self.memory: dict[str, Array] = {}

    def get(self, name: str, shape: Shape, dtype: Any = None) -> Array:
        """-> array `shape`, valid until the name is requested again; its content is undefined."""
        dtype = self.backend.dtype if dtype is None else np.dtype(dtype)
        size = prod(shape)
        flat = self.memory.get(name)
        if flat is None or flat.size < size or flat.dtype != dtype:
            flat = self.memory[name] = self.backend.xp.empty(size, dtype)
        return flat[:size].reshape(shape)


class OutputPool:
    """Arrays given to callers, recycled when nothing refers to them or to a view of them.

    Views keep their owner alive, so its reference count shows it. In a training loop two arrays of
    one name alternate; results that a caller keeps stay valid, and new ones are allocated.
    """

    def __init__(self, backend: Backend):
        self.backend = backend
        self.pool: dict[tuple[str, Shape], list[Array]] = {}

    def new_output(self, name: str, shape: Shape) -> Array:
        """-> array `shape` that nobody else holds."""
        size = prod(shape)
        pool = self.pool.setdefault((name, shape[1:]), [])
        for i in range(len(pool)):
            if getrefcount(pool[i]) == UNSHARED and pool[i].size >= size:
                return pool[i][:size].reshape(shape)
        flat = self.backend.xp.empty(size, self.backend.dtype)
        pool[:] = [*pool[-1 if size > 1 else -FEW :], flat]
        return flat[:].reshape(shape)


class ScratchMemory(threading.local):
    """What operations write temporarily: one for each thread that calls them."""

    def __init__(self, backend: Backend):  # called again in each thread
        self.workspace, self.outputs = Workspace(backend), OutputPool(backend)


class FastBackend(Backend):
    """The base of the CPU and the GPU backend.

    ranks  the processes that a launcher started, which run captured steps together
    """

    def __init__(self, dtype: Any, xp: Any, ranks: Group | None = None):
        super().__init__(dtype, xp)
        self.memory = ScratchMemory(self)
        self.group, self.ranks = Group(), ranks or Group()  # group: of the step that is run here

    @property
    def workspace(self) -> Workspace:
        return self.memory.workspace

    @property
    def outputs(self) -> OutputPool:
        return self.memory.outputs

    def scratch(self, name: str, shape: Shape, dtype: Any = None) -> Array:
        """-> array valid until the calling operation returns or the name is requested again."""
        return self.memory.workspace.get(name, shape, dtype)

    def draw_uniform(self, generator: np.random.Generator, out: Array) -> None:
        """out = numbers from U[0, 1), drawn on the host: every backend runs the same experiment."""
        self.put(generator.random(out.shape, dtype=self.dtype), out)

    def shard(self, batch: Array) -> Array:
        return self.group.shard(batch)

    def all_reduce(self, array: Array) -> None:
        self.group.all_reduce(array)

    def copy_out(self, array: Array, name: str) -> Array:
        result = self.memory.outputs.new_output(name, array.shape)
        result[...] = array
        return result
