"""The names of all pictures of a folder or .zip, in order, without holding them in memory.

A million names as Python objects are 150 MiB. So the names come one by one, and:

    to see whether anything changed   a hash of each (name, size, time) is added up: a sum does not depend
                                      on the order in which a file system happens to give them
    to bring them into order          runs of RUN names are sorted and put aside in a file, then merged
                                      into one file, from which they are read as they are needed

A record is (key, mark): the key is the path inside of the folder with b"\\0" between its parts, so that
keys sort folder by folder; the mark is what else tells a file from another, of the source's making.
"""

import hashlib
import heapq
import io
import itertools
import os
import stat
import struct
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO

from minigan.data.files import zips
from minigan.data.files.decode import SUFFIXES, Unreadable
from minigan.data.files.locations import unreadable
from minigan.errors import DataError

RUN = 100_000  # records sorted at a time, about 16 MiB
LENGTHS = struct.Struct("<LH")
STATUS = struct.Struct("<qq")
Record = tuple[bytes, bytes]
Identity = tuple[int, int]  # of a folder: device and number
OpenFolder = tuple[
    Any, bytes, tuple[Identity, ...]
]  # what os.scandir gives, key, identities of it and of those that it is in


def is_picture(parts: list[bytes]) -> bool:
    """Whether the path of a file leads to a picture: by its ending, and nothing on the way is hidden."""
    return parts[-1].lower().endswith(SUFFIXES) and not any(map(is_hidden, parts))


def is_hidden(name: bytes) -> bool:
    """.git, .DS_Store, what a Mac adds to an archive; and "..", which leads out of one."""
    return name.startswith(b".") or name == b"__MACOSX"


class Tree:
    """A folder of pictures with folders in it. Links are followed, but not into a folder that they are in."""

    common_part_is_passed_over = False

    def __init__(self, path: Path):
        self.path = path

    def records(self) -> Iterator[Record]:
        """All pictures, in any order; mark: size and time of the last change. Raises DataError."""
        root = os.fsencode(self.path)
        with ExitStack() as stack:
            open_folders = [self._open(root, b"", (), stack)]
            while open_folders:
                entries, inside, above = open_folders[-1]
                for entry in entries:
                    if is_hidden(entry.name):
                        continue
                    status = self._status(entry)
                    if status is not None and stat.S_ISDIR(status.st_mode):
                        if (status.st_dev, status.st_ino) not in above:
                            open_folders.append(
                                self._open(entry.path, inside + entry.name + b"\0", above, stack)
                            )
                            break
                    elif is_picture([entry.name]) and (
                        status is None or stat.S_ISREG(status.st_mode)
                    ):
                        mark = STATUS.pack(status.st_size, status.st_mtime_ns) if status else b""
                        yield inside + entry.name, mark
                else:
                    entries.close()
                    open_folders.pop()

    def _open(
        self, folder: bytes, inside: bytes, above: tuple[Identity, ...], stack: ExitStack
    ) -> OpenFolder:
        """The folder, to be read until the stack is closed. Raises DataError."""
        try:
            status = os.stat(folder)
            entries = stack.enter_context(os.scandir(folder))
        except OSError as error:
            raise unreadable(os.fsdecode(folder), error) from error
        return entries, inside, (*above, (status.st_dev, status.st_ino))

    @staticmethod
    def _status(entry: os.DirEntry[bytes]) -> os.stat_result | None:
        """Of what a link leads to; None where it leads nowhere, which is a picture that cannot be read."""
        try:
            # Windows: what a folder has listed lacks the numbers by which a folder is recognised.
            return os.stat(entry.path) if os.name == "nt" and entry.is_dir() else entry.stat()
        except OSError:
            return None

    @contextmanager
    def opener(self) -> Iterator[Callable[[Record], BinaryIO]]:
        """-> function that opens the picture of a record; it raises OSError."""
        root = os.fsencode(self.path)
        yield lambda record: open(
            os.path.join(root, record[0].replace(b"\0", os.fsencode(os.sep))), "rb"
        )


