"""MNIST and two sets in its form, Fashion-MNIST and KMNIST: 70,000 pictures of 28 x 28 grey pixels each.

Found on the disk or downloaded, and compared with what their makers published, whoever put
them there. All three use the same file names, and a swap must not go unseen:

    MNIST           the SHA-256 of the decompressed files is known, so a file may come plain or gzip
    Fashion-MNIST,  only the SHA-256 of the .gz files is known. A file that comes decompressed is
    KMNIST          taken for what it says it is if its shape is right and, of pictures, the mean of
                    the pixels, which tells the three sets apart; a flipped bit would go unseen

Source: LeCun, Bottou, Bengio, Haffner 1998, "Gradient-based learning applied to document recognition",
Proc. IEEE 86(11); Xiao, Rasul, Vollgraf 2017, arXiv:1708.07747; Clanuwat et al. 2018, arXiv:1812.01718.
Hashes of the .gz files: TensorFlow Datasets, url_checksums
"""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minigan.data.files.checksums import Published, expect_published
from minigan.data.files.idx import GZIP_MAGIC, read_idx
from minigan.data.files.locations import cache_folder, search, searched
from minigan.errors import ConfigError, DataError, DataUnavailable


class IdxFile(NamedTuple):
    """One published file: its name, its shape, and the hash of what is inside the gzip, or the length and hash of the gzip."""

    name: str
    shape: tuple[int, ...]
    sha256: str | None = None
    packed: tuple[int, str] | None = None


class IdxSet(NamedTuple):
    """One of the three sets."""

    title: str
    below: tuple[str, ...]  # sub-folders to look into
    mirrors: tuple[str, ...]
    mean: float  # of the training pictures' pixels, 0 to 1
    classes: tuple[str, ...]  # in the order of the labels
    files: dict[str, tuple[IdxFile, IdxFile]]  # split: (images, labels)


NAMES: dict[str, tuple[tuple[str, tuple[int, ...]], ...]] = {
    "train": (("train-images-idx3-ubyte", (60000, 28, 28)), ("train-labels-idx1-ubyte", (60000,))),
    "test": (("t10k-images-idx3-ubyte", (10000, 28, 28)), ("t10k-labels-idx1-ubyte", (10000,))),
}


def _files(*hashes: str | tuple[int, str]) -> dict[str, tuple[IdxFile, IdxFile]]:
    """The four files of a set, from the hashes of what is in them or from (bytes, hash) of the gzip."""
    files = (
        IdxFile(name, shape, packed=each)
        if isinstance(each, tuple)
        else IdxFile(name, shape, sha256=each)
        for (name, shape), each in zip(NAMES["train"] + NAMES["test"], hashes, strict=True)
    )
    return {split: (next(files), next(files)) for split in NAMES}


