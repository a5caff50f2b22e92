"""The clock of a GPU, to which a program only submits work: blocks of steps, one wait after each.

A block is timed twice: by the wall clock, from an idle device to an idle device, and between two
events in the device's queue. If both agree and launching takes less, the device sets the pace; if
launching a step takes as long as the step, the program does. Launching is timed on the first step
of a block, while the queue is empty: a full queue makes the program wait.
"""

from time import perf_counter

WARM_UP, BLOCKS, STEPS = 30, 10, 50  # steps, blocks, steps in a block


def time_blocks(contender, warm_up, blocks, steps):
    """contender: a Contender on a GPU.

    -> "seconds", "events", "launch": seconds of one training step, for each block. No events if the
    framework shows none.
    """
    contender.launch(warm_up)
    contender.wait()
    found = {"seconds": [], "events": [], "launch": []}
    for _ in range(blocks):
        start, first = perf_counter(), contender.mark()
        contender.launch(1)
        found["launch"].append(perf_counter() - start)
        contender.launch(steps - 1)
        last = contender.mark()
        contender.wait()
        found["seconds"].append((perf_counter() - start) / steps)
        if first is not None:
            found["events"].append(contender.between(first, last) / steps)
    return found
