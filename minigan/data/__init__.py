"""Pictures -> uint8 arrays -> shuffled batches. Independent of networks."""

from minigan.data.base import Dataset
from minigan.data.batches import SMALLEST_BATCH, Batches, to_floats, to_pixels
from minigan.data.dataset import DATASETS, TESTED, load_dataset, load_test
from minigan.data.files.decode import MOST_PIXELS, parse_background
from minigan.data.prepare.resize import parse_fit
from minigan.data.remarks import remarks
from minigan.data.sets.mnist import load_mnist
from minigan.data.sets.synthetic_digits import strokes

__all__ = [
    "Batches", "DATASETS", "Dataset", "MOST_PIXELS", "SMALLEST_BATCH", "TESTED",
    "load_dataset", "load_mnist", "load_test", "parse_background", "parse_fit", "remarks",
    "strokes", "to_floats", "to_pixels",
]  # fmt: skip
