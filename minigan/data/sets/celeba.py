"""CelebA, aligned and cropped: 202,599 faces of 178 x 218 pixels, read as a folder of pictures.

Its authors publish it behind a web page that a program cannot get past. The crops of published
systems are available as values of `fit`: center:108, box:14,34,144,184.

Source: Liu, Luo, Wang, Tang 2015, "Deep learning face attributes in the wild". Hash: TensorFlow
Datasets, url_checksums
"""

from dataclasses import replace
from pathlib import Path

from minigan.data.base import DataDir, Dataset, Limit, Log
from minigan.data.files.checksums import Published, expect_published
from minigan.data.files.decode import Form
from minigan.data.files.locations import locate
from minigan.data.sets.folder import load_folder
from minigan.errors import DataError

PAGE = "http://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
FOLDER = "img_align_celeba"
ARCHIVE = Published(
    f"{FOLDER}.zip", 1443490838, "46fb89443c578308acf364d7d379fe1b9efb793042c0af734b6112e4fd3a8c74"
)
COUNT = 202_599


def load_celeba(data_dir: DataDir, form: Form, limit: Limit, log: Log) -> Dataset:
    """All faces, without labels; see load_folder.

    data_dir  img_align_celeba, or a folder that contains it or img_align_celeba.zip, itself or in a
              subfolder celeba; None: the usual folders
    Raises DataError: not complete, or not in data_dir; DataUnavailable.
    """
    wanted = f"{FOLDER} or {ARCHIVE.name}"
    cure = f"no program can download it: fetch {ARCHIVE.name} by hand from {PAGE}, put it there"
    path = locate("CelebA", data_dir, ("celeba", "CelebA", ""), find, wanted, cure)

    def expect_all(count: int) -> None:
        if count != COUNT:
            hint = 'for a part of it choose the data set "folder"'
            raise DataError(f"{path}: {count:,} pictures, CelebA has {COUNT:,}: {hint}")
        if path.is_file():
            expect_published(path, ARCHIVE, f"fetch it again from {PAGE}")

    return replace(load_folder(path, form, limit, log, expect_all), name="celeba")


def find(place: Path) -> Path | None:
    """The folder or the archive in `place`, or `place` itself if it has one of their names."""
    # One copy in circulation has the folder twice.
    for path in (place / FOLDER / FOLDER, place / FOLDER, place / ARCHIVE.name, place):
        if path.name in (FOLDER, ARCHIVE.name) and path.exists():
            return path
    return None
