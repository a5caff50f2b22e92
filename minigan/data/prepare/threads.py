"""Work on one thread per CPU: Pillow releases Python's lock while it computes."""

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import TypeVar

from minigan.backends.cpu.threads import available_cpus
from minigan.concurrency import Workers

PER_THREAD = 8  # items in memory at a time

Result = TypeVar("Result")


def map_in_threads(work: Callable[[int], Result], items: range) -> Iterator[Result]:
    """work(item) of all items, in their order."""
    count = available_cpus()
    with closing(Workers(count, "minigan-prepare")) as workers:
        for start in range(0, len(items), PER_THREAD * count):
            some = items[start : start + PER_THREAD * count]
            for future in [workers.submit(work, item) for item in some]:
                yield future.result()
