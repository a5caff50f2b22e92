"""Atomic file writes.

A file is written under a temporary name in the same folder, flushed to the disk and then
renamed, and the folder is flushed too. At every instant, even if the power fails, the name
shows the old file or the new one, never a part.
"""

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

from minigan.errors import RunError


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
