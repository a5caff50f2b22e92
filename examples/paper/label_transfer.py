"""Do samples teach what a digit is? The DCGAN paper's measure of a generator that is told the class.

Draw n samples, each with the label that G was told. A 1-nearest-neighbour classifier that knows nothing else reads
the test images: each gets the label of the sample nearest to it, by Euclidean distance between pixels. Its share of
mistakes falls with n where samples are right and varied. A G that draws one perfect 7, or sevens that are told
to be ones, teaches little, however sharp they are.

    error(n) = share of test images x with  label(argmin_{i < n} |x - s_i|) ≠ label(x)

Only the nearest sample so far must be known, not the samples: n may be 10 million, in a few megabytes.

Labels are drawn uniformly and independently, not in equal numbers, as the published code draws them. One thing
differs from it: samples are rounded to 256 grey levels first, as the test images are.
Source: Radford et al. 2016, arXiv:1511.06434, section 6.1 (table 3); github.com/Newmu/dcgan_code, mnist/train_cond_dcgan.py
"""

import numpy as np

from minigan.arrays import Backend
from minigan.backends import get_backend
from minigan.errors import ShapeError
from minigan.evaluation.neighbours import Nearest

NO_LABEL = -1


class Transfer:
    """Transfer(images, labels): the nearest sample of each test image, so far.

    images     (m, h, w, c) uint8
    labels     (m,) integers
    backend    that looks for them (default numpy); the result is the same
    distances  (m,) of the nearest sample, in grey levels
    given      (m,) its label
    count      of the samples
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray, backend: Backend | None = None):
        self.images, self.labels = images, labels.astype(np.int64)
        backend = backend or get_backend("numpy")
        self.nearest = backend.implementation(Nearest)(images, backend)
        self.distances, self.given = (
            np.full(len(images), np.inf),
            np.full(len(images), NO_LABEL, np.int64),
        )
        self.count = 0

    def add(self, samples: np.ndarray, labels: np.ndarray) -> None:
        """Compare with more samples (n, h, w, c) uint8, told to be of labels (n,). Of two at one distance the first counts.

        Raises ShapeError, ArrayTypeError.
        """
        if len(samples) != len(labels):
            raise ShapeError(
                f"expected as many labels as samples, got {len(labels)} and {len(samples)}"
            )
        distances, numbers = self.nearest.among(samples)
        nearer = distances < self.distances
        self.distances[nearer], self.given[nearer] = distances[nearer], labels[numbers[nearer]]
        self.count += len(samples)

    def error(self) -> float:
        """-> share of the test images that got a wrong label, or none."""
        return float(np.mean(self.given != self.labels))

    def state(self) -> dict[str, np.ndarray]:
        """-> float64 arrays to go on from, which checkpoint.save_arrays can write."""
        return {
            "distances": self.distances,
            "given": self.given.astype(np.float64),
            "count": np.array(float(self.count)),
        }

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        """Take back what state() gave. Raises ShapeError where it is of other test images."""
        mine = self.state()
        if {name: array.shape for name, array in mine.items()} != {
            name: array.shape for name, array in state.items()
        }:
            raise ShapeError(
                f"expected the nearest samples of {len(self.images):,} images, as state() gives them"
            )
        self.distances, self.given, self.count = (
            state["distances"].copy(),
            state["given"].astype(np.int64),
            int(state["count"]),
        )
