"""Label transfer against plain loops, in pieces, on a GPU, and real MNIST's known error."""

import os
import sys

import numpy as np
import pytest

import minigan as mg
from minigan import ShapeError
from minigan.data.sets.mnist import load_mnist
from tests.support.programs import load_program
from tests.support.refusals import refusal
from tests.support.strict_cupy import make_module

REAL_DATA = os.environ.get("MINIGAN_DATA", "none")
LabelTransfer = load_program("paper/label_transfer").LabelTransfer


def some(n, shape=(5, 4, 1), levels=256, seed=0):
    """-> n images and their labels"""
    rng = np.random.default_rng([seed, n])
    return rng.integers(0, levels, (n, *shape), dtype=np.uint8), rng.integers(0, 10, n)


def naive(images, labels, samples, given):
    wrong = 0
    for image, label in zip(images.astype(int), labels, strict=True):
        squares = [((image - sample.astype(int)) ** 2).sum() for sample in samples]
        wrong += given[squares.index(min(squares))] != label
    return wrong / len(images)


@pytest.mark.parametrize("backend", ("numpy", "cupy"))
@pytest.mark.parametrize("levels", (256, 2))  # with two gray levels there are many ties
def test_the_error_is_that_of_plain_loops(levels, backend, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", make_module())
    (images, labels), (samples, given) = some(60, levels=levels), some(150, levels=levels)
    transfer = LabelTransfer(images, labels, mg.get_backend(backend))
    finder = getattr(transfer.find_nearest, "__self__", None)
    assert (type(finder).__name__ == "DeviceNearest") == (backend == "cupy")
    transfer.add(samples, given)
    assert transfer.error() == naive(images, labels, samples, given)


def test_images_that_the_gpu_cannot_compare_exactly_are_compared_on_the_host(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", make_module())
    (images, labels), (samples, given) = some(9, (33, 32, 1)), some(20, (33, 32, 1))
    transfer = LabelTransfer(images, labels, mg.get_backend("cupy"))
    assert not hasattr(transfer.find_nearest, "__self__")
    transfer.add(samples, given)
    assert transfer.error() == naive(images, labels, samples, given)


def test_in_pieces_and_after_a_stop_it_is_the_same():
    (images, labels), (samples, given) = some(40, levels=3), some(300, levels=3)
    whole, pieces = LabelTransfer(images, labels), LabelTransfer(images, labels)
    whole.add(samples, given)
    for start in range(0, 300, 70):
        pieces.add(samples[start : start + 70], given[start : start + 70])
        resumed = LabelTransfer(images, labels)
        resumed.load_state(pieces.state())
        pieces = resumed
    assert pieces.count == whole.count == 300
    for name, array in whole.state().items():
        np.testing.assert_array_equal(array, pieces.state()[name])


def test_copies_give_their_labels():
    images, labels = some(30)
    transfer = LabelTransfer(images, labels)
    assert transfer.error() == 1.0  # no samples yet
    transfer.add(images, (labels + 1) % 10)
    assert transfer.error() == 1.0
    transfer = LabelTransfer(images, labels)
    transfer.add(images, labels)
    assert transfer.error() == 0.0 and not transfer.distances.any()


def test_mistakes_are_one_line():
    transfer = LabelTransfer(*some(5))
    line = refusal(transfer.add, some(3)[0], np.arange(2), kind=ShapeError)
    assert "as many labels as samples, got 2 and 3" in line
    for state in ({}, LabelTransfer(*some(6)).state()):
        assert "nearest samples of 5 images" in refusal(transfer.load_state, state, kind=ShapeError)


def mnist():
    """-> training images and labels, test images and labels"""
    try:
        return *load_mnist(REAL_DATA), *load_mnist(REAL_DATA, split="test")
    except mg.DataError as error:
        pytest.skip(f"MNIST is not here: {error}")


@pytest.mark.slow
@pytest.mark.parametrize(
    "n, mistakes", ((1000, 38), pytest.param(10_000, 309, marks=pytest.mark.long))
)
def test_real_mnist_has_its_known_error(n, mistakes):
    """3.09% of the test images, with all 60,000 training images."""
    train_images, train_labels, images, labels = mnist()
    transfer = LabelTransfer(images[:n], labels[:n])
    transfer.add(train_images, train_labels)
    assert np.count_nonzero(transfer.given != labels[:n]) == mistakes
