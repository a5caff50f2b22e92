"""Has the generator learnt its training images by heart?

The distance of each sample to its nearest training image, Euclidean over all pixels, black 0 and white 1. What is near?
Real test images tell, which are no copies: if samples lie nearer in the mean, or the closest of them much closer, they are
suspicious. (Simple samples lie nearer, too: an image of blurred strokes has more neighbours. So look at the picture.)

In no other space than that of pixels is a copy surely a copy.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from minigan.data.files.png import grid
from minigan.evaluation.neighbours import nearest
from minigan.evaluation.reference_images import Part

COLUMNS = 16  # images in a row of the picture

Neighbours = tuple[NDArray[np.float64], NDArray[np.uint8]]


def nearest_training_images(
    images: NDArray[np.uint8], train: Part, flip: bool = False
) -> Neighbours:
    """images (n, h, w, c) -> distance of each to its nearest training image (n,), and that image (n, h, w, c).

    flip  G was shown the images mirrored, too: then a mirrored one counts
    """
    distances, numbers = (found[:, 0] for found in nearest(images, train))
    theirs = train.take(numbers)
    if flip:
        mirrored, numbers = (
            found[:, 0] for found in nearest(np.ascontiguousarray(images[:, :, ::-1]), train)
        )
        nearer = np.flatnonzero(mirrored < distances)
        distances[nearer], theirs[nearer] = (
            mirrored[nearer],
            train.take(numbers[nearer])[:, :, ::-1],
        )
    return distances / 255, theirs


def nearest_picture(
    samples: NDArray[np.uint8], of_samples: Neighbours, test: NDArray[np.uint8], of_test: Neighbours
) -> NDArray[np.uint8]:
    """-> picture (H, W, c) uint8: six rows, every second one the training images that are nearest to those above them.

    The first samples; of all samples those that come closest; of real test images those that come closest.
    """
    columns = min(COLUMNS, len(samples), len(test))

    def closest(neighbours: Neighbours) -> NDArray[np.intp]:
        return np.argsort(neighbours[0], kind="stable")[:columns]

    pairs: Iterable[tuple[NDArray[np.uint8], Neighbours, NDArray[np.intp]]] = (
        (samples, of_samples, np.arange(columns)),
        (samples, of_samples, closest(of_samples)),
        (test, of_test, closest(of_test)),
    )
    return grid(
        np.concatenate(
            [rows[chosen] for images, (_, theirs), chosen in pairs for rows in (images, theirs)]
        ),
        columns,
    )
