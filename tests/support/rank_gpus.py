"""Games on ranks, each with a GPU: python rank_gpus.py ROUNDS DTYPE preset:batch_size...

The GPUs are the stand-in for CuPy, whose NCCL adds up by MPI. Ends with 0 if all numbers are equal
on all ranks, bit for bit, and in float64 those of one process to 1e-7. With the word `sums`, all
ranks must add up the same arrays in every launch of the graph. With the word `mutants`, each
mistake below must change the numbers. After the word `host`, images do not fit on the GPU.
"""

import sys

import pytest

from minigan.backends.gpu.backend import GpuBackend
from minigan.backends.gpu.batchnorm import Norm
from minigan.layers import BatchNorm
from minigan.parallel.group import Group
from minigan.parallel.mpi import world
from minigan.parallel.nccl import NcclGroup
from tests.support.noise_games import make_batches, make_game
from tests.support.rank_games import differs
from tests.support.strict_cupy import use_stand_in

GAME = dict(backend="cupy", one={})  # captured as well: its images are in float64
SWITCHES = dict(d_steps=2, loss="hinge", ema=0.9)
all_reduce = NcclGroup.all_reduce


def beside_the_graph(self, array):
    """As on another stream: now, and not at each launch."""
    device = self.xp.device
    recording, device.recording = device.recording, None
    all_reduce(self, array)
    device.recording = recording


MUTANTS = {
    "statistics of a rank's own rows": (Norm, "pooled", lambda self, moments, m, total: moments),
    "squares about a rank's own mean": (
        Norm, "pooled", lambda self, moments, m, total: half_pooled(self, moments, m, total),
    ),
    "a gradient not summed": (GpuBackend, "all_reduce", lambda self, array: None),
    "a loss not weighted on uneven rows": (Group, "total", lambda self, n: n * self.size),
    "a collective outside of the graph": (NcclGroup, "all_reduce", beside_the_graph),
}  # fmt: skip


def half_pooled(norm, moments, m, total):
    group, (parts, *_, c) = norm.backend.group, moments.shape
    pooled = norm.backend.scratch("pooled moments", moments.shape, "float64")
    sizes = (parts, c, m, m / total)
    norm.backend.kernels.get("pool_moments")(parts * c, moments, moments, pooled, *sizes)
    group.all_reduce(pooled)
    return pooled


def expect_same_sums(cupy, dtype):
    """Fails unless every launch adds up the same arrays on all ranks, and nothing waits for it."""
    options = dict(backend="cupy", dtype=dtype, batch_size=7)
    ranks, game = world(), make_game("mnist", ranks=world(), **options)
    batches, device = make_batches(game, count=24), cupy.device
    assert device.number == ranks.rank and game.backend.group.size == 1
    game.round(batches)
    warm_up, launches = list(device.reduced), []
    for _ in range(4):
        device.reduced.clear()
        device.counts.clear()
        game.round(batches)
        launches.append(list(device.reduced))
        # the graph; images from bytes; and the averages of weights and statistics
        if launches[-1]:
            assert device.counts["launches"] == 1 + 1 + 1 + len(game.G.buffers), "beside the graph"
        assert device.counts["synchronizations"] == device.counts["pageable uploads"] == 0
    norms = {
        name: sum(isinstance(layer, BatchNorm) for layer in net.leaves())
        for name, net in game.nets.items()
    }
    # two in each forward pass of a BatchNorm, one in each backward pass; five means; two gradients
    expected = 6 * norms["D"] + 3 * norms["G"] + 5 + 2
    smaller = launches.pop(2)  # the last batch of an epoch is not shared
    assert smaller == [] and len(launches[0]) == expected
    assert launches[0] == launches[1] == launches[2] and warm_up == 4 * launches[0]
    sizes = [size for size, _ in launches[0]]
    assert all(net.store.flat_grads.size in sizes for net in game.nets.values())
    assert not ranks.unlike_first(repr((warm_up, launches)).encode())


if __name__ == "__main__":
    rounds, dtype, *games = sys.argv[1:]
    with pytest.MonkeyPatch.context() as patch:
        cupy = use_stand_in(patch, devices=4)
        for game in games:
            if game == "host":
                cupy.device.free = 0
            elif game == "sums":
                expect_same_sums(cupy, dtype)
            elif game == "mutants":
                for name, mutant in MUTANTS.items():
                    with pytest.MonkeyPatch.context() as mutation:
                        mutation.setattr(*mutant)
                        if differs("mnist", 15, int(rounds), **GAME) is None:
                            raise SystemExit(f"not caught: {name}")
            else:
                preset, batch_size = game.rsplit(":", 1)
                options = GAME | (SWITCHES if preset == "switched" else {}) | {"dtype": dtype}
                preset = "mnist" if preset == "switched" else preset
                if problem := differs(preset, batch_size, int(rounds), **options):
                    raise SystemExit(f"{game}: {problem}")
    print(f"rank {world().rank} is done")
