"""Games on images of noise, captured or not, and how equal what they leave is."""

from functools import partial
from typing import NamedTuple

import numpy as np
import pytest

from minigan.backends import get_backend
from minigan.data import Batches
from minigan.training import game as game_module
from minigan.training.config import new_config
from minigan.training.game import Game

SYSTEMS = {  # every kind of round and of optimizer, labels, decay, the joint update
    "mnist": {},
    "fredriksson-mnist": {},
    "shibuya-mnist": dict(joint_update=True),
    "radford-mnist-conditional": {},
    "shibuya-fnn": {},
    "jayathilaka-faces:rmsprop": {},
    "color32": {},
}


def make_game(preset, captured=True, dtype="float32", ranks=None, **options):
    """-> Game of a preset, with narrow nets; captured=False plays its rounds call by call."""
    small = dict(preset=preset, width=4, batch_size=14, z_dim=6, seed=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(game_module, "get_backend", partial(get_backend, dtype=dtype))
        game = Game(new_config({**small, **SYSTEMS.get(preset, {}), **options}), ranks)
    if not captured:
        game.captured = None
    return game


def make_batches(game, count=50, flip=False):
    """-> Batches of images of noise; the last one of an epoch is smaller."""
    images = np.random.default_rng(0).integers(0, 256, (count, *game.config.image_shape), np.uint8)
    labels = np.arange(count) % game.preset.classes if game.preset.classes else None
    pixel_min = game.preset.pixel_min
    return Batches(images, game.config.batch_size, 1, labels=labels, flip=flip, pixel_min=pixel_min)


class Played(NamedTuple):
    """What rounds leave."""

    rows: list  # what each measured
    arrays: dict  # section/name -> parameters, moments, statistics
    record: dict  # steps, states of generators


def play(game, rounds, batches=None):
    """Play rounds -> Played."""
    batches = batches or make_batches(game)
    rows = [game.read(game.round(batches)) for _ in range(rounds)]
    sections, record = game.state()
    arrays = {
        f"{section}/{name}": np.array(array)
        for section, content in sections.items()
        for name, array in content.items()
    }
    return Played(rows, arrays, record)


def assert_same_bits(one, other):
    """Fails unless two Played are equal bit for bit."""
    assert one.rows == other.rows
    assert one.record == other.record
    for name, array in one.arrays.items():
        np.testing.assert_array_equal(array, other.arrays[name], err_msg=name)


def assert_near(one, other, rtol=1e-7):
    """Fails unless two Played are equal to `rtol`, and steps and generators exactly."""
    for found, expected in zip(one.rows, other.rows, strict=True):
        assert found == pytest.approx(expected, rel=rtol)
    for name, array in one.arrays.items():  # a bias before BatchNorm is rounding alone: atol
        np.testing.assert_allclose(array, other.arrays[name], rtol=rtol, atol=1e-9, err_msg=name)
    assert one.record == other.record
