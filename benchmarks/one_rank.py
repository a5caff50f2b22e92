"""What ranks.py measures in one process, or on each rank: python benchmarks/one_rank.py JSON"""

import json
import sys
from math import ceil, log2
from pathlib import Path
from statistics import median
from time import perf_counter

if __name__ == "__main__":  # this checkout: its minigan, and benchmarks as a package
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np

from benchmarks import machine
from minigan.backends.cpu import parallel_step
from minigan.data import Batches
from minigan.parallel.mpi import world
from minigan.training.config import new_config
from minigan.training.game import Game

LARGE = 2**23  # bytes of the all-reduce whose bandwidth is measured


def count_collectives(group):
    """-> list that gets the bytes of each all-reduce and all-gather from now on."""
    sizes = []

    def counted(operation):
        def call(values):
            sizes.append(values.nbytes)
            return operation(values)

        return call

    group.all_reduce, group.all_gather = counted(group.all_reduce), counted(group.all_gather)
    return sizes


def time_of(work, seconds):
    """-> median seconds of work(), on all ranks at once."""
    group, times, end = world(), [], perf_counter() + seconds
    while True:
        is_over = np.array([float(perf_counter() > end and len(times) > 4)])
        group.all_reduce(is_over)
        if is_over[0]:
            return median(times)
        start = perf_counter()
        work()
        times.append(perf_counter() - start)


def measure(program):
    """What this process measures, as a dict."""
    group, engine, seconds = world(), program["engine"], program["seconds"]
    if engine == "threads":
        parallel_step.MAX_STATE = 0
    names = ("preset", "width", "batch_size")
    config = {name: program[name] for name in names if program[name] is not None}
    threads = {"ranks": None, "one process": 1}.get(engine, machine.cores())
    game = Game(new_config({**config, "threads": threads, "drop_last": True}), group)
    shape = (2 * game.config.batch_size, *game.config.image_shape)
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    labels = np.arange(len(images)) % game.preset.classes if game.preset.classes else None
    batches = Batches(images, game.config.batch_size, 0, labels=labels, drop_last=True)
    sizes = count_collectives(group)  # before the first round is recorded
    for _ in range(4):
        sizes.clear()
        game.round(batches)
    counted = list(sizes)
    step = time_of(lambda: game.read(game.round(batches)), seconds)
    found = {"seconds": step}
    if group.size > 1:
        nets = {net.ready().flat_grads.nbytes for net in (game.G, game.D)}
        found["gradients"] = [n for n in counted if n in nets]
        found["small"] = len(counted) - len(found["gradients"])
        small, large = np.zeros(2), np.zeros(LARGE // 8)
        steps = ceil(log2(group.size))
        found["latency"] = time_of(lambda: group.all_reduce(small), seconds / 4) / steps
        moved = 2 * (group.size - 1) / group.size * LARGE
        found["rate"] = moved / time_of(lambda: group.all_reduce(large), seconds / 2)
    return found


if __name__ == "__main__":
    found = measure(json.loads(sys.argv[1]))
    if world().rank == 0:
        print(json.dumps(found))
