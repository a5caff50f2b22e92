"""CIFAR-10: 60,000 photographs of 32 x 32 in ten classes, from the binary version.

The set is also published as Python pickles. Reading those means running whatever program is in
them, so that version is refused. The binary one is five files of 10,000 training records each, and
one of 10,000 test records:

    byte 0         label, 0 to 9
    1 .. 3072      red, then green, then blue: 32 rows of 32 bytes each

They are read from the .tar.gz as published (SHA-256), or from the folder that it unpacks to, where
only their length and labels can be checked. Nothing is ever unpacked to the disk.

Source: Krizhevsky 2009, "Learning multiple layers of features from tiny images". Hash: TensorFlow
Datasets, url_checksums
"""

import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from minigan.checks import expect_choice
from minigan.data.base import DataDir, LabeledImages
from minigan.data.files.checksums import Published, expect_published, find_published
from minigan.data.files.messages import as_data_errors, damaged

ARCHIVE = Published(
    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    170052171,
    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
)
CURE = f"delete it and fetch {ARCHIVE.url}"
FOLDER = "cifar-10-batches-bin"
FILES = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
SPLITS = {"train": FILES, "test": ("test_batch.bin",)}
RECORDS, SIDE = 10_000, 32  # records in a file; pixels
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
PICKLES = ("cifar-10-batches-py", "cifar-10-python.tar.gz")


def load_cifar10(data_dir: DataDir = None, *, split: str = "train") -> LabeledImages:
    """Load one split.

    data_dir  folder that must contain the archive or its folder, itself or in a subfolder cifar10;
              None: the usual folders, then a download into the cache
    split     "train" (n = 50,000) or "test" (n = 10,000)
    -> images (n, 32, 32, 3) uint8, labels (n,) uint8
    Raises DataError, DataUnavailable; ConfigError: split.
    """
    expect_choice("cifar10: split", split, SPLITS)
    files = SPLITS[split]

    def find(place: Path) -> Path | None:
        for folder in (place / FOLDER, place):
            if all((folder / name).is_file() for name in files):
                return folder
        if archive := ARCHIVE.find(place):
            return archive
        for name in PICKLES:
            if (place / name).exists():
                reason = "is the Python version of CIFAR-10, pickles that can run any program"
                cure = f"put the binary version beside it, {ARCHIVE.url}"
                raise damaged(place / name, reason, cure)
        return None

    below, wanted = ("cifar10", "cifar-10", ""), f"{ARCHIVE.name} or {FOLDER} with {files[-1]}"
    path = find_published("CIFAR-10", ARCHIVE, data_dir, below, find, wanted)
    count, size = RECORDS * len(files), RECORDS * (1 + 3 * SIDE * SIDE)
    images, labels = np.empty((count, SIDE, SIDE, 3), np.uint8), np.empty(count, np.uint8)
    read = read_archive if path.name == ARCHIVE.name else read_folder
    for name, content in read(path, files):
        if len(content) != size:
            raise damaged(path / name, f"is {len(content)} bytes long, expected {size}", CURE)
        records = np.frombuffer(content, np.uint8).reshape(RECORDS, -1)
        rows = slice(files.index(name) * RECORDS, (files.index(name) + 1) * RECORDS)
        labels[rows] = records[:, 0]
        images[rows] = records[:, 1:].reshape(RECORDS, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
        if labels[rows].max() >= len(CLASSES):
            raise damaged(path / name, f"has a label {labels[rows].max()}, expected 0 to 9", CURE)
    return images, labels


def read_folder(folder: Path, files: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """(name, content) of these files. Raises DataError."""
    for name in files:
        with as_data_errors(folder / name):
            content = (folder / name).read_bytes()
        yield name, content


def read_archive(path: Path, files: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """The same from the published .tar.gz, whose every byte is known. Raises DataError."""
    expect_published(path, ARCHIVE, CURE)
    with tarfile.open(path, "r|gz") as archive:
        for member in archive:
            name = member.name.rpartition("/")[2]
            if name in files and (content := archive.extractfile(member)) is not None:
                yield name, content.read()
