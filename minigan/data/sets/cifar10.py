"""CIFAR-10: 60,000 photographs of 32 x 32 in ten classes, from the binary version.

The set is also published as Python pickles. Reading those means running whatever program is in
them, so that version is refused. The binary one is five files of 10,000 records, and one of the test images:

    byte 0         label, 0 to 9
    1 .. 3072      red, then green, then blue: 32 rows of 32 bytes each

They are read out of the .tar.gz as published (SHA-256), or from the folder that it unpacks to, where
only their length and labels can be checked. Nothing is ever unpacked to the disk.

Source: Krizhevsky 2009, "Learning multiple layers of features from tiny images". Hash: TensorFlow Datasets, url_checksums
"""

import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from minigan.data.files.checksums import Published, download, expect_published
from minigan.data.files.locations import cache_folder, search, searched, unreadable
from minigan.errors import ConfigError, DataError, DataUnavailable

ARCHIVE = Published(
    "cifar-10-binary.tar.gz",
    170052171,
    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    "https://www.cs.toronto.edu/~kriz/",
)
BELOW = ("cifar10", "cifar-10", "")
FOLDER = "cifar-10-batches-bin"
FILES = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
SPLITS = {"train": FILES, "test": ("test_batch.bin",)}
RECORDS, SIDE = 10_000, 32  # records in a file; pixels
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
PICKLES = ("cifar-10-batches-py", "cifar-10-python.tar.gz")


def load_cifar10(
    data_dir: str | Path | None = None, *, split: str = "train", progress: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Load one split.

    data_dir  folder that must hold the archive or the folder from it, itself or in a sub-folder cifar10;
              None: the usual folders, then a download into the cache
    split     "train" (n = 50,000) or "test" (n = 10,000)
    -> images (n, 32, 32, 3) uint8, labels (n,) uint8
    Raises DataError, DataUnavailable; ConfigError: split.
    """
    if split not in SPLITS:
        raise ConfigError(
            f"load_cifar10: expected split {' or '.join(map(repr, SPLITS))}, got {split!r}"
        )
    files = SPLITS[split]
    path = search(data_dir, BELOW, lambda place: _find(place, files))
    if path is None:
        vain = searched(
            "CIFAR-10",
            data_dir,
            BELOW,
            f"{ARCHIVE.name} or {FOLDER}{' with test_batch.bin' * (split == 'test')}",
        )
        if pickles := search(
            data_dir,
            BELOW,
            lambda place: next((place / p for p in PICKLES if (place / p).exists()), None),
        ):
            raise DataError(
                f"{pickles}: is the Python version of CIFAR-10, pickles that can run any program: "
                f"put the binary version beside it, {ARCHIVE.url}"
            )
        if data_dir is not None:
            raise DataError(
                f"{vain}: put {ARCHIVE.url} there, or leave the folder out to have it downloaded"
            )
        try:
            path = download(ARCHIVE, cache_folder() / "cifar10", progress)
        except DataError as error:
            raise DataUnavailable(f"{vain}; {error}") from error
    count, size = RECORDS * len(files), RECORDS * (1 + 3 * SIDE * SIDE)
    images, labels = np.empty((count, SIDE, SIDE, 3), np.uint8), np.empty(count, np.uint8)
    parts = _from_archive(path, files) if path.name == ARCHIVE.name else _from_folder(path, files)
    for name, content in parts:
        i = files.index(name)
        if len(content) != size:
            raise DataError(
                f"{path}: {name} is {len(content)} bytes long, expected {size}: {_cure()}"
            )
        records = np.frombuffer(content, np.uint8).reshape(RECORDS, -1)
        rows = slice(i * RECORDS, (i + 1) * RECORDS)
        labels[rows] = records[:, 0]
        images[rows] = records[:, 1:].reshape(RECORDS, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
        if labels[rows].max() >= len(CLASSES):
            raise DataError(
                f"{path}: {name} has a label {labels[rows].max()}, expected 0 to {len(CLASSES) - 1}: {_cure()}"
            )
    return images, labels


def _cure() -> str:
    return f"delete it and fetch {ARCHIVE.url}"


def _find(place: Path, files: Sequence[str]) -> Path | None:
    """The folder with these files, or the archive."""
    for folder in (place / FOLDER, place):
        if all((folder / name).is_file() for name in files):
            return folder
    return place / ARCHIVE.name if (place / ARCHIVE.name).exists() else None


def _from_folder(folder: Path, files: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """(name, content) of these files."""
    for name in files:
        try:
            with open(folder / name, "rb") as file:
                yield name, file.read(RECORDS * (1 + 3 * SIDE * SIDE) + 1)
        except OSError as error:
            raise unreadable(folder / name, error) from error


def _from_archive(path: Path, files: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """The same from the published .tar.gz, whose bytes are known: a member is what it is expected to be."""
    expect_published(path, ARCHIVE)
    missing = set(files)
    try:
        with tarfile.open(path, "r|gz") as archive:
            for member in archive:
                name = member.name.rpartition("/")[2]
                if (
                    member.isfile()
                    and name in missing
                    and (content := archive.extractfile(member)) is not None
                ):
                    missing.remove(name)
                    yield name, content.read()
    except (OSError, tarfile.TarError, EOFError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: cannot be read ({error}): {_cure()}") from error
    if missing:
        raise DataError(f"{path}: has no {min(missing)}: {_cure()}")
