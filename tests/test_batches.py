"""Shuffled batches: every image once an epoch, in an order that can be returned to."""

import numpy as np
import pytest

import minigan as mg
from minigan.data import Batches, to_floats, to_pixels

IMAGES = np.arange(11, dtype=np.uint8).reshape(11, 1, 1, 1)  # image i is the number i


def drawn(batches, count):
    return [list(to_pixels(batches.draw()).ravel()) for _ in range(count)]


def test_an_epoch_has_every_image_once_and_the_next_another_order():
    batches = Batches(IMAGES, 4, seed=7)
    first, second = drawn(batches, 3), drawn(batches, 3)
    assert [len(batch) for batch in first] == [4, 4, 3]
    assert sorted(sum(first, [])) == sorted(sum(second, [])) == list(range(11))
    assert first != second
    assert drawn(Batches(IMAGES, 4, seed=7), 6) == first + second
    assert drawn(Batches(IMAGES, 4, seed=8), 3) != first


def test_going_on_from_a_position():
    whole = drawn(Batches(IMAGES, 4, seed=7), 10)
    for done in range(10):
        batches = Batches(IMAGES, 4, seed=7)
        drawn(batches, done)
        resumed = Batches(IMAGES, 4, seed=7)
        resumed.seek(batches.epoch, batches.position)
        assert drawn(resumed, 10 - done) == whole[done:]


def test_a_last_batch_of_one_is_left_out():
    batches = Batches(IMAGES, 5, seed=0)
    assert batches.per_epoch == 2
    assert [len(batch) for batch in drawn(batches, 4)] == [5, 5, 5, 5]


def test_range_and_memory():
    pixels = np.arange(256, dtype=np.uint8)
    floats = np.empty(256, np.float32)
    to_floats(pixels, floats)
    assert floats[0] == -1 and floats[255] == 1 and np.all(np.diff(floats) > 0)
    np.testing.assert_array_equal(to_pixels(floats), pixels)
    np.testing.assert_array_equal(to_pixels(np.float32([-9, 9])), [0, 255])
    batches = Batches(IMAGES, 4)
    one, two = batches.draw(), batches.draw()
    assert one.dtype == np.float32 and np.shares_memory(one, two)


@pytest.mark.parametrize("make, error", (
    (lambda: Batches(IMAGES, 1), mg.ConfigError),
    (lambda: Batches(IMAGES, 2.0), mg.ConfigError),
    (lambda: Batches(IMAGES[:1], 4), mg.ConfigError),
    (lambda: Batches(IMAGES, 12), mg.ConfigError),
    (lambda: Batches(IMAGES.astype(float), 4), mg.DataError),
    (lambda: Batches(IMAGES, 4).seek(0, 4), mg.ConfigError),
    (lambda: Batches(IMAGES, 4).seek(-1, 0), mg.ConfigError),
))  # fmt: skip
def test_mistakes(make, error):
    with pytest.raises(error):
        make()
