"""Which real images samples are compared with."""

import numpy as np
import pytest

from minigan import ConfigError
from minigan.data import Dataset
from minigan.evaluation import reference_images, split
from minigan.evaluation.reference_images import Subset
from tests.support.pictures import dataset, noise
from tests.support.refusals import refusal


def numbered(count):
    """-> images of one pixel, the number of each"""
    return np.arange(count, dtype=np.uint8).reshape(count, 1, 1, 1)


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(reference_images, "MIN_TEST", 2)


def test_a_fifth_is_held_out_and_at_random(few):
    real = split(dataset(numbered(50), "folder"), None, "crop")
    held_out, rest = (part[:].ravel().tolist() for part in (real.test, real.train))
    assert not real.published and len(held_out) == 10
    assert sorted(held_out + rest) == list(range(50)) and held_out != list(range(40, 50))
    for part in (real.train, real.test):  # labels are those of the images
        np.testing.assert_array_equal(part.labels, part[:].ravel() % 10)


def test_the_same_images_are_held_out_in_every_version(few):
    """A classifier in the cache was not trained on them."""
    real = split(dataset(numbered(50), "folder"), None, "crop")
    chosen = np.random.default_rng([20151119, 50]).choice(50, 10, replace=False)
    assert real.test.indices.tolist() == sorted(chosen)


def test_no_more_than_10000_are_held_out(monkeypatch, few):
    monkeypatch.setattr(reference_images, "MAX_HELD_OUT", 3)
    real = split(dataset(numbered(50), "folder"), None, "crop")
    assert len(real.test) == 3 and len(real.train) == 47


def test_published_test_images_are_loaded_from_the_same_place(monkeypatch):
    seen, test = [], (numbered(7), np.arange(7))
    monkeypatch.setattr(
        reference_images, "load_test", lambda *arguments: seen.append(arguments) or test
    )
    real = split(dataset(numbered(50), "mnist"), "folder", "squash")
    assert real.published and len(real.train) == 50 and len(real.test) == 7
    assert seen == [("mnist", "folder", (1, 1, 1), "squash")]


def test_too_few_images_to_hold_some_out():
    line = refusal(split, noise(2499)("strokes"), None, "crop", kind=ConfigError)
    assert "has 2,499 images" in line and "an evaluation takes 2,500 images" in line
    assert len(split(noise(2500)("strokes"), None, "crop").test) == 500


def test_images_on_the_disk_are_read_when_they_are_indexed(tmp_path, few):
    images = np.memmap(tmp_path / "images", np.uint8, "w+", shape=(50, 2, 2, 1))
    images[...] = numbered(50)
    real = split(Dataset("folder", images, None, (), "0" * 16), None, "crop")
    assert real.train.images is images and real.train.labels is None
    part = real.train[3:7]
    assert (
        type(part) is np.ndarray and part[:, 0, 0, 0].tolist() == real.train.indices[3:7].tolist()
    )


def test_a_subset_draws_the_same_images_and_labels_every_time():
    subset = Subset(numbered(50), np.arange(50) + 100, np.arange(10, 50))
    drawn = subset.draw(15)
    numbers = drawn[:].ravel().tolist()
    assert len(set(numbers)) == len(drawn) == 15 and min(numbers) >= 10
    np.testing.assert_array_equal(drawn.labels, drawn[:].ravel() + 100)
    np.testing.assert_array_equal(subset.draw(15)[:], drawn[:])
    assert drawn[:].shape == (15, 1, 1, 1) and drawn[:].dtype == np.uint8
