"""A file as its makers published it: told from every other by its length and SHA-256."""

import hashlib
import os
import stat
from pathlib import Path
from typing import NamedTuple

from minigan.data.files.locations import unreadable
from minigan.errors import DataError

CHUNK = 1 << 20  # bytes hashed at a time: 1 MiB


class Published(NamedTuple):
    """Name, length and hash of the file as it is downloaded, and the address that the name is appended to."""

    name: str
    bytes: int
    sha256: str
    mirror: str

    @property
    def url(self) -> str:
        return self.mirror + self.name


def sha256_of(path: str | Path) -> str:
    """-> hex digest of a file. Raises OSError."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def expect_published(
    path: str | Path, published: Published, *, name: str | None = None, cure: str | None = None
) -> None:
    """Raises DataError unless the file at path is the published one, byte for byte.

    name  what an error calls the file (default: its path)
    cure  what an error tells the user to do (default: to fetch the right one)
    """
    cure = f"delete it and fetch {published.url}" if cure is None else cure
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            wrong = (
                f"expected a file, got a {'folder' if Path(path).is_dir() else 'device or pipe'}"
            )
        elif status.st_size != published.bytes:
            wrong = f"is {status.st_size} bytes long, expected {published.bytes}: cut off, or another file of this name"
        elif (digest := sha256_of(path)) != published.sha256:
            wrong = f"SHA-256 is {digest[:12]}..., expected {published.sha256[:12]}...: damaged, or another file of this name"
        else:
            return
    except OSError as error:
        raise unreadable(path, error) from error
    raise DataError(": ".join(filter(None, [str(name or path), wrong, cure])))


def download(published: Published, folder: Path, progress: bool = True) -> Path:
    """Fetch the file into `folder` -> its path. Raises DataError."""
    from minigan.data.files.download import (
        fetch,  # here: urllib and tqdm are 0.07 s that most runs need not spend
    )

    def check(path: Path, url: str) -> None:
        expect_published(path, published, name=url, cure="")

    return fetch(
        published.name,
        folder,
        [published.mirror],
        check=check,
        limit=published.bytes,
        progress=progress,
    )
