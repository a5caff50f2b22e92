"""The training task of quality.py: a run of minigan, as its options describe it, for any contender.

First weights come from minigan's own game, real images from its Batches: those of `minigan train`
with the same options and seed. So they are the same for all, but for the rotation by 180 degrees
(contenders/operations.py).

A contender that trains is a class `Learner` in contenders/, made by worker.py:
    Learner(config, images, **variant)   config: all fields of Config; images: a .npy file
    steps()          -> the number of steps of the run
    losses(steps)    -> as of a Contender, from z that all share
    probes()         -> likewise; both are for a Learner that is made for the check only
    run(times)       trains this many steps, on z that it draws
    sample(n, path)  writes images, uint8 as .npy, of the same z at every call
    versions()       -> package -> version
"""

from functools import partial
from math import ceil

import numpy as np

from benchmarks import nets
from benchmarks.contenders.operations import needs_rotation, rotate
from minigan.data import Batches
from minigan.gan import plain_round
from minigan.presets import get_preset
from minigan.presets.fredriksson import generator_first_round
from minigan.training.config import config_from_record
from minigan.training.game import STREAMS, Game


def is_playable(preset):
    """-> do the twins know this game? One update of each player on one real batch and one z."""
    return (
        preset.round in (plain_round, generator_first_round)
        and preset.optimizer == "Adam"
        and set(preset.settings) <= {"eps", "eps_hat"}
        and preset.decay is None
    )


NAMES = tuple(name for name in nets.NAMES if is_playable(get_preset(name)))


class TrainingTask:
    """The game at its start, and the batches."""

    def __init__(self, config, images, for_twin=False):
        self.config = config = config_from_record(config)
        self.game = Game(config)
        layers = [*self.game.G.layers, *self.game.D.layers]
        self.batches = Batches(
            rotate(np.load(images), for_twin and needs_rotation(layers)),
            config.batch_size,
            [config.seed, STREAMS["data"]],
            shuffle=config.shuffle,
            drop_last=config.drop_last,
            flip=config.flip,
            pixel_min=self.game.preset.pixel_min,
        )

    def steps(self):
        return self.config.steps or ceil(self.config.epochs * self.batches.per_epoch)

    def shared_z(self):
        """-> function (n) -> z (n, z_dim): the same in every process, at the same calls."""
        rng, config = np.random.default_rng(nets.SEED_DATA), self.config
        draw = partial(nets.shared_z, rng, config.z)
        return lambda n: draw((n, config.z_dim))
