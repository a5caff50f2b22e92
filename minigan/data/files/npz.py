"""Arrays in one .npz file, without pickle: written so that it is whole or absent, read with suspicion.

A file may come from a stranger, or from a failing disk. So it is read here and not by numpy.load:
a member must be stored uncompressed and declare no more than the length of the file holds, and an
array must consist of plain numbers and be exactly as large as its header says. The comment of the
archive holds the SHA-256 of the content.

A checkpoint has named sections of arrays, and a JSON record in the array "json": see pack.
"""

import ast
import hashlib
import json
import os
import zipfile
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np

from minigan.errors import RunError
from minigan.files import write_atomically

HASH = b"sha256:"  # before the hash in the archive's comment
DTYPES = ("<f4", "<f8", "|u1")  # of the arrays that are written here
LONGEST_HEADER = 10_000  # bytes of the text before an array

Sections = dict[str, dict[str, np.ndarray]]  # networks and optimizers, each as arrays by name


def save_arrays(path: str | Path, arrays: dict[str, np.ndarray]) -> None:
    """name -> array, as an uncompressed .npz. The same arrays give the same bytes."""

    named: dict[str, Any] = {**arrays}  # savez has named arguments of other types, too

    def write(file: IO[bytes]) -> None:
        np.savez(file, **named)
        with zipfile.ZipFile(file, "a") as archive:
            archive.comment = HASH + content_hash(archive).encode()

    write_atomically(path, write)


def content_hash(archive: zipfile.ZipFile) -> str:
    """-> hex digest of all members, names and contents."""
    digest = hashlib.sha256()
    for member in archive.infolist():
        digest.update(f"{member.filename} {member.file_size} ".encode())
        with archive.open(member) as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
    return digest.hexdigest()


def load_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """.npz -> name -> array, read only. Raises RunError for anything that save_arrays did not write, whole."""
    try:
        with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
            length, members = os.fstat(file.fileno()).st_size, archive.infolist()
            names = [member.filename for member in members]
            if len(set(names)) < len(names):
                raise ValueError("two members of one name")
            if sum(member.compress_size for member in members) > length:
                raise ValueError("members longer than the file")
            for member in members:
                if (
                    member.compress_type != zipfile.ZIP_STORED
                    or member.file_size != member.compress_size
                    or member.flag_bits & 1
                ):
                    raise ValueError(f"{member.filename[:80]!r} is compressed or encrypted")
            if (
                archive.comment.startswith(HASH)
                and archive.comment != HASH + content_hash(archive).encode()
            ):
                raise ValueError("its content is not what its hash stands for")
            return {
                member.filename.removesuffix(".npy"): read_array(archive.read(member))
                for member in members
            }
    except FileNotFoundError as error:
        raise RunError(f"{path} does not exist: is this the folder of a run?") from error
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # zipfile lets many kinds through
        raise RunError(
            f"{path} is damaged, or not written by minigan ({' '.join(str(error).split()) or type(error).__name__})"
        ) from error


def read_array(content: bytes) -> np.ndarray:
    """One .npy file -> array, read only. Raises ValueError and the like unless it is of plain numbers and as long as it says.

    magic \x93NUMPY, version 1 0, length of the header (2 bytes), header: the text of a Python dict, then the numbers
    Source: numpy.lib.format
    """
    if content[:8] != b"\x93NUMPY\x01\x00":
        raise ValueError("not an array")
    start = 10 + int.from_bytes(content[8:10], "little")
    if start > LONGEST_HEADER:
        raise ValueError("the header of an array is too long")
    header = ast.literal_eval(content[10:start].decode("latin1").strip())
    if (
        header.keys() != {"descr", "fortran_order", "shape"}
        or header["descr"] not in DTYPES
        or header["fortran_order"] is not False
    ):
        raise ValueError("an array of another kind")
    dtype, shape = np.dtype(header["descr"]), header["shape"]
    if (
        not all(type(extent) is int and extent >= 0 for extent in shape)
        or prod(shape) * dtype.itemsize != len(content) - start
    ):
        raise ValueError("an array that is not as large as its header says")
    array: np.ndarray = np.frombuffer(memoryview(content)[start:], dtype).reshape(shape)
    return array


def pack(sections: Sections, record: dict[str, Any]) -> dict[str, np.ndarray]:
    """Sections of arrays and a JSON-able record -> flat name -> array, for save_arrays."""
    arrays = {
        f"{section}/{name}": array
        for section, content in sections.items()
        for name, array in content.items()
    }
    return arrays | {"json": np.frombuffer(json.dumps(record).encode(), np.uint8)}


def unpack(arrays: dict[str, np.ndarray], source: str | Path) -> tuple[Sections, dict[str, Any]]:
    """The reverse of pack -> sections, record. Raises RunError."""
    try:
        record = json.loads(arrays["json"].tobytes())
    except (KeyError, ValueError, RecursionError) as error:
        raise RunError(
            f"{source} holds no record of a run: it is not a checkpoint of minigan"
        ) from error
    sections: Sections = {}
    for name, array in arrays.items():
        section, slash, rest = name.partition("/")
        if slash:
            sections.setdefault(section, {})[rest] = array
    return sections, record
