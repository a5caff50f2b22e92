"""A folder of anybody's pictures, or a .zip of one, as a data set.

Any tree of .jpg, .jpeg, .png, .webp, .bmp and .gif files, in any mixture of sizes and kinds
(decode.py says what becomes of each). The folders on the first level are the labels; where
pictures lie beside them, there are no labels. In a .zip, a folder that holds everything is
passed over first. Hidden files and folders do not count. Pictures come in the order of their
names, folder by folder.

The pictures are decoded once, into the cache (cache.py, build.py): the folder itself is only read.
"""

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path

from minigan.data.dataset import Dataset, fingerprint
from minigan.data.files.locations import cache_folder, full_path, unreadable
from minigan.data.prepare.build import VERSION, summary
from minigan.data.prepare.cache import prepare
from minigan.data.prepare.file_index import Archive, Tree
from minigan.data.prepare.resize import Fit
from minigan.errors import DataError


def load_folder(
    path: str | Path,
    shape: tuple[int, int, int],
    fit: Fit,
    limit: int | None = None,
    *,
    name: str = "folder",
    log: Callable[[str], object] = print,
    before: Callable[[int], object] = lambda count: None,
) -> Dataset:
    """Load a folder or .zip of pictures.

    shape   (h, w, c) that they come to, as `fit` says
    limit   only the first so many files; None: all
    name    of the set that it is
    before  called with the number of files before they are prepared; it may raise
    -> Dataset, its images memory-mapped
    Raises DataError: no such folder, no pictures, more than 5% unreadable, no room in the cache.
    """
    path = full_path(path)
    source = _source(path)
    key = json.dumps([VERSION, str(path), shape, str(fit), limit])
    short = re.sub(r"[^\w.-]+", "-", path.stem)[:40] or "pictures"
    entry = cache_folder() / "pictures" / f"{short}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    prepared = prepare(source, entry, shape, fit, limit, log, before)
    if prepared.skipped:
        log(
            f"skipped {summary(prepared.skipped)} of {prepared.files:,} files that cannot be read; "
            f"all of them in {entry / 'index.json'}"
        )
    return Dataset(
        name,
        prepared.images,
        prepared.labels,
        prepared.classes,
        fingerprint(shape, prepared.sha256, prepared.labels),
        None,
    )


def _source(path: Path) -> Tree | Archive:
    try:
        if path.is_dir():
            return Tree(path)
        if path.is_file():
            with open(path, "rb") as file:
                if file.read(2) == b"PK":
                    return Archive(path)
            raise DataError(f"{path}: expected a folder of pictures or a .zip of one")
        path.stat()
    except OSError as error:
        if isinstance(error, DataError):
            raise
        raise unreadable(path, error) from error
    raise DataError(f"{path}: expected a folder of pictures or a .zip of one")
