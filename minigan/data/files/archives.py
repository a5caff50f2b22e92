""".zip files, read with the standard library, and the kinds of other archives.

The end of an archive counts its files. A directory that lists fewer is cut off. (It may list more:
macOS counts modulo 65,536, and zipfile goes by the length of the directory.)
"""

import io
import os
import struct
import zipfile
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from minigan.data.files.decode import Unreadable
from minigan.data.files.messages import as_data_errors, damaged, printable
from minigan.errors import DataError
from minigan.files import open_regular

LIMIT = 64 << 20  # bytes of one member, unpacked: 64 MiB, far more than a picture has
END = 22 + 0xFFFF  # bytes of the record at the end, with the longest comment
METHODS = {
    9: "Deflate64", 12: "bzip2", 14: "LZMA", 93: "Zstandard", 95: "xz", 98: "PPMd",
    99: "AES encryption",
}  # fmt: skip
OTHERS = {  # how other archives begin
    b"Rar!": "a RAR archive", b"7z\xbc\xaf": "a 7z archive", b"\x1f\x8b": "packed by gzip",
    b"BZh": "packed by bzip2", b"\xfd7zXZ": "packed by xz", b"\x28\xb5\x2f\xfd": "packed by zstd",
}  # fmt: skip
UNPACK = "unpack it, and give the folder"


def expect_zip(path: Path) -> None:
    """Raises DataError unless a file is a .zip, perhaps with a program in front of it."""
    with as_data_errors(path), open_regular(path) as file:
        start = file.read(262)
        others = [kind for magic, kind in OTHERS.items() if start.startswith(magic)]
        if start[257:] == b"ustar":
            others = ["a tar archive"]
        if others:
            raise DataError(f"{path}: is {others[0]}, not a .zip: {UNPACK}")
        if not start.startswith(b"PK") and not zipfile.is_zipfile(file):
            raise DataError(f"{path}: expected a folder of pictures, or a .zip or arrays of them")


def open_zip(path: Path) -> zipfile.ZipFile:
    """-> the archive, whose directory is complete. Raises DataError."""
    try:
        archive = zipfile.ZipFile(path)
        with open(path, "rb") as file:
            file.seek(-min(END, os.fstat(file.fileno()).st_size), os.SEEK_END)
            count = declared_count(file.read())
    except Exception as error:  # zipfile lets many kinds through
        cure = "is damaged, or not a complete .zip file: download or create it again"
        raise DataError(f"{path}: {cure}") from error
    members = archive.infolist()
    if count > len(members):
        reason = f"counts {count:,} files, and lists {len(members):,}: it is damaged or cut off"
        raise damaged(path, reason, "download or create it again")
    if members and min(member.header_offset for member in members) >= 1 << 32:
        # zipfile takes the end that it does not find for one that 4 GiB were put in front of
        raise damaged(path, "counts bytes modulo 4 GiB, as macOS writes large archives", UNPACK)
    return archive


def declared_count(end: bytes) -> int:
    """The last bytes of a .zip -> how many files it counts, perhaps modulo 65,536."""
    at = end.rindex(b"PK\5\6")
    (count,) = struct.unpack_from("<H", end, at + 10)
    if count == 0xFFFF and at >= 76 and end[at - 76 : at - 72] == b"PK\6\6":  # a 64-bit record
        (count,) = struct.unpack_from("<Q", end, at - 44)
    return int(count)


def read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, lock: Lock) -> BinaryIO:
    """-> the content of a member. Raises Unreadable; OSError: the disk fails."""
    if member.flag_bits & 1:
        raise Unreadable("encrypted")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # zipfile inflates the others without a limit
        method = METHODS.get(member.compress_type, f"method {member.compress_type}")
        raise Unreadable(f"compressed by {method}, expected deflate")
    if member.file_size > LIMIT:
        raise Unreadable(f"{member.file_size >> 20} MiB large, expected at most {LIMIT >> 20}")
    try:
        with lock, archive.open(member) as file:
            content = file.read(member.file_size)  # inflates no more than this
    except OSError:
        raise
    except Exception as error:  # zipfile lets many kinds through
        raise Unreadable(printable(f"damaged ({error or type(error).__name__})")) from error
    if len(content) != member.file_size:
        raise Unreadable(f"damaged: not {member.file_size} bytes, as declared")
    return io.BytesIO(content)
