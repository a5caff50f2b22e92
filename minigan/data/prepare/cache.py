"""Pictures decoded once (build.py) and mapped into memory from then on.

A folder in the cache holds one set of pictures in one shape:

    pixels-*      count * h * w * c bytes: the readable pictures, in the order of their names
    index.json    which pictures these are, count, classes, labels, what was skipped, SHA-256 of the pixels.
                  Written last: without it the rest is work that was not finished
    checked       length, times and number of the file of pixels when it was last compared with its SHA-256
    lock          locked by the process that works on the folder

A finished file of pixels is never written again, only replaced: another process may be training on it.
It is read and compared with its SHA-256 before it is first used and whenever anything has touched it since,
which the system notes in a time (ctime) that a program cannot set: a look at that takes no time, a file that
is not in memory half a minute a GB on a slow disk.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minigan.data.files.checksums import sha256_of
from minigan.data.prepare.build import VERSION, Build, Skipped, pixels_path
from minigan.data.prepare.file_index import Source, Stock, take_stock
from minigan.data.prepare.resize import Fit
from minigan.errors import DataError
from minigan.file_lock import locked


class Prepared(NamedTuple):
    """What the cache holds of one set."""

    images: np.ndarray  # (count, h, w, c) uint8, memory-mapped
    labels: np.ndarray | None
    classes: tuple[str, ...]
    skipped: Skipped
    sha256: str  # of the pixels
    files: int  # readable or not


class _Stale(Exception):
    """Why the cache does not hold the set; empty where it holds nothing of it."""


def prepare(
    source: Source,
    folder: Path,
    shape: tuple[int, int, int],
    fit: Fit,
    limit: int | None,
    log: Callable[[str], object],
    before: Callable[[int], object] = lambda count: None,
) -> Prepared:
    """The pictures of a source, from the cache or put into it.

    source  a Tree or Archive of listing.py
    folder  in the cache, for this source, shape, fit and limit alone
    before  called with the number of files before the work begins; it may raise
    Raises DataError: no pictures, too many unreadable ones, the folder cannot be written.
    """
    stock = take_stock(source)
    if stock.count == 0:
        raise DataError(
            f"{source.path}: no pictures in it (.jpg, .jpeg, .png, .webp, .bmp or .gif; hidden files do not count)"
        )
    try:
        return _open(folder, stock, shape)
    except _Stale:
        pass
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        waiting = f"{source.path}: another process is preparing these pictures: waiting for it"
        with locked(folder / "lock", lambda: log(waiting)):
            try:
                return _open(folder, stock, shape)  # another process made it meanwhile
            except _Stale as stale:
                if str(stale):
                    log(f"{source.path}: {stale}: preparing the pictures again")
            before(stock.count)
            Build(source, folder, stock, shape, fit, log).run(limit)
            try:
                return _open(folder, stock, shape)
            except _Stale as stale:
                raise DataError(f"{folder}: {stale} already now: is the disk in order?") from stale


def _open(folder: Path, stock: Stock, shape: tuple[int, int, int]) -> Prepared:
    """What is in the folder, if it is whole and of these pictures. Raises _Stale."""
    path, row = pixels_path(folder, stock), int(np.prod(shape))
    try:
        index = json.loads((folder / "index.json").read_bytes())
        if (index["version"], index["source"]) != (VERSION, stock.fingerprint):
            raise _Stale("the pictures have changed since they were prepared")
        count, classes, runs = index["count"], index["classes"], index["labels"]
        if not (
            path.stat().st_size == count * row > 0
            and _is_whole(path, index["sha256"], folder / "checked")
        ):
            raise _Stale("what was prepared of the pictures is damaged")
        labels = None if runs is None else _labels(runs, count, len(classes))
        images = np.memmap(path, np.uint8, "r", shape=(count, *shape))
        skipped = [[str(name), str(reason)] for name, reason in index["skipped"]]
        return Prepared(
            images, labels, tuple(map(str, classes)), skipped, index["sha256"], int(index["files"])
        )
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _Stale(
            "what was prepared of the pictures is gone" if (folder / "index.json").is_file() else ""
        ) from error
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        raise _Stale("what was prepared of the pictures is damaged") from error


def _is_whole(path: Path, sha256: str, checked: Path) -> bool:
    """Whether the file has this hash; it is read only if it may have changed since `checked` was written. Raises OSError."""
    status = path.stat()
    stamp = f"{sha256} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}\n".encode()
    with suppress(OSError):
        if checked.read_bytes() == stamp:
            return True
    if sha256_of(path) != sha256:
        return False
    with suppress(OSError):  # a cache that may only be read is read again each time
        checked.write_bytes(stamp)
    return True


def _labels(runs: Any, count: int, classes: int) -> np.ndarray:
    """[[label, how many], ...] -> (count,) int32. Raises ValueError and the like where they do not fit."""
    label, length = np.array(runs, np.int32).reshape(-1, 2).T
    if length.sum() != count or label.min() < 0 or label.max() >= classes:
        raise ValueError
    return np.repeat(label, length)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """OSError of what is written in here -> DataError."""
    try:
        yield
    except DataError:
        raise
    except OSError as error:
        raise DataError(
            f"{folder}: prepared pictures cannot be written there ({error.strerror or error}): free some space, "
            "see that you may write there, or set XDG_CACHE_HOME to another folder"
        ) from error
