"""Where data files lie: in the folder that the user named, or in the usual ones."""

import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from minigan.errors import DataError

Found = TypeVar("Found")


def cache_folder() -> Path:
    """The folder for downloaded data and prepared pictures, where each system wants it; it may not exist yet.

    Linux    $XDG_CACHE_HOME/minigan, else ~/.cache/minigan
    macOS    ~/Library/Caches/minigan
    Windows  %LOCALAPPDATA%\\minigan\\Cache
    Source: XDG base directory specification; the choices of the platformdirs package
    """
    home = (
        full_path("~") if os.path.expanduser("~") != "~" else Path(tempfile.gettempdir())
    )  # a user without a home
    if sys.platform == "win32":
        return (
            Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "minigan" / "Cache"
        )
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "minigan"
    base = os.environ.get(
        "XDG_CACHE_HOME", ""
    )  # "" or relative: to be ignored, says the specification
    return Path(base if os.path.isabs(base) else home / ".cache") / "minigan"


def full_path(path: str | os.PathLike[str]) -> Path:
    """-> the absolute path, with ~ replaced; links are kept."""
    return Path(os.path.abspath(os.path.expanduser(path)))


def usual_folders() -> list[Path]:
    """-> where data may be if nobody says so, best first: $MINIGAN_DATA, then the cache."""
    named = os.environ.get("MINIGAN_DATA")
    return ([full_path(named)] if named else []) + [cache_folder()]


def search(
    data_dir: str | Path | None, below: Sequence[str], find: Callable[[Path], Found | None]
) -> Found | None:
    """-> what find(place) gives at the first place that has it, else None.

    data_dir  folder to look into; None: the usual ones
    below     names of sub-folders of it, best first; "" is the folder itself
    """
    for folder in usual_folders() if data_dir is None else [full_path(data_dir)]:
        for name in below:
            if found := find(folder / name):
                return found
    return None


def searched(title: str, data_dir: str | Path | None, below: Sequence[str], wanted: str) -> str:
    """-> where a set was looked for in vain, as the start of an error: it ends before the cure.

    title   of the set; wanted: the files that would have been it
    """
    if data_dir is None:
        return f"{title} is not in {' or '.join(map(str, usual_folders()))}"
    folder = full_path(data_dir)
    try:
        os.listdir(folder)
        trouble = f"no {title} here"
    except OSError as error:
        trouble = f"cannot be read ({error.strerror})"
    inside = " and in ".join(str(folder / name) if name else "it" for name in sorted(below))
    return f"{folder}: {trouble}: looked for {wanted} in {inside}"


def unreadable(path: str | Path, error: OSError) -> DataError:
    """-> the error for a file of the user's that cannot be read."""
    return DataError(
        f"{path}: cannot be read ({error.strerror or error}): see that it exists and that you may read it"
    )
