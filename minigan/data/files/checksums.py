"""Files as they were published, identified by their length and SHA-256."""

import hashlib
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from minigan.data.files.download import fetch
from minigan.data.files.locations import cache_folder, locate
from minigan.data.files.messages import damaged, os_errors_as_data_errors, wrong_hash

CHUNK = 1 << 20  # bytes hashed at a time: 1 MiB


class Published(NamedTuple):
    """A file: its address, its length and its hash."""

    url: str
    bytes: int
    sha256: str

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]


def find_published(
    title: str,
    published: Published,
    data_dir: str | Path | None,
    below: Sequence[str],
    find: Callable[[Path], Path | None] | None = None,
    unpacked: str = "",
) -> Path:
    """-> the path of a set that is one file, found or downloaded; see locate.

    find      finds the file in a folder, or what it unpacks to, `unpacked` in words
    Raises DataError, DataUnavailable.
    """

    def find_file(place: Path) -> Path | None:
        return place / published.name if (place / published.name).exists() else None

    def download() -> Path:
        path = cache_folder() / below[0] / published.name
        check = partial(expect_published, published=published)
        return fetch([published.url], path, check=check, limit=published.bytes)

    wanted = published.name + unpacked
    cure = f"put {published.url} there, or leave the folder out to have it downloaded"
    return locate(title, data_dir, below, find or find_file, wanted, cure, download)


def expect_published(path: Path, published: Published, cure: str = "") -> None:
    """Raises DataError, which ends with `cure`, unless the file is the published one."""
    with os_errors_as_data_errors(path), open(path, "rb") as file:
        size, digest = os.fstat(file.fileno()).st_size, hashlib.sha256()
        if size != published.bytes:
            wrong = f"is {size} bytes long, expected {published.bytes}: cut off, or another file"
            raise damaged(path, wrong, cure)
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    if digest.hexdigest() != published.sha256:
        raise damaged(path, wrong_hash(digest.hexdigest(), published.sha256), cure)
