"""MNIST and two sets in its format, Fashion-MNIST and KMNIST: 70,000 images of 28 x 28 gray pixels.

They are found on disk or downloaded, and compared with the published files. All three use the same
file names, so a mix-up must be detected:

    MNIST           the SHA-256 of the decompressed files is known: a file may be plain or gzip
    Fashion-MNIST,  only the SHA-256 of the .gz files is known. A decompressed file is accepted if
    KMNIST          its shape is right and, for images, the mean of the pixels, which differs
                    between the three sets; a flipped bit would not be detected

Source: LeCun, Bottou, Bengio, Haffner 1998, "Gradient-based learning applied to document
recognition", Proc. IEEE 86(11); Xiao, Rasul, Vollgraf 2017, arXiv:1708.07747; Clanuwat et al. 2018,
arXiv:1812.01718. Hashes of the .gz files: TensorFlow Datasets, url_checksums
"""

from functools import partial
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minigan.checks import expect_choice
from minigan.data.base import DataDir, LabeledImages
from minigan.data.files.checksums import Published, expect_published
from minigan.data.files.download import fetch
from minigan.data.files.idx import read_idx
from minigan.data.files.locations import cache_folder, locate
from minigan.data.files.messages import damaged


class IdxFile(NamedTuple):
    """One published file. The hash is of the .gz if gz_bytes, its length, is known."""

    name: str
    shape: tuple[int, ...]
    sha256: str
    gz_bytes: int | None = None


class IdxSet(NamedTuple):
    """One of the three sets."""

    title: str
    below: tuple[str, ...]  # subfolders to look in
    mirrors: tuple[str, ...]
    mean: float  # of the training images' pixels, 0 to 1
    classes: tuple[str, ...]  # in the order of the labels
    files: dict[str, tuple[IdxFile, IdxFile]]  # split -> images, labels


NAMES = (
    ("train-images-idx3-ubyte", (60000, 28, 28)), ("train-labels-idx1-ubyte", (60000,)),
    ("t10k-images-idx3-ubyte", (10000, 28, 28)), ("t10k-labels-idx1-ubyte", (10000,)),
)  # fmt: skip


def idx_files(*hashes: tuple[str, int | None]) -> dict[str, tuple[IdxFile, IdxFile]]:
    """The files of a set, from (hash, length of the .gz or None) in the order of NAMES."""
    a, b, c, d = (IdxFile(*name, *each) for name, each in zip(NAMES, hashes, strict=True))
    return {"train": (a, b), "test": (c, d)}


MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
FASHION = "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot"
SETS = {
    "mnist": IdxSet("MNIST", ("mnist", ""), MIRRORS, 0.1307, tuple("0123456789"), idx_files(
        ("ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db", None),
        ("65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5", None),
        ("0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7", None),
        ("ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2", None),
    )),
    "fashion-mnist": IdxSet(
        "Fashion-MNIST", ("fashion-mnist", "fashion", "FashionMNIST/raw", ""),
        ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",), 0.2860,
        tuple(FASHION.split(",")), idx_files(
        ("3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84", 26421880),
        ("a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845", 29515),
        ("346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073", 4422102),
        ("67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5", 5148),
    )),
    "kmnist": IdxSet(
        "KMNIST", ("kmnist", "KMNIST/raw", ""),
        ("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",), 0.1918,
        ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"), idx_files(
        ("51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4", 18165135),
        ("e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17", 29497),
        ("edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5", 3041136),
        ("20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c", 5120),
    )),
}  # fmt: skip
MEAN_ERROR = 0.025  # tolerance: the mean of the test images differs slightly


def load_mnist(data_dir: DataDir = None, *, split: str = "train") -> LabeledImages:
    """Load one split of MNIST: load_idx_set("mnist", ...)."""
    return load_idx_set("mnist", data_dir, split=split)


def load_idx_set(name: str, data_dir: DataDir = None, *, split: str = "train") -> LabeledImages:
    """Load one split of one set.

    name      "mnist", "fashion-mnist" or "kmnist"
    data_dir  folder that must contain the files, itself or in a subfolder such as kmnist; None:
              $MINIGAN_DATA, then the cache folder, then a download into the cache folder. These two
              may hold several sets, so only MNIST's files may be there without a subfolder
    split     "train" (n = 60,000) or "test" (n = 10,000)
    -> images uint8 (n, 28, 28, 1), 0 is paper and 255 is ink; labels uint8 (n,), 0 to 9
    Raises DataError: data_dir lacks the files, or a file is damaged or another set's;
    DataUnavailable (a DataError): found nowhere, and no download; ConfigError: split.
    """
    the_set = SETS[name]
    expect_choice(f"{name}: split", split, the_set.files)
    files = the_set.files[split]

    def find_all(place: Path) -> list[Path] | None:
        paths = [path for file in files if (path := find(place, file.name))]
        return paths if len(paths) == len(files) else None

    def fetch_missing() -> list[Path]:
        folder = cache_folder() / name
        return [find(folder, file.name) or fetch_gz(file, folder, the_set) for file in files]

    below = the_set.below if name == "mnist" or data_dir is not None else the_set.below[:-1]
    wanted = " and ".join(file.name for file in files) + " (each plain or .gz)"
    cure = "put them there, or leave the folder out to have them downloaded"
    paths = locate(the_set.title, data_dir, below, find_all, wanted, cure, fetch_missing)
    # Not "delete it": a wrong file may be another set's, and complete.
    cure = f"put {the_set.title}'s own file there, {the_set.mirrors[0]}{{}}.gz"
    images, labels = (
        read(path, file, the_set, cure.format(file.name))
        for path, file in zip(paths, files, strict=True)
    )
    return images[..., np.newaxis], labels


def find(place: Path, name: str) -> Path | None:
    """The path of one file under the names that are in use."""
    other = name.replace("-idx", ".idx")
    paths = [place / each for each in (name, f"{name}.gz", other, f"{other}.gz")]
    # Not exists(): some programs unpack into a folder of the file's name.
    return next(filter(Path.is_file, paths), None)


def fetch_gz(file: IdxFile, folder: Path, the_set: IdxSet) -> Path:
    """Download one file -> its path. Raises DataError."""
    urls = [f"{mirror}{file.name}.gz" for mirror in the_set.mirrors]
    # More bytes than the file needs, so that a web page gets through to be recognized as one.
    limit = prod(file.shape) + (1 << 20)
    check = partial(read, file=file, the_set=the_set)
    return fetch(urls, folder / f"{file.name}.gz", check=check, limit=limit)


def read(path: Path, file: IdxFile, the_set: IdxSet, cure: str = "") -> np.ndarray:
    """One file -> array. Raises DataError unless it is the published file."""
    if file.gz_bytes is None:
        return read_idx(path, file.shape, sha256=file.sha256, cure=cure)
    if ".gz" in path.name:
        expect_published(path, Published(file.name, file.gz_bytes, file.sha256), cure)
    array = read_idx(path, file.shape, cure=cure)
    if array.ndim == 1 and array.max() >= len(the_set.classes):
        raise damaged(path, f"has a label {array.max()}, expected 0 to 9", cure)
    mean = array.mean() / 255
    if array.ndim == 3 and abs(mean - the_set.mean) > MEAN_ERROR:
        raise damaged(path, f"the mean of its pixels is {mean:.3f}, not {the_set.mean:.3f}", cure)
    return array
