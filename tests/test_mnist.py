"""The IDX reader on small files with every damage we could think of, and where MNIST is looked for."""

import gzip
import hashlib
import os
import struct
import sys
import time
import tracemalloc
import zlib

import numpy as np
import pytest

from minigan.data.files.idx import read_idx
from minigan.data.files.locations import cache_folder
from minigan.data.sets import mnist
from minigan.data.sets.mnist import load_mnist
from minigan.errors import ConfigError, DataError, DataUnavailable

REAL_DATA = os.environ.get("MINIGAN_DATA")  # before the fixtures hide it
SHAPE = (5, 28, 28)
PIXELS = (np.arange(5 * 28 * 28) % 7 * 40).astype(np.uint8).reshape(SHAPE)
LABELS = np.array([3, 1, 4, 1, 5], np.uint8)


def idx_bytes(array, magic=None):
    magic = 0x00000800 + array.ndim if magic is None else magic
    return struct.pack(f">{1 + array.ndim}I", magic, *array.shape) + array.tobytes()


def sha(content):
    return hashlib.sha256(content).hexdigest()


GOOD = idx_bytes(PIXELS)
GOOD_LABELS = idx_bytes(LABELS)
SMALL = {
    "train": (
        mnist.IdxFile("train-images-idx3-ubyte", SHAPE, sha(GOOD)),
        mnist.IdxFile("train-labels-idx1-ubyte", (5,), sha(GOOD_LABELS)),
    )
}


def flipped(content, position):
    """The same with one bit changed."""
    return content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]


