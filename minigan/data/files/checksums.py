"""Files as they were published, identified by their length and SHA-256."""

import hashlib
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from minigan.data.base import DataDir
from minigan.data.files.download import fetch
from minigan.data.files.locations import cache_folder, locate
from minigan.data.files.messages import as_data_errors, damaged, wrong_hash

CHUNK = 1 << 20  # bytes hashed at a time: 1 MiB

Find = Callable[[Path], Path | None]


class Published(NamedTuple):
    """A file: its address, its length and its hash."""

    url: str
    bytes: int
    sha256: str

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]

    def find(self, place: Path) -> Path | None:
        """-> its path in a folder; None: it is not there."""
        return place / self.name if (place / self.name).exists() else None


def find_published(
    title: str, file: Published, data_dir: DataDir, below: Sequence[str], find: Find, wanted: str
) -> Path:
    """-> the path of a set that is one file, found or downloaded; see locate.

    find      finds the file in a folder, or what it unpacks to; wanted: the same in words
    Raises DataError, DataUnavailable.
    """

    def download() -> Path:
        path = cache_folder() / below[0] / file.name
        check = partial(expect_published, published=file)
        return fetch([file.url], path, check=check, limit=file.bytes)

    cure = f"put {file.url} there, or leave the folder out to have it downloaded"
    return locate(title, data_dir, below, find, wanted, cure, download)


def expect_published(path: Path, published: Published, cure: str = "") -> None:
    """Raises DataError, which ends with `cure`, unless the file is the published one."""
    with as_data_errors(path), open(path, "rb") as file:
        size, digest = os.fstat(file.fileno()).st_size, hashlib.sha256()
        if size != published.bytes:
            wrong = f"is {size} bytes long, expected {published.bytes}: cut off, or another file"
            raise damaged(path, wrong, cure)
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    if digest.hexdigest() != published.sha256:
        raise damaged(path, wrong_hash(digest.hexdigest(), published.sha256), cure)
