"""The members of a .zip file, one after the other, without unpacking it anywhere.

The names inside are only names: nothing is written, no path is opened. What a member declares
is checked before it is read and again after: its length against LIMIT, its data against that
length and its CRC-32. So a zip bomb costs at most LIMIT bytes of memory, and one member that lies
about itself is one picture that cannot be read.

Python's own zipfile keeps an object of about 600 bytes for each member (125 MiB for the
202,599 pictures of CelebA). Here the directory at the end of the file is read piece by piece:

    ... 46 bytes + name, for each member ...   the directory
    PK 6 6  (56 bytes), PK 6 7  (20 bytes)     where it is, in 64 bits; only in large files
    PK 5 6  (22 bytes + comment)               where it is

Source: PKWARE, APPNOTE.TXT, .ZIP file format specification, sections 4.3 and 4.5.3
"""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from minigan.errors import DataError

LIMIT = 64 << 20  # bytes of one member, unpacked: 64 MiB, far more than a picture file has
END, END64, LOCATOR64 = (struct.Struct(f) for f in ("<4s4H2LH", "<4sQ2H2L4Q", "<4sLQL"))
RECORD, LOCAL = struct.Struct("<4s6H3L5H2L"), struct.Struct("<4s5H3L2H")
FULL32 = 0xFFFFFFFF  # stands for: too large for 32 bits, see the extra field
ENCRYPTED, UTF8 = 1, 1 << 11  # flags
STORED, DEFLATED = 0, 8  # methods
DAMAGED = "is not a whole .zip file: fetch or make it again"


class BadMember(Exception):
    """Why one member cannot be read, without its name."""


class Member(NamedTuple):
    """Where a member's data are and what they must be, packed into bytes by LAYOUT."""

    offset: int
    packed: int  # bytes in the file
    size: int  # bytes unpacked
    crc: int
    method: int
    flags: int


LAYOUT = struct.Struct(">3QL2H")  # big-endian: sorts by offset


def members(file: BinaryIO, path: str | Path) -> Iterator[tuple[str, Member]]:
    """(name, Member) of every file in the archive, in the order of its directory. Raises DataError, OSError.

    file  the open archive; path: what an error calls it
    """
    try:
        start, shift, count = find_directory(file)
        file.seek(start)
        for _ in range(count):
            (
                magic,
                _,
                _,
                flags,
                method,
                _,
                _,
                crc,
                packed,
                size,
                name_length,
                extra_length,
                comment_length,
                _,
                _,
                _,
                offset,
            ) = RECORD.unpack(file.read(RECORD.size))
            if magic != b"PK\x01\x02":
                raise ValueError
            name, extra = file.read(name_length), file.read(extra_length)
            file.read(comment_length)
            if FULL32 in (packed, size, offset):
                size, packed, offset = wide_numbers(extra, size, packed, offset)
            text = name.decode("utf-8" if flags & UTF8 else "cp437", "replace")
            if not text.endswith(("/", "\\")):
                yield text, Member(min(offset + shift, 1 << 62), packed, size, crc, method, flags)
    except (ValueError, struct.error) as error:
        raise DataError(f"{path}: {DAMAGED}") from error


def find_directory(file: BinaryIO) -> tuple[int, int, int]:
    """-> where the directory starts, by how much all offsets must be moved, how many members it lists.

    Something may stand before the archive, as in programs that unpack themselves: then all offsets are too small.
    Raises ValueError, struct.error.
    """
    end = file.seek(0, 2)
    tail_start = max(0, end - END.size - 0xFFFF)
    file.seek(tail_start)
    tail = file.read()
    at = tail.rfind(b"PK\x05\x06", 0, len(tail) - END.size + 4)
    while at >= 0 and at + END.size + END.unpack_from(tail, at)[-1] != len(
        tail
    ):  # these four bytes inside of a comment
        at = tail.rfind(b"PK\x05\x06", 0, at + 3)
    if at < 0:
        raise ValueError("no end record")
    _, disk, _, _, count, size, offset, _ = END.unpack_from(tail, at)
    after = tail_start + at
    if after >= LOCATOR64.size + END64.size and (count == 0xFFFF or FULL32 in (size, offset)):
        file.seek(after - LOCATOR64.size - END64.size)
        record, locator = (
            END64.unpack(file.read(END64.size)),
            LOCATOR64.unpack(file.read(LOCATOR64.size)),
        )
        if locator[0] == b"PK\x06\x07" and record[0] == b"PK\x06\x06":
            after, disk, (count, size, offset) = (
                after - LOCATOR64.size - END64.size,
                record[4],
                record[-3:],
            )
    start = after - size
    if disk != 0 or start < 0 or start < offset:
        raise ValueError("several disks, or a directory that does not fit")
    return start, start - offset, count


def wide_numbers(extra: bytes, *numbers: int) -> list[int]:
    """The same numbers, those that are full in 32 bits from the extra field with id 1. Raises struct.error, ValueError."""
    fields: Iterator[int] = iter(())
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        if kind == 1:
            fields = iter(struct.unpack(f"<{length // 8}Q", extra[4 : 4 + length // 8 * 8]))
        extra = extra[4 + length :]
    try:
        return [next(fields) if number == FULL32 else number for number in numbers]
    except StopIteration:
        raise ValueError("no extra field") from None


def read_member(file: BinaryIO, member: Member) -> bytes:
    """-> the unpacked content. Raises BadMember, OSError."""
    if member.flags & ENCRYPTED:
        raise BadMember("encrypted")
    if member.method not in (STORED, DEFLATED):
        raise BadMember(f"compressed by method {member.method}, expected deflate or none")
    if max(member.size, member.packed) > LIMIT:
        raise BadMember(
            f"{max(member.size, member.packed) >> 20} MiB large, expected at most {LIMIT >> 20}"
        )
    try:
        file.seek(member.offset)
        magic, *_, name_length, extra_length = LOCAL.unpack(file.read(LOCAL.size))
        if magic != b"PK\x03\x04":
            raise BadMember("damaged: its data are not where the directory says")
        file.seek(name_length + extra_length, 1)
        content = file.read(member.packed)
        if member.method == DEFLATED:
            content = zlib.decompressobj(-15).decompress(
                content, member.size + 1
            )  # no more, whatever there is
    except (zlib.error, struct.error, OverflowError, ValueError) as error:
        raise BadMember(f"damaged ({error})") from error
    if len(content) != member.size:
        raise BadMember(f"damaged: not {member.size} bytes, as declared")
    if zlib.crc32(content) != member.crc:
        raise BadMember("damaged: wrong CRC-32")
    return content
