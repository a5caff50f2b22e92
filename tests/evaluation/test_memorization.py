"""Distances to training images, and the picture of them."""

import numpy as np
import pytest

from minigan.evaluation.memorization import nearest_picture, nearest_training_images
from minigan.evaluation.reference_images import Subset


def subset(images, start=0):
    return Subset(images, None, np.arange(start, len(images)))


def test_a_copy_and_a_mirrored_copy():
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 1), np.uint8)
    train = subset(images, 10)
    samples = np.stack([images[20], images[30, :, ::-1], 255 - images[40]])
    distances, theirs = nearest_training_images(samples, train)
    assert distances[0] == 0 and (distances[1:] > 0).all()
    np.testing.assert_array_equal(theirs[0], images[20])
    distances, theirs = nearest_training_images(samples, train, flip=True)
    assert distances[:2].tolist() == [0, 0] and distances[2] > 0
    np.testing.assert_array_equal(theirs[1], samples[1])  # as G was shown it
    wanted = min(
        np.sqrt((((samples[2] / 1.0 - image[:, ::step]) / 255) ** 2).sum())
        for image in images[10:]
        for step in (1, -1)
    )
    assert distances[2] == pytest.approx(wanted, rel=1e-12)


def test_images_that_are_not_in_the_subset_do_not_count():
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 1), np.uint8)
    distances, _ = nearest_training_images(images[:5], subset(images, 10))
    assert (distances > 0).all()


def test_the_picture_shows_the_first_and_the_closest():
    rng = np.random.default_rng(1)
    train, samples, test = (rng.integers(0, 256, (n, 4, 4, 1), np.uint8) for n in (50, 40, 20))
    samples[33] = train[7]
    near_samples, near_test = (
        nearest_training_images(images, subset(train)) for images in (samples, test)
    )
    picture = nearest_picture(samples, near_samples, test, near_test)
    assert picture.shape == (6 * 6 + 2, 16 * 6 + 2, 1)
    cells = picture[2:, 2:].reshape(6, 6, 16, 6, 1).transpose(0, 2, 1, 3, 4)[:, :, :4, :4]
    np.testing.assert_array_equal(cells[0], samples[:16])
    np.testing.assert_array_equal(cells[1], near_samples[1][:16])
    np.testing.assert_array_equal(cells[2, 0], samples[33])
    np.testing.assert_array_equal(cells[3, 0], train[7])
    np.testing.assert_array_equal(cells[4, 0], test[near_test[0].argmin()])
