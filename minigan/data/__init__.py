"""Pictures -> uint8 arrays -> shuffled batches. Knows nothing of networks."""

import numpy as np

from minigan.data.batches import SMALLEST_BATCH, Batches, to_floats, to_pixels
from minigan.data.mnist import load_mnist
from minigan.data.strokes import strokes
from minigan.errors import DataUnavailable

DATASETS = ("auto", "mnist", "strokes")

__all__ = [
    "Batches", "DATASETS", "SMALLEST_BATCH", "load_dataset", "load_mnist", "strokes", "to_floats", "to_pixels",
]  # fmt: skip


def load_dataset(name: str, data_dir: str | None = None) -> tuple[np.ndarray, str, str | None]:
    """-> images (n, 28, 28, 1) uint8, the name of the set that it is, and a note or None.

    name  "mnist", "strokes", or "auto": MNIST where it is found or can be downloaded, and
          else Strokes, with a note that says so
    Raises DataError (damaged files, or none where data_dir says), DataUnavailable.
    """
    note = None
    if name != "strokes":
        try:
            return load_mnist(data_dir)[0], "mnist", None
        except DataUnavailable as error:
            if name == "mnist":
                raise
            note = f"training on Strokes, digits that minigan draws itself, NOT on MNIST: {error}"
    return strokes(60_000)[0], "strokes", note
