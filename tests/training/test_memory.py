"""After warm-up, a step on the fast CPU backend allocates no array as large as an activation."""

import numpy as np
import pytest

from minigan.data import Batches
from minigan.training.config import new_config
from minigan.training.game import Game
from tests.support.memory import peak_of

BATCH = 128
# What may come and go within a step: NumPy's iterators take buffers of 8,192 numbers for each
# operand, whatever the size of the arrays; BatchNorm pools its statistics in a few float64 numbers
# per channel, of which a dense layer has 3,136; Python objects and array headers take a few KB
ITERATORS = 3 * 8192 * 4 + 6 * 3136 * 8 + 16_384  # bytes
SMALLEST_ACTIVATION = BATCH * 7 * 7 * 32 * 4  # of the nets below
assert SMALLEST_ACTIVATION / 3 > ITERATORS  # not a single one can hide below the limit


def make(preset, backend="numpy", width=16):
    images = np.random.default_rng(0).integers(0, 256, (300, 28, 28, 1), np.uint8)
    options = dict(preset=preset, width=width, batch_size=BATCH, backend=backend)
    game = Game(new_config(options | ({"threads": 1} if backend == "numpy" else {})))
    labels = np.arange(300) % 10
    return game, Batches(images, BATCH, labels=labels, pixel_min=game.preset.pixel_min)


def peak_of_rounds(game, batches, rounds):
    """-> the largest number of bytes allocated at any moment, beyond what was there before."""
    return peak_of(lambda: game.round(batches), rounds)


@pytest.mark.parametrize(
    "preset",
    (
        "mnist",
        "tensorflow-mnist",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("fredriksson-mnist", "shibuya-mnist", "radford-mnist-conditional")
        ),
    ),
)
def test_a_training_step_allocates_nothing(preset):
    """Over the end of an epoch too, with its smaller last batch."""
    game, batches = make(preset)
    for _ in range(batches.per_epoch + 1):
        game.round(batches)
    # a thread may hold an array an instant too long, and then another is taken, once
    peaks = (peak_of_rounds(game, batches, batches.per_epoch) for _ in range(3))
    assert any(peak < ITERATORS for peak in peaks)


def test_the_measurement_would_see_one():
    game, batches = make("mnist")
    assert peak_of_rounds(game, batches, 1) > 10 * ITERATORS  # the first round makes all memory
    for _ in range(2):
        game.round(batches)
    outputs, empty = game.backend.outputs, game.backend.xp.empty
    outputs.new_output = lambda name, shape: empty(shape, np.float32)  # a new array each time
    assert peak_of_rounds(game, batches, 1) > 2 * ITERATORS


def test_the_plain_backend_allocates_where_that_is_simpler_to_read():
    game, batches = make("mnist", "plain", width=4)
    game.round(batches)
    assert peak_of_rounds(game, batches, 1) > 10 * ITERATORS
