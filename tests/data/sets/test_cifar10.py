"""CIFAR-10 from small files in the right format; wrong files are refused."""

import io
import pickle
import tarfile

import numpy as np
import pytest

import minigan as mg
from minigan.data import load_dataset, load_test
from minigan.data.files.checksums import Published
from minigan.data.files.locations import cache_folder
from minigan.data.sets import cifar10 as cifar
from tests.support.idx import sha
from tests.support.refusals import refusal

RECORDS = 4
SHAPE = {"image_shape": (32, 32, 3)}
URL = f"https://example.org/{cifar.ARCHIVE.name}"

pytestmark = pytest.mark.usefixtures("no_network", "few_records")


@pytest.fixture
def few_records(monkeypatch):
    monkeypatch.setattr(cifar, "RECORDS", RECORDS)


def batch_file(i):
    """-> content of data_batch_i.bin, or test_batch.bin for 0: pictures of noise, their labels."""
    rng = np.random.default_rng(i)
    pixels = rng.integers(0, 256, (RECORDS, 32, 32, 3), np.uint8)
    labels = rng.integers(0, 10, RECORDS).astype(np.uint8)
    planes = pixels.transpose(0, 3, 1, 2).reshape(RECORDS, -1)
    return np.concatenate([labels[:, None], planes], axis=1).tobytes(), pixels, labels


@pytest.fixture
def archive(monkeypatch):
    """-> content of a small archive, which counts as the published one."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for i, name in ((9, "readme.html"), (0, "test_batch.bin"), *enumerate(cifar.FILES, 1)):
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            content = batch_file(i)[0]
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    content = file.getvalue()
    monkeypatch.setattr(cifar, "ARCHIVE", Published(URL, len(content), sha(content)))
    return content


def unpacked(folder, test=False):
    """Write the files that the archive unpacks to -> folder"""
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(cifar.FILES, 1):
        (folder / name).write_bytes(batch_file(i)[0])
    if test:
        (folder / "test_batch.bin").write_bytes(batch_file(0)[0])
    return folder


def is_the_training_set(data):
    wanted = [batch_file(i) for i in range(1, 6)]
    np.testing.assert_array_equal(data.images, np.concatenate([pixels for _, pixels, _ in wanted]))
    assert data.labels.tolist() == np.concatenate([labels for *_, labels in wanted]).tolist()
    assert data.name == "cifar10" and data.classes == cifar.CLASSES
    return True


def is_the_test_set(data):
    _, pixels, labels = batch_file(0)
    np.testing.assert_array_equal(data[0], pixels)
    assert data[1].tolist() == labels.tolist()
    return True


def test_from_the_archive(archive, tmp_path, monkeypatch):
    (tmp_path / "cifar10").mkdir()
    (tmp_path / "cifar10" / cifar.ARCHIVE.name).write_bytes(archive)
    assert is_the_training_set(load_dataset("cifar10", tmp_path, **SHAPE))
    assert is_the_test_set(load_test("cifar10", tmp_path, (32, 32, 3), "crop"))
    assert len(list((tmp_path / "cifar10").iterdir())) == 1  # nothing was unpacked
    monkeypatch.setenv("MINIGAN_DATA", str(tmp_path))
    assert is_the_training_set(load_dataset("cifar10", **SHAPE))


def test_from_the_unpacked_folder(tmp_path):
    for folder in (tmp_path / "x" / cifar.FOLDER, tmp_path / "y"):
        unpacked(folder, test=True)
    for folder in (tmp_path / "x", tmp_path / "y"):
        assert is_the_training_set(load_dataset("cifar10", folder, **SHAPE))
        assert is_the_test_set(load_test("cifar10", folder, (32, 32, 3), "crop"))
    cut, _ = load_test("cifar10", tmp_path / "x", (16, 16, 3), "box:0,0,16,16")
    np.testing.assert_array_equal(cut, batch_file(0)[1][:, :16, :16])


def test_a_folder_without_the_test_images(archive, tmp_path):
    unpacked(tmp_path / cifar.FOLDER)
    message = refusal(cifar.load_cifar10, tmp_path, split="test")
    assert "or cifar-10-batches-bin with test_batch.bin, also in" in message
    (tmp_path / cifar.ARCHIVE.name).write_bytes(archive)
    assert is_the_test_set(cifar.load_cifar10(tmp_path, split="test"))


def test_it_is_downloaded_once(archive, monkeypatch):
    class Answer(io.BytesIO):
        length = None

    asked = []
    monkeypatch.setattr(
        "urllib.request.urlopen",
        lambda request, timeout: asked.append(request.full_url) or Answer(archive),
    )
    for _ in range(2):
        assert is_the_training_set(load_dataset("cifar10", **SHAPE))
    assert asked == [URL]
    (path,) = (cache_folder() / "cifar10").iterdir()
    assert path.name == cifar.ARCHIVE.name


def test_an_archive_that_is_damaged(archive, tmp_path):
    path = tmp_path / cifar.ARCHIVE.name
    path.write_bytes(archive[:-5])
    message = refusal(load_dataset, "cifar10", tmp_path, **SHAPE)
    length = f"is {len(archive) - 5} bytes long, expected {len(archive)}"
    assert message == f"{path}: {length}: cut off, or another file: {cifar.CURE}"
    path.write_bytes(archive[:-1] + b"\xff")
    assert f"{path}: SHA-256 is" in refusal(load_dataset, "cifar10", tmp_path, **SHAPE)


@pytest.mark.parametrize(
    "change, message",
    (
        (lambda content: content[:-1], "is 12291 bytes long, expected 12292"),
        (lambda content: content + b"more", "is 12296 bytes long, expected 12292"),
        (lambda content: b"\x0a" + content[1:], "has a label 10, expected 0 to 9"),
    ),
)
def test_files_that_are_damaged(change, message, tmp_path):
    path = unpacked(tmp_path) / cifar.FILES[3]
    path.write_bytes(change(path.read_bytes()))
    line = refusal(load_dataset, "cifar10", tmp_path, **SHAPE)
    assert line.startswith(f"{path}: {message}: delete it and fetch https://")


@pytest.mark.parametrize("name", cifar.PICKLES)
def test_pickles_are_refused(name, tmp_path, monkeypatch):
    monkeypatch.setattr(pickle, "load", None)
    (tmp_path / "cifar10").mkdir()
    (tmp_path / "cifar10" / name).write_bytes(pickle.dumps({}))
    message = refusal(load_dataset, "cifar10", tmp_path, **SHAPE)
    assert message.startswith(f"{tmp_path / 'cifar10' / name}: is the Python version of CIFAR-10")
    assert message.endswith("/cifar-10-binary.tar.gz")


def test_where_it_comes_from(tmp_path):
    message = refusal(load_dataset, "cifar10", tmp_path, **SHAPE)
    assert message.startswith(f"{tmp_path}: no CIFAR-10 here: looked for cifar-10-binary.tar.gz or")
    assert "put https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz there" in message
    message = refusal(load_dataset, "cifar10", kind=mg.DataUnavailable, **SHAPE)
    start = f"CIFAR-10 is not in {cache_folder()}; cifar-10-binary.tar.gz: could not be downloaded"
    assert message.startswith(start) and "put the file into" in message
    with pytest.raises(mg.ConfigError, match="split must be one of train, test, got 'dev'"):
        cifar.load_cifar10(tmp_path, split="dev")
