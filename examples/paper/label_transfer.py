"""Label transfer: how well do labeled samples train a nearest-neighbor classifier?

The DCGAN paper's measure of a conditional generator. Draw n samples, each with the label that was
requested from G. A 1-nearest-neighbor classifier with these samples as its training set classifies
the test images: each gets the label of its nearest sample, by Euclidean distance between pixels.
The error falls with n if samples are correct and diverse. A G that always draws the same perfect 7,
or sevens when ones are requested, is a poor training set, no matter how sharp the images.

    error(n) = share of test images x with  label(argmin_{i < n} |x - s_i|) ≠ label(x)

Only the nearest sample so far is stored for each test image, so n can be 10 million in a few
megabytes.

Labels are drawn uniformly and independently, not in equal numbers, as in the published code. One
difference: samples are first rounded to 256 gray levels, like the test images.
Source: Radford et al. 2016, arXiv:1511.06434, section 6.1, table of nearest-neighbor errors on
MNIST; github.com/Newmu/dcgan_code, mnist/train_cond_dcgan.py
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from minigan.arrays import Backend
from minigan.errors import ShapeError
from minigan.evaluation.neighbors import nearest

NO_LABEL = -1

Found = tuple[NDArray[np.float64], NDArray[np.int64]]  # distances (m,), indices (m,)


def make_finder(queries: np.ndarray, backend: Backend | None) -> Callable[[np.ndarray], Found]:
    """-> function: corpus (n, ...) -> distance and index of the nearest row to each query.

    On a GPU if it can be exact there. The result is the same.
    """
    if backend is not None and backend.name == "cupy":
        from gpu_nearest import DeviceNearest

        if DeviceNearest.can_take(queries, backend):
            return DeviceNearest(queries, backend).among

    def on_the_host(corpus: np.ndarray) -> Found:
        distances, indices = nearest(queries, corpus)
        return distances[:, 0], indices[:, 0]

    return on_the_host


class LabelTransfer:
    """LabelTransfer(images, labels): the nearest sample of each test image, so far.

    images     (m, h, w, c) uint8
    labels     (m,) integers
    backend    None: the CPU

    distances  (m,) to the nearest sample, in gray levels
    given      (m,) its label
    count      of samples
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray, backend: Backend | None = None):
        self.labels = labels.astype(np.int64)
        self.find_nearest = make_finder(images, backend)
        self.distances = np.full(len(images), np.inf)
        self.given = np.full(len(images), NO_LABEL, np.int64)
        self.count = 0

    def add(self, samples: np.ndarray, labels: np.ndarray) -> None:
        """Compare with more samples (n, h, w, c) uint8 of labels (n,). Of equals the first counts.

        Raises ShapeError, ArrayTypeError.
        """
        self.merge(self.compare(samples, labels), len(samples))

    def compare(self, samples: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """-> (2, m): each test image's distance to the nearest of these samples, and its label."""
        if len(samples) != len(labels):
            raise ShapeError(
                f"expected as many labels as samples, got {len(labels)} and {len(samples)}"
            )
        distances, indices = self.find_nearest(samples)
        return np.stack([distances, labels[indices]])

    def merge(self, found: np.ndarray, count: int) -> None:
        """Add what compare() found among the next `count` samples, perhaps in another process."""
        nearer = found[0] < self.distances
        self.distances[nearer], self.given[nearer] = found[:, nearer]
        self.count += count

    def error(self) -> float:
        """-> share of the test images with a wrong label, or without one."""
        return float(np.mean(self.given != self.labels))

    def state(self) -> dict[str, np.ndarray]:
        """-> float64 arrays, which save_arrays can write."""
        given, count = self.given.astype(np.float64), np.array(float(self.count))
        return {"distances": self.distances, "given": given, "count": count}

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        """Restore what state() gave. Raises ShapeError if it belongs to other test images."""
        shapes = [{name: array.shape for name, array in of.items()} for of in (self.state(), state)]
        if shapes[0] != shapes[1]:
            raise ShapeError(
                f"expected the nearest samples of {len(self.labels):,} images, as state() "
                f"gives them, got {shapes[1]}"
            )
        self.distances, self.given = state["distances"].copy(), state["given"].astype(np.int64)
        self.count = int(state["count"])
