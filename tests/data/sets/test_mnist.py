"""Where MNIST is looked for, and that none of the three IDX sets is taken for another."""

import gzip
import os
import time

import numpy as np
import pytest

from minigan.data import load_dataset
from minigan.data.files.locations import cache_folder
from minigan.data.sets import mnist
from minigan.data.sets.mnist import load_mnist
from minigan.errors import ConfigError, DataError, DataUnavailable
from tests.support.idx import (
    GOOD,
    GOOD_LABELS,
    LABELS,
    PIXELS,
    SHAPE,
    SMALL,
    flipped,
    idx_bytes,
    is_the_small_set,
    put_idx,
    sha,
)
from tests.support.refusals import refusal

REAL_DATA = os.environ.get("MINIGAN_DATA")  # before the fixtures hide it
SETS = ("mnist", "fashion-mnist", "kmnist")

pytestmark = pytest.mark.usefixtures("no_network")


def images_of(name):
    """Five pictures of this set's mean."""
    if name == "mnist":
        return PIXELS
    return np.full(SHAPE, round(mnist.SETS[name].mean * 255), np.uint8)


def gz_files(name):
    return [gzip.compress(idx_bytes(array), mtime=0) for array in (images_of(name), LABELS)]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """All three sets, with five pictures each."""
    for name, the_set in list(mnist.SETS.items()):
        files = SMALL["train"]
        if name != "mnist":
            files = tuple(
                file._replace(sha256=sha(content), gz_bytes=len(content))
                for file, content in zip(files, gz_files(name), strict=True)
            )
        monkeypatch.setitem(mnist.SETS, name, the_set._replace(files={"train": files}))


def put(folder, name, spelling):
    return put_idx(folder, idx_bytes(images_of(name)), GOOD_LABELS, spelling)


SPELLINGS = ("{}-idx{}-ubyte", "{}-idx{}-ubyte.gz", "{}.idx{}-ubyte", "{}.idx{}-ubyte.gz")


# ---- where MNIST is looked for


@pytest.mark.parametrize("place", ["argument", "environment", "cache"])
def test_found_under_every_name_in_every_place(place, tmp_path, monkeypatch):
    for i, spelling in enumerate(SPELLINGS):
        for below in ("", "mnist"):
            folder = tmp_path / f"{i}{below}"
            if place == "cache":
                monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
                monkeypatch.setenv("LOCALAPPDATA", str(folder))
                monkeypatch.setenv("HOME", str(folder))
                folder = cache_folder()
            if place == "environment":
                monkeypatch.setenv("MINIGAN_DATA", str(folder))
            put_idx(folder / below, spelling=spelling)
            assert is_the_small_set(load_mnist(folder if place == "argument" else None))


def test_data_dir_may_be_text_with_a_tilde_or_relative(home, monkeypatch):
    put_idx(home / "digits")
    assert is_the_small_set(load_mnist("~/digits"))
    monkeypatch.chdir(home)
    assert is_the_small_set(load_mnist("digits"))
    monkeypatch.setenv("MINIGAN_DATA", "~/digits")
    assert is_the_small_set(load_mnist())


def test_a_data_dir_without_the_files_is_an_error(home, monkeypatch):
    put_idx(cache_folder())
    monkeypatch.setenv("MINIGAN_DATA", str(cache_folder()))
    (home / "empty").mkdir()
    monkeypatch.chdir(home)
    message = refusal(load_mnist, "empty", kind=DataError)  # not DataUnavailable
    assert message == (
        f"{home / 'empty'}: no MNIST here: looked for train-images-idx3-ubyte and "
        "train-labels-idx1-ubyte (each plain or .gz), also in mnist: put them there, "
        "or leave the folder out to have them downloaded"
    )
    (home / "file").touch()
    for name in ("none", "file"):
        assert refusal(load_mnist, name).startswith(f"{home / name}: is not a folder: looked for")
    put_idx(home / "half")
    (home / "half" / "train-labels-idx1-ubyte").unlink()
    assert "no MNIST here" in refusal(load_mnist, home / "half")


