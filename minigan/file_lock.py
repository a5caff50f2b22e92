"""One process at a time: a lock that the system takes back when its process ends, however it ends.

The file that is locked means nothing by being there: a crash leaves no lock behind.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import sleep
from typing import BinaryIO

PAUSE = 0.2  # s between tries


@contextmanager
def locked(path: str | Path, waiting: Callable[[], object]) -> Iterator[None]:
    """With the file at `path` locked, after every other process that has it; it is made where it is not there.

    waiting  called once if there is one. Raises OSError.
    """
    with open(path, "ab") as file:
        first = True
        while not try_lock(file):
            if first:
                waiting()
            first = False
            sleep(PAUSE)
        try:
            yield
        finally:
            unlock(file)


if sys.platform == "win32":
    import msvcrt

    def try_lock(file: BinaryIO) -> bool:
        """-> whether it is ours now."""
        try:
            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True

    def unlock(file: BinaryIO) -> None:
        """Let the next one in."""
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)
else:
    import fcntl

    def try_lock(file: BinaryIO) -> bool:
        """-> whether it is ours now."""
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def unlock(file: BinaryIO) -> None:
        """Let the next one in."""
        fcntl.flock(file, fcntl.LOCK_UN)
