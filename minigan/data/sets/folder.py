"""A folder of pictures, or a .zip of one, as a data set.

It may be any tree of pictures, in any mixture of sizes and kinds (see files/decode.py). The folders
on the first level are the labels; if pictures lie beside them, there are no labels. In a .zip, a
folder that contains everything is skipped first. The pictures are sorted by name, folder by folder
(see prepare/file_index.py). Other files are counted in a line for the user; hidden folders and
what minigan has written are left out.

The folder itself is only read. Its pictures are decoded once, into a folder in the cache, and
memory-mapped from then on. That folder holds one set of pictures in one shape:

    pixels-*      count * h * w * c bytes: the readable pictures, sorted by name
    index.json    which pictures these are: labels, what was skipped, SHA-256 of the pixels.
                  Written last: without it, the other files are leftovers
    lock          locked by the process that builds

A complete file of pixels is never changed, only replaced: another process may be training on it.
"""

import hashlib
import json
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

from minigan.data.base import Dataset, Limit, Log, fingerprint
from minigan.data.files.decode import KINDS, Form, Unreadable
from minigan.data.files.locations import cache_folder, full_path
from minigan.data.files.messages import UNWRITABLE, as_data_errors, counted, some
from minigan.data.prepare.build import build, summary
from minigan.data.prepare.file_index import Source, open_source
from minigan.errors import DataError
from minigan.file_lock import locked
from minigan.files import replacing

VERSION = 3  # of everything in the cache, and of what decode.py makes of a picture
OLD_VERSION = 2  # of minigan 0.2.0: what its runs were trained on may still be in the cache
LEFTOVERS = ("pixels-", "index.json", ".pixels-", ".index.json-")  # how their names begin

Check = Callable[[int], object] | None


def load_folder(
    path: Path, form: Form, limit: Limit, log: Log, before: Check = None, as_text: bool = False
) -> Dataset:
    """Load a folder or .zip of pictures.

    form    what every picture becomes
    before  called with the number of all pictures before they are decoded; it may raise
    as_text listed as by minigan 0.2.0, see prepare/file_index.py
    -> Dataset with memory-mapped images
    Raises DataError: no such folder, no pictures, more than 5% unreadable, no space in the cache.
    """
    path, shape = full_path(path), form.shape
    version, kind = (OLD_VERSION, form[:2]) if as_text else (VERSION, form)
    key = json.dumps([version, str(path), *kind, limit, *["checked"] * bool(before)], default=str)
    short = re.sub(r"[^\w.-]+", "-", path.stem)[:40] or "pictures"
    entry = cache_folder() / "pictures" / f"{short}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    source = open_source(path, as_text)
    pixels = entry / f"pixels-{source.fingerprint[:16]}"  # changed pictures get another file

    def from_cache() -> Dataset | None:
        """None unless the cache holds exactly these pictures."""
        try:
            index = json.loads((entry / "index.json").read_bytes())
            if index["source"] != source.fingerprint or can_read(source, index.get("failed", [])):
                return None
            classes, counts, skipped = index["classes"], index["counts"], index["skipped"]
            # Raises ValueError if the file is too short.
            images = np.memmap(pixels, np.uint8, "r", shape=(sum(counts), *shape))
            labels = np.repeat(np.arange(len(counts), dtype=np.int32), counts) if classes else None
            identity = fingerprint(shape, index["sha256"], labels)
            notes = index.get("notes", []) if source.notes is None else list(source.notes)
            if own := index.get("own"):
                notes.append(f"left out {counted(len(own), 'picture')} of minigan: {some(own)}")
            if unlabeled := index.get("unlabeled", ""):
                notes.append(f"no classes: {unlabeled}")
            for line in notes:
                log(f"{path}: {line}")
            if skipped:
                log(
                    f"skipped {summary(skipped)} of {index['files']:,} files that cannot be read; "
                    f"all of them are listed in {entry / 'index.json'}"
                )
            found = images, labels, tuple(classes), identity
            return Dataset("folder", *found, None, dict(index.get("traits", {})), unlabeled)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    if data := from_cache():
        return data
    names = source.names()
    if not names:
        raise DataError(": ".join([f"{path}: no pictures in it ({KINDS})", *(source.notes or [])]))
    if before:
        before(len(names))
    waiting = f"{path}: another process is preparing these pictures: waiting for it"
    with as_data_errors(entry, UNWRITABLE):
        entry.mkdir(parents=True, exist_ok=True)
        if entry.is_symlink():  # perhaps to a folder of somebody else, where files would be deleted
            raise DataError(f"{entry}: is a link: delete it, or set XDG_CACHE_HOME to your folder")
        with locked(entry / "lock", lambda: log(waiting)):
            if data := from_cache():  # another process has just built it
                return data
            if (entry / "index.json").exists():
                log(f"{path}: has changed, or its cache is damaged: preparing the pictures again")
            # Leftovers of other pictures, or of a build that was killed.
            for old in entry.iterdir():
                if old.name.startswith(LEFTOVERS):
                    with suppress(PermissionError):  # Windows: a process is training on it
                        old.unlink()
            count, size = len(names[:limit]), "x".join(map(str, shape))
            log(f"preparing {counted(count, 'picture')} of {path} as {size}, once: in {entry}")
            index = build(source, names, limit, pixels, form, log, own_too=False)
            if not sum(index["counts"]):  # samples in files, to train on them
                log(f"{path}: minigan wrote all of these pictures: using them")
                index = build(source, names, limit, pixels, form, log, own_too=True)
            with replacing(entry / "index.json") as file:
                file.write(json.dumps(index).encode())
    if data := from_cache():
        return data
    raise DataError(f"{entry}: cannot be opened: free some memory, or raise ulimit -n or ulimit -v")


def can_read(source: Source, failed: list[str]) -> bool:
    """Can one of these pictures be read that the system could not read when they were prepared?"""
    if failed:
        source.names()
    for name in failed:
        with suppress(OSError, Unreadable), source.open(name) as file:
            return bool(file.read(1))
    return False