def test_environment_comes_before_cache_and_may_hold_something_else(home, monkeypatch):
    put_idx(cache_folder() / "mnist")
    (home / "pictures").mkdir()
    for other in ("", str(home / "pictures"), str(home / "none")):
        monkeypatch.setenv("MINIGAN_DATA", other)
        assert is_the_small_set(load_mnist())
    put_idx(home / "pictures", images=flipped(GOOD, 99))
    monkeypatch.setenv("MINIGAN_DATA", str(home / "pictures"))
    assert "SHA-256" in refusal(load_mnist)


def test_an_empty_environment_variable_is_not_the_working_folder(home, monkeypatch, no_network):
    put_idx(home)
    monkeypatch.chdir(home)
    monkeypatch.setenv("MINIGAN_DATA", "")
    message = refusal(load_mnist, kind=DataUnavailable)
    assert message.startswith(f"MNIST is not in {cache_folder()}; ")


@pytest.mark.parametrize("place", ["argument", "environment", "cache"])
def test_a_damaged_file_is_an_error_and_nothing_replaces_it(place, tmp_path, monkeypatch):
    folder = cache_folder() if place == "cache" else tmp_path / "data"
    if place != "cache":
        put_idx(cache_folder())
    put_idx(folder, labels=flipped(GOOD_LABELS, 10))
    if place == "environment":
        monkeypatch.setenv("MINIGAN_DATA", str(folder))
    message = refusal(load_mnist, folder if place == "argument" else None, kind=DataError)
    assert message.startswith(f"{folder / 'train-labels-idx1-ubyte'}: SHA-256 is ")
    mirror = mnist.SETS["mnist"].mirrors[0]
    assert message.endswith(f"put MNIST's own file there, {mirror}train-labels-idx1-ubyte.gz")


def test_a_folder_with_the_name_of_the_file_is_passed_over(tmp_path):
    put_idx(tmp_path, spelling="{}.idx{}-ubyte")
    (tmp_path / "train-images-idx3-ubyte").mkdir()
    assert is_the_small_set(load_mnist(tmp_path))


