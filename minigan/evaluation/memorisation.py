"""Has the generator learnt its training images by heart?

The distance of each sample to its nearest training image, in pixels from 0 to 1, beside that of real test images,
which are no copies: if samples lie nearer in the mean, they are suspicious. (Simple samples lie nearer too: an image of
blurred strokes has more neighbours. So look at the picture: samples over their nearest training images, first the first of
them, then those that come closest of all.)

In no other space than that of pixels is a copy surely a copy.
"""

import numpy as np

from minigan.evaluation.distances import Vectors, exact_distances, nearest
from minigan.evaluation.real import Part
from minigan.images import grid

COLUMNS = 16  # samples in a row of the picture


def nearest_training_images(images: Vectors, train: Vectors) -> tuple[np.ndarray, np.ndarray]:
    """-> for each image the number of its nearest one in train (n,), and the Euclidean distance (n,)."""
    index, _ = nearest(images, train)
    return index, exact_distances(images, train, index)


def nearest_picture(samples: np.ndarray, train: Part, index: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """-> picture (H, W, c) uint8 of four rows: samples, the training images nearest to them; the closest samples, theirs."""
    first = np.arange(min(COLUMNS, len(samples)))
    closest = np.argsort(distances, kind="stable")[: len(first)]
    rows = [images for chosen in (first, closest) for images in (samples[chosen], train.take(index[chosen]))]
    return grid(np.concatenate(rows), columns=len(first))
