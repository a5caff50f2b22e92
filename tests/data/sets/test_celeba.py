"""CelebA, with six faces."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

import minigan as mg
from minigan.data import load_dataset
from minigan.data.files.checksums import Published
from minigan.data.files.locations import cache_folder
from minigan.data.sets import celeba
from tests.support.idx import flipped, sha
from tests.support.refusals import refusal


def load(data_dir=None, **options):
    options = {"image_shape": (16, 16, 3), "log": lambda line: None, **options}
    return load_dataset("celeba", data_dir, **options)


@pytest.fixture
def small_celeba(monkeypatch, tmp_path):
    """-> folder with the .zip, folder with the pictures."""
    monkeypatch.setattr(celeba, "COUNT", 6)
    zipped, folder = tmp_path / "zip" / "celeba", tmp_path / "folder" / celeba.FOLDER
    for each in (zipped, folder):
        each.mkdir(parents=True)
    path = zipped / celeba.ARCHIVE.name
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(6):
            file = io.BytesIO()
            Image.new("RGB", (178, 218), (i * 40, 0, 0)).save(file, "JPEG")
            archive.writestr(f"{celeba.FOLDER}/{i + 1:06}.jpg", file.getvalue())
            (folder / f"{i + 1:06}.jpg").write_bytes(file.getvalue())
    content = path.read_bytes()
    published = Published(celeba.ARCHIVE.name, len(content), sha(content))
    monkeypatch.setattr(celeba, "ARCHIVE", published)
    return zipped.parent, folder.parent


def test_celeba(small_celeba, tmp_path, monkeypatch):
    zipped, folder = small_celeba
    (tmp_path / "twice" / celeba.FOLDER).mkdir(parents=True)
    (tmp_path / "twice" / celeba.FOLDER / celeba.FOLDER).symlink_to(folder / celeba.FOLDER)
    for fit in ("crop", "centre:108", "box:14,34,144,184"):
        for data_dir in (zipped, folder, folder / celeba.FOLDER, tmp_path / "twice"):
            data = load(data_dir, fit=fit)
            assert data.name == "celeba" and data.images.shape == (6, 16, 16, 3)
            assert data.labels is None and data.classes == ()
            red = data.images[:, 8, 8, 0].astype(int)
            assert np.abs(red - [0, 40, 80, 120, 160, 200]).max() <= 2
    monkeypatch.setenv("MINIGAN_DATA", str(zipped))
    assert len(load(limit=4).images) == 4


def test_celeba_that_is_not_complete(small_celeba):
    zipped, folder = small_celeba
    (folder / celeba.FOLDER / "000001.jpg").unlink()
    assert refusal(load, folder) == (
        f"{folder / celeba.FOLDER}: 5 pictures, CelebA has 6: for a part of it choose the data set "
        '"folder"'
    )
    options = dict(image_shape=(16, 16, 3), log=print)
    assert len(load_dataset("folder", images=folder / celeba.FOLDER, **options).images) == 5
    assert "5 pictures, CelebA has 6" in refusal(load, folder)  # though they are in the cache
    path = zipped / "celeba" / celeba.ARCHIVE.name
    path.write_bytes(flipped(path.read_bytes(), 60))
    message = refusal(load, zipped)
    assert message.startswith(f"{path}: SHA-256 is")
    assert message.endswith(f"fetch it again from {celeba.PAGE}")


def test_where_it_comes_from(tmp_path):
    message = refusal(load, tmp_path)
    wanted = "img_align_celeba or img_align_celeba.zip"
    assert message.startswith(f"{tmp_path}: no CelebA here: looked for {wanted}, also in")
    by_hand = "no program can download it: fetch img_align_celeba.zip by hand from http"
    assert by_hand in message and message.endswith(", put it there")
    message = refusal(load, kind=mg.DataUnavailable)
    assert message.startswith(f"CelebA is not in {cache_folder()}: {by_hand}")
