"""Processes of a group, and how they end."""

import time

import numpy as np

from minigan.parallel.shared_memory import SharedMemoryGroup, shared_memory

RESULTS = 2**20  # numbers that a process may return


def run_in_group(size, work, largest=2**22, make_group=SharedMemoryGroup):
    """work(group) in each of `size` processes -> their results, flat float64 arrays, by rank."""
    lengths, results = shared_memory((size,), np.int64), shared_memory((size, RESULTS), np.float64)
    group = make_group(size, largest)

    def step():
        result = np.asarray(work(group), np.float64).ravel()
        lengths[group.rank] = len(result)
        results[group.rank, : len(result)] = result
        SharedMemoryGroup.barrier(group)

    try:
        group.start(step)
        group.begin_step()
        step()
    finally:
        group.stop()
    return [row[:length].copy() for row, length in zip(results, lengths, strict=True)]


def wait_for_end(pid, seconds=10):
    """-> has the process ended, or does it within some seconds? A zombie has."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            with open(f"/proc/{pid}/stat") as file:
                if file.read().rpartition(")")[2].split()[0] == "Z":
                    return True
        except OSError:
            return True
        time.sleep(0.01)
    return False
