"""Arrays in one .npz file, without pickle: written atomically, checked when read.

A file may be damaged, or made to do harm. So the sizes that the archive declares are checked before
anything is read: members must be uncompressed and no longer than the file. The comment of
the archive holds the SHA-256 of its content.

A checkpoint has named sections of arrays, and a JSON record in the array "json": see pack.
"""

import hashlib
import io
import json
import os
import zipfile
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np

from minigan.errors import RunError
from minigan.files import open_regular, write_atomically

HASH = b"sha256:"  # before the hash in the archive's comment
READ_HEADER = np.lib.format.read_array_header_2_0  # of later versions, too
DTYPES = ("<f4", "<f8", "|u1", "<i8")  # of the arrays that are written here

Sections = dict[str, dict[str, np.ndarray]]  # networks and optimizers, each as arrays by name


def save_arrays(path: str | Path, arrays: dict[str, np.ndarray]) -> None:
    """name -> array, as an uncompressed .npz; equal arrays give equal bytes. Raises RunError."""

    def write(file: IO[bytes]) -> None:
        # not np.savez: it may pickle, and a failed write makes NumPy 2.0 print a traceback
        digest = hashlib.sha256()  # of what content_hash reads
        with zipfile.ZipFile(file, "w") as archive:
            for name, values in arrays.items():
                array, header = np.asarray(values, order="C"), io.BytesIO()
                if array.dtype.str not in DTYPES:  # they could not be read again
                    raise RunError(f"{path}: {name} is {array.dtype}: save float32 or float64")
                description = np.lib.format.header_data_from_array_1_0(array)
                np.lib.format.write_array_header_1_0(header, description)
                size = header.tell() + array.nbytes
                digest.update(f"{name}.npy {size} ".encode())
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    for part in (header.getvalue(), array.data):
                        digest.update(part)
                        member.write(part)
            archive.comment = HASH + digest.hexdigest().encode()

    write_atomically(path, write)


def content_hash(archive: zipfile.ZipFile) -> bytes:
    """-> hex digest of the names and contents of all members."""
    digest = hashlib.sha256()
    for member in archive.infolist():
        digest.update(f"{member.filename} {member.file_size} ".encode())
        digest.update(archive.read(member))
    return digest.hexdigest().encode()


def load_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """.npz -> name -> array, read only. Raises RunError unless save_arrays wrote it, complete."""
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            if len({member.filename.removesuffix(".npy") for member in members}) < len(members):
                raise ValueError("two members have the same name")
            if sum(member.compress_size for member in members) > os.fstat(file.fileno()).st_size:
                raise ValueError("the members are longer than the file")
            for member in members:
                stored = member.compress_type == zipfile.ZIP_STORED and not member.flag_bits & 1
                if not stored or member.file_size != member.compress_size:
                    raise ValueError(f"{member.filename[:80]!r} is compressed or encrypted")
            comment = archive.comment
            if comment.startswith(HASH) and comment != HASH + content_hash(archive):
                raise ValueError("the content does not have the hash that was stored with it")
            return {
                member.filename.removesuffix(".npy"): read_array(archive.read(member))
                for member in members
            }
    except FileNotFoundError as error:
        raise RunError(f"{path} does not exist: is this the folder of a run?") from error
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # zipfile lets many kinds through
        reason = " ".join(str(error).split()) or type(error).__name__
        raise RunError(f"{path} is damaged, or not written by minigan ({reason})") from error


def read_npy_bytes(content: bytes) -> np.ndarray:
    """The content of a .npy file -> the array. Raises ValueError and other kinds."""
    file = io.BytesIO(content)
    is_first = np.lib.format.read_magic(file) == (1, 0)
    read_header = np.lib.format.read_array_header_1_0 if is_first else READ_HEADER
    shape, _, dtype = read_header(file)
    if dtype.hasobject:
        raise ValueError("Python objects: save numpy.asarray(labels, str)")
    if prod(shape) * dtype.itemsize != len(content) - file.tell():
        raise ValueError(f"it declares the shape {shape}, and holds another number of bytes")
    file.seek(0)
    array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
    return array


def read_array(content: bytes) -> np.ndarray:
    """One .npy file -> array of numbers, read only. Raises ValueError and other kinds."""
    array = read_npy_bytes(content)
    if array.dtype.str not in DTYPES or not array.flags.c_contiguous:
        raise ValueError("an array of another kind")
    array.flags.writeable = False
    return array


def pack(sections: Sections, record: dict[str, Any]) -> dict[str, np.ndarray]:
    """Sections of arrays and a record for JSON -> flat name -> array, for save_arrays."""
    arrays = {
        f"{section}/{name}": array
        for section, content in sections.items()
        for name, array in content.items()
    }
    return arrays | {"json": np.frombuffer(json.dumps(record).encode(), np.uint8)}


def unpack(arrays: dict[str, np.ndarray], source: str | Path) -> tuple[Sections, dict[str, Any]]:
    """The inverse of pack -> sections, record. Raises RunError."""
    try:
        record = json.loads(arrays["json"].tobytes())
    except (KeyError, ValueError, RecursionError) as error:
        raise RunError(f"{source} holds no record of a run: not a checkpoint of minigan") from error
    sections: Sections = {}
    for name, array in arrays.items():
        section, slash, rest = name.partition("/")
        if slash:
            sections.setdefault(section, {})[rest] = array
    return sections, record
