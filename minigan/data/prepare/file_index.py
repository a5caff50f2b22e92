"""The pictures in a folder or .zip, sorted by name.

A source has a `fingerprint`, which changes if its files do. names() lists its pictures, with "/"
between the parts of a name, and open() gives the content of one. All names start with `top`, the
part before the labels.
"""

import hashlib
import os
import posixpath
import re
import stat
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from minigan.data.files.archives import UNPACK, expect_zip, open_zip, read_member
from minigan.data.files.decode import SUFFIXES
from minigan.data.files.messages import os_errors_as_data_errors


def is_picture(name: str) -> bool:
    """Whether the name has a picture's suffix, and no part of it is hidden."""
    return name.lower().endswith(SUFFIXES) and not any(map(is_hidden, name.split("/")))


def is_hidden(part: str) -> bool:
    """.git, .DS_Store, what a Mac adds to an archive; and "..", which leads out of one."""
    return part.startswith(".") or part == "__MACOSX"


def sort_key(name: str) -> bytes:
    """Sorts names folder by folder, by their bytes."""
    return name.encode("utf-8", sys.getfilesystemencodeerrors()).replace(b"/", b"\0")


class Tree:
    """A folder of pictures with subfolders. Links are followed, but not in circles."""

    top, cure = "", "repair or remove them"  # the cure if too many cannot be read

    def __init__(self, path: Path):
        """Raises DataError if a folder cannot be read."""
        self.path = path
        files = sorted((sort_key(name), name, changed) for name, changed in walk(path))
        self.sorted = [name for _, name, _ in files]
        content = b"".join(b"%b\0%b\0" % (key, changed) for key, _, changed in files)
        self.fingerprint = hashlib.sha256(content).hexdigest()

    def names(self) -> list[str]:
        return self.sorted

    def open(self, name: str) -> BinaryIO:
        """Raises OSError."""
        return open(os.path.join(self.path, name), "rb")


def walk(path: Path) -> Iterator[tuple[str, bytes]]:
    """The pictures in a folder, in any order: name, and bytes that change with the content.

    Raises DataError if a folder cannot be read.
    """
    folders = [(str(path), "", frozenset[tuple[int, int]]())]
    while folders:
        folder, prefix, above = folders.pop()
        with os_errors_as_data_errors(folder):
            status = os.stat(folder)
            inside = above | {(status.st_dev, status.st_ino)}
            if inside == above:  # a link back into a folder that contains it
                continue
            with os.scandir(folder) as entries:
                for entry in entries:
                    mode, changed = look_at(entry)
                    if stat.S_ISDIR(mode) and not is_hidden(entry.name):
                        folders.append((entry.path, f"{prefix}{entry.name}/", inside))
                    elif stat.S_ISREG(mode) and is_picture(entry.name):
                        yield prefix + entry.name, changed


def look_at(entry: os.DirEntry[str]) -> tuple[int, bytes]:
    """-> mode of the file that an entry refers to, and its size and modification time."""
    try:
        status = os.stat(entry.path)
    except OSError:  # a broken link: a file that cannot be read
        return stat.S_IFREG, b""
    return status.st_mode, b"%d %d" % (status.st_size, status.st_mtime_ns)


class Archive:
    """A .zip of pictures. If two members have the same name, the last counts, as in unpacking."""

    top, cure = "", f"{UNPACK}, without those that are damaged"

    def __init__(self, path: Path):
        """Raises OSError."""
        self.path, self.lock = path, Lock()
        status = os.stat(path)
        changed = f"{status.st_size} {status.st_mtime_ns}"
        self.fingerprint = hashlib.sha256(changed.encode()).hexdigest()

    def names(self) -> list[str]:
        """Raises DataError."""
        self.zip = open_zip(self.path)
        self.members: dict[str, zipfile.ZipInfo] = {}
        for member in self.zip.infolist():
            path = member.orig_filename.replace("\0", "").replace("\\", "/")  # Windows' separator
            name = re.sub("//+", "/", path).strip("/")
            if not path.endswith("/") and is_picture(name):
                self.members[name] = member
        names = sorted(self.members, key=sort_key)
        if common := names and posixpath.commonpath(map(posixpath.dirname, (names[0], names[-1]))):
            self.top = f"{common}/"
        return names

    def open(self, name: str) -> BinaryIO:
        """Raises Unreadable, OSError."""
        return read_member(self.zip, self.members[name], self.lock)


Source = Tree | Archive


def open_source(path: Path) -> Source:
    """A folder or .zip of pictures. Raises DataError."""
    if path.is_dir():
        return Tree(path)
    expect_zip(path)
    with os_errors_as_data_errors(path):
        return Archive(path)
