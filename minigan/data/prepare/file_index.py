"""The pictures in a folder or .zip, sorted by name.

A source has a `fingerprint`, which changes if its pictures do. names() lists its pictures, with "/"
between the parts of a name, and open() gives the content of one. All names start with `top`, the
part before the labels. `notes` are lines about what names() leaves out.

Names are sorted folder by folder, and numbers in them by their value: 2.png is before 10.png.
minigan 0.2.0 sorted them as text, and took fewer kinds of files. What its runs were trained on is
listed in the same way again: see `as_text`.
"""

import hashlib
import heapq
import os
import re
import stat
import sys
import zipfile
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from posixpath import commonpath, dirname
from threading import Lock
from typing import BinaryIO

from minigan.data.files.archives import UNPACK, expect_zip, open_zip, read_member
from minigan.data.files.decode import SUFFIXES
from minigan.data.files.messages import as_data_errors, counted, some
from minigan.errors import DataError

OLD_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif")  # of minigan 0.2.0
RUN_FILES = ("config.json", "metrics.csv")  # a folder with both holds a run
A_RUN = "is the folder of a run, or in one: give the folder of pictures that the run was trained on"


def is_hidden(part: str) -> bool:
    """.git, .DS_Store, what a Mac adds to an archive; and "..", which leads out of one."""
    return part.startswith(".") or part == "__MACOSX"


def sort_key(name: str) -> bytes:
    """Sorts names folder by folder, by their bytes."""
    return name.encode("utf-8", sys.getfilesystemencodeerrors()).replace(b"/", b"\0")


def natural_key(name: str) -> list[tuple[bytes, bytes]]:
    """Sorts names folder by folder, a number in them by its value: by its length, then digits.

    Of folders 01 and 1, all of the first come first: the key compares them before what they hold.
    """
    return [
        (re.sub(rb"0*(\d+)", lambda digits: b"%03d%b" % (len(digits[1]), digits[1]), part), part)
        for part in sort_key(name).split(b"\0")
    ]


def listing(path: Path, names: Collection[str], as_text: bool) -> tuple[list[str], list[str]]:
    """Names of all files, and of all folders with "/" at their end -> the pictures, sorted; notes.

    A folder that holds the run of a training, with all that is in it, is left out: its grids of
    samples are pictures too. Raises DataError if all of it is a run.
    """
    suffixes = OLD_SUFFIXES if as_text else SUFFIXES
    folders_of = [
        {name[: -len(file)] for name in names if f"/{name}".endswith(f"/{file}")}
        for file in RUN_FILES
    ]
    runs = tuple(set.intersection(*folders_of))
    if "" in runs:
        raise DataError(f"{path}: {A_RUN}")
    pictures, left_out, folders = [], Counter[str](), set[str]()
    for name in names:
        if name.startswith(runs):
            continue
        parts = name.split("/")
        hidden, seen = any(map(is_hidden, parts)), name.lower().endswith(suffixes)
        if seen and not hidden:
            pictures.append(name)
        elif seen and not ("__MACOSX" in parts or parts[-1].startswith("._")):
            left_out["hidden"] += 1
        elif parts[-1] and not hidden:
            suffix = re.search(r"[^.](\.(?!\d+$)[a-z0-9]{1,8})$", parts[-1].lower())
            left_out[suffix[1] if suffix else "without a suffix"] += 1
        if len(parts) > 1 and not hidden:
            folders.add(parts[0])
    pictures.sort(key=sort_key if as_text else natural_key)
    notes = []
    if left_out:
        kinds = [f"{count:,} {kind}" for kind, count in left_out.most_common()]
        notes.append(
            f"left out {counted(left_out.total(), 'file')}: {some(kinds)}; minigan takes "
            f"{' '.join(suffixes)}: convert, rename or unpack the others"
        )
    if runs:
        tops = sorted((top[:-1] for top in runs), key=natural_key)
        notes.append(f"left out {counted(len(runs), 'run')} of minigan: {some(tops)}")
    labels = {name.partition("/")[0] for name in pictures if "/" in name}
    if empty := folders - labels - {top.partition("/")[0] for top in runs}:
        notes.append(f"no pictures in the folders {some(sorted(empty, key=natural_key))}")
    return pictures, notes


