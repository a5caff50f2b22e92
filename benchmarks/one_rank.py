"""What ranks.py measures in one process, or on each rank: python benchmarks/one_rank.py JSON

Ranks take steps in turn in these ways, with the same networks:

    connected  as in training
    own        each rank's BatchNorm has the statistics of its rows alone, and no collectives
    alone      no collectives at all; each rank notes when it would have begun one

Learning rates are tiny: the numbers, and so the time that they take, do not change with the steps.
"""

import json
import sys
from functools import partial
from math import ceil, log2
from pathlib import Path
from statistics import median
from time import perf_counter

if __name__ == "__main__":  # this checkout: its minigan, and benchmarks as a package
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np

from benchmarks import machine
from minigan.backends import get_backend
from minigan.backends.cpu import parallel_step
from minigan.data import Batches, Dataset
from minigan.parallel.group import Group
from minigan.parallel.mpi import world
from minigan.training import game as game_module
from minigan.training.config import new_config
from minigan.training.loop import make_batches

ENGINES = {  # in one process -> threads, and the most numbers of a step that forks processes
    "one process": (1, 0),
    "threads": (machine.cores(), 0),
    "forked processes": (machine.cores(), sys.maxsize),
}
WARM_UP = 2  # steps: the first records the calls of each pass
LEAST = 3  # steps that are measured
MANY = 512  # images whose preparation is measured
FEWEST = 2  # rows of a rank
STEPS = 6  # whose numbers are compared
TINY = dict(lr_g=1e-12, lr_d=1e-12)


class Ranks(Group):
    """The ranks of a job, whose collectives can be left out.

    way    "connected", "own" or "alone"
    sizes  bytes of each collective, and
    times  when it began, since the caller has cleared them
    """

    def __init__(self, ranks):
        self.ranks, self.rank, self.size = ranks, ranks.rank, ranks.size
        self.way, self.sizes, self.times = "connected", [], []

    def all_reduce(self, array):
        self.times.append(perf_counter())
        self.sizes.append(array.nbytes)
        of_batchnorm = array.ndim == 2  # the two sums of a backward pass
        if self.way == "connected" or (self.way == "own" and not of_batchnorm):
            self.ranks.all_reduce(array)

    def sync_batchnorm(self, mean, var, n):
        if self.way != "own":
            super().sync_batchnorm(mean, var, n)
        return n * self.size  # a replayed pass must get the same every time

    def meet(self, is_over=False):
        """Wait for all ranks -> the time, and whether it is over for any of them."""
        flag = np.array([float(is_over)])
        self.ranks.all_reduce(flag)
        return perf_counter(), flag[0] > 0


def take_turns(ranks, works, seconds):
    """Run each of works, way -> work(), in turn -> way -> seconds of each run, (slowest, mean).

    A run lasts until all ranks have done it. If ranks are alone, `slowest` is what it would last if
    each collective began when the slowest rank had come to it, and `mean` is what a rank needs.
    """
    found, is_over = {way: [] for way in works}, False
    end = perf_counter() + seconds
    while not is_over:
        for ranks.way, work in works.items():
            ranks.times.clear()
            start, _ = ranks.meet()
            work()
            times = np.array([start, *ranks.times, perf_counter()])
            stop, _ = ranks.meet()
            spent = (stop - start, stop - start)
            if ranks.way == "alone":
                table = ranks.ranks.all_gather(np.diff(times))
                spent = float(table.max(axis=0).sum()), float(table.sum(axis=1).mean())
            found[ranks.way].append(spent)
        _, is_over = ranks.meet(perf_counter() > end and len(found[ranks.way]) >= LEAST)
    ranks.way = "connected"
    return found


def medians(spent):
    """[(slowest, mean)] -> the median of each."""
    return [median(column) for column in zip(*spent, strict=True)]


def make_game(program, batch, ranks, threads=None, **options):
    """-> Game, Batches of noise"""
    chosen = {"width": program["width"]} if program["width"] else {}
    config = dict(preset=program["preset"], batch_size=batch, threads=threads, drop_last=True)
    game = game_module.Game(new_config({**config, **chosen, **options}), ranks)
    shape = (2 * batch, *game.config.image_shape)
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    labels = np.arange(len(images)) % game.preset.classes if game.preset.classes else None
    return game, make_batches(game, Dataset("noise", images, labels, (), "", None), ranks)


def warm(game, batches, ranks):
    """-> work() that takes a step and reads its losses; ranks.sizes are those of one step."""
    for _ in range(WARM_UP):
        ranks.sizes.clear()
        game.round(batches)
    counted = list(ranks.sizes)
    return lambda: game.read(game.round(batches)), counted


