"""Work on one thread per CPU: Pillow releases Python's lock while it computes."""

from collections.abc import Callable, Iterator
from typing import TypeVar

from minigan.backends.cpu.threads import available_cpus

PER_THREAD = 8  # items in memory at a time

Result = TypeVar("Result")


def map_in_threads(work: Callable[[int], Result], items: range) -> Iterator[Result]:
    """work(item) of all items, in their order."""
    from concurrent.futures import ThreadPoolExecutor  # late: `import minigan` stays quick

    workers = available_cpus()
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(items), PER_THREAD * workers):
            yield from pool.map(work, items[start : start + PER_THREAD * workers])
