"""CelebA, aligned and cropped: 202,599 faces of 178 x 218 pixels, found and then read as a folder of pictures.

Its makers hand it out by a page that a program cannot click through. The published crops
are values of `fit`: centre:108, box:14,34,144,184.

Source: Liu, Luo, Wang, Tang 2015, "Deep learning face attributes in the wild". Hash: TensorFlow Datasets, url_checksums
"""

from collections.abc import Callable
from pathlib import Path

from minigan.data.dataset import Dataset
from minigan.data.files.checksums import Published, expect_published
from minigan.data.files.locations import search, searched, usual_folders
from minigan.data.prepare.resize import Fit
from minigan.data.sets.folder import load_folder
from minigan.errors import DataError, DataUnavailable

PAGE = "http://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
ARCHIVE = Published(
    "img_align_celeba.zip",
    1443490838,
    "46fb89443c578308acf364d7d379fe1b9efb793042c0af734b6112e4fd3a8c74",
    PAGE,
)
FOLDER = "img_align_celeba"
COUNT = 202_599
BELOW = ("celeba", "CelebA", "")


def load_celeba(
    data_dir: str | Path | None,
    shape: tuple[int, int, int],
    fit: Fit,
    limit: int | None,
    log: Callable[[str], object],
) -> Dataset:
    """All faces, without labels; see load_folder.

    data_dir  folder that holds img_align_celeba or img_align_celeba.zip, or is it, or has a sub-folder celeba
              that holds it; None: the usual folders
    Raises DataError: not whole; or data_dir lacks it; DataUnavailable.
    """
    path = search(data_dir, BELOW, _find)
    if path is None:
        vain = searched("CelebA", data_dir, BELOW, f"{FOLDER} or {ARCHIVE.name}")
        where = usual_folders()[0] / "celeba" if data_dir is None else "there"
        kind = DataUnavailable if data_dir is None else DataError
        raise kind(
            f"{vain}: no program can download it: fetch {ARCHIVE.name} by hand from {PAGE} and put it {where}"
        )

    def expect_all(count: int) -> None:
        if count != COUNT:
            raise DataError(
                f'{path}: {count:,} pictures, CelebA has {COUNT:,}: for a part of it take the data set "folder"'
            )
        if path.is_file():
            expect_published(path, ARCHIVE, cure=f"fetch it again from {PAGE}")

    return load_folder(path, shape, fit, limit, name="celeba", log=log, before=expect_all)


def _find(place: Path) -> Path | None:
    """The folder or the archive in `place`, or `place` itself under one of their names."""
    for path in (
        place / FOLDER / FOLDER,
        place / FOLDER,
        place / ARCHIVE.name,
        place,
    ):  # one copy in use has it twice
        if path.name in (FOLDER, ARCHIVE.name) and path.exists():
            return path
    return None
