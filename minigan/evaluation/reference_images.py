"""Reference images: the real images that samples are compared with.

MNIST, Fashion-MNIST, KMNIST and CIFAR-10 are published with 10,000 test images, which G never sees.
Of any other set a fifth is held out, at most 10,000 images. The classifier does not train on these,
so that they can test it. G does: the floor (see metrics.py) still makes the comparison fair, but a
copy of a held-out image is not detected.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from minigan.data import TESTED, Dataset, load_test
from minigan.errors import ConfigError

FRACTION, MAX_HELD_OUT = 5, 10_000  # one image in 5 is held out, and at most this many
MIN_TEST = 500  # images: with fewer, metrics are mostly chance
SEED = 20151119  # of choices that are the same in every evaluation; the day of arXiv:1511.06434


@dataclass(frozen=True)
class Subset:
    """Some images of a set, which may be on the disk: they are read when they are indexed."""

    images: np.ndarray  # (count, h, w, c) uint8, the whole set
    all_labels: np.ndarray | None  # (count,), of the whole set
    indices: NDArray[np.int64]  # (n,), which of them

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def labels(self) -> np.ndarray | None:
        """-> (n,)"""
        return None if self.all_labels is None else self.all_labels[self.indices]

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> np.ndarray:
        """-> images (k, h, w, c), in memory."""
        return np.asarray(self.images[self.indices[rows]])

    def draw(self, n: int) -> "Subset":
        """-> n of them, the same at every call."""
        return Subset(self.images, self.all_labels, self.indices[draw_indices(len(self), n)])


Rows = np.ndarray | Subset  # (n, ...)


@dataclass(frozen=True)
class ReferenceImages:
    """A set in two parts: images to train a classifier on, and images to test with."""

    data: Dataset  # as load_dataset gave it, with these arguments:
    data_dir: str | None
    fit: str
    train: Subset
    test: Subset
    published: bool  # is the test part the set's own?

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """-> (h, w, c)"""
        h, w, c = self.data.images.shape[1:]
        return h, w, c


def draw_indices(count: int, n: int) -> NDArray[np.int64]:
    """-> n of the indices below count, ascending."""
    return np.sort(np.random.default_rng([SEED, count]).choice(count, n, replace=False))


def split(data: Dataset, data_dir: str | None, fit: str) -> ReferenceImages:
    """Training images -> the same with a test part. Raises DataError; ConfigError for too few.

    data_dir, fit  as passed to load_dataset: a published test set is looked for in the same place
    """
    count = len(data.images)
    labels = None if data.labels is None else np.asarray(data.labels)
    published = data.name in TESTED
    if published:
        images, test_labels = load_test(data.name, data_dir, data.images.shape[1:], fit)
        train, test = np.arange(count), Subset(images, test_labels, np.arange(len(images)))
    else:
        held_out = min(count // FRACTION, MAX_HELD_OUT)
        if held_out < MIN_TEST:
            raise ConfigError(
                f"{data.name} has {count:,} images, too few to hold out a fifth and compare with "
                f"it: an evaluation takes {MIN_TEST * FRACTION:,} images"
            )
        test = Subset(data.images, labels, draw_indices(count, held_out))
        train = np.setdiff1d(np.arange(count), test.indices, assume_unique=True)
    return ReferenceImages(data, data_dir, fit, Subset(data.images, labels, train), test, published)
