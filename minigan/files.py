"""Atomic file writes, and reads of regular files only.

A file is written under a temporary name in the same folder, flushed to the disk and then renamed,
and the folder is flushed too, where its file system can do that. At every instant, even if the
power fails, the name refers to the old file or the new one, never to part of one.

Files may come from a stranger: a pipe in the place of one would block forever, and a device never
ends. Links are followed when a file is read, and never when one is written.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from minigan.errors import MiniganError, RunError

# errors of a file system that cannot flush
CANNOT_FLUSH = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)


def expect_path(path: str | Path) -> Path:
    """-> Path. Raises RunError for a name that no file can have."""
    try:
        if "\0" not in os.fsdecode(os.fsencode(path)):
            return Path(path)
    except (TypeError, UnicodeEncodeError):
        pass
    raise RunError(f"{str(path)!r} cannot be the name of a file")


@contextmanager
def as_run_errors(action: str, cure: str = "") -> Iterator[None]:
    """Raise RunError "cannot <action>: <what the system says>: <cure>" for an OSError inside."""
    try:
        yield
    except MiniganError:  # some are OSErrors; they already say what to do
        raise
    except OSError as error:
        reason = f"cannot {action}: {error.strerror or error}"
        raise RunError(": ".join(filter(None, (reason, cure)))) from error


def open_regular(path: str | Path, mode: str = "rb") -> IO[bytes]:
    """-> the open file. Raises OSError if it is no regular file.

    mode  "rb"; "ab" creates the file, refuses a link, and has no buffer
    """
    own = getattr(os, "O_NONBLOCK", 0) | (0 if mode == "rb" else getattr(os, "O_NOFOLLOW", 0))

    def opener(name: str, flags: int) -> int:
        if mode != "rb" and os.path.islink(name):
            raise OSError(errno.ELOOP, "it is a link", name)
        descriptor = os.open(name, flags | own, 0o666)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(errno.EINVAL, "it is no regular file", name)
        return descriptor

    return open(expect_path(path), mode, buffering=-1 if mode == "rb" else 0, opener=opener)


def read_regular(path: str | Path, most: int) -> bytes:
    """-> the content of a regular file. Raises OSError if it has more bytes than `most`."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise OSError(errno.EINVAL, f"it is larger than {most:,} bytes", str(path))
        return file.read(size)


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """-> an open file, renamed to `path` if the block ends without an exception.

    Otherwise it is deleted, and the old file at `path` stays. Raises OSError.
    """
    # "x": a new file, never one behind a link; its permissions follow the umask
    file = open(str(path.parent / f".{path.name[:40]}-{os.urandom(8).hex()}.tmp"), "x+b")
    try:
        with file:
            yield file
            file.flush()
            flush(file)
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
    with as_run_errors(f"write {path}", cure), replacing(expect_path(path)) as file:
        if callable(content):
            content(file)
        else:
            file.write(content)


def flush(file: IO[bytes]) -> None:
    """Flush a file's content to the disk, if its file system can do that. Raises OSError."""
    try:
        os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in CANNOT_FLUSH:
            raise


def flush_folder(folder: Path) -> None:
    """Flush a file's new name to the disk, if possible: the file is in its place already.

    A folder may be unreadable, and some file systems cannot flush one. Windows cannot open one.
    """
    if os.name == "posix":
        with suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
