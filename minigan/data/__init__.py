"""Pictures -> uint8 arrays -> shuffled batches. Independent of networks."""

from minigan.data.base import Dataset
from minigan.data.batches import SMALLEST_BATCH, Batches, to_floats, to_pixels
from minigan.data.dataset import DATASETS, IMAGES, TESTED, load_dataset, load_test
from minigan.data.prepare.resize import parse_fit
from minigan.data.sets.mnist import load_mnist
from minigan.data.sets.synthetic_digits import strokes

__all__ = [
    "Batches", "DATASETS", "Dataset", "IMAGES", "SMALLEST_BATCH", "TESTED", "load_dataset",
    "load_mnist", "load_test", "parse_fit", "strokes", "to_floats", "to_pixels",
]  # fmt: skip
