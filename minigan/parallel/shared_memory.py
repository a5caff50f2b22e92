"""A process group on one machine: forked processes that share memory.

The program is forked before the first step. From then on all processes repeat the same step, each
in its own memory, and exchange data through shared memory. They wait for each other at barriers. A
process that arrives early spins on a semaphore for a while, because sleeping and waking up usually
takes longer than the wait.

Linux only: elsewhere a process with threads cannot be forked safely (see fork.py), or not at all.
(On Windows the modules os and signal lack some names, hence the ignored type errors.)
"""

import errno
import mmap
import os
import signal
import sys
import weakref
from collections.abc import Callable
from contextlib import suppress
from math import prod
from typing import Any, NoReturn

import numpy as np

from minigan.arrays import Array, Shape
from minigan.concurrency import can_start, warn, without_warnings
from minigan.parallel.fork import fork_when_quiet
from minigan.parallel.group import Group
from minigan.stop_signals import stop_signals

SMALL = 2**21  # bytes: arrays are exchanged as a whole if those of all processes are no larger
SPIN = 2000  # polls of a semaphore before sleeping: about 300 microseconds
SLEEP = 0.5  # seconds between looks whether the others, or the parent, are alive
MESSAGE = 1000  # bytes of an error message


def shared_memory(shape: Shape, dtype: Any) -> Array:
    """-> array of zeros, shared by all processes forked later. Unused pages take no memory."""
    size = prod(shape) * np.dtype(dtype).itemsize
    return np.frombuffer(mmap.mmap(-1, max(1, size)), dtype, prod(shape)).reshape(shape)


def can_fork() -> bool:
    """Is this Linux, with the semaphores that a container may lack? Then one line says so."""
    if sys.platform != "linux":
        return False
    try:
        from multiprocessing import get_context

        get_context("fork").Semaphore(0)
    except (ImportError, OSError) as error:
        warn(f"minigan: no semaphores here ({error}): threads do the work of processes")
        return False
    return True


