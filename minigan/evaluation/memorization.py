"""Does the generator memorize its training images?

Each sample has a distance to its nearest training image: Euclidean over all pixels, black 0 and
white 1. Real test images, which are not copies, show how near is normal. If samples are nearer on
average, or the closest of them much closer, they are suspicious. (Simple images are nearer, too: a
blurred stroke has more neighbors. So look at the picture.)

Distances are taken between pixels because only there a distance of 0 proves a copy.
"""

import numpy as np

from minigan.data.files.png import grid
from minigan.evaluation.neighbors import nearest_on
from minigan.evaluation.reference_images import Subset
from minigan.parallel.group import ALONE, Group

COLUMNS = 16  # images in a row of the picture

Neighbors = tuple[np.ndarray, np.ndarray]  # distances (n,), images (n, h, w, c)


def nearest_training_images(
    images: np.ndarray, train: Subset, flip: bool = False, ranks: Group = ALONE
) -> Neighbors:
    """images (n, h, w, c) -> distance to the nearest training image of each, and that image.

    flip   was G trained on mirrored images, too? Then these count
    ranks  as in nearest_on
    """
    distances, indices = nearest_on(ranks, images, train)
    theirs = train[indices.astype(np.int64)]
    if flip:
        mirrored, indices = nearest_on(ranks, images[:, :, ::-1], train)
        nearer = mirrored < distances
        distances[nearer] = mirrored[nearer]
        theirs[nearer] = train[indices[nearer].astype(np.int64)][:, :, ::-1]
    return distances / 255, theirs


def nearest_picture(
    samples: np.ndarray, near_samples: Neighbors, test: np.ndarray, near_test: Neighbors
) -> np.ndarray:
    """-> picture (H, W, c) uint8: three pairs of rows, images above their nearest training images.

    The first samples; the samples that come closest; the real test images that come closest.
    """
    columns, rows = min(COLUMNS, len(samples), len(test)), []
    pairs = [(samples, near_samples, False), (samples, near_samples, True), (test, near_test, True)]
    for images, (distances, theirs), sort in pairs:
        order = np.argsort(distances, kind="stable") if sort else np.arange(columns)
        rows += [images[order[:columns]], theirs[order[:columns]]]
    return grid(np.concatenate(rows), columns)
