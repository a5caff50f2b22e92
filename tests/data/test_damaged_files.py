"""Data files with a few bytes changed: pictures, or one of minigan's own errors in one line."""

import gzip
import io
import random
import time
import tracemalloc
from functools import partial

import numpy as np
import pytest

import minigan as mg
from minigan.data import load_dataset
from minigan.data.files.decode import Form, Unreadable, decode
from minigan.data.files.idx import read_idx
from minigan.data.prepare.resize import parse_fit
from minigan.data.sets import cifar10 as cifar
from minigan.data.sets import mnist
from tests.support.damaged_files import little_memory, mutated
from tests.support.idx import SMALL, put_idx
from tests.support.long_form import long_form


def picture_file(kind, mode):
    from PIL import Image

    memory = io.BytesIO()
    size = (20, 20) if kind == "JPEG" else (9, 7)  # a JPEG is decoded at half of this
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 4), np.uint8)
    if mode == "I;16":  # which not every Pillow converts to
        image = Image.fromarray(pixels.view("<u2")[..., 0])
    else:
        image = Image.fromarray(pixels).convert(mode)
    image.save(memory, kind)
    return memory.getvalue()


PICTURES = {
    "JPEG": ("JPEG", "RGB"),
    "gray JPEG": ("JPEG", "L"),
    "CMYK JPEG": ("JPEG", "CMYK"),
    "PNG": ("PNG", "RGBA"),
    "palette PNG": ("PNG", "P"),
    "1-bit PNG": ("PNG", "1"),
    "GIF": ("GIF", "P"),
    "BMP": ("BMP", "RGB"),
    "WebP": ("WEBP", "RGBA"),
    "TIFF": ("TIFF", "RGBA"),
    "wide TIFF": ("TIFF", "I;16"),
    "PPM": ("PPM", "RGB"),
}


@pytest.mark.filterwarnings("ignore")  # Pillow's, about odd files
@pytest.mark.parametrize("count", (60, long_form("mutants")))
@pytest.mark.parametrize("kind", PICTURES)
def test_mutated_pictures(kind, count, many, tally):
    try:
        good = picture_file(*PICTURES[kind])
    except (OSError, KeyError):
        pytest.skip("this Pillow does not write it")
    fits = [parse_fit(text) for text in ("crop", "squash", "centre:5", "box:1,1,4,5")]
    rng, slowest = random.Random(kind), 0.0
    with little_memory():
        for _ in range(many(count) // (1 if isinstance(count, int) else len(PICTURES))):
            start = time.perf_counter()
            try:
                form = Form((4, 4, rng.choice((1, 3))), rng.choice(fits))
                picture = decode(io.BytesIO(mutated(good, rng)), form)
                assert picture.dtype == np.uint8 and picture.shape[:2] == (4, 4)
                tally["read"] += 1
            except Unreadable as error:
                assert "\n" not in str(error)
                tally["Unreadable"] += 1
            slowest = max(slowest, time.perf_counter() - start)
    assert slowest < 2 and tally["Unreadable"], (slowest, tally)


@pytest.mark.parametrize("count", (100, long_form("mutants")))
@pytest.mark.parametrize("packed", (False, True))
def test_mutated_idx_files(packed, count, many, tally, tmp_path):
    """Plain and gzip; without a hash, so that the format is the only check."""
    shape = (5, 4, 3)
    plain = (
        b"\0\0\x08\x03" + b"".join(extent.to_bytes(4, "big") for extent in shape) + bytes(range(60))
    )
    good, rng, path = gzip.compress(plain) if packed else plain, random.Random(0), tmp_path / "x"
    slowest = 0.0
    tracemalloc.start()
    try:
        for _ in range(many(count)):
            path.write_bytes(mutated(good, rng))
            start = time.perf_counter()
            try:
                assert read_idx(path, shape).shape == shape
                tally["read"] += 1
            except mg.DataError as error:
                assert "\n" not in str(error)
                tally["DataError"] += 1
            slowest = max(slowest, time.perf_counter() - start)
        assert tracemalloc.get_traced_memory()[1] < 32 * 2**20
    finally:
        tracemalloc.stop()
    assert slowest < 2 and tally["DataError"]


@pytest.mark.parametrize("count", (40, long_form("mutants")))
def test_mutated_data_sets(count, many, tally, tmp_path, monkeypatch):
    """CIFAR-10, a .zip of pictures, MNIST: one file of each, by its usual name, in a folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(cifar, "RECORDS", 2)
    monkeypatch.setitem(mnist.SETS, "mnist", mnist.SETS["mnist"]._replace(files=SMALL))
    rng, slowest = random.Random(0), 0.0
    cifar10, archive = tmp_path / "c" / cifar.FOLDER, tmp_path / "p.zip"
    cifar10.mkdir(parents=True)
    for name in cifar.FILES:
        (cifar10 / name).write_bytes(2 * (b"\3" + rng.randbytes(3072)))
    archive.write_bytes(archive_of_pictures())
    put_idx(tmp_path / "m")
    files = {
        cifar10 / cifar.FILES[0]: ("cifar10", cifar10, {"image_shape": (32, 32, 3)}),
        archive: ("folder", None, {"images": archive, "image_shape": (8, 8, 3)}),
        tmp_path / "m/train-images-idx3-ubyte": ("mnist", tmp_path / "m", {}),
    }
    with little_memory():
        for path, (name, folder, options) in files.items():
            good = path.read_bytes()
            load = partial(load_dataset, name, folder, **options, log=lambda line: None)
            load()
            for _ in range(many(count) // (1 if isinstance(count, int) else 20)):
                path.write_bytes(mutated(good, rng))
                start = time.perf_counter()
                try:
                    load()
                    tally["read"] += 1
                except mg.DataError as error:
                    assert "\n" not in str(error)
                    tally["DataError"] += 1
                slowest = max(slowest, time.perf_counter() - start)
    assert slowest < 5  # a folder's cache is flushed to the disk
    assert tally["read"] and tally["DataError"]


def archive_of_pictures():
    import zipfile

    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        for i, kind in enumerate(("JPEG", "PNG", "GIF", "BMP") * 2):
            archive.writestr(f"{'ab'[i % 2]}/{i}.{kind.lower()}", picture_file(kind, "RGB"))
    return memory.getvalue()
