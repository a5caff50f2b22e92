"""One Python thread for each CPU, which run pieces of one operation side by side.

NumPy holds Python's lock only to set an operation up: while it multiplies, adds or
copies an array, another thread may do the same. So an operation is cut into chunks of
the batch, small enough for a core's own cache, and each thread works through its share
of the chunks by itself: fill a column matrix, multiply it, add, all in cache. BLAS's own
threads would meet at the end of every single product instead, so within `Team.run` it
is held to one.

Which thread takes which chunk is fixed by their numbers alone. So a sum over chunks has
the same order, and a result the same bits, however busy the machine is.
Shown by: benchmarks/step.py, with --threads 1 against the default
"""

import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from queue import SimpleQueue
from typing import Any

import numpy as np

Work = Callable[
    [int, int], object
]  # (i, worker): one piece of an operation, and whose scratch memory it may use
BUFFER = 1024  # numbers in the buffers that NumPy makes for operations on views; with its 8192 these are slower


class Blas:
    """NumPy's BLAS, held to one thread while teams work and set back after the last of them."""

    get: Callable[[], int] | None  # how many threads it has; None where it cannot be held
    set: Callable[[int], object] | None

    def __init__(self) -> None:
        self.get, self.set = find_openblas()
        self.users, self.before = 0, 1
        self.forget()

    def forget(self) -> None:
        """Nobody uses it: at first, and in a forked child, even if the parent was at work."""
        self.lock = threading.Lock()
        if self.set is not None and self.users:
            self.set(self.before)
        self.users = 0

    @contextmanager
    def single_threaded(self) -> Iterator[None]:
        if self.get is None or self.set is None:
            yield
            return
        with self.lock:
            if self.users == 0:
                self.before = self.get()
                self.set(1)
            self.users += 1
        try:
            yield
        finally:
            with self.lock:
                self.users -= 1
                if self.users == 0:
                    self.set(self.before)


def find_openblas() -> tuple[Callable[[], int] | None, Callable[[int], object] | None]:
    """-> functions that get and set OpenBLAS's number of threads; None, None where NumPy uses another BLAS."""
    try:
        core = import_module("numpy._core._multiarray_umath")
        library = ctypes.CDLL(core.__file__)  # a name is looked up in what it was linked to as well
    except (ImportError, OSError):
        return None, None
    for prefix in ("scipy_openblas", "openblas"):
        for suffix in ("64_", "_64", ""):
            get = getattr(library, f"{prefix}_get_num_threads{suffix}", None)
            put = getattr(library, f"{prefix}_set_num_threads{suffix}", None)
            if get is not None and put is not None:
                get.argtypes, get.restype = [], ctypes.c_int
                put.argtypes, put.restype = [ctypes.c_int], None
                return get, put
    return None, None


def available_cpus() -> int:
    """-> how many CPUs this process may use: by affinity, and by the quota of its container."""
    count = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )  # Linux, or not
    for quota_file, period_file in (
        ("/sys/fs/cgroup/cpu.max", None),  # cgroup v2: "quota period", or "max period"
        (
            "/sys/fs/cgroup/cpu/cpu.cfs_quota_us",
            "/sys/fs/cgroup/cpu/cpu.cfs_period_us",
        ),  # v1: -1 is no limit
    ):
        try:
            with open(quota_file) as file:
                words = file.read().split()
            if period_file is not None:
                with open(period_file) as file:
                    words += file.read().split()
            quota, period = int(words[0]), int(words[1])
        except (OSError, ValueError, IndexError):
            continue  # no such file, or no limit in it
        if quota > 0 and period > 0:
            count = min(count, max(1, quota // period))
    return count


class Team:
    """`size` workers, of which the calling thread is number 0. Threads start at the first run."""

    inboxes: list[SimpleQueue[Any]]  # of workers 1, 2 ...; see serve

    def __init__(self, size: int):
        self.size = size
        self.forget()

    def forget(self) -> None:
        """Take it that no thread is there: at first, and in a forked child, which has none of its parent's."""
        self.busy, self.inboxes = threading.Lock(), []

    def run(self, work: Work, count: int) -> None:
        """work(i, worker) for i in 0..count-1; worker w takes the w-th of `size` equal runs of i.

        worker  0..size-1: whose scratch memory to use
        Returns when all are done. An exception in any of them is raised here, the lowest worker's first.
        """
        with blas.single_threaded():
            if self.size > 1 and count > 1 and self.busy.acquire(blocking=False):
                try:
                    self.run_side_by_side(work, count)
                finally:
                    self.busy.release()
            else:  # alone; or within another run, or beside it: the same shares in turn
                for worker in range(self.size):
                    do_share(work, count, worker, self.size)

    def run_side_by_side(self, work: Work, count: int) -> None:
        if not self.inboxes:
            self.start()
        outbox: SimpleQueue[tuple[int, BaseException | None]] = SimpleQueue()
        errors: list[tuple[int, BaseException]] = []
        waiting, handling = 0, np.geterr()
        try:
            for worker in range(1, self.size):
                self.inboxes[worker - 1].put((work, count, worker, self.size, outbox, handling))
                waiting += 1
            do_share(work, count, 0, self.size)
        except BaseException as error:
            errors.append((0, error))
        while waiting:  # even after Ctrl-C: the others still write to the arrays
            try:
                worker, failure = outbox.get()
                waiting -= 1
                if failure is not None:
                    errors.append((worker, failure))
            except KeyboardInterrupt as error:
                errors.append((0, error))
        if errors:
            raise min(errors, key=lambda pair: pair[0])[1]

    def start(self) -> None:
        self.inboxes = [SimpleQueue() for _ in range(1, self.size)]
        for number, inbox in enumerate(self.inboxes, start=1):
            threading.Thread(
                target=serve, args=(inbox,), name=f"minigan-{number}", daemon=True
            ).start()


def do_share(work: Work, count: int, worker: int, size: int) -> None:
    """work(i, worker) for the i of one worker's share."""
    before = np.setbufsize(BUFFER)  # a setting of each thread's own
    try:
        for i in range(worker * count // size, (worker + 1) * count // size):
            work(i, worker)
    finally:
        np.setbufsize(before)


def serve(inbox: SimpleQueue[Any]) -> None:
    """A worker's life: shares from the inbox, each answered by (number, None or exception)."""
    while True:
        work, count, worker, size, outbox, handling = inbox.get()
        try:
            with np.errstate(
                **handling
            ):  # what the caller wants done about NaN: a setting of each thread's own, too
                do_share(work, count, worker, size)
            outbox.put((worker, None))
        except BaseException as error:
            outbox.put((worker, error))
        del work, outbox  # while it waits it keeps nobody's arrays alive


blas = Blas()
teams: dict[int, Team] = {}  # shared by all backends: threads are few and stay


def after_fork() -> None:
    """In a child process: none of the parent's threads is here."""
    blas.forget()
    for team in teams.values():
        team.forget()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork either
    os.register_at_fork(after_in_child=after_fork)


def get_team(size: int | None = None) -> Team:
    """-> the team of `size` workers, by default as many as there are CPUs.

    One alone where BLAS cannot be held to one thread: then its threads do the work, within each product.
    """
    size = 1 if blas.set is None else size or available_cpus()
    return teams.setdefault(size, Team(size))