def endless_zeros(start, megabytes):
    """A gzip stream: `start`, then so many MiB of zeros, about 1 kB each, and no end."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    first = packer.compress(start) + packer.flush(zlib.Z_FULL_FLUSH)
    # After a full flush a block stands for itself, and can be repeated without being made again.
    return first + (packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)) * megabytes


# ---- reading


@pytest.mark.parametrize("content", [GOOD, gzip.compress(GOOD)], ids=["plain", "gzip"])
@pytest.mark.parametrize("name", ["a", "a.gz"])
def test_reads_plain_and_gzip_whatever_the_name(tmp_path, content, name):
    (tmp_path / name).write_bytes(content)
    array = read_idx(tmp_path / name, SHAPE, sha256=sha(GOOD))
    assert array.dtype == np.uint8
    np.testing.assert_array_equal(array, PIXELS)
    array[0] = 1  # the caller's own memory, not a view of a read-only buffer
    np.testing.assert_array_equal(read_idx(tmp_path / name, SHAPE), PIXELS)


@pytest.mark.parametrize(
    "pack", [bytes, lambda content: gzip.compress(content, 1)], ids=["plain", "gzip"]
)
def test_large_file_is_held_once_in_memory(tmp_path, pack):
    big = np.random.default_rng(0).integers(0, 4, (8, 1000, 1001), np.uint8)
    content = idx_bytes(big)
    (tmp_path / "big").write_bytes(pack(content))
    tracemalloc.start()
    try:
        array = read_idx(tmp_path / "big", big.shape, sha256=sha(content))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(array, big)
    assert peak - array.nbytes < 4 << 20


HTML = b"\r\n<!DOCTYPE html>\n<html><title>Log in to the network</title></html>" + b" " * 5000
PACKED = gzip.compress(GOOD)
DAMAGED = {  # what: (content, what the message must say)
    "empty": (b"", "is empty"),
    "empty gzip": (gzip.compress(b""), "is empty"),
    "gzip magic alone": (PACKED[:2], "cut off"),
    "gzip of another method": (PACKED[:2] + b"\x07" + PACKED[3:], "stream is damaged"),
    "web page": (HTML, "is a web page"),
    "web page, gzip": (gzip.compress(HTML), "is a web page"),
    "some other file": (
        b"PK\x03\x04" + bytes(9000),
        "begins with bytes 504b0304, expected 00000803",
    ),
    "labels for images": (GOOD_LABELS, "begins with bytes 00000801, expected 00000803"),
    "float elements": (
        idx_bytes(PIXELS, magic=0x00000D03),
        "begins with bytes 00000d03, expected 00000803",
    ),
    "short header": (GOOD[:9], "ends after 9 bytes, inside its header"),
    "other shape": (idx_bytes(PIXELS[:4]), "holds shape (4, 28, 28), expected (5, 28, 28)"),
    "huge shape": (
        struct.pack(">4I", 0x803, 2**32 - 1, 2**32 - 1, 2**32 - 1),
        "holds shape (4294967295",
    ),
    "cut off": (GOOD[:-1], f"ends after {len(GOOD) - 1} bytes, expected {len(GOOD)}"),
    "cut off inside gzip": (gzip.compress(GOOD[:-1]), f"ends after {len(GOOD) - 1} bytes"),
    "cut off gzip": (PACKED[: len(PACKED) // 2], "gzip stream is cut off"),
    "cut off gzip checksum": (PACKED[:-3], "gzip stream is cut off"),
    "goes on": (GOOD + b"\0", f"goes on after the {len(GOOD)} bytes"),
    "goes on inside gzip": (gzip.compress(GOOD + b"\0"), f"goes on after the {len(GOOD)} bytes"),
    "second gzip member": (PACKED + PACKED, f"goes on after the {len(GOOD)} bytes"),
    "garbage after gzip": (PACKED + b"garbage", "gzip stream is damaged"),
    "gzip checksum": (flipped(PACKED, len(PACKED) - 8), "gzip stream is damaged (CRC"),
    "gzip data": (PACKED[:40] + b"\xff" * 30 + PACKED[70:], "gzip stream is damaged (Error -3"),
    "one bit, plain": (flipped(GOOD, 1000), "SHA-256"),
    "one bit, gzip": (gzip.compress(flipped(GOOD, 1000)), "SHA-256"),
}


def refusal(call, *args, kind=DataError, **kwargs):
    """The one line that `call` refuses with."""
    with pytest.raises(DataError) as caught:
        call(*args, **kwargs)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("content, expected", DAMAGED.values(), ids=DAMAGED)
def test_damage_is_named_in_one_line(tmp_path, content, expected):
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(content)
    message = refusal(read_idx, path, SHAPE, sha256=sha(GOOD))
    assert message.startswith(f"{path}: ") and expected in message
    assert message.endswith(": delete it and download it again")


def test_any_flipped_bit_of_a_gzip_file_is_noticed_or_harmless(tmp_path):
    path = tmp_path / "file"
    refused = 0
    for position in range(len(PACKED)):
        path.write_bytes(flipped(PACKED, position))
        try:
            array = read_idx(path, SHAPE, sha256=sha(GOOD))
        except DataError:  # and nothing else
            refused += 1
        else:  # as the time stamp in the gzip header
            np.testing.assert_array_equal(array, PIXELS)
    assert refused >= len(PACKED) - 10


def test_missing_file_folder_and_pipe(tmp_path):
    message = refusal(read_idx, tmp_path / "none", SHAPE)
    assert f"{tmp_path / 'none'}: cannot be read (No such file" in message
    assert "expected a file, got a folder" in refusal(read_idx, tmp_path, SHAPE)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        assert "expected a file, got a device or pipe" in refusal(
            read_idx, tmp_path / "pipe", SHAPE
        )


def test_file_that_may_not_be_read(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(GOOD)

    def deny(path, mode):  # chmod does not stop root
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("minigan.data.files.idx.open", deny, raising=False)
    message = refusal(read_idx, tmp_path / "file", SHAPE)
    assert message == (
        f"{tmp_path / 'file'}: cannot be read (Permission denied): "
        "see that it exists and that you may read it"
    )


def test_disk_error_while_reading(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(GOOD)

    def broken(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("minigan.data.files.idx._read", broken)
    assert "cannot be read (Input/output error)" in refusal(read_idx, tmp_path / "file", SHAPE)


@pytest.mark.parametrize(
    "start, expected",
    [
        (b"", "begins with bytes 00000000"),
        (GOOD, "goes on after"),
        (idx_bytes(PIXELS)[:16], "goes on after"),
    ],
)
def test_gzip_bomb_takes_neither_memory_nor_time(tmp_path, start, expected):
    path = tmp_path / "bomb.gz"
    path.write_bytes(endless_zeros(start, megabytes=4096))
    assert path.stat().st_size < 8 << 20  # 4 GiB unpacked
    tracemalloc.start()
    begin = time.perf_counter()
    try:
        assert expected in refusal(read_idx, path, SHAPE, sha256=sha(GOOD))
        seconds, peak = time.perf_counter() - begin, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20
    assert seconds < 1


def test_endless_plain_file_is_read_no_further_than_declared(tmp_path):
    path = tmp_path / "sparse"
    path.write_bytes(GOOD)
    os.truncate(path, 1 << 32)  # takes no room on the disk
    begin = time.perf_counter()
    assert "goes on after" in refusal(read_idx, path, SHAPE)
    assert time.perf_counter() - begin < 1


def test_name_and_cure_replace_those_of_the_file(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    assert (
        refusal(read_idx, tmp_path / "file", SHAPE, name="http://x/y", cure="")
        == "http://x/y: is empty"
    )


# ---- where MNIST is looked for


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A user without data and without network, and an MNIST of five pictures."""

    def no_network(*_, **__):
        raise ConnectionRefusedError(111, "Connection refused")

    home = tmp_path / "home"
    home.mkdir()
    for name in ("HOME", "USERPROFILE", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(home))
    monkeypatch.delenv("MINIGAN_DATA", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("urllib.request.urlopen", no_network)
    monkeypatch.setattr("minigan.data.files.download.PAUSE", 0)
    monkeypatch.setitem(mnist.SETS, "mnist", mnist.SETS["mnist"]._replace(files=SMALL))
    return home


def put(folder, images=GOOD, labels=GOOD_LABELS, spelling="{}-idx{}-ubyte"):
    folder.mkdir(parents=True, exist_ok=True)
    pack = gzip.compress if spelling.endswith(".gz") else bytes
    (folder / spelling.format("train-images", 3)).write_bytes(pack(images))
    (folder / spelling.format("train-labels", 1)).write_bytes(pack(labels))


def is_the_small_set(loaded):
    images, labels = loaded
    assert images.shape == (5, 28, 28, 1) and images.dtype == np.uint8 and images.flags.c_contiguous
    assert labels.shape == (5,) and labels.dtype == np.uint8
    np.testing.assert_array_equal(images[..., 0], PIXELS)
    np.testing.assert_array_equal(labels, LABELS)
    return True


@pytest.mark.parametrize(
    "spelling", ["{}-idx{}-ubyte", "{}-idx{}-ubyte.gz", "{}.idx{}-ubyte", "{}.idx{}-ubyte.gz"]
)
@pytest.mark.parametrize("below", ["", "mnist"])
@pytest.mark.parametrize("place", ["argument", "environment", "cache"])
def test_found_under_every_name_in_every_place(home, tmp_path, monkeypatch, place, below, spelling):
    folder = cache_folder() if place == "cache" else tmp_path / "data"
    put(folder / below, spelling=spelling)
    if place == "environment":
        monkeypatch.setenv("MINIGAN_DATA", str(folder))
    assert is_the_small_set(load_mnist(folder if place == "argument" else None))


def test_data_dir_may_be_text_with_a_tilde_or_relative(home, monkeypatch):
    put(home / "digits")
    assert is_the_small_set(load_mnist("~/digits"))
    monkeypatch.chdir(home)
    assert is_the_small_set(load_mnist("digits"))
    monkeypatch.setenv("MINIGAN_DATA", "~/digits")
    assert is_the_small_set(load_mnist())


def test_data_dir_without_the_files_never_falls_through(home, monkeypatch):
    put(cache_folder())
    monkeypatch.setenv("MINIGAN_DATA", str(cache_folder()))
    (home / "empty").mkdir()
    monkeypatch.chdir(home)
    message = refusal(load_mnist, "empty", kind=DataError)  # not DataUnavailable
    assert message.startswith(
        f"{home / 'empty'}: no MNIST here: looked for train-images-idx3-ubyte and train-labels"
    )
    assert str(home / "empty" / "mnist") in message
    assert f"{home / 'none'}: cannot be read (No such file" in refusal(load_mnist, home / "none")
    (home / "file").touch()
    assert f"{home / 'file'}: cannot be read (Not a dir" in refusal(load_mnist, home / "file")


def test_half_of_a_pair_is_not_found(home):
    put(home / "digits")
    (home / "digits" / "train-labels-idx1-ubyte").unlink()
    assert "no MNIST here" in refusal(load_mnist, home / "digits")


def test_environment_comes_before_cache_and_may_hold_something_else(home, monkeypatch):
    put(cache_folder() / "mnist")
    (home / "pictures").mkdir()
    for other in ("", str(home / "pictures"), str(home / "none")):
        monkeypatch.setenv("MINIGAN_DATA", other)
        assert is_the_small_set(load_mnist())
    put(home / "pictures", images=flipped(GOOD, 99))
    monkeypatch.setenv("MINIGAN_DATA", str(home / "pictures"))
    assert "SHA-256" in refusal(load_mnist)


def test_empty_environment_variable_is_not_the_working_folder(home, monkeypatch):
    put(home)
    monkeypatch.chdir(home)
    monkeypatch.setenv("MINIGAN_DATA", "")
    refusal(load_mnist, download=False, kind=DataUnavailable)


@pytest.mark.parametrize("place", ["argument", "environment", "cache"])
def test_damaged_is_an_error_and_no_reason_to_go_on(home, tmp_path, monkeypatch, place):
    folder = cache_folder() if place == "cache" else tmp_path / "data"
    put(folder, labels=flipped(GOOD_LABELS, 10))
    if place != "cache":
        put(cache_folder())  # must not be taken in its stead
    if place == "environment":
        monkeypatch.setenv("MINIGAN_DATA", str(folder))
    message = refusal(load_mnist, folder if place == "argument" else None, kind=DataError)
    assert message.startswith(f"{folder / 'train-labels-idx1-ubyte'}: SHA-256 is ")
    assert message.endswith(
        f"delete it and fetch {mnist.SETS['mnist'].mirrors[0]}train-labels-idx1-ubyte.gz"
    )


def test_folder_of_the_files_name(home):
    put(home / "digits", spelling="{}.idx{}-ubyte")
    folder = home / "digits" / "train-images-idx3-ubyte"
    folder.mkdir()
    assert is_the_small_set(load_mnist(home / "digits"))  # the file next to it is taken
    (home / "digits" / "train-images.idx3-ubyte").unlink()
    assert refusal(load_mnist, home / "digits").startswith(
        f"{folder}: expected a file, got a folder"
    )


def test_nowhere_and_no_network_is_the_kind_to_fall_back_on(home, monkeypatch):
    monkeypatch.setenv("MINIGAN_DATA", str(home / "pictures"))
    begin = time.perf_counter()
    message = refusal(load_mnist, kind=DataUnavailable)
    assert time.perf_counter() - begin < 1
    assert message.startswith(
        f"MNIST is not in {home / 'pictures'} or {cache_folder()}; train-images-idx3-ubyte.gz: "
    )
    assert "Connection refused" in message
    message = refusal(load_mnist, download=False, kind=DataUnavailable)
    assert "download=False" in message


def test_split():
    with pytest.raises(ConfigError, match="expected split 'train' or 'test', got 'valid'"):
        load_mnist(split="valid")


def test_cache_folder_of_each_system(tmp_path, monkeypatch):
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    assert cache_folder() == tmp_path / ".cache" / "minigan"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "c"))
    assert cache_folder() == tmp_path / "c" / "minigan"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == tmp_path / ".cache" / "minigan"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache_folder() == tmp_path / "Library" / "Caches" / "minigan"
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert cache_folder() == tmp_path / "local" / "minigan" / "Cache"
    monkeypatch.delenv("LOCALAPPDATA")
    assert cache_folder() == tmp_path / "AppData" / "Local" / "minigan" / "Cache"


def test_cache_folder_of_a_user_without_a_home(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert cache_folder().is_absolute() and "~" not in str(cache_folder())


# ---- the real files


@pytest.mark.skipif(not REAL_DATA, reason="MINIGAN_DATA is not set")
def test_real_mnist():
    begin = time.perf_counter()
    try:
        (images, labels), (test_images, test_labels) = (
            load_mnist(REAL_DATA),
            load_mnist(REAL_DATA, split="test"),
        )
    except DataError as error:
        if "looked for" not in str(error):  # it is there, but damaged
            raise
        pytest.skip(str(error))
    assert time.perf_counter() - begin < 2  # s; about 0.25 on one core
    assert images.shape == (60000, 28, 28, 1) and labels.shape == (60000,)
    assert test_images.shape == (10000, 28, 28, 1) and test_labels.shape == (10000,)
    assert labels[:8].tolist() == [5, 0, 4, 1, 9, 2, 1, 3]
    assert abs(images.mean() / 255 - 0.1307) < 1e-4  # the mean that every MNIST tutorial subtracts
    assert np.bincount(test_labels).tolist() == [
        980,
        1135,
        1032,
        1010,
        982,
        892,
        958,
        1028,
        974,
        1009,
    ]
