"""Data sets by name: the training images, and for some sets the test images."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from minigan.checks import expect_choice, expect_size
from minigan.data.base import DataDir, Dataset, LabeledImages, Limit, Log, Shape, fingerprint
from minigan.data.files.decode import MOST_PIXELS, Form, parse_background
from minigan.data.prepare.resize import fit_arrays, parse_fit
from minigan.data.sets import cifar10, mnist
from minigan.data.sets.array_file import is_array_file, load_array_file
from minigan.data.sets.celeba import load_celeba
from minigan.data.sets.cifar10 import load_cifar10
from minigan.data.sets.folder import load_folder
from minigan.data.sets.mnist import load_idx_set
from minigan.data.sets.svhn import load_svhn
from minigan.data.sets.synthetic_digits import strokes
from minigan.errors import ConfigError, DataUnavailable

STROKES = 60_000  # pictures, as many as MNIST has
DATASETS = ("auto", *mnist.SETS, "cifar10", "svhn", "celeba", "folder", "strokes")
TESTED = (*mnist.SETS, "cifar10")  # sets that are published with test images
CLASSES = {name: the_set.classes for name, the_set in mnist.SETS.items()}  # names of the labels
CLASSES |= dict.fromkeys(("svhn", "strokes"), tuple("0123456789")) | {"cifar10": cifar10.CLASSES}


def load_dataset(
    name: str,
    data_dir: DataDir = None,
    *,
    image_shape: Shape = (28, 28, 1),
    images: str | Path | None = None,
    fit: str = "crop",
    limit: Limit = None,
    background: str = "white",
    max_pixels: int = MOST_PIXELS,
    as_text: bool = False,
    log: Log = print,
) -> Dataset:
    """Load the training images of a set in the given shape.

    name         one of DATASETS. "auto" is "folder" with images=, else MNIST if it is found or can
                 be downloaded, else Strokes with a note
    data_dir     folder with the set's files, or with a subfolder of the set's name; None:
                 $MINIGAN_DATA, then the cache folder, then a download if there is one
    image_shape  (h, w, c), c is 1 or 3
    images       for "folder": the folder or .zip of pictures, or a file of arrays
    fit          how pictures of another size or aspect ratio are resized, see prepare/resize.py
    limit        only the first `limit` pictures
    background   of a folder: behind transparent pixels, "white", "black" or "R,G,B"
    max_pixels   of a folder: larger pictures are skipped
    as_text      list a folder as minigan 0.2.0 did, see prepare/file_index.py
    log          called with each line for the user
    Raises DataError: damaged files, or none in data_dir; DataUnavailable: found nowhere, and the
    download failed; ConfigError, ShapeError: arguments that do not fit.
    """
    expect_choice("the data set", name, DATASETS)
    if len(image_shape) != 3 or image_shape[2] not in (1, 3):
        raise ConfigError(f"image_shape must be (h, w, 1 or 3), got {image_shape}")
    h, w, c = (expect_size("image_shape: each number", size) for size in image_shape)
    shape, parsed = (h, w, c), parse_fit(fit)
    limit = None if limit is None else expect_size("limit", limit)
    if name == "auto" and images is None:
        try:
            return load_dataset("mnist", data_dir, image_shape=shape, fit=fit, limit=limit)
        except DataUnavailable as error:
            data = load_dataset("strokes", image_shape=shape, fit=fit, limit=limit)
            drawn = "training on Strokes, digits that minigan draws itself, NOT on MNIST"
            return replace(data, note=f"{drawn}: {error}")
    if (name in ("auto", "folder")) != (images is not None):
        raise ConfigError(
            'the data set "folder" needs a folder or .zip of pictures, and only it takes one: '
            f"got {name!r} with {images!r}"
        )
    most = expect_size("max_pixels", max_pixels, most=2**40)
    form = Form(shape, parsed, parse_background(background), most)
    if images is not None and is_array_file(images):
        return load_array_file(Path(images), form, limit, log)
    if images is not None:
        return load_folder(Path(images), form, limit, log, as_text=as_text)
    if name == "celeba":
        return load_celeba(data_dir, form, limit, log)
    pictures, labels = load_split(name, data_dir, limit=limit)
    pictures, labels = fit_arrays(pictures[:limit], shape, parsed), labels[:limit]
    pixels = hashlib.sha256(np.ascontiguousarray(pictures).data).hexdigest()
    return Dataset(name, pictures, labels, CLASSES[name], fingerprint(shape, pixels, labels))


def load_test(name: str, data_dir: DataDir, image_shape: Shape, fit: str) -> LabeledImages:
    """The test images of one of TESTED -> images (n, h, w, c) uint8, labels (n,) uint8.

    They are looked for where load_dataset looks. Raises DataError, DataUnavailable, ConfigError.
    """
    images, labels = load_split(name, data_dir, "test")
    return fit_arrays(images, image_shape, parse_fit(fit)), labels


def load_split(
    name: str, data_dir: DataDir, split: str = "train", limit: Limit = None
) -> LabeledImages:
    """-> images in the set's own shape, labels; all, or at least the first `limit`."""
    if name == "strokes":
        return strokes(min(STROKES, limit or STROKES))
    if name == "cifar10":
        return load_cifar10(data_dir, split=split)
    if name == "svhn":
        return load_svhn(data_dir)
    return load_idx_set(name, data_dir, split=split)