def test_found_nowhere_and_no_network(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGAN_DATA", str(tmp_path / "pictures"))
    begin = time.perf_counter()
    message = refusal(load_mnist, kind=DataUnavailable)  # the kind to fall back on
    assert time.perf_counter() - begin < 1
    places = f"{tmp_path / 'pictures'} or {cache_folder()}"
    assert message.startswith(f"MNIST is not in {places}; train-images-idx3-ubyte.gz: ")
    assert "Connection refused" in message


def test_split():
    with pytest.raises(ConfigError, match="mnist: split must be one of train, got 'valid'"):
        load_mnist(split="valid")


# ---- the three sets


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("spelling", SPELLINGS[:2])
def test_the_sets_by_name(name, spelling, tmp_path, monkeypatch):
    below = {"mnist": "mnist", "fashion-mnist": "FashionMNIST/raw", "kmnist": "kmnist"}[name]
    for data_dir in (put(tmp_path / "own", name, spelling), tmp_path):
        put(tmp_path / below, name, spelling)
        data = load_dataset(name, data_dir)
        np.testing.assert_array_equal(data.images[..., 0], images_of(name))
        assert data.name == name and data.labels.tolist() == LABELS.tolist() and data.note is None
        assert data.classes == mnist.SETS[name].classes and len(data.classes) == 10
    monkeypatch.setenv("MINIGAN_DATA", str(tmp_path))
    assert load_dataset(name).fingerprint == data.fingerprint


@pytest.mark.parametrize("name", SETS)
def test_no_set_is_taken_for_another(name, tmp_path, monkeypatch):
    for other in set(SETS) - {name}:
        for spelling in SPELLINGS[:2]:
            folder = put(tmp_path / f"{other}{spelling[-3:]}", other, spelling)
            message = refusal(load_dataset, name, folder)
            assert message.startswith(str(folder / "train-images-idx3-ubyte"))
            if name == "mnist":
                assert ": SHA-256 is " in message
            elif spelling.endswith(".gz"):
                assert ": SHA-256 is " in message or " bytes long, expected " in message
            else:
                assert ": the mean of its pixels is " in message
            own = f"put {mnist.SETS[name].title}'s own file there, {mnist.SETS[name].mirrors[0]}"
            assert message.endswith(f": {own}train-images-idx3-ubyte.gz")


def test_without_a_subfolder_only_mnist_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGAN_DATA", str(put_idx(tmp_path)))
    message = refusal(load_dataset, "kmnist", kind=DataUnavailable)
    assert message.startswith(f"KMNIST is not in {tmp_path} or {cache_folder()}; ")
    assert load_dataset("auto").name == "mnist"


def test_one_flipped_bit_of_a_gz_file(tmp_path):
    path = put(tmp_path, "kmnist", SPELLINGS[1]) / "train-labels-idx1-ubyte.gz"
    packed = gz_files("kmnist")[0]
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(packed)
    path.write_bytes(flipped(gz_files("kmnist")[1], 4))  # the time, which gzip ignores
    assert refusal(load_dataset, "kmnist", tmp_path).startswith(f"{path}: SHA-256 is ")


def test_a_mirror_with_another_set(monkeypatch):
    import io

    class Answer(io.BytesIO):
        length = None

    files = gz_files("fashion-mnist")
    monkeypatch.setattr(
        "urllib.request.urlopen",
        lambda request, timeout: Answer(files["labels" in request.full_url]),
    )
    message = refusal(load_dataset, "kmnist", kind=DataUnavailable)
    assert "SHA-256 is" in message or "bytes long" in message
    assert not list(cache_folder().rglob("*ubyte*"))


def test_a_label_that_is_no_class(tmp_path):
    """Of unpacked files, only the hash of the archive is known."""
    labels = idx_bytes(np.array([0, 1, 2, 9, 10], np.uint8))
    put_idx(tmp_path, idx_bytes(images_of("kmnist")), labels)
    message = refusal(load_dataset, "kmnist", tmp_path)
    assert "train-labels-idx1-ubyte: has a label 10, expected 0 to 9" in message


def test_the_published_files(monkeypatch):
    monkeypatch.undo()  # the table as it is
    hashes = set()
    for name in SETS:
        files = [*mnist.SETS[name].files["train"], *mnist.SETS[name].files["test"]]
        assert [file.shape[0] for file in files] == [60_000, 60_000, 10_000, 10_000]
        assert all((file.gz_bytes is None) == (name == "mnist") for file in files)
        hashes |= {file.sha256 for file in files}
    assert len(hashes) == 12 and all(len(bytes.fromhex(each)) == 32 for each in hashes)


@pytest.mark.skipif(not REAL_DATA, reason="MINIGAN_DATA is not set")
def test_real_mnist(monkeypatch):
    monkeypatch.undo()
    begin = time.process_time()
    try:
        images, labels = load_mnist(REAL_DATA)
        test_images, test_labels = load_mnist(REAL_DATA, split="test")
    except DataError as error:
        if "looked for" not in str(error):  # it is there, but damaged
            raise
        pytest.skip(str(error))
    assert time.process_time() - begin < 2  # s of this process; about 0.25
    assert images.shape == (60000, 28, 28, 1) and labels.shape == (60000,)
    assert test_images.shape == (10000, 28, 28, 1) and test_labels.shape == (10000,)
    assert labels[:8].tolist() == [5, 0, 4, 1, 9, 2, 1, 3]
    assert abs(images.mean() / 255 - 0.1307) < 1e-4  # the mean that every MNIST tutorial subtracts
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.bincount(test_labels).tolist() == counts
