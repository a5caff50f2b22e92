"""SVHN from a small MATLAB file."""

import io
import sys

import numpy as np
import pytest

import minigan as mg
from minigan.data import load_dataset
from minigan.data.files.checksums import Published
from minigan.data.sets import svhn
from tests.support.idx import sha
from tests.support.refusals import refusal

SHAPE = {"image_shape": (32, 32, 3)}


def test_svhn(tmp_path, monkeypatch):
    scipy_io = pytest.importorskip("scipy.io")
    pixels = np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3), np.uint8)
    labels = np.array([1, 9, 10, 2, 10, 3, 4], np.uint8)
    file = io.BytesIO()
    content = {"X": pixels.transpose(1, 2, 3, 0), "y": labels[:, None]}
    scipy_io.savemat(file, content, do_compression=True)
    content = file.getvalue()
    published = Published("http://example.org/train_32x32.mat", len(content), sha(content))
    monkeypatch.setattr(svhn, "TRAIN", published)
    path = tmp_path / "svhn" / svhn.TRAIN.name
    path.parent.mkdir()
    path.write_bytes(content)
    data = load_dataset("svhn", tmp_path, **SHAPE)
    np.testing.assert_array_equal(data.images, pixels)
    assert data.images.flags.c_contiguous and data.labels.tolist() == (labels % 10).tolist()
    assert data.classes == tuple("0123456789")
    path.write_bytes(content[:-1] + b"x")
    message = refusal(load_dataset, "svhn", tmp_path, **SHAPE)
    assert message.startswith(f"{path}: SHA-256 is ")
    assert message.endswith(f": delete it and fetch {published.url}")


def test_where_it_comes_from(tmp_path, no_network):
    pytest.importorskip("scipy.io")
    message = refusal(load_dataset, "svhn", tmp_path, **SHAPE)
    assert message.startswith(f"{tmp_path}: no SVHN here: looked for train_32x32.mat, also in")
    assert ": put http://" in message
    message = refusal(load_dataset, "svhn", kind=mg.DataUnavailable, **SHAPE)
    assert "train_32x32.mat: could not be downloaded" in message


def test_without_scipy(tmp_path, monkeypatch):
    for name in ("scipy", "scipy.io"):
        monkeypatch.setitem(sys.modules, name, None)
    message = refusal(load_dataset, "svhn", tmp_path, **SHAPE)
    assert message == "SVHN is a MATLAB file, which scipy reads: pip install scipy"
