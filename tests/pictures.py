"""Small data sets for tests."""

import numpy as np

from minigan.data import Dataset

DIGITS = tuple("0123456789")


def dataset(images: np.ndarray, name: str = "mnist", note: str | None = None) -> Dataset:
    """What load_dataset gives, of these images; labels 0, 1, 2 ... in turn."""
    return Dataset(name, images, np.arange(len(images)) % len(DIGITS), DIGITS, "0" * 16, note)


def noise(count: int, seed: int = 0):
    """-> a stand-in for load_dataset: so many images of noise, in the shape that is asked for."""

    def load_dataset(name, data_dir=None, *, image_shape=(28, 28, 1), **options):
        images = np.random.default_rng(seed).integers(0, 256, (count, *image_shape), np.uint8)
        return dataset(images, "mnist" if name == "auto" else name)

    return load_dataset
