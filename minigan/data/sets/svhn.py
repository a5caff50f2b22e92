"""SVHN, the cropped digits: 73,257 house numbers of 32 x 32 pixels, from a MATLAB file.

scipy, an optional package, reads MATLAB's format. Only the published file is opened (SHA-256), so
scipy never reads an untrusted file.

    X (32, 32, 3, n)   rows, columns, colors, pictures
    y (n, 1)           1 to 9, and 10 for the digit 0

Source: Netzer et al. 2011, "Reading digits in natural images with unsupervised feature learning".
Hash: TensorFlow Datasets, url_checksums
"""

import numpy as np

from minigan.data.base import DataDir, LabeledImages
from minigan.data.files.checksums import Published, expect_published, find_published
from minigan.errors import DataError

TRAIN = Published(
    "http://ufldl.stanford.edu/housenumbers/train_32x32.mat",
    182040794,
    "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8",
)


def load_svhn(data_dir: DataDir = None) -> LabeledImages:
    """The training set.

    data_dir  folder that must contain train_32x32.mat, itself or in a subfolder svhn; None: the
              usual folders, then a download into the cache
    -> images (73257, 32, 32, 3) uint8, labels (73257,) uint8, 0 to 9
    Raises DataError: also if scipy is not installed; DataUnavailable.
    """
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise DataError("SVHN is a MATLAB file, which scipy reads: pip install scipy") from error

    path = find_published("SVHN", TRAIN, data_dir, ("svhn", "SVHN", ""), TRAIN.find, TRAIN.name)
    expect_published(path, TRAIN, f"delete it and fetch {TRAIN.url}")
    content = loadmat(path, variable_names=("X", "y"))
    return np.ascontiguousarray(content["X"].transpose(3, 0, 1, 2)), content["y"].ravel() % 10
