"""Files that are whole or not there, and the state of a run as arrays.

A file is written under another name in the same folder, flushed to the disk, and then
renamed, and the folder is flushed too: at every instant, and also when the power fails, the
name shows the old file or the new one, never a part.

A checkpoint is one .npz without pickle: arrays by name, and everything else (step
counts, generator states, position in the data) as one JSON text in the array "json". The archive's
comment holds the SHA-256 of the content.

A file may come from a stranger, or from a failing disk. So it is read here and not by numpy.load: a member
must be stored as it is and declare no more than the file's own length holds, and an array must be of
plain numbers and exactly as large as its header says.
"""

import ast
import hashlib
import json
import os
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np

from minigan.errors import RunError
from minigan.layers import Sequential

HASH = b"sha256:"  # before the hash in the archive's comment
DTYPES = ("<f4", "<f8", "|u1")  # of the arrays that are written here
LONGEST_HEADER = 10_000  # bytes of the text before an array

Sections = dict[
    str, dict[str, np.ndarray]
]  # what a run is made of: nets and optimizers, each as arrays by name


def write_atomically(path: str | Path, content: bytes | Callable[[IO[bytes]], object]) -> None:
    """bytes, or a function that writes into an open file -> file. Raises RunError, and leaves what was there, if it cannot be."""
    path = Path(path)
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(
            "w+b", dir=path.parent, prefix=f".{path.name}-", suffix=".tmp", delete=False
        ) as file:
            temporary = file.name
            if callable(content):
                content(file)
            else:
                file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if (
            os.name == "posix"
        ):  # NamedTemporaryFile is for the owner alone; this is a file like any other
            mask = os.umask(0)
            os.umask(mask)
            os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
        flush_folder(path.parent)
    except BaseException as error:  # Ctrl-C too must leave no temporary file
        if temporary is not None:
            with suppress(OSError):
                os.unlink(temporary)
        if not isinstance(error, OSError):
            raise
        raise RunError(
            f"cannot write {path}: {error.strerror or error}: free some space or choose another folder"
        ) from error


def flush_folder(folder: Path) -> None:
    """The new name of a file to the disk too. Where folders cannot be opened (Windows), the system does it by itself."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


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


def network_state(net: Sequential) -> dict[str, np.ndarray]:
    """-> name -> host array: parameters and buffers, by their names in the network."""
    to_host = net.backend.to_host
    return {name: to_host(array) for name, array in (*net.params.items(), *net.buffers.items())}


def load_network(net: Sequential, arrays: dict[str, np.ndarray], source: str | Path) -> None:
    """Put parameters and buffers back. Raises RunError where names or shapes are another network's.

    Nothing is changed unless everything fits.
    source  file name, for the message
    """
    targets = {**net.params, **net.buffers}
    missing, surplus = targets.keys() - arrays.keys(), arrays.keys() - targets.keys()
    if missing or surplus:
        raise RunError(
            f"{source}: {net.name} has {min(missing or surplus)} only {'here' if missing else 'in the file'}: "
            "it is of another architecture"
        )
    for name, target in targets.items():
        if tuple(arrays[name].shape) != tuple(target.shape) or arrays[name].dtype != target.dtype:
            raise RunError(
                f"{source}: {net.name}.{name} is {arrays[name].dtype} {arrays[name].shape} in the file and "
                f"{target.dtype} {tuple(target.shape)} here: it is of another architecture"
            )
    for name, target in targets.items():
        target[...] = net.backend.asarray(arrays[name])
    net.ready().version += 1


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
