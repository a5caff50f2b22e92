"""Games on several ranks, against one process: python rank_games.py ROUNDS preset:batch_size...

Ends with 0 if all numbers are equal on all ranks, bit for bit, and those of one process to 1e-7.
With the word `mutants`, each mistake below must change them.
"""

import sys

import numpy as np
import pytest

from minigan.backends.cpu.backend import CpuBackend
from minigan.parallel.group import Group
from minigan.parallel.mpi import MpiGroup, world
from tests.support.noise_games import assert_near, make_batches, make_game, play


def same_z(self, batch, shard=Group.shard):
    rows = shard(self, batch)
    return batch[: len(rows)] if batch.ndim == 2 else rows


def mean_of_means(self, value, n):
    return self.all_gather(np.array([float(value)])).mean(), 1.0 / self.size


MUTANTS = {
    "statistics of a rank's own rows": (Group, "sync_batchnorm", lambda self, mean, var, n: n),
    "a gradient not summed": (CpuBackend, "all_reduce", lambda self, array: None),
    "a loss not weighted on uneven rows": (Group, "mean", mean_of_means),
    "z the same on all ranks": (Group, "shard", same_z),
}


SWITCHES = dict(spectral_norm=True, d_steps=2, loss="hinge", ema=0.9)


def differs(preset, batch_size, rounds, one=None, **options):
    """-> what is wrong with these ranks, or None. Rank 0 alone plays the game of one process.

    preset   of a game, or "switched"
    one      options of the game of one process
    options  of both games; in float32, only the ranks are compared with one another
    """
    ranks, options = world(), dict(dtype="float64", batch_size=int(batch_size)) | options
    if preset == "switched":
        preset, options = "mnist", {**SWITCHES, **options}
    game = make_game(preset, ranks=ranks, **options)
    batches = make_batches(game)
    if game.preset.images_per_round == 1:
        batches.shard = ranks.shard
    found = play(game, rounds, batches)
    if other := ranks.unlike_first(*map(np.ascontiguousarray, found.arrays.values())):
        return f"ranks {other} have other bits than rank 0"
    if options["dtype"] == "float32":
        return None
    problem = ""
    if not ranks.rank:
        one = dict(captured=False, threads=1) if one is None else one
        try:
            assert_near(found, play(make_game(preset, **one, **options), rounds))
        except AssertionError as error:
            problem = str(error) or "not the numbers of one process"
    ranks.barrier()  # the others sleep
    return ranks.broadcast(np.frombuffer(problem.encode(), np.uint8), 0).tobytes().decode() or None


if __name__ == "__main__":
    rounds, *games = sys.argv[1:]
    if games == ["mutants"]:
        for name, patched in MUTANTS.items():
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(*patched)
                if differs("mnist", 15, int(rounds)) is None:
                    raise SystemExit(f"not caught: {name}")
    elif games == ["left out"]:
        if world().rank == 1:
            reduce, calls = MpiGroup.all_reduce, []

            def all_but_one(self, array):
                calls.append(len(array))
                if len(calls) != 5:
                    reduce(self, array)

            MpiGroup.all_reduce = all_but_one
        raise SystemExit(differs("mnist", 15, int(rounds)))
    else:
        for game in games:
            if (problem := differs(*game.rsplit(":", 1), int(rounds))) is not None:
                raise SystemExit(f"{game}: {problem}")
    print(f"rank {world().rank} is done")
