"""Where data files are: in the folder that the user named, or in the usual ones."""

import os
import stat
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from minigan.data.base import DataDir
from minigan.data.files.messages import UNWRITABLE, as_data_errors
from minigan.errors import DataError, DataUnavailable

Found = TypeVar("Found")


def cache_folder() -> Path:
    """The folder for downloads and decoded pictures, per system; it may not exist yet.

    Linux    $XDG_CACHE_HOME/minigan, else ~/.cache/minigan
    macOS    ~/Library/Caches/minigan
    Windows  %LOCALAPPDATA%\\minigan\\Cache
    A user without a home folder gets a private one in the temporary folder.
    Raises DataError: that folder belongs to another user.
    Source: XDG base directory specification; the choices of the platformdirs package
    """
    base = os.environ.get("XDG_CACHE_HOME", "")  # the specification: ignore it unless absolute
    if sys.platform not in ("win32", "darwin") and os.path.isabs(base):
        return Path(base) / "minigan"
    home = Path(os.path.expanduser("~"))
    if not home.is_absolute() or home == Path(home.anchor):  # the user has no home folder
        home = own_folder(Path(tempfile.gettempdir()))
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local"
        return Path(local) / "minigan" / "Cache"
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "minigan"
    return home / ".cache" / "minigan"


def own_folder(place: Path) -> Path:
    """-> a folder in `place`, created if it does not exist. Windows has one place for each user.

    Raises DataError unless it is a private folder of this user: its name can be guessed.
    """
    if sys.platform == "win32":
        return place
    path = place / f"minigan-{os.getuid()}"
    with as_data_errors(path, UNWRITABLE):
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
        found = os.lstat(path)
    if not (stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()) or found.st_mode & 0o077:
        raise DataError(f"{path}: is not a private folder of yours: set HOME or XDG_CACHE_HOME")
    return path


def full_path(path: str | os.PathLike[str]) -> Path:
    """-> the absolute path, with ~ expanded; links are kept. Raises DataError for no name."""
    if not os.fspath(path):
        raise DataError("the name of a file or folder is empty: give one, or omit the option")
    return Path(os.path.abspath(os.path.expanduser(path)))


def usual_folders() -> list[Path]:
    """-> where data may be, best first: $MINIGAN_DATA, then the cache."""
    named = os.environ.get("MINIGAN_DATA")
    return ([full_path(named)] if named else []) + [cache_folder()]


def locate(
    title: str,
    data_dir: DataDir,
    below: Sequence[str],
    find: Callable[[Path], Found | None],
    wanted: str,
    cure: str,
    fetch: Callable[[], Found] | None = None,
) -> Found:
    """-> find(place) at the first place that has the set, else fetch().

    title     of the set, for the messages
    data_dir  the only folder to look in; None: the usual ones, then fetch(), which may raise
              DataError
    below     names of subfolders to look in, best first; "" is the folder itself
    wanted    the files that find() looks for; cure: what to do if they are missing
    Raises DataError: data_dir lacks the set; DataUnavailable: it could not be fetched.
    """
    folders = usual_folders() if data_dir is None else [full_path(data_dir)]
    for folder in folders:
        for name in below:
            if found := find(folder / name):
                return found
    places = " or ".join(map(str, folders))
    if data_dir is not None:
        trouble = f"no {title} here" if folders[0].is_dir() else "is not a folder"
        subfolders = ", ".join(name for name in below if name)
        raise DataError(f"{places}: {trouble}: looked for {wanted}, also in {subfolders}: {cure}")
    if fetch is None:
        raise DataUnavailable(f"{title} is not in {places}: {cure}")
    try:
        return fetch()
    except DataError as error:
        raise DataUnavailable(f"{title} is not in {places}; {error}") from error
