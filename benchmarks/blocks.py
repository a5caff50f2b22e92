"""The clock of a GPU, on which a program only leaves work behind: blocks of steps, and one wait at the end of each.

A block is timed twice: by the wall clock, from an idle device to an idle device, and between two events in the device's
queue. Where both agree and launching takes less, the device sets the pace; where launching a step takes as long as the
step, the program does. Launching is timed on the first step of a block, when the queue is empty: a full queue makes
the program wait, which would count as its own time.
"""

from statistics import quantiles
from time import perf_counter

WARM_UP, BLOCKS, STEPS = 30, 10, 50  # steps, blocks, steps in a block


def time_blocks(contender, warm_up, blocks, steps):
    """contender: a Step on a GPU, see contenders/__init__.py

    -> "wall", "events", "launch": seconds of one training step, for each block. No events where the framework shows none.
    """
    contender.launch(warm_up)
    contender.wait()
    found = {"wall": [], "events": [], "launch": []}
    for _ in range(blocks):
        start, first = perf_counter(), contender.mark()
        contender.launch(1)
        found["launch"].append(perf_counter() - start)
        contender.launch(steps - 1)
        last = contender.mark()
        contender.wait()
        found["wall"].append((perf_counter() - start) / steps)
        if first is not None:
            found["events"].append(contender.between(first, last) / steps)
    return found


def spread(values):
    """-> median, p10, p90."""
    if len(values) < 2:
        return (values[0],) * 3
    tenths = quantiles(values, n=10, method="inclusive")
    return tenths[4], tenths[0], tenths[8]


def gain(ours, theirs):
    """Rows of a record -> how many times as long as ours a step of theirs takes, by their medians."""
    return spread(theirs["seconds"])[0] / spread(ours["seconds"])[0]
