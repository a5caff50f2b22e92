"""How much a piece of work allocates."""

import tracemalloc


def peak_of(work, times=1):
    """Call work() -> the largest number of bytes at any moment, beyond those held before."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(times):
            work()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
