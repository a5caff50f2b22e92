"""A lock between processes. The system releases it when its holder ends, even by a crash.

Only the lock counts, not whether the file exists: a crash leaves no lock behind. A file system
without locks gives each process what it asks for.
"""

import errno
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import sleep
from typing import IO

from minigan.files import open_regular

PAUSE = 0.2  # s between tries


@contextmanager
def locked(path: str | Path, on_wait: Callable[[], object]) -> Iterator[None]:
    """Holds the lock on the file `path`, which is created if it does not exist.

    on_wait  called once if another process holds the lock
    Raises OSError.
    """
    with open_regular(path, "ab") as file:
        if not try_lock(file):
            on_wait()
            while not try_lock(file):
                sleep(PAUSE)
        try:
            yield
        finally:
            unlock(file)


if sys.platform == "win32":
    import msvcrt

    def try_lock(file: IO[bytes]) -> bool:
        """-> whether the lock is ours now."""
        try:
            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True

    def unlock(file: IO[bytes]) -> None:
        """Release the lock."""
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)
else:
    import fcntl

    UNSUPPORTED = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)  # by some network file systems

    def try_lock(file: IO[bytes]) -> bool:
        """-> whether the lock is ours now."""
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
        return True

    def unlock(file: IO[bytes]) -> None:
        """Release the lock."""
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_UN)