class SharedMemoryGroup(Group):
    """SharedMemoryGroup(size, largest): rank 0 is the caller's process.

    largest  bytes of the largest array that is reduced
    The other processes live from start() to stop(), and end with the caller's.
    """

    def __init__(self, size: int, largest: int):
        self.size, self.largest = size, largest
        self.children: list[int] = []
        self.small_each = SMALL // size // 64 * 64  # bytes of an array, aligned

    # -- the processes ------------------------------------------------------------------

    def start(self, step: Callable[[], object]) -> None:
        """Fork. The others wait for begin_step, and then run step() each time. Raises OSError."""
        from multiprocessing import get_context

        if not can_start(self.size - 1):  # or BLAS, which ends its threads at a fork, has no room
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))  # to start them again
        semaphore = get_context("fork").Semaphore
        self.arrived = semaphore(0)  # raised by each of the others at a barrier
        self.proceed = [semaphore(0) for _ in range(self.size)]  # raised for each once all arrived
        # alternately: see all_gather
        self.small = shared_memory((2, self.size, self.small_each), np.uint8)
        self.parity = 0
        self.large = shared_memory((self.size, self.largest), np.uint8)
        self.message = shared_memory((self.size, MESSAGE), np.uint8)
        self.parent = os.getpid()
        self.end = weakref.finalize(self, end_processes, self.children, self.parent)  # works once
        for rank in range(1, self.size):
            with without_warnings():  # Python, and JAX, warn of threads a child lacks
                child = fork_when_quiet()
            if child == 0:
                self.serve(step, rank)
            self.children.append(child)

    def stop(self) -> None:
        """End the others."""
        if self.rank == 0 and self.children:
            self.end()

    def serve(self, step: Callable[[], object], rank: int) -> NoReturn:
        """The main loop of a process other than the caller's."""
        try:
            self.rank = rank
            for number in stop_signals():  # the caller's process decides
                signal.signal(number, signal.SIG_IGN)
            signal.signal(signal.SIGALRM, self.end_with_parent)  # type: ignore[attr-defined, unused-ignore]
            signal.setitimer(signal.ITIMER_REAL, SLEEP, SLEEP)  # type: ignore[attr-defined, unused-ignore]
            while True:
                self.wait(self.proceed[rank])
                step()
        except BaseException as error:
            with suppress(BaseException):
                text = f"{type(error).__name__}: {error}".encode()[: MESSAGE - 1]
                self.message[rank, : len(text)] = np.frombuffer(text, np.uint8)
        finally:
            os._exit(1)

    def end_with_parent(self, number: int, frame: object) -> None:
        """Called every SLEEP: end this process if the caller's has ended, even within a step."""
        if os.getppid() != self.parent:
            os._exit(1)

    def begin_step(self) -> None:
        """Let the others begin a step."""
        for semaphore in self.proceed[1:]:
            semaphore.release()

    def is_alive(self) -> bool:
        """Are all of the others alive?"""
        return bool(self.children) and all(is_alive(child) for child in self.children)

    # -- the operations ----------------------------------------------------------------------

    def barrier(self) -> None:
        if self.rank:
            self.arrived.release()
            self.wait(self.proceed[self.rank])
            return
        for _ in range(1, self.size):
            self.wait(self.arrived)
        self.begin_step()

    def wait(self, semaphore: Any) -> None:
        """Wait until it is raised, then lower it. Raises BackendError if it never will be."""
        acquire = semaphore.acquire
        for _ in range(SPIN):
            if acquire(False):
                return
        while not acquire(True, SLEEP):
            if self.rank == 0:
                self.expect_alive()

    def expect_alive(self) -> None:
        """Raises BackendError if a process has ended during a step."""
        for rank, child in enumerate(self.children, start=1):
            if not is_alive(child):
                text = bytes(self.message[rank]).rstrip(b"\0").decode(errors="replace")
                self.abort(
                    f"backend numpy: process {rank} of {self.size} ended during a step "
                    f"({text or 'killed: was there enough memory?'}): "
                    "try a smaller batch or width, or --threads 1, which runs one process"
                )

    def all_gather(self, values: np.ndarray) -> np.ndarray:
        # a slow process may still be reading the previous table, but not the one before: it has
        # passed this barrier
        self.parity = 1 - self.parity
        table: np.ndarray = self.small[self.parity, :, : values.nbytes].view(values.dtype)
        table[self.rank] = values
        self.barrier()
        return table

    def all_reduce(self, array: np.ndarray) -> None:
        flat = array.reshape(-1)
        if flat.nbytes <= self.small_each:
            np.sum(self.all_gather(flat), axis=0, out=flat)
            return
        self.barrier()  # before this, a process may still be reading the last array
        parts = self.large[:, : flat.nbytes].view(flat.dtype)
        parts[self.rank] = flat
        self.barrier()
        mine = self.shard(parts[0])
        for other in range(1, self.size):  # each process adds up one part of the array
            np.add(mine, self.shard(parts[other]), out=mine)
        self.barrier()
        flat[...] = parts[0]


def is_alive(child: int) -> bool:
    """Is a child alive? After its end, ask only once: then the system forgets it."""
    try:
        return os.waitpid(child, os.WNOHANG) == (0, 0)  # type: ignore[attr-defined, unused-ignore]
    except ChildProcessError:  # SIGCHLD is ignored here, so children are not reported
        return False


def end_processes(children: list[int], parent: int) -> None:
    """Kill them. Only their parent does: a process forked from it forgets its copy of the group."""
    for child in children if os.getpid() == parent else []:
        with suppress(OSError):
            os.kill(child, signal.SIGKILL)  # type: ignore[attr-defined, unused-ignore]
        with suppress(OSError):
            os.waitpid(child, 0)
    children.clear()
