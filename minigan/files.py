"""Atomic file writes.

A file is written under a temporary name in the same folder, flushed to the disk and then renamed,
and the folder is flushed too. At every instant, even if the power fails, the name refers to
the old file or the new one, never to part of one.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from minigan.errors import MiniganError, RunError


@contextmanager
def os_errors_as_run_errors(action: str, cure: str = "") -> Iterator[None]:
    """Raise RunError "cannot <action>: <what the system says>: <cure>" for an OSError inside."""
    try:
        yield
    except MiniganError:  # some are OSErrors; they already say what to do
        raise
    except OSError as error:
        reason = f"cannot {action}: {error.strerror or error}"
        raise RunError(": ".join(filter(None, (reason, cure)))) from error


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """-> an open file, renamed to `path` if the block ends without an exception.

    Otherwise it is deleted, and the old file at `path` stays. Raises OSError.
    """
    file = tempfile.NamedTemporaryFile(
        "w+b", dir=path.parent, prefix=f".{path.name}-", suffix=".tmp", delete=False
    )
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if os.name == "posix":  # a temporary file is private; this one gets the usual permissions
            mask = os.umask(0)
            os.umask(mask)
            os.chmod(file.name, 0o666 & ~mask)
        os.replace(file.name, path)
        flush_folder(path.parent)
    except BaseException:  # even Ctrl-C must leave no temporary file
        with suppress(OSError):
            os.unlink(file.name)
        raise


def write_atomically(path: str | Path, content: bytes | Callable[[IO[bytes]], object]) -> None:
    """bytes, or a function that writes into an open file -> file.

    Raises RunError if the file cannot be written; the old file stays.
    """
    cure = "free some space or choose another folder"
    with os_errors_as_run_errors(f"write {path}", cure), replacing(Path(path)) as file:
        if callable(content):
            content(file)
        else:
            file.write(content)


def flush_folder(folder: Path) -> None:
    """Flush a file's new name to the disk. Windows cannot open folders, and needs no flush."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
