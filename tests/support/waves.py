"""Ten classes that pixels say little about, for features of D."""

import numpy as np

from tests.support.pictures import dataset

SHAPE = (16, 16, 1)


def waves(count, shape=SHAPE, seed=0):
    """-> images of ten classes in turn: waves in the direction of the class, with any phase."""
    rng, (rows, columns) = np.random.default_rng(seed), np.mgrid[: shape[0], : shape[1]]
    images = np.empty((count, *shape), np.uint8)
    for i, image in enumerate(images):
        angle, phase = np.pi * (i % 10) / 10, rng.uniform(0, 2 * np.pi)
        wave = np.sin(1.3 * (rows * np.cos(angle) + columns * np.sin(angle)) + phase)
        image[...] = np.clip(128 + 90 * wave + rng.normal(0, 25, wave.shape), 0, 255)[..., None]
    return images


def load(name, data_dir=None, *, image_shape=SHAPE, **options):
    """A replacement for load_dataset."""
    return dataset(waves(1000, image_shape), name)