def time_of_whole(game, ranks, seconds):
    """-> seconds an image of what every rank does for the whole batch.

    It draws z; and it prepares the images, if a round takes several batches (make_batches).
    """
    count = game.preset.images_per_round
    images = np.zeros((2 * MANY, *game.config.image_shape), np.uint8)
    batches, staging = Batches(images, MANY), np.empty((MANY, *images.shape[1:]), np.float32)
    z = [np.empty((MANY * n, game.config.z_dim), np.float32) for n in game.preset.z_per_round]

    def draw():
        for _ in range(count if count > 1 else 0):
            staging[...] = batches.draw()[0]
        for each in z:
            game.fill_z(each, game.z_generator)

    return medians(take_turns(ranks, {"connected": draw}, seconds)["connected"])[0] / MANY


def split(game, counted):
    """Bytes of the collectives of a step -> those of gradients, those of all others."""
    of_nets = {net.ready().flat_grads.nbytes for net in (game.G, game.D)}
    return [n for n in counted if n in of_nets], [n for n in counted if n not in of_nets]


def measure_network(ranks, gradients, small, seconds):
    """-> latency in seconds, and rate in bytes a second, of all-reduces as large as a step's."""
    steps, share = ceil(log2(ranks.size)), 2 * (ranks.size - 1) / ranks.size
    message = np.zeros(int(median(small)) // 8)
    arrays = [np.zeros(n // 4, np.float32) for n in gradients]

    def time_of(work):
        return medians(take_turns(ranks, {"connected": work}, seconds)["connected"])[0]

    latency = time_of(lambda: [ranks.all_reduce(message) for _ in range(10)]) / 10 / steps
    spent = time_of(lambda: [ranks.all_reduce(array) for array in arrays])
    moving = max(spent - 2 * steps * latency * len(arrays), spent / 2)
    return {"latency": latency, "rate": share * sum(gradients) / moving}


def measure_step(program, ranks):
    """A step of the whole batch, by an engine, or on ranks in three ways."""
    threads, most = ENGINES.get(program["engine"], (None, 0))
    parallel_step.MAX_STATE = most
    game, batches = make_game(program, program["batch"], ranks, threads, **TINY)
    step, counted = warm(game, batches, ranks)
    ways = ("connected", "own", "alone") if ranks.size > 1 else ("connected",)
    spent = take_turns(ranks, dict.fromkeys(ways, step), program["seconds"])
    found = {"seconds": medians(spent["connected"])[0]}
    if ranks.size > 1:
        gradients, small = split(game, counted)
        found["own"] = medians(spent["own"])[0]
        found["slowest"], found["mean"] = medians(spent["alone"])
        found |= {"small": len(small), "gradients": gradients, "bytes": sum(small)}
        found |= measure_network(ranks, gradients, small, program["seconds"] / 4)
    return found


def measure_compute(program, ranks):
    """Steps without collectives, of 2, 4, 8 ... rows on each of the ranks, which all compute.

    Ends at the rows of `batch`, or where the next one would take more than `limit` seconds.
    """
    rows, points, ranks.way = FEWEST, [], "alone"
    while rows <= program["batch"]:
        game, batches = make_game(program, rows * ranks.size, ranks, **TINY)
        step, counted = warm(game, batches, ranks)
        spent = take_turns(ranks, {"alone": step}, program["seconds"])["alone"]
        slowest, mean = medians(spent)
        points.append({"rows": rows, "slowest": slowest, "mean": mean})
        ranks.way, rows = "alone", 2 * rows
        if len(points) > 2 and 2 * mean * (WARM_UP + LEAST) > program["limit"]:
            break
    ranks.way = "connected"
    gradients, small = split(game, counted)
    found = {"points": points, "small": len(small), "gradients": gradients}
    found["whole"] = time_of_whole(game, ranks, program["seconds"] / 4)
    return found | measure_network(ranks, gradients, small, program["seconds"] / 4)


def save_numbers(program, ranks):
    """Some steps in float64; all parameters go to `file` -> ranks whose bits are not rank 0's."""
    game_module.get_backend = partial(get_backend, dtype="float64")
    game, batches = make_game(program, program["batch"], ranks, None if ranks.size > 1 else 1)
    for _ in range(STEPS):
        game.round(batches)
    numbers = np.concatenate([net.ready().flat_params for net in (game.G, game.D)])
    if ranks.rank == 0:
        np.save(program["file"], numbers)
    return {"unlike": ranks.unlike_first(numbers)}


MEASURE = {"compute": measure_compute, "numbers": save_numbers}

if __name__ == "__main__":
    program, ranks = json.loads(sys.argv[1]), world()
    work = MEASURE.get(program["engine"], measure_step)
    found = work(program, ranks if work is save_numbers else Ranks(ranks))
    if ranks.rank == 0:
        print(json.dumps(found))