class Tree:
    """A folder of pictures with subfolders. Links are followed; a folder is read only once."""

    top, cure = "", "repair or remove them"  # the cure if too many cannot be read

    def __init__(self, path: Path, as_text: bool = False):
        """Raises DataError if a folder cannot be read, or it is the folder of a run."""
        self.path = path
        files = dict(walk(path))
        self.sorted, self.notes = listing(path, files, as_text)
        content = b"".join(b"%b\0%b\0" % (sort_key(name), files[name]) for name in self.sorted)
        self.fingerprint = hashlib.sha256(content).hexdigest()

    def names(self) -> list[str]:
        return self.sorted

    def open(self, name: str) -> BinaryIO:
        """Raises OSError."""
        return open(os.path.join(self.path, name), "rb")


def walk(path: Path) -> Iterator[tuple[str, bytes]]:
    """The files below a folder, in any order: name, and bytes that change with the content.

    Folders are among them, with "/" at their end. Each is read once, under its own path rather than
    that of a link: links can neither lead in circles nor double what they lead to.
    Raises DataError if a folder cannot be read, or if `path` is in a run.
    """
    if in_a_run(path):
        raise DataError(f"{path}: {A_RUN}")
    folders, links, seen = [("", str(path))], list[tuple[str, str]](), set[tuple[int, int]]()
    while folders or links:
        prefix, folder = folders.pop() if folders else heapq.heappop(links)
        with as_data_errors(folder):
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as entries:
                for entry in entries:
                    mode, changed = look_at(entry.path)
                    name = prefix + entry.name
                    if stat.S_ISREG(mode):
                        yield name, changed
                    elif stat.S_ISDIR(mode) and not is_hidden(entry.name):
                        yield f"{name}/", b""
                        if not entry.is_symlink():
                            folders.append((f"{name}/", entry.path))
                        elif in_a_run(entry.path):  # samples/ of a run: as good as the run
                            yield from ((f"{name}/{file}", b"") for file in RUN_FILES)
                        else:
                            heapq.heappush(links, (f"{name}/", entry.path))


def in_a_run(path: str | Path) -> bool:
    """Is a folder below the folder of a run?"""
    return any(
        all(os.path.exists(folder / file) for file in RUN_FILES)
        for folder in Path(os.path.realpath(path)).parents
    )


def look_at(path: str | Path) -> tuple[int, bytes]:
    """-> mode of a file; its size, and times of its last changes."""
    try:
        status = os.stat(path)
    except OSError:  # a broken link: a file that cannot be read
        return stat.S_IFREG, b""
    return status.st_mode, b"%d %d %d" % (status.st_size, status.st_mtime_ns, status.st_ctime_ns)


class Archive:
    """A .zip of pictures. If two members have the same name, the last counts, as in unpacking."""

    top, cure = "", f"{UNPACK}, without those that are damaged"

    def __init__(self, path: Path, as_text: bool = False):
        self.path, self.as_text, self.lock = path, as_text, Lock()
        self.notes: list[str] | None = None  # until names() is called
        self.fingerprint = hashlib.sha256(look_at(path)[1]).hexdigest()

    def names(self) -> list[str]:
        """Raises DataError."""
        self.zip = open_zip(self.path)
        self.members: dict[str, zipfile.ZipInfo] = {}
        for member in self.zip.infolist():
            path = member.orig_filename.replace("\0", "").replace("\\", "/")  # Windows' separator
            self.members[re.sub(r"(^|/)(\./|/)+", r"\1", path)] = member
        names, self.notes = listing(self.path, self.members, self.as_text)
        if common := names and commonpath(map(dirname, (min(names), max(names)))):
            self.top = f"{common}/"
        return names

    def open(self, name: str) -> BinaryIO:
        """Raises Unreadable, OSError."""
        return read_member(self.zip, self.members[name], self.lock)


Source = Tree | Archive


def open_source(path: Path, as_text: bool = False) -> Source:
    """A folder or .zip of pictures; as_text: in the order of minigan 0.2.0. Raises DataError."""
    if path.is_dir():
        return Tree(path, as_text)
    expect_zip(path)
    return Archive(path, as_text)
