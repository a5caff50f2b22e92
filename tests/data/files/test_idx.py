"""The IDX reader, on small files with every kind of damage."""

import gzip
import os
import struct
import time
import tracemalloc
import zlib

import numpy as np
import pytest

from minigan.data.files.idx import read_idx
from minigan.errors import DataError
from tests.support.idx import GOOD, GOOD_LABELS, PIXELS, SHAPE, flipped, idx_bytes, sha
from tests.support.refusals import refusal


def endless_zeros(start, megabytes):
    """A gzip stream: `start`, then this many MiB of zeros, about 1 kB each, and no end."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    first = packer.compress(start) + packer.flush(zlib.Z_FULL_FLUSH)
    # After a full flush a block is independent of the ones before, and can be repeated.
    return first + (packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)) * megabytes


@pytest.mark.parametrize("content", [GOOD, gzip.compress(GOOD)], ids=["plain", "gzip"])
@pytest.mark.parametrize("name", ["a", "a.gz"])
def test_reads_plain_and_gzip_whatever_the_name(tmp_path, content, name):
    (tmp_path / name).write_bytes(content)
    array = read_idx(tmp_path / name, SHAPE, sha256=sha(GOOD))
    assert array.dtype == np.uint8
    np.testing.assert_array_equal(array, PIXELS)
    array[0] = 1  # it is writable
    np.testing.assert_array_equal(read_idx(tmp_path / name, SHAPE), PIXELS)


HTML = b"\r\n<!DOCTYPE html>\n<html><title>Log in to the network</title></html>" + b" " * 5000
PACKED = gzip.compress(GOOD)
DAMAGED = {  # damage: (content, what the message must say)
    "empty": (b"", "begins with nothing, expected 00000803"),
    "empty gzip": (gzip.compress(b""), "begins with nothing"),
    "gzip magic alone": (PACKED[:2], "ended before the end-of-stream"),
    "gzip of another method": (PACKED[:2] + b"\x07" + PACKED[3:], "compression method"),
    "web page": (HTML, "is a web page"),
    "web page, gzip": (gzip.compress(HTML), "is a web page"),
    "some other file": (b"PK\x03\x04" + bytes(9000), "begins with 504b0304"),
    "labels for images": (GOOD_LABELS, "begins with 00000801"),
    "float elements": (idx_bytes(PIXELS, magic=0x00000D03), "begins with 00000d03"),
    "short header": (GOOD[:9], f"begins with {GOOD[:9].hex()}, expected {GOOD[:16].hex()} (IDX"),
    "other shape": (idx_bytes(PIXELS[:4]), "(IDX, uint8, (5, 28, 28))"),
    "huge shape": (struct.pack(">4I", 0x803, *[2**32 - 1] * 3), "begins with 00000803ffffffff"),
    "cut off": (GOOD[:-1], f"is shorter than the expected {len(GOOD)} bytes"),
    "cut off inside gzip": (gzip.compress(GOOD[:-1]), "is shorter than"),
    "cut off gzip": (PACKED[: len(PACKED) // 2], "ended before the end-of-stream"),
    "cut off gzip checksum": (PACKED[:-3], "ended before the end-of-stream"),
    "too long": (GOOD + b"\0", f"is longer than the expected {len(GOOD)} bytes"),
    "too long inside gzip": (gzip.compress(GOOD + b"\0"), "is longer than"),
    "second gzip member": (PACKED + PACKED, "is longer than"),
    "garbage after gzip": (PACKED + b"garbage", "Not a gzipped file"),
    "gzip checksum": (flipped(PACKED, len(PACKED) - 8), "CRC check failed"),
    "gzip data": (PACKED[:40] + b"\xff" * 30 + PACKED[70:], "Error -3"),
    "one bit, plain": (flipped(GOOD, 1000), "SHA-256"),
    "one bit, gzip": (gzip.compress(flipped(GOOD, 1000)), "SHA-256"),
}


@pytest.mark.parametrize("content, expected", DAMAGED.values(), ids=DAMAGED)
def test_damage_is_reported_in_one_line(tmp_path, content, expected):
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(content)
    message = refusal(read_idx, path, SHAPE, sha256=sha(GOOD), cure="download it again")
    assert message.startswith(f"{path}: ") and expected in message
    assert message.endswith(": download it again")


def test_any_flipped_bit_of_a_gzip_file_is_noticed_or_harmless(tmp_path):
    path = tmp_path / "file"
    refused = 0
    for position in range(len(PACKED)):
        path.write_bytes(flipped(PACKED, position))
        try:
            array = read_idx(path, SHAPE, sha256=sha(GOOD))
        except DataError:  # and nothing else
            refused += 1
        else:  # such as the time stamp in the gzip header
            np.testing.assert_array_equal(array, PIXELS)
    assert refused >= len(PACKED) - 10


def test_a_file_that_cannot_be_read(tmp_path, monkeypatch):
    message = refusal(read_idx, tmp_path / "none", SHAPE)
    assert message.startswith(f"{tmp_path / 'none'}: cannot be read (No such file")
    (tmp_path / "file").write_bytes(GOOD)

    def deny(path):  # chmod does not stop root
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("minigan.data.files.idx.open_regular", deny)
    assert refusal(read_idx, tmp_path / "file", SHAPE) == (
        f"{tmp_path / 'file'}: cannot be read (Permission denied): "
        "check that it exists and that you may read it"
    )


@pytest.mark.parametrize(
    "start, expected",
    [(b"", "begins with 00000000"), (GOOD, "is longer than"), (GOOD[:16], "is longer than")],
)
def test_a_gzip_bomb_takes_neither_memory_nor_time(tmp_path, start, expected):
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


def test_an_endless_plain_file_is_read_no_further_than_declared(tmp_path):
    path = tmp_path / "sparse"
    path.write_bytes(GOOD)
    os.truncate(path, 1 << 32)  # takes no space on the disk
    begin = time.perf_counter()
    assert "is longer than" in refusal(read_idx, path, SHAPE)
    assert time.perf_counter() - begin < 1


@pytest.mark.parametrize("pack", (bytes, gzip.compress))
def test_a_declared_size_takes_no_memory(pack, tmp_path):
    shape = (30, 2**15, 2**15)  # 30 GiB
    (tmp_path / "file").write_bytes(pack(struct.pack(">4I", 0x803, *shape) + bytes(100)))
    tracemalloc.start()
    try:
        message = refusal(read_idx, tmp_path / "file", shape)
        assert "is shorter than the expected 32212254736 bytes" in message
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_without_a_cure(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    message = refusal(read_idx, tmp_path / "file", SHAPE, cure="")
    assert message.endswith("(IDX, uint8, (5, 28, 28))")