class Archive:
    """A .zip of pictures. Of two members with one name the later counts, as if it were unpacked."""

    common_part_is_passed_over = True  # the folder that was put into it

    def __init__(self, path: Path):
        self.path = path

    def records(self) -> Iterator[Record]:
        """All pictures; mark: where they are, see zips.py. Raises DataError."""
        try:
            with open(self.path, "rb") as file:
                for name, member in zips.members(file, self.path):
                    parts = [
                        part
                        for part in name.replace("\\", "/").replace("\0", "").encode().split(b"/")
                        if part
                    ]
                    if parts and is_picture(parts):
                        yield b"\0".join(parts), zips.LAYOUT.pack(*member)
        except OSError as error:
            if isinstance(error, DataError):
                raise
            raise unreadable(self.path, error) from error

    @contextmanager
    def opener(self) -> Iterator[Callable[[Record], BinaryIO]]:
        """-> function that opens the picture of a record; it raises Unreadable, OSError. Raises DataError."""

        def open_member(record: Record) -> BinaryIO:
            try:
                return io.BytesIO(
                    zips.read_member(file, zips.Member(*zips.LAYOUT.unpack(record[1])))
                )
            except zips.BadMember as error:
                raise Unreadable(str(error)) from error

        try:
            file = open(self.path, "rb")
        except OSError as error:
            raise unreadable(self.path, error) from error
        with file:
            yield open_member


Source = Tree | Archive


@dataclass(frozen=True)
class Stock:
    """What is known of all records together."""

    fingerprint: str  # hex; of all keys and marks
    count: int
    depth: (
        int | None
    )  # which part of a key is the label's name; None: no labels, pictures lie beside the folders


def take_stock(source: Source) -> Stock:
    """One look at every record. Raises DataError."""
    total = count = 0
    common, least_depth = None, 1 << 30
    for key, mark in source.records():
        total += int.from_bytes(
            hashlib.blake2b(key + b"\0" + mark, digest_size=16).digest(), "little"
        )
        count += 1
        depth = key.count(b"\0")
        least_depth = min(least_depth, depth)
        if source.common_part_is_passed_over and not (
            common is not None and key.startswith(common)
        ):
            folder = key[: key.rfind(b"\0") + 1]  # with a zero behind it, or empty
            prefix = folder if common is None else os.path.commonprefix([common, folder]) or b""  # noqa: RUF071
            common = prefix[: prefix.rfind(b"\0") + 1]  # of it the whole names
    depth = (common or b"").count(b"\0")
    fingerprint = f"{(total + count) % (1 << 128):032x}"
    return Stock(fingerprint, count, None if count == 0 or depth == least_depth else depth)


def write_listing(source: Source, path: Path, limit: int | None) -> int:
    """Write the source's records into a file, in order, the first `limit` of them -> how many.

    The file is there whole or not at all. Raises DataError for the source, OSError for the file.
    """
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "wb") as file:
        count = 0
        for record in itertools.islice(
            without_older_twins(in_order(source.records(), path.parent)), limit
        ):
            write_record(file, record)
            count += 1
        file.flush()
        os.fsync(file.fileno())  # the journal, which is written next, relies on it
    os.replace(temporary, path)
    return count


def read_listing(path: Path) -> Iterator[Record]:
    """The records of a listing, one by one. Raises OSError."""
    with open(path, "rb") as file:
        yield from read_records(file)


def in_order(records: Iterable[Record], folder: Path) -> Iterator[Record]:
    """The same records, sorted; RUN of them in memory, the others in files in `folder` that have no name. Raises OSError."""
    with ExitStack() as stack:
        runs: list[Iterator[Record]] = []
        records = iter(records)
        while run := sorted(itertools.islice(records, RUN)):
            if len(run) < RUN and not runs:
                yield from run
                return
            file = stack.enter_context(tempfile.TemporaryFile(dir=folder))
            for record in run:
                write_record(file, record)
            file.seek(0)
            runs.append(read_records(file))
        del run
        yield from heapq.merge(*runs)


def without_older_twins(records: Iterable[Record]) -> Iterator[Record]:
    """Sorted records -> of those with one key, the last: in an archive, the one written later."""
    for _, twins in itertools.groupby(records, key=lambda record: record[0]):
        *_, newest = twins
        yield newest


def write_record(file: IO[bytes], record: Record) -> None:
    """Lengths, key, mark."""
    key, mark = record
    file.write(LENGTHS.pack(len(key), len(mark)) + key + mark)


def read_records(file: IO[bytes]) -> Iterator[Record]:
    """What write_record wrote."""
    while len(head := file.read(LENGTHS.size)) == LENGTHS.size:
        key_length, mark_length = LENGTHS.unpack(head)
        yield file.read(key_length), file.read(mark_length)
