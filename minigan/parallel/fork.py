"""A fork that is safe in a program with threads.

A child has the calling thread alone, but all memory, as the other threads left it. If one of them
was within a C call, such as a product of BLAS, its locks are never released in the child; and BLAS
ends its own threads at a fork, in the parent too, where a product then never ends. So the fork
waits for an instant at which all other threads wait: for Python's lock, for data, for work.
"""

import ctypes
import errno
import os
import threading
from time import perf_counter
from typing import Any

PATIENCE = 20.0  # seconds to wait for such an instant
LOOKS = 30  # at the same threads, before they and the clock are looked at again


def fork_when_quiet() -> int:
    """os.fork at an instant when no other thread computes. Raises OSError if none comes.

    While this thread holds Python's lock, another may end its work in C, but then it waits for the
    lock. If this thread had to hand the lock over since it began to look at the others, it has
    slept, and looks again.
    """
    libc, end = ctypes.PyDLL(None), perf_counter() + PATIENCE  # PyDLL keeps the lock
    while perf_counter() < end:
        tasks, slept = os.listdir("/proc/self/task"), times_slept()
        for _ in range(LOOKS):
            if is_quiet(tasks, libc) and times_slept() == slept:
                return os.fork()  # type: ignore[attr-defined, no-any-return, unused-ignore]
    raise OSError(errno.EAGAIN, f"other threads of the program computed for {PATIENCE:g} s")


def times_slept() -> int:
    """-> how often this thread has waited for something."""
    import resource  # Windows has none

    usage = resource.getrusage(resource.RUSAGE_THREAD)  # type: ignore[attr-defined, unused-ignore]
    return int(usage.ru_nvcsw)


def is_quiet(tasks: list[str], libc: Any) -> bool:
    """Are these all threads of the program, and do all but this one wait?"""
    text, here, count = ctypes.create_string_buffer(1024), str(threading.get_native_id()), 0
    for task in tasks:
        file = libc.open(f"/proc/self/task/{task}/stat".encode(), os.O_RDONLY)
        size = libc.read(file, text, 1024)
        libc.close(file)
        words = text.raw[: max(0, size)].rpartition(b")")[2].split()
        if not words or (words[0] != b"S" and task != here):
            return False
        count = int(words[17])  # threads
    return count == len(tasks)
