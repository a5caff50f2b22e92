"""One Python thread for each CPU; together they run the pieces of one operation.

NumPy holds Python's global lock only to set up an operation: while it multiplies, adds or copies an
array, another thread may do the same. So an operation is split into chunks of the batch, small
enough for a core's own cache, and each thread works through its chunks: fill a column matrix,
multiply it, add, all in cache. BLAS's own threads would synchronize at the end of every product
instead, so within `Team.run` BLAS is held to one thread.

The numbers of threads and chunks alone decide which thread takes which chunk. So a sum over chunks
has the same order, and a result the same bits, no matter how busy the machine is.
Shown by: benchmarks/step.py, with --threads 1 against the default
"""

import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np

from minigan.concurrency import ProcessWide, start_threads, warn

Work = Callable[[int, int], object]  # (i, worker): one piece, and whose scratch memory to use
CGROUP_FILES = (  # that contain quota and period
    ("/sys/fs/cgroup/cpu.max",),  # version 2; "max" is no limit
    ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"),  # -1 is none
)
BLAS_FUNCTIONS = (  # that get and set the number of threads
    ("MKL_Get_Max_Threads", "MKL_Set_Num_Threads"),
    *(
        (f"{library}_get_num_threads{suffix}", f"{library}_set_num_threads{suffix}")
        for library in ("flexiblas", "scipy_openblas", "openblas", "bli_thread")
        for suffix in ("64_", "_64", "")
    ),
)
BUFFER = 1024  # numbers in NumPy's buffers for operations on views; its 8192 are slower here


class Blas:
    """NumPy's BLAS, and a setting that holds it to one thread while teams and games work."""

    def __init__(self) -> None:
        self.get, self.set = find_blas()  # how many threads it has; None if it cannot be held
        self.single_threaded = ProcessWide(self.held)

    @contextmanager
    def held(self) -> Iterator[None]:
        if self.get is None or self.set is None:
            yield
            return
        before = self.get()
        self.set(1)
        try:
            yield
        finally:
            self.set(before)


def find_blas() -> tuple[Callable[[], int] | None, Callable[[int], object] | None]:
    """-> functions that get and set how many threads BLAS has; None, None for an unknown BLAS.

    Not by threadpoolctl: it limits MKL in the calling thread alone.
    """
    try:
        core = import_module("numpy._core._multiarray_umath")
        library = ctypes.CDLL(core.__file__)  # also finds names in the libraries it links to
    except (ImportError, OSError):
        return None, None
    for names in BLAS_FUNCTIONS:
        get, put = (getattr(library, name, None) for name in names)
        if get is not None and put is not None:
            get.argtypes, get.restype = [], ctypes.c_int
            put.argtypes, put.restype = [ctypes.c_int], None
            return get, put
    return None, None


@cache
def warn_of_blas() -> None:
    """Once: why one thread works."""
    name = np.show_config("dicts")["Build Dependencies"].get("blas", {}).get("name", "unknown")
    warn(
        f"minigan: NumPy's BLAS is {name}, and its threads cannot be limited, so one thread works: "
        "a NumPy on OpenBLAS or MKL, as from PyPI for Linux, uses all CPUs"
    )


