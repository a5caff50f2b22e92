"""Data files with a few bytes changed: pictures, or one of minigan's own errors in one line."""

import gzip
import io
import random
import time
import tracemalloc

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
from tests.support.long_form import long_form


def picture_file(kind, mode, size=(9, 7)):
    from PIL import Image

    memory = io.BytesIO()
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
    """A CIFAR-10 archive, a .zip of pictures, MNIST's files: by their usual names, in a folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(cifar, "RECORDS", 2)
    rng, slowest = random.Random(0), 0.0
    batch = bytes(rng.randrange(256) for _ in range(2 * 3073))
    (tmp_path / "c" / "cifar-10-batches-bin").mkdir(parents=True)
    for name in cifar.FILES:
        (tmp_path / "c" / "cifar-10-batches-bin" / name).write_bytes(batch)
    files = {
        tmp_path / "c" / "cifar-10-batches-bin" / cifar.FILES[0]: (
            batch,
            lambda: load_dataset("cifar10", tmp_path / "c", image_shape=(32, 32, 3)),
        ),
        tmp_path / "p.zip": (
            archive_of_pictures(),
            lambda: load_dataset(
                "folder", images=tmp_path / "p.zip", image_shape=(8, 8, 3), log=lambda line: None
            ),
        ),
        tmp_path / "m" / "train-images-idx3-ubyte": (
            b"\0\0\x08\x03" + bytes(60),
            lambda: load_dataset("mnist", tmp_path / "m"),
        ),
    }
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "train-labels-idx1-ubyte").write_bytes(
        b"\0\0\x08\x01\0\0\xea\x60" + bytes(60_000)
    )
    assert mnist.SETS  # so that the set is the one that is meant
    with little_memory():
        for _ in range(many(count) // (1 if isinstance(count, int) else 20)):
            for path, (good, load) in files.items():
                path.write_bytes(mutated(good, rng))
                start = time.perf_counter()
                try:
                    load()
                    tally["read"] += 1
                except mg.DataError as error:
                    assert "\n" not in str(error)
                    tally["DataError"] += 1
                slowest = max(slowest, time.perf_counter() - start)
                path.write_bytes(good)
    assert slowest < 5  # a folder's cache is flushed to the disk


def archive_of_pictures():
    import zipfile

    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        for i, kind in enumerate(("JPEG", "PNG", "GIF", "BMP") * 2):
            archive.writestr(f"{'ab'[i % 2]}/{i}.{kind.lower()}", picture_file(kind, "RGB"))
    return memory.getvalue()
