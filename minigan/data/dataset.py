"""What a data set is, and how each is loaded by its name: training images, and of some sets test images."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minigan.checks import expect_size
from minigan.data.prepare.resize import fit_arrays, parse_fit
from minigan.data.sets.mnist import SETS, load_idx_set
from minigan.data.sets.synthetic_digits import strokes
from minigan.errors import ConfigError, DataUnavailable

DATASETS = (
    "auto",
    "mnist",
    "fashion-mnist",
    "kmnist",
    "cifar10",
    "svhn",
    "celeba",
    "folder",
    "strokes",
)
TESTED = (
    *SETS,
    "cifar10",
)  # sets that are published with test images; their name stands for their files
STROKES = 60_000  # pictures: as many as MNIST has
IMAGES = {  # training pictures of the sets whose number is known
    "mnist": 60_000,
    "fashion-mnist": 60_000,
    "kmnist": 60_000,
    "cifar10": 50_000,
    "svhn": 73_257,
    "celeba": 202_599,
    "strokes": STROKES,
}


@dataclass(frozen=True)
class Dataset:
    """Pictures in memory or memory-mapped, all of one shape."""

    name: str  # "mnist", "folder", ...: never "auto"
    images: np.ndarray  # (count, h, w, c) uint8
    labels: np.ndarray | None  # (count,) integers from 0, or None
    classes: tuple[str, ...]  # names of the labels, () without
    fingerprint: str  # short hex text: the same pixels and labels give the same
    note: str | None  # a line that the user must not miss, or None


def load_dataset(
    name: str,
    data_dir: str | Path | None = None,
    *,
    image_shape: tuple[int, int, int] = (28, 28, 1),
    images: str | Path | None = None,
    fit: str = "crop",
    limit: int | None = None,
    log: Callable[[str], object] = print,
) -> Dataset:
    """Load the training pictures of a set, in the shape that is asked for.

    name         one of DATASETS. "auto": MNIST where it is found or can be downloaded, and else Strokes,
                 with a note that says so; with images= it is "folder"
    data_dir     folder with the set's files, or with a sub-folder of the set's name that has them; None:
                 $MINIGAN_DATA, then the cache folder, then a download, where there is one
    image_shape  (h, w, c), c 1 or 3
    images       for "folder": the folder or .zip of pictures
    fit          how pictures of another size or aspect come to it; see fit.py
    limit        only the first so many pictures of the set
    log          called with each line for the user
    Raises DataError: damaged files, or none where data_dir says; DataUnavailable: found nowhere
    and not to be had; ConfigError, ShapeError: arguments that do not fit.
    """
    if name not in DATASETS:
        raise ConfigError(f"the data set must be one of {', '.join(DATASETS)}, got {name!r}")
    if len(image_shape) != 3 or image_shape[2] not in (1, 3):
        raise ConfigError(f"image_shape must be (h, w, 1 or 3), got {image_shape}")
    h, w, c = (expect_size("image_shape: each number", size) for size in image_shape)
    shape = (h, w, c)
    parsed = parse_fit(fit)
    if limit is not None:
        limit = expect_size("limit", limit)
    if name == "auto" and images is not None:
        name = "folder"
    if (name == "folder") != (images is not None):
        raise ConfigError(
            'the data set "folder" needs a folder or .zip of pictures, and only it takes one: '
            f"got {name!r} with {images!r}"
        )
    if images is not None:
        from minigan.data.sets.folder import load_folder

        return load_folder(images, shape, parsed, limit, log=log)
    if name == "celeba":
        from minigan.data.sets.celeba import load_celeba

        return load_celeba(data_dir, shape, parsed, limit, log)
    note = None
    if name == "auto":
        try:
            name, (pictures, labels, classes) = "mnist", _load("mnist", data_dir, limit)
        except DataUnavailable as error:
            name, (pictures, labels, classes) = "strokes", _load("strokes", None, limit)
            note = f"training on Strokes, digits that minigan draws itself, NOT on MNIST: {error}"
    else:
        pictures, labels, classes = _load(name, data_dir, limit)
    pictures, labels = fit_arrays(pictures[:limit], shape, parsed), labels[:limit]
    pixels = hashlib.sha256(np.ascontiguousarray(pictures).data).hexdigest()
    return Dataset(name, pictures, labels, classes, fingerprint(shape, pixels, labels), note)


def _load(
    name: str, data_dir: str | Path | None, limit: int | None
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """-> images as the set has them, labels, classes. All of them, where it is no less work to have the first."""
    if name == "strokes":
        return *strokes(min(STROKES, limit or STROKES)), tuple("0123456789")
    if name == "cifar10":
        from minigan.data.sets.cifar10 import CLASSES, load_cifar10

        return *load_cifar10(data_dir), CLASSES
    if name == "svhn":
        from minigan.data.sets.svhn import load_svhn

        return *load_svhn(data_dir), tuple("0123456789")
    return *load_idx_set(name, data_dir), SETS[name].classes


def load_test(
    name: str, data_dir: str | Path | None, image_shape: tuple[int, int, int], fit: str
) -> tuple[np.ndarray, np.ndarray]:
    """The test images of one of TESTED, looked for as its training images are -> images (n, h, w, c) uint8, labels (n,) uint8.

    Raises DataError, DataUnavailable, ConfigError.
    """
    if name == "cifar10":
        from minigan.data.sets.cifar10 import load_cifar10

        images, labels = load_cifar10(data_dir, split="test")
    else:
        images, labels = load_idx_set(name, data_dir, split="test")
    return fit_arrays(images, image_shape, parse_fit(fit)), labels


def fingerprint(shape: tuple[int, int, int], pixels_sha256: str, labels: np.ndarray | None) -> str:
    """-> 16 hex digits."""
    numbers = b"" if labels is None else labels.astype("<i4").tobytes()
    return hashlib.sha256(f"{shape} {pixels_sha256} ".encode() + numbers).hexdigest()[:16]
