"""A whole training step on all CPUs: one process for each, and each takes its share of the batch.

Threads (threads.py) share Python's lock. Where a NumPy call takes 20 microseconds, as in narrow nets, they meet at the lock after
nearly every call, and to be woken again costs more than the call: two threads are then no faster than one. Processes have a lock
each. So before the first step the program is forked, and from then on all of its copies play the same step, each with its own
rows of the batch, in memory of its own. They meet where a number depends on the whole batch:

    BatchNorm          mean and variance, and in the backward pass the sums of its two other terms      a few numbers a channel
    the loss           its mean                                                                         one number
    the optimizer      gradients are sums over the batch: each adds its part                            one number a parameter

After that all have the same gradients, take the same step, and have the same parameters, bit for bit. Whoever
comes first to such a meeting looks out for the others without pause, for a little while: to sleep and be woken takes longer.
D's update needs fewer meetings, mostly: numpy_sides.py.

The numbers are those of one process but for rounding, and the same at every run with as many processes. When something else
has changed networks or optimizers since the last step (a smaller batch, a checkpoint), the others are stale: they end, and new
ones are forked. Where processes cannot be forked, threads it is.
What a process does between two meetings is noted at the first step, and from then on repeated: numpy_tape.py.
Shown by: benchmarks/step.py --against minigan-threads
"""

import mmap
import os
import signal
import sys
import warnings
import weakref
from collections.abc import Callable
from contextlib import suppress
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from minigan.arrays.backend import Array, Shape
from minigan.arrays.staging import Inbox
from minigan.backends.cpu.backend import NumpyBackend
from minigan.backends.cpu.threads import BUFFER, Work, blas
from minigan.backends.cpu.trace import entered
from minigan.errors import BackendError, StateError

if TYPE_CHECKING:
    from minigan.backends.cpu.trace import Tape
    from minigan.layers import BatchNorm

MOST = (
    2**23
)  # numbers that networks and optimizers keep, some four for each parameter: with more, threads are as fast, in less memory
FEWEST = 4  # rows that are a share: with fewer, what a process does apart from its rows weighs more
ROOM = (
    2**26
)  # bytes for what processes hand to one another in numpy_sides.py; what is not used takes no memory
LOOKS = 2000  # at a semaphore before going to sleep: some 300 microseconds
NAP = 0.5  # seconds of sleep, after which it is seen whether the others still live
MESSAGE = 1000  # bytes of what went wrong in a process


def shared_memory(shape: Shape, dtype: Any) -> Array:
    """-> array of zeros that processes forked from now on have in common. Pages that nobody writes take no memory."""
    size = prod(shape) * np.dtype(dtype).itemsize
    return np.frombuffer(mmap.mmap(-1, max(1, size)), dtype, prod(shape)).reshape(shape)


class SharedInbox(Inbox):
    """The array lies in shared memory: every process reads what one has written."""

    def __init__(self, backend: NumpyBackend, shape: Shape, dtype: Any = None):
        self.array, self.rows = shared_memory(shape, backend.dtype if dtype is None else dtype), 0


