"""A whole training step on all CPUs: one process per CPU, each on its rows of the batch.

Threads (threads.py) share Python's global lock. If a NumPy call takes 20 microseconds, as in narrow
nets, they contend for the lock after nearly every call, and waking up costs more than the call: two
threads are then no faster than one. Each process has its own lock. So a process group
(parallel/shared_memory.py) runs the step, and each process traces its passes (trace.py).

The results are those of one process up to rounding, and the same in every run with this number of
processes. If something else has changed networks or optimizers since the last step (a smaller
batch, a checkpoint), the other processes are stale: they end, and new ones are forked. If processes
cannot be forked, because the system or other threads of the program do not allow it, one line says
so, and threads do the work.

Where a launcher has started the processes, on one machine or many (parallel/mpi.py), they are the
group, and nothing is forked.
Shown by: benchmarks/step.py --against minigan-threads
"""

import weakref
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from minigan.arrays.backend import Call, MakeStep, Stateful
from minigan.backends.cpu.backend import CpuBackend
from minigan.backends.cpu.threads import BUFFER, blas
from minigan.backends.cpu.trace import TracingBackend
from minigan.concurrency import InUse, warn
from minigan.parallel.shared_memory import SharedMemoryGroup, can_fork

MAX_STATE = 2**23  # numbers of networks and optimizers; above: threads, as fast with less memory
MIN_ROWS = 4  # in a shard; with fewer, a process's other work weighs more


class ParallelStep:
    """A step that a process group computes: the result of `capture`."""

    def __init__(
        self, parent: CpuBackend, make_step: MakeStep, stateful: Sequence[Stateful], size: int
    ):
        arrays = [array for each in stateful for array in each.state_arrays()]
        self.stateful = stateful
        # BatchNorm adds up two float64 where the network has one float32
        self.group = SharedMemoryGroup(size, 4 * max(array.nbytes for array in arrays))
        self.step = make_step(TracingBackend(parent, self.group))
        self.on_threads = make_step(parent)  # now: keeping make_step might close a reference cycle
        self.can_fork, self.in_use = True, InUse("a captured step")
        self.known: list[tuple[Any, ...]] | None = None  # the state after the last step
        # the group itself is in reference cycles, which only the garbage collector finds
        weakref.finalize(self, self.group.stop)

    def __call__(self) -> Any:
        with self.in_use, blas.single_threaded():
            return self.on_processes() if self.can_fork else self.on_threads()

    def on_processes(self) -> Any:
        group = self.group
        if self.state() != self.known or not group.is_alive():
            self.stop()
            try:
                group.start(self.play)
            except OSError as error:
                self.stop()
                warn(
                    f"minigan: could not start {group.size - 1} more processes ({error.strerror}): "
                    "threads do the work, with the same results up to rounding"
                )
                self.can_fork = False
                return self.on_threads()
        try:
            group.begin_step()
            result = self.play()
        except BaseException:
            self.stop()
            raise
        self.known = self.state()
        return result

    def play(self) -> Any:
        """The step with this process's shard."""
        result = on_one_thread(self.step)
        self.group.barrier()
        return result

    def state(self) -> list[tuple[Any, ...]]:
        """-> values that show whether anything else has changed networks or optimizers.

        But not whether a part of an array was written to, as by W[0] = 1: assign the whole array.
        """
        names = ("steps", "version", "lr")
        known = [tuple(getattr(each, name, None) for name in names) for each in self.stateful]
        buffers = [getattr(each, "buffers", {}) for each in self.stateful]
        return known + [tuple(array.tobytes() for array in each.values()) for each in buffers]

    def stop(self) -> None:
        """End the other processes; the next call forks new ones."""
        self.known = None
        self.group.stop()


def on_one_thread(step: Call) -> Any:
    """-> step()"""
    with np.errstate(), blas.single_threaded():  # errstate restores the size of the buffers, too
        np.setbufsize(BUFFER)
        return step()


def capture(
    backend: CpuBackend, make_step: MakeStep, stateful: Sequence[Stateful], rows: int = 0
) -> Call:
    """As Backend.capture."""
    if backend.ranks.size > 1:  # a launcher has started the others
        return partial(on_one_thread, make_step(TracingBackend(backend, backend.ranks)))
    size = min(backend.team.size, rows // MIN_ROWS)
    numbers = sum(array.size for each in stateful for array in each.state_arrays())
    if size < 2 or numbers > MAX_STATE or not can_fork():
        return make_step(backend)
    return ParallelStep(backend, make_step, stateful, size)
