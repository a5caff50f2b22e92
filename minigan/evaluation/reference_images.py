"""Real images to compare samples with: those that G learns from, and others for the test.

MNIST, Fashion-MNIST, KMNIST and CIFAR-10 are published with 10,000 test images, which G has never seen. Of any other set a
fifth, at most 10,000, is held out: from the judge, which must be tested on images that are new to it, and as
the real images that samples are compared with. G has learnt from these too, where it was trained before they were
held out; the floor is of images held out in the same way, so the comparison is fair, but a copy of a held-out image
is not noticed.
"""

from dataclasses import dataclass

import numpy as np

from minigan.data import TESTED, Dataset, load_test
from minigan.errors import ConfigError

HELD_OUT, MOST_HELD_OUT = 5, 10_000  # one in so many; at most
LEAST = 500  # images for the test: with fewer, figures are mostly chance
SEED = 20151119  # of choices that must be the same at every evaluation of a set; the day of arXiv:1511.06434


class Part:
    """Part(images, chosen): some rows of images that may lie on the disk, read when they are asked for."""

    def __init__(self, images: np.ndarray, chosen: np.ndarray | None = None):
        self.images, self.chosen = images, chosen
        self.dtype: np.dtype[np.generic] = images.dtype
        self.shape = (len(images) if chosen is None else len(chosen), *images.shape[1:])

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, rows: slice) -> np.ndarray:
        return np.asarray(
            self.images[rows] if self.chosen is None else self.images[self.chosen[rows]]
        )

    def take(self, numbers: np.ndarray) -> np.ndarray:
        """-> these of them (n, h, w, c), in memory."""
        return np.asarray(self.images[numbers if self.chosen is None else self.chosen[numbers]])


@dataclass(frozen=True)
class Real:
    """A set's images in two parts, with labels where it has any."""

    name: str
    train: Part
    test: Part
    train_labels: np.ndarray | None
    test_labels: np.ndarray | None
    classes: tuple[str, ...]
    published: bool  # are the test images the set's own?

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """-> (h, w, c)"""
        return self.train.shape[1], self.train.shape[2], self.train.shape[3]

    def some_train(self, n: int) -> np.ndarray:
        """-> n images of train, the same at every call."""
        return self.train.take(some_of(len(self.train), n))

    def some_test(self, n: int) -> np.ndarray:
        """-> n images of test, the same at every call."""
        return self.test.take(some_of(len(self.test), n))

    def some_train_labels(self, n: int) -> np.ndarray:
        """-> the labels of some_train; only where there are any."""
        return np.take(np.asarray(self.train_labels), some_of(len(self.train), n))

    def some_test_labels(self, n: int) -> np.ndarray:
        """-> the labels of some_test; only where there are any."""
        return np.take(np.asarray(self.test_labels), some_of(len(self.test), n))


def some_of(count: int, n: int) -> np.ndarray:
    """-> n of the numbers below count, in order."""
    return np.sort(np.random.default_rng([SEED, count]).choice(count, n, replace=False))


def split(data: Dataset, data_dir: str | None, fit: str) -> Real:
    """Training images as load_dataset gave them -> Real. Raises ConfigError where there are too few, DataError.

    data_dir, fit  as they were given to load_dataset: a published test set is looked for where the training set was
    """
    labels = None if data.labels is None else np.asarray(data.labels)
    if data.name in TESTED:
        images, test_labels = load_test(data.name, data_dir, data.images.shape[1:], fit)
        return Real(
            data.name, Part(data.images), Part(images), labels, test_labels, data.classes, True
        )
    count = len(data.images)
    held_out = min(count // HELD_OUT, MOST_HELD_OUT)
    if held_out < LEAST:
        raise ConfigError(
            f"{data.name} has {count:,} images, and {held_out} of them, held out to compare with, would say little: "
            f"it takes {LEAST * HELD_OUT:,} images to evaluate"
        )
    test = some_of(count, held_out)
    train = np.setdiff1d(np.arange(count), test, assume_unique=True)
    return Real(
        data.name,
        Part(data.images, train),
        Part(data.images, test),
        None if labels is None else labels[train],
        None if labels is None else labels[test],
        data.classes,
        False,
    )
