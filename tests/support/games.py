"""Small games: a preset's nets, and batches of noise instead of its data."""

from functools import partial
from unittest.mock import patch

import numpy as np

from minigan.backends import get_backend
from minigan.data import Batches
from minigan.training import game as game_module
from minigan.training.config import new_config
from minigan.training.game import Game


def make_game(preset, images=8, dtype="float32", **options):
    """-> Game, Batches: `images` images of noise, labels 0 .. 9 at random; batches of 4."""
    config = new_config({"preset": preset, "batch_size": 4, **options})
    with patch.object(game_module, "get_backend", partial(get_backend, dtype=dtype)):
        game = Game(config)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (images, *config.image_shape), np.uint8)
    labels = rng.integers(0, game.preset.classes, images) if game.preset.classes else None
    batches = Batches(
        pixels,
        config.batch_size,
        labels=labels,
        shuffle=config.shuffle,
        drop_last=config.drop_last,
        pixel_min=game.preset.pixel_min,
    )
    return game, batches


def play(preset, rounds, **options):
    """-> what each round measured, (rounds, 7), and the Game after them."""
    game, batches = make_game(preset, **options)
    measured = [list(game.read(game.round(batches)).values()) for _ in range(rounds)]
    return np.array(measured), game
