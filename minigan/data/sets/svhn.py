"""SVHN, the cropped digits: 73,257 house numbers of 32 x 32 pixels, from a MATLAB file.

MATLAB's format is scipy's business, an optional package. Only the published file is opened
(SHA-256), so that scipy reads nothing from strangers.

    X (32, 32, 3, n)   rows, columns, colours, pictures
    y (n, 1)           1 to 9, and 10 for the digit 0

Source: Netzer et al. 2011, "Reading digits in natural images with unsupervised feature learning". Hash: TensorFlow
Datasets, url_checksums
"""

from pathlib import Path

import numpy as np

from minigan.data.files.checksums import Published, download, expect_published
from minigan.data.files.locations import cache_folder, search, searched
from minigan.errors import DataError, DataUnavailable

TRAIN = Published(
    "train_32x32.mat",
    182040794,
    "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8",
    "http://ufldl.stanford.edu/housenumbers/",
)
BELOW = ("svhn", "SVHN", "")


def load_svhn(
    data_dir: str | Path | None = None, *, progress: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """The training set.

    data_dir  folder that must hold train_32x32.mat, itself or in a sub-folder svhn; None: the usual
              folders, then a download into the cache
    -> images (73257, 32, 32, 3) uint8, labels (73257,) uint8, 0 to 9
    Raises DataError: also where scipy is not installed; DataUnavailable.
    """
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise DataError("SVHN is a MATLAB file, which scipy reads: pip install scipy") from error

    path = search(
        data_dir, BELOW, lambda place: place / TRAIN.name if (place / TRAIN.name).exists() else None
    )
    if path is None:
        vain = searched("SVHN", data_dir, BELOW, TRAIN.name)
        if data_dir is not None:
            raise DataError(
                f"{vain}: put {TRAIN.url} there, or leave the folder out to have it downloaded"
            )
        try:
            path = download(TRAIN, cache_folder() / "svhn", progress)
        except DataError as error:
            raise DataUnavailable(f"{vain}; {error}") from error
    expect_published(path, TRAIN)
    content = loadmat(path, variable_names=("X", "y"))
    return np.ascontiguousarray(content["X"].transpose(3, 0, 1, 2)), content["y"].ravel() % 10