class Crew:
    """`size` processes at one step. Number 0 is the caller's; the others live from start() to stop()."""

    end: Any  # a function that ends the others, once

    def __init__(self, backend: NumpyBackend, size: int, tapes: dict[Any, "Tape"]):
        from multiprocessing import get_context

        self.backend, self.size, self.rank = backend, size, 0
        self.even = True  # had all processes as many rows of every batch of this step?
        self.fellows = slice(0, size)  # those whose rows belong to the same batch as this one's
        self.unsettled: list[tuple[BatchNorm, Array, Array, int]] | None = (
            None  # see numpy_sides.py
        )
        semaphore = get_context("fork").Semaphore
        self.here = semaphore(0)  # raised by each of the others when it has come to a meeting
        self.go_on = [semaphore(0) for _ in range(size)]  # raised for each when all have
        numbers = max(sum(array.size for array in owner.kept()) for owner in backend.owners)
        self.tables = shared_memory(
            (2, size, 2 * numbers + 2), backend.dtype
        )  # used in turn: see exchange
        self.turn = 0
        self.gradients = shared_memory((size, numbers), backend.dtype)
        self.room = shared_memory((ROOM // backend.dtype.itemsize,), backend.dtype)
        self.message = shared_memory((size, MESSAGE), np.uint8)
        self.parent = os.getpid()
        self.children: list[int] = []
        self.tapes = tapes  # of passes of networks: see numpy_tape.py
        self.passes: dict[int, Any] = {}  # the last forward pass of each
        self.rows: list[int] = []  # in each batch of this step so far

    # -- the processes ------------------------------------------------------------------------

    def start(self, step: Callable[[], Any]) -> None:
        """Fork. The others wait for the first meeting, and then play step() again and again."""
        if sys.platform == "win32":  # as can_fork says
            return
        self.end = weakref.finalize(self, end_processes, self.children, self.parent)
        for rank in range(1, self.size):
            with warnings.catch_warnings():  # of Python, and of JAX where it is loaded, of threads that a child has not: it calls none
                warnings.simplefilter("ignore")
                child = os.fork()
            if child == 0:
                self.serve(step, rank)
            self.children.append(child)

    def stop(self) -> None:
        """End the others."""
        if self.rank == 0 and self.children:
            self.end()

    def serve(self, step: Callable[[], Any], rank: int) -> None:
        """The life of a process other than the caller's. It ends with the caller's."""
        try:
            self.rank = rank
            end_with_parent()
            for number in (signal.SIGINT, signal.SIGTERM):  # the caller decides what these mean
                signal.signal(number, signal.SIG_IGN)
            while True:
                self.wait(self.go_on[rank])
                self.play(step)
        except BaseException as error:
            with suppress(BaseException):
                text = f"{type(error).__name__}: {error}".encode()[: MESSAGE - 1]
                self.message[rank, : len(text)] = np.frombuffer(text, np.uint8)
        finally:
            os._exit(1)

    def play(self, step: Callable[[], Any]) -> Any:
        """step() with this process's share, on one thread."""
        backend, team, size = self.backend, self.backend.team, np.setbufsize(BUFFER)
        backend.crew, backend.team, self.even, self.rows = self, Alone(), True, []
        self.passes = {}
        try:
            with blas.single_threaded():
                result = step()
                self.meet()
        finally:
            backend.crew, backend.team = None, team
            np.setbufsize(size)
        return result

    def is_whole(self) -> bool:
        """Do all of the others still live? Nobody has to have waited for them."""
        return all(lives(child) for child in self.children)

    def begin(self) -> None:
        """The others may start with a step."""
        for semaphore in self.go_on[1:]:
            semaphore.release()

    # -- meetings -----------------------------------------------------------------------------

    def meet(self) -> None:
        """Return when all have come here: what each wrote to shared memory before, all can read after."""
        if self.rank:
            self.here.release()
            self.wait(self.go_on[self.rank])
            return
        for _ in range(1, self.size):
            self.wait(self.here)
        self.begin()

    def wait(self, semaphore: Any) -> None:
        """Return when it was raised; it is lowered again. Raises BackendError where it will never be."""
        acquire = semaphore.acquire
        for _ in range(LOOKS):
            if acquire(False):
                return
        while not acquire(True, NAP):
            if self.rank == 0:
                self.expect_whole()
            elif os.getppid() != self.parent:
                os._exit(0)

    def expect_whole(self) -> None:
        """Raises BackendError where a process has ended within a step."""
        for rank, child in enumerate(self.children, start=1):
            if not lives(child):
                text = bytes(self.message[rank]).rstrip(b"\0").decode(errors="replace")
                raise BackendError(
                    f"backend numpy: process {rank} of {self.size} ended within a step ({text or 'killed: was there enough memory?'}): "
                    "try a smaller batch or width, or --threads 1, which takes one process"
                )

    def exchange(self, values: Array) -> Array:
        """values (k,) of each process -> (size, k), to be read before the exchange after the next"""
        table = self.tables[self.turn, :, : values.size]
        self.turn = (
            1 - self.turn
        )  # who is slow may still read the last one, but not the one before: he was at this meeting
        table[self.rank] = values
        self.meet()
        return table

    def share(self, batch: Array) -> Array:
        """-> this process's rows of a batch, a view"""
        n = len(batch)
        self.rows.append(n)
        self.even = self.even and n % self.size == 0
        return batch[self.rank * n // self.size : (self.rank + 1) * n // self.size]

    def mean(self, value: Any, n: int) -> tuple[Any, float]:
        """value: mean over n rows here -> mean over the rows of all fellows; n as a part of them"""
        if self.is_alone():
            return value, 1.0
        rows = self.exchange(np.array([n, value], self.backend.dtype))[self.fellows]
        weights = rows[:, 0] / rows[:, 0].sum()
        return np.dot(weights, rows[:, 1]), float(weights[self.rank - self.fellows.start])

    @entered
    def pool(self, mean: Array, var: Array, n: int) -> int:
        """mean and biased variance (c,) of n rows here become those of the rows of all fellows -> how many these are

        var = Σ weight·(var_r + (mean_r - mean)²), so that nothing large is subtracted from something large
        """
        if self.is_alone():
            return n
        c = mean.size
        rows = self.exchange(np.concatenate([mean, var, [n]]).astype(mean.dtype))[self.fellows]
        counts = rows[:, 2 * c]
        weights = counts / counts.sum()
        np.dot(weights, rows[:, :c], out=mean)
        np.dot(weights, rows[:, c : 2 * c] + (rows[:, :c] - mean) ** 2, out=var)
        return int(counts.sum())

    @entered
    def add(self, values: Array) -> None:
        """values = Σ of all fellows'"""
        if not self.is_alone():
            np.sum(self.exchange(values.reshape(-1))[self.fellows], axis=0, out=values.reshape(-1))

    @entered
    def update_running(self, norm: "BatchNorm", mean: Array, var: Array, m: int) -> None:
        """As BatchNorm.update_running, now or when all processes know of it."""
        if self.unsettled is None:
            norm.update_running(mean, var, m)
        else:
            self.unsettled.append((norm, mean, var, m))

    def is_alone(self) -> bool:
        return self.fellows.stop - self.fellows.start == 1

    def add_gradients(self, gradient: Array) -> None:
        """gradient (size,) = Σ of everyone's, each process adding up one part of it."""
        self.meet()  # before: until then somebody may read the last one
        size, parts = gradient.size, self.gradients[:, : gradient.size]
        parts[self.rank] = gradient
        self.meet()
        mine = slice(self.rank * size // self.size, (self.rank + 1) * size // self.size)
        for other in range(1, self.size):
            np.add(parts[0, mine], parts[other, mine], out=parts[0, mine])
        self.meet()
        gradient[...] = parts[0]


class Alone:
    """A team of one, where all that Team prepares for each run, 5 microseconds, is prepared for the whole step of some 80 runs."""

    size = 1

    def run(self, work: Work, count: int) -> None:
        """As Team.run."""
        for i in range(count):
            work(i, 0)


def lives(child: int) -> bool:
    """Is a child still there? Asked once after its end, for then it is forgotten."""
    if sys.platform == "win32":
        return False
    try:
        return os.waitpid(child, os.WNOHANG) == (0, 0)
    except ChildProcessError:  # whoever ignores SIGCHLD hears nothing of its children
        return False


def end_processes(children: list[int], parent: int) -> None:
    """Whatever they are doing. Their parent does it, not another process that was forked from it and forgets its copy of the crew."""
    if sys.platform == "win32":
        return
    for child in children if os.getpid() == parent else []:
        with suppress(OSError):
            os.kill(child, signal.SIGKILL)
        with suppress(OSError):
            os.waitpid(child, 0)
    children.clear()


def end_with_parent() -> None:
    """Linux ends this process as soon as its parent has ended, however that was."""
    if sys.platform == "win32":
        return
    import ctypes

    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


class Together:
    """A step that a crew plays: what `capture` gives."""

    def __init__(self, backend: NumpyBackend, step: Callable[[], Any], size: int):
        self.backend, self.step, self.size = backend, step, size
        self.crew: Crew | None = None
        self.tapes: dict[Any, Tape] = {}
        self.known: dict[Any, Any] = {}

    def __call__(self) -> Any:
        before = self.numbers()
        if (
            self.crew is None
            or not self.known.items() <= before.items()
            or not self.crew.is_whole()
        ):
            self.stop()
            for tape in self.tapes.values():  # or layers would hold what they saw uncaptured, and its memory could not be taken again
                tape.remind()
            try:
                self.crew = Crew(self.backend, self.size, self.tapes)
                self.crew.start(self.step)
            except OSError as error:
                self.stop()
                raise BackendError(
                    f"backend numpy: could not start {self.size - 1} more processes ({error.strerror}): --threads 1 takes one"
                ) from error
        try:
            self.crew.begin()
            result = self.crew.play(self.step)
        except BaseException:
            self.stop()
            raise
        self.known = dict(
            self.numbers().items() - before.items()
        )  # of what the step changes; the rest is not its own
        return result

    def numbers(self) -> dict[Any, Any]:
        """-> what tells whether networks and optimizers are as the last step left them"""
        names = ("steps", "version", "lr")
        return {
            id(owner): tuple(getattr(owner, name, None) for name in names)
            for owner in self.backend.owners
        }

    def stop(self) -> None:
        """End the crew; the next call forks another."""
        if self.crew is not None:
            self.crew.stop()
            self.crew = None


def capture(backend: NumpyBackend, step: Callable[[], Any], rows: int) -> Callable[[], Any]:
    """As Backend.capture."""
    size = min(backend.team.size, rows // FEWEST)
    numbers = sum(array.size for owner in backend.owners for array in owner.kept())
    if size < 2 or numbers > MOST or not can_fork():
        return step
    return Together(backend, step, size)


def can_fork() -> bool:
    """On Linux; elsewhere a process with threads cannot be forked safely, or not at all."""
    if sys.platform != "linux":
        return False
    try:  # it wants semaphores of the system, which a container may lack
        from multiprocessing import get_context

        get_context("fork").Semaphore(0)
    except (ImportError, OSError):
        return False
    return True


# -- in the place of the definitions in losses.py and layers/batchnorm.py -----------------------


def mean_bce(
    logits: Array, target: float | Array, dlogits: Array, limit: float | None, backend: NumpyBackend
) -> Array:
    """As mean_bce in losses.py: the mean over all rows, wherever they are."""
    from minigan.losses import mean_bce as definition

    loss = definition(logits, target, dlogits, limit, backend)
    if backend.crew is not None:
        loss, part = backend.crew.mean(loss, logits.size)
        np.multiply(dlogits, part, out=dlogits)
    return loss


def mean_sigmoid(logits: Array, backend: NumpyBackend) -> Array:
    """As mean_sigmoid in losses.py."""
    from minigan.losses import mean_sigmoid as definition

    mean = definition(logits, backend)
    return mean if backend.crew is None else backend.crew.mean(mean, logits.size)[0]


def batchnorm_forward(
    x: Array,
    gain: Array | None,
    bias: Array | None,
    y: Array,
    x_hat: Array,
    mean: Array,
    var: Array,
    inv_std: Array,
    eps: float,
    backend: NumpyBackend,
) -> None:
    """As batchnorm_forward in layers/batchnorm.py: where BatchNorm is no part of a block, and so knows nothing of a crew."""
    from minigan.layers.batchnorm import batchnorm_forward as definition

    if backend.crew is not None:
        raise StateError(
            "a layer derived from BatchNorm sees one process's rows alone: play this step uncaptured, "
            'or take get_backend("numpy", threads=1)'
        )
    definition(x, gain, bias, y, x_hat, mean, var, inv_std, eps, backend)
