"""MNIST: 70,000 handwritten digits, 28 x 28 grey pixels, as uint8 arrays.

Found on the disk or downloaded, and always compared with the SHA-256 of the
canonical files, whoever put them there.

Source: LeCun, Bottou, Bengio, Haffner 1998, "Gradient-based learning applied to
document recognition", Proc. IEEE 86(11)
"""

import math
import os
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minigan.data.idx import read_idx
from minigan.errors import ConfigError, DataError, DataUnavailable


class IdxFile(NamedTuple):
    """One published file: its name, its shape, and the hash of what is inside the gzip."""
    name: str
    shape: tuple[int, ...]
    sha256: str


FILES = {  # split: (images, labels)
    "train": (IdxFile("train-images-idx3-ubyte", (60000, 28, 28),
                      "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
              IdxFile("train-labels-idx1-ubyte", (60000,),
                      "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5")),
    "test": (IdxFile("t10k-images-idx3-ubyte", (10000, 28, 28),
                     "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
             IdxFile("t10k-labels-idx1-ubyte", (10000,),
                     "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2")),
}
MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/")


def load_mnist(data_dir=None, *, split: str = "train", download: bool = True,
               progress: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Load one split of MNIST.

    data_dir  folder that must hold the files; None: look in the folder that the
              environment variable MINIGAN_DATA names, then in the cache folder,
              then download into the cache folder
    split     "train" (n = 60,000) or "test" (n = 10,000)
    download  whether it may
    progress  draw a bar on stderr while it does, where that is a terminal
    -> images uint8 (n, 28, 28, 1), 0 is paper and 255 is ink; labels uint8 (n,), 0 to 9
    Raises DataError: data_dir lacks the files, or a file is damaged;
    DataUnavailable (a DataError): not found and not to be had; ConfigError: split.
    """
    if split not in FILES:
        raise ConfigError(f"load_mnist: expected split {' or '.join(map(repr, FILES))}, got {split!r}")
    files = FILES[split]
    paths = _search(files) if data_dir is None else _search_only(_full(data_dir), files)
    if paths is None:
        paths = _download(files, download, progress)
    images, labels = (read_idx(path, file.shape, sha256=file.sha256,
                               cure=f"delete it and fetch {MIRRORS[0]}{file.name}.gz")
                      for path, file in zip(paths, files))
    return images[..., np.newaxis], labels


def cache_folder() -> Path:
    """The folder for downloaded data, where each system wants it; it may not exist yet.

    Linux    $XDG_CACHE_HOME/minigan, else ~/.cache/minigan
    macOS    ~/Library/Caches/minigan
    Windows  %LOCALAPPDATA%\\minigan\\Cache
    Source: XDG base directory specification; the choices of the platformdirs package
    """
    home = _full("~") if os.path.expanduser("~") != "~" else Path(tempfile.gettempdir())  # a user without a home
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "minigan" / "Cache"
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "minigan"
    base = os.environ.get("XDG_CACHE_HOME", "")  # "" or relative: to be ignored, says the specification
    return Path(base if os.path.isabs(base) else home / ".cache") / "minigan"


def _full(folder) -> Path:
    return Path(os.path.abspath(os.path.expanduser(folder)))


def _usual_folders() -> list[Path]:
    """Where MNIST may be if nobody says so, best first."""
    named = os.environ.get("MINIGAN_DATA")
    return ([_full(named)] if named else []) + [cache_folder()]


def _search(files) -> list[Path] | None:
    """The paths of all files of a split, from the first usual folder that has them."""
    return next(filter(None, (_find(folder, files) for folder in _usual_folders())), None)


def _search_only(folder, files) -> list[Path]:
    """The same from one folder. Raises DataError where it lacks them."""
    paths = _find(folder, files)
    if paths is None:
        try:
            os.listdir(folder)
            trouble = "no MNIST here"
        except OSError as error:
            trouble = f"cannot be read ({error.strerror})"
        names = " and ".join(file.name for file in files)
        raise DataError(f"{folder}: {trouble}: looked for {names} (each plain or .gz) in it and in "
                        f"{folder / 'mnist'}: put them there, or leave the folder out to have them downloaded")
    return paths


def _find(folder, files) -> list[Path] | None:
    """The paths of all files in `folder`, or of all in `folder`/mnist."""
    for place in (folder, folder / "mnist"):
        paths = [_spelling(place, file.name) for file in files]
        if all(paths):
            return paths
    return None


def _spelling(place, name) -> Path | None:
    """The path of one file under the names that it is found by in the wild."""
    dotted = name.replace("-idx", ".idx")
    paths = [place / f"{stem}{end}" for stem in (name, dotted) for end in ("", ".gz")]
    # Folders last: some archives unpack to a folder of that name next to the file.
    return next((path for ask in (os.path.isfile, os.path.exists) for path in paths if ask(path)), None)


def _download(files, allowed, progress) -> list[Path]:
    """The paths of all files in the cache, those that lack downloaded. Raises DataUnavailable."""
    folder = cache_folder() / "mnist"  # a folder of its own: Fashion-MNIST uses the same file names
    searched = f"MNIST is not in {' or '.join(map(str, _usual_folders()))}"
    if not allowed:
        raise DataUnavailable(f"{searched}, and download=False: allow the download, or put the files there")
    try:
        return [_spelling(folder, file.name) or _fetch(file, folder, progress) for file in files]
    except DataError as error:
        raise DataUnavailable(f"{searched}; {error}") from error


def _fetch(file, folder, progress) -> Path:
    """Download one file, as gzip. Raises DataError."""
    from minigan.data.download import fetch  # here: urllib and tqdm are 0.07 s that most runs need not spend

    def check(path, url):
        read_idx(path, file.shape, sha256=file.sha256, name=url, cure="")

    # Bytes: more than the file needs, and 1 MiB so that a web page gets through to be recognised as one.
    limit = math.prod(file.shape) + (1 << 20)
    return fetch(f"{file.name}.gz", folder, MIRRORS, check=check, limit=limit, progress=progress)