SETS = {
    "mnist": IdxSet(
        "MNIST",
        ("mnist", ""),
        (
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        0.1307,
        tuple("0123456789"),
        _files(
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    ),
    "fashion-mnist": IdxSet(
        "Fashion-MNIST",
        ("fashion-mnist", "fashion", "FashionMNIST/raw", ""),
        ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
        0.2860,
        (
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
        _files(
            (26421880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
            (29515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
            (4422102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
            (5148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
        ),
    ),
    "kmnist": IdxSet(
        "KMNIST",
        ("kmnist", "KMNIST/raw", ""),
        ("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
        0.1918,
        ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
        _files(
            (18165135, "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4"),
            (29497, "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17"),
            (3041136, "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5"),
            (5120, "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c"),
        ),
    ),
}
MEAN_OFF = 0.025  # by how much the mean may differ: the test split's is not quite the same


def load_mnist(
    data_dir: str | Path | None = None,
    *,
    split: str = "train",
    download: bool = True,
    progress: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Load one split of MNIST: load_idx_set("mnist", ...)."""
    return load_idx_set("mnist", data_dir, split=split, download=download, progress=progress)


def load_idx_set(
    name: str,
    data_dir: str | Path | None = None,
    *,
    split: str = "train",
    download: bool = True,
    progress: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Load one split of one set.

    name      "mnist", "fashion-mnist" or "kmnist"
    data_dir  folder that must hold the files, in a sub-folder such as kmnist or itself; None: look
              in the folder that the environment variable MINIGAN_DATA names, then in the cache
              folder, then download into the cache folder. These two may hold several sets, so
              there only MNIST may lie beside the sub-folders
    split     "train" (n = 60,000) or "test" (n = 10,000)
    download  whether it may
    progress  draw a bar on stderr while it does, where that is a terminal
    -> images uint8 (n, 28, 28, 1), 0 is paper and 255 is ink; labels uint8 (n,), 0 to 9
    Raises DataError: data_dir lacks the files, or a file is damaged or another set's;
    DataUnavailable (a DataError): not found and not to be had; ConfigError: split.
    """
    the_set = SETS[name]
    if split not in the_set.files:
        raise ConfigError(
            f"load_{name.replace('-', '_')}: expected split {' or '.join(map(repr, NAMES))}, got {split!r}"
        )
    files = the_set.files[split]
    below = the_set.below if name == "mnist" or data_dir is not None else the_set.below[:-1]
    paths = search(data_dir, below, lambda place: _find(place, files))
    if paths is None:
        if data_dir is not None:
            names = " and ".join(file.name for file in files)
            raise DataError(
                f"{searched(the_set.title, data_dir, below, f'{names} (each plain or .gz)')}: "
                "put them there, or leave the folder out to have them downloaded"
            )
        paths = _download(name, files, download, progress)
    images, labels = (
        _read(path, file, the_set, cure=f"delete it and fetch {the_set.mirrors[0]}{file.name}.gz")
        for path, file in zip(paths, files, strict=True)
    )
    return images[..., np.newaxis], labels


def _read(
    path: Path, file: IdxFile, the_set: IdxSet, *, cure: str, name: str | None = None
) -> np.ndarray:
    """One file as an array. Raises DataError unless it is the one that was published; see the top of this file."""
    name = name or str(path)
    if file.packed is not None and _is_gzip(path):
        published = Published(f"{file.name}.gz", *file.packed, the_set.mirrors[0])
        own = f"put {the_set.title}'s own file there, {published.url}"  # "delete it": it may be another set's, and whole
        expect_published(path, published, name=name, cure=cure and own)
    array = read_idx(path, file.shape, sha256=file.sha256, name=name, cure=cure)
    if (
        file.sha256 is None
        and len(file.shape) == 3
        and abs(array.mean() / 255 - the_set.mean) > MEAN_OFF
    ):
        raise DataError(
            f"{name}: its pixels are {array.mean() / 255:.3f} bright in the mean, {the_set.title}'s are "
            f"{the_set.mean:.3f}: it is another set under the same file name"
        )
    return array


def _is_gzip(path: Path) -> bool:
    try:
        if not os.path.isfile(path):  # opening a pipe would wait for its other end
            return False
        with open(path, "rb") as file:
            return file.read(2) == GZIP_MAGIC
    except OSError:
        return False  # read_idx says why


def _find(place: Path, files: Sequence[IdxFile]) -> list[Path] | None:
    """The paths of all files, if `place` has them."""
    paths = [path for file in files if (path := _spelling(place, file.name))]
    return paths if len(paths) == len(files) else None


def _spelling(place: Path, name: str) -> Path | None:
    """The path of one file under the names that it is found by in the wild."""
    dotted = name.replace("-idx", ".idx")
    paths = [place / f"{stem}{end}" for stem in (name, dotted) for end in ("", ".gz")]
    # Folders last: some archives unpack to a folder of that name next to the file.
    return next(
        (path for ask in (os.path.isfile, os.path.exists) for path in paths if ask(path)), None
    )


def _download(name: str, files: Sequence[IdxFile], allowed: bool, progress: bool) -> list[Path]:
    """The paths of all files in the cache, those that lack downloaded. Raises DataUnavailable."""
    folder = cache_folder() / name  # a folder of its own for each set: the file names are the same
    vain = searched(SETS[name].title, None, (), "")
    if not allowed:
        raise DataUnavailable(
            f"{vain}, and download=False: allow the download, or put the files there"
        )
    try:
        return [
            _spelling(folder, file.name) or _fetch(file, folder, SETS[name], progress)
            for file in files
        ]
    except DataError as error:
        raise DataUnavailable(f"{vain}; {error}") from error


def _fetch(file: IdxFile, folder: Path, the_set: IdxSet, progress: bool) -> Path:
    """Download one file, as gzip. Raises DataError."""
    from minigan.data.files.download import (
        fetch,  # here: urllib and tqdm are 0.07 s that most runs need not spend
    )

    def check(path: Path, url: str) -> None:
        _read(path, file, the_set, cure="", name=url)

    # Bytes: more than the file needs, and 1 MiB so that a web page gets through to be recognised as one.
    limit = math.prod(file.shape) + (1 << 20)
    return fetch(
        f"{file.name}.gz", folder, the_set.mirrors, check=check, limit=limit, progress=progress
    )
