"""Files that are whole or not there, and the state of a run as arrays.

A file is written under another name in the same folder, flushed to the disk, and then
renamed: at every instant the name shows the old file or the new one, never a part.

A checkpoint is one .npz without pickle: arrays by name, and everything else (step
counts, generator states, position in the data) as one JSON text in the array "json".
"""

import io
import json
import os
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from minigan.errors import RunError
from minigan.layers import Sequential

CURE = "delete it, and --resume takes the checkpoint before it"


def write_atomically(path: str | Path, content: bytes) -> None:
    """bytes -> file. Raises RunError, and leaves what was there, if it cannot be written."""
    path = Path(path)
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}-", suffix=".tmp", delete=False) as file:
            temporary = file.name
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if os.name == "posix":  # NamedTemporaryFile is for the owner alone; this is a file like any other
            mask = os.umask(0)
            os.umask(mask)
            os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
    except BaseException as error:  # Ctrl-C too must leave no temporary file
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)
        if not isinstance(error, OSError):
            raise
        raise RunError(f"cannot write {path}: {error.strerror or error}: free some space or choose another folder") from error


def save_arrays(path: str | Path, arrays: dict[str, np.ndarray]) -> None:
    """name -> array, as an uncompressed .npz. The same arrays give the same bytes."""
    memory = io.BytesIO()
    np.savez(memory, **arrays)
    write_atomically(path, memory.getvalue())


def load_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """.npz -> name -> array. Raises RunError for anything that is not such a file; never unpickles."""
    try:
        with open(path, "rb") as file:  # ours to close: NumPy leaves its own open where the content is damaged
            content = np.load(file, allow_pickle=False)
            if not hasattr(content, "files"):
                raise RunError(f"{path} is one array, not an .npz of named arrays: it was not written by minigan")
            return {name: content[name] for name in content.files}
    except FileNotFoundError as error:
        raise RunError(f"{path} does not exist: is this the folder of a run?") from error
    except OSError as error:
        if isinstance(error, RunError):
            raise
        raise RunError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile, NotImplementedError, RuntimeError, MemoryError) as error:
        raise RunError(f"{path} is damaged or not an .npz file ({' '.join(str(error).split())}): {CURE}") from error
    except Exception as error:  # zlib.error and the like: the zip module lets many kinds through
        raise RunError(f"{path} is damaged ({type(error).__name__}): {CURE}") from error


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
            f"{source}: {net.name} has {sorted(missing or surplus)[0]} only {'here' if missing else 'in the file'}: "
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


def pack(sections: dict[str, dict[str, np.ndarray]], record: dict[str, Any]) -> dict[str, np.ndarray]:
    """Sections of arrays and a JSON-able record -> flat name -> array, for save_arrays."""
    arrays = {f"{section}/{name}": array for section, content in sections.items() for name, array in content.items()}
    return arrays | {"json": np.frombuffer(json.dumps(record).encode(), np.uint8)}


def unpack(
    arrays: dict[str, np.ndarray], source: str | Path
) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, Any]]:
    """The reverse of pack -> sections, record. Raises RunError."""
    try:
        record = json.loads(arrays["json"].tobytes())
    except (KeyError, ValueError) as error:
        raise RunError(f"{source} holds no record of a run: it is not a checkpoint of minigan") from error
    sections = {}
    for name, array in arrays.items():
        section, slash, rest = name.partition("/")
        if slash:
            sections.setdefault(section, {})[rest] = array
    return sections, record