def available_cpus() -> int:
    """-> how many CPUs this process may use: by affinity, and by the quota of its container."""
    count = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):  # Linux
        count = len(os.sched_getaffinity(0))
    for files in CGROUP_FILES:
        try:
            words = " ".join(Path(file).read_text() for file in files).split()
            quota, period = int(words[0]), int(words[1])
        except (OSError, ValueError, IndexError):
            continue  # no such file, or no limit in it
        if quota > 0 and period > 0:
            count = min(count, max(1, quota // period))
    return count


class Team:
    """`size` workers; the calling thread is number 0. Threads start at the first run.

    If the system allows fewer threads, the calling thread does the shares of the missing ones too.
    """

    queues: list[SimpleQueue[Any]] | None  # of workers 1, 2 ...; see serve

    def __init__(self, size: int):
        self.size = size
        self.forget()

    def forget(self) -> None:
        """Assume that no worker exists: at first, and in a forked child."""
        self.busy, self.queues = threading.RLock(), None

    def run(self, work: Work, count: int) -> None:
        """work(i, worker) for i in 0..count-1; worker w takes the w-th of `size` equal runs of i.

        Returns when all are done. An exception in a worker is raised here; if there are several,
        that of the lowest worker.
        """
        with blas.single_threaded():
            if self.size > 1 and count > 1 and self.busy.acquire(blocking=False):
                try:
                    self.run_side_by_side(work, count)
                finally:
                    self.busy.release()
            else:  # one worker; or beside another run, or in a worker's: the shares in turn
                for worker in range(self.size):
                    do_share(work, count, worker, self.size)

    def run_side_by_side(self, work: Work, count: int) -> None:
        if self.queues is None:
            self.queues = self.start()
        # a Ctrl-C may lose what get() returns, so a list keeps the answers
        answers: list[tuple[int, BaseException | None]] = []
        answered: SimpleQueue[None] = SimpleQueue()
        errors: list[tuple[int, BaseException]] = []
        workers, handling = range(1, 1 + len(self.queues)), np.geterr()
        shares = [(work, count, i, self.size, answers, answered, handling) for i in workers]
        sent: list[None] = []
        try:
            sent.extend(map(SimpleQueue.put, self.queues, shares))  # no Ctrl-C comes between
            for worker in (0, *range(1 + len(self.queues), self.size)):
                do_share(work, count, worker, self.size)
        except BaseException as error:
            errors.append((0, error))
        while len(answers) < len(sent):  # even after Ctrl-C: the others still write to the arrays
            try:
                answered.get()
            except BaseException as error:
                errors.append((0, error))
        errors += [(worker, failure) for worker, failure in answers if failure is not None]
        if errors:
            raise min(errors, key=lambda pair: pair[0])[1]

    def start(self) -> list[SimpleQueue[Any]]:
        """-> the queues of the threads that could be started."""
        queues: list[SimpleQueue[Any]] = [SimpleQueue() for _ in range(1, self.size)]
        started = start_threads([partial(serve, queue) for queue in queues], "minigan-team")
        return queues[: len(started)]


class OneThread(Team):
    """The shares of a team, and so its bits, one after another: for one of several ranks."""

    def start(self) -> list[SimpleQueue[Any]]:
        return []


def do_share(work: Work, count: int, worker: int, size: int) -> None:
    """work(i, worker) for the i of one worker's share."""
    with np.errstate():  # which restores the size of the buffers, too
        np.setbufsize(BUFFER)  # each thread has its own
        for i in range(worker * count // size, (worker + 1) * count // size):
            work(i, worker)


def serve(queue: SimpleQueue[Any]) -> None:
    """A worker's loop: shares from its queue, each answered by (number, None or exception)."""
    while True:
        work, count, worker, size, answers, answered, handling = queue.get()
        failure: BaseException | None = None
        try:
            if blas.set is not None:
                blas.set(1)  # again: in BLIS it is a setting of each thread
            with np.errstate(**handling):  # the caller's, because each thread has its own
                do_share(work, count, worker, size)
        except BaseException as error:
            failure = error
        answers.append((worker, failure))
        answered.put(None)
        del work, answers, answered, failure  # keep no arrays alive while waiting


blas = Blas()
teams: dict[int, Team] = {}  # shared by all backends: threads are few, and stay


def after_fork() -> None:
    """In a child process: none of the parent's threads exists."""
    for team in teams.values():
        team.forget()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork either
    os.register_at_fork(after_in_child=after_fork)


def get_team(size: int | None = None) -> Team:
    """-> the team of `size` workers, by default one for each CPU.

    If BLAS cannot be held to one thread, a team of one: BLAS's threads then share each product.
    """
    size = size or available_cpus()
    if blas.set is None and size > 1:
        warn_of_blas()
        size = 1
    return teams.setdefault(size, Team(size))
