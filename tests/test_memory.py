"""After warm-up, a training step allocates no arrays."""

import tracemalloc

import numpy as np
import pytest

from minigan.data import Batches
from minigan.training.config import new_config
from minigan.training.game import Game

# What may come and go within a step: NumPy's iterators take buffers of 8,192 numbers an operand,
# whatever the size of the arrays; Python objects and array headers come to a few KB
ITERATORS = 3 * 8192 * 4 + 16_384  # bytes


def peak_of_rounds(game, batches, rounds):
    """-> largest number of bytes allocated at any moment of the rounds, beyond what was before them."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(rounds):
            game.round(batches)
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "preset",
    (
        "mnist",
        "fredriksson-mnist",
        "shibuya-mnist",
        "tensorflow-mnist",
        "radford-mnist-conditional",
    ),
)
def test_a_training_step_allocates_nothing(preset):
    """Over the end of an epoch too, with its smaller last batch."""
    images = np.random.default_rng(0).integers(0, 256, (300, 28, 28, 1), np.uint8)
    game = Game(new_config(dict(preset=preset, width=8, batch_size=128)))
    batches = Batches(images, 128, labels=np.arange(300) % 10, pixel_min=game.preset.pixel_min)
    for _ in range(batches.per_epoch + 1):
        game.round(batches)
    peaks = (peak_of_rounds(game, batches, 2 * batches.per_epoch) for _ in range(3))
    assert any(
        peak < ITERATORS for peak in peaks
    )  # a thread may hold an array an instant too long, and then another is taken, once
    smallest_activation = 128 * 7 * 7 * 16 * 4
    assert smallest_activation / 3 > ITERATORS  # so that not a single one can hide below the limit


def test_the_measurement_would_see_one():
    game = Game(new_config(dict(width=8, batch_size=128)))
    batches = Batches(np.zeros((128, 28, 28, 1), np.uint8), 128)
    assert peak_of_rounds(game, batches, 1) > 10 * ITERATORS  # the first round makes all the memory
    game.round(batches)
    game.G.memory.fresh = lambda name, shape: game.backend.empty(shape)  # a new array each time
    assert peak_of_rounds(game, batches, 1) > 1.5 * ITERATORS
