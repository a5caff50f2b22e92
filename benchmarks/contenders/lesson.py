"""What both learn from in quality.py: a run of minigan, as its options say it, handed to either contender.

First weights come from minigan's own game, real images from its Batches: what `minigan train` with the same options
and seed would begin with, and draw. So they are the same for both but for the turn by 180 degrees (plan.py).

A contender that learns is a class `Learner` in a module here, made by worker.py:
    Learner(config, images, **variant)   config: all of Config's fields; images: .npy file of the training images
    steps()          -> how many the run has
    losses(steps)    -> as of a Step, from z that all share
    probes()         -> likewise; it and `losses` are for a Learner that is made for the check, and then made anew
    run(times)       trains so many steps, z its own
    sample(n, path)  writes so many pictures, uint8 as .npy, of the same z at every call
    versions()       -> package -> version
"""

from math import ceil

import numpy as np

from benchmarks import nets
from benchmarks.contenders.plan import needs_turning, turn
from minigan.data import Batches
from minigan.errors import ConfigError
from minigan.gan import Rules
from minigan.presets import get_preset
from minigan.training.config import config_from_record
from minigan.training.loop import STREAMS
from minigan.training.game import Game


def expect_playable(name):
    """Raises ConfigError for a preset whose rules the twins do not know, with those whose they do."""
    if name not in NAMES:
        raise ConfigError(
            f"--preset must be one of {', '.join(NAMES)}, got {name!r}: by the rules of others nobody else plays here"
        )


def playable(preset):
    """-> does a twin know this game? One update of each player, D or G first, on one real batch and one z, in Adam."""
    rules = preset.rules
    plain = Rules(
        first=rules.first,
        same_z=True,
        real_target=rules.real_target,
        fake_target=rules.fake_target,
        generator_target=rules.generator_target,
        loss_limit=rules.loss_limit,
    )
    adam = (
        preset.optimizer == "Adam"
        and set(preset.settings) <= {"eps", "eps_hat"}
        and preset.decay is None
    )
    return rules == plain and rules.first != "both" and adam


NAMES = tuple(name for name in nets.NAMES if playable(get_preset(name)))


class Lesson:
    """The game at its start, and the batches."""

    def __init__(self, config, images, for_twin=False):
        self.config = config = config_from_record(config)
        self.game = Game(config)
        self.turned = for_twin and needs_turning([*self.game.G.layers, *self.game.D.layers])
        pictures = np.load(images)
        self.batches = Batches(
            turn(pictures, self.turned),
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
        """-> function n -> z (n, z_dim) float32: the same in every process, at the same calls."""
        rng, config = np.random.default_rng(nets.SEED_DATA), self.config

        def draw(n, generator=None):
            shape = (n, config.z_dim)
            values = (
                rng.standard_normal(shape) if config.z == "normal" else rng.uniform(-1, 1, shape)
            )
            return values.astype(np.float32)

        return draw
