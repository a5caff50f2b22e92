"""Archives that count wrong, are cut off, or are none."""

import bz2
import gzip
import io
import lzma
import struct
import tarfile

import pytest

from minigan.data import load_dataset
from minigan.data.files.archives import open_zip
from tests.support.pictures import archive, colors, png
from tests.support.refusals import refusal

FIELDS = {"here": (8, "<H"), "total": (10, "<H"), "size": (12, "<L"), "offset": (16, "<L")}
MANY = 65_686  # 150 modulo 65,536


def load(path):
    return load_dataset("folder", images=path, image_shape=(4, 4, 3), log=lambda line: None)


def with_end(content, **fields):
    """The numbers of the record at the end of a .zip, changed."""
    content = bytearray(content)
    at = content.rindex(b"PK\5\6")
    for name, value in fields.items():
        offset, layout = FIELDS[name]
        struct.pack_into(layout, content, at + offset, value)
    return bytes(content)


@pytest.fixture
def good(tmp_path):
    return archive(tmp_path / "good.zip", [f"{i:02}.png" for i in range(40)]).read_bytes()


def many(counted):
    """-> an archive of MANY empty pictures, of which it counts `counted`"""
    files, entries = [], []
    for i in range(MANY):
        name, at = b"%05d.png" % i, i * (30 + 9)
        files.append(struct.pack("<4s5H3L2H", b"PK\3\4", 20, *bytes(7), 9, 0) + name)
        head = (b"PK\1\2", 20, 20, *bytes(7), 9, *bytes(5), at)
        entries.append(struct.pack("<4s6H3L5H2L", *head) + name)
    directory = b"".join(entries)
    end = (0, 0, counted, counted, len(directory), MANY * (30 + 9), 0)
    return b"".join(files) + directory + struct.pack("<4s4H2LH", b"PK\5\6", *end)


def test_counts_modulo_65536_lose_nothing(tmp_path):
    path = tmp_path / "z.zip"
    path.write_bytes(many(MANY % 65_536))  # as macOS writes it
    assert len(open_zip(path).infolist()) == MANY


def test_a_directory_that_lists_fewer_files_is_refused(good, tmp_path):
    path = tmp_path / "z.zip"
    size, offset = struct.unpack("<LL", good[-10:-2])
    counts = (45, 45, 0, 0, 700, 700, size, offset)
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, *counts)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, len(good) - 22, 1)
    path.write_bytes(good[:-22] + record + locator + with_end(good, total=0xFFFF)[-22:])
    assert "counts 700 files, and lists 40: it is damaged or cut off" in refusal(open_zip, path)


def test_wrong_counts_lose_nothing(good, tmp_path):
    path = tmp_path / "z.zip"
    size, offset = struct.unpack("<LL", good[-10:-2])
    for fields in ({"total": 10}, {"total": 0}, {}):  # all that the directory lists is there
        path.write_bytes(with_end(good, **fields))
        assert colors(load(path)) == list(range(40))
    one = size // 40
    for fields, listed in (
        ({"total": 100, "here": 100}, 40),
        ({"size": size - one, "offset": offset + one}, 39),
        ({"size": 0}, 0),
    ):
        path.write_bytes(with_end(good, **fields))
        message = refusal(load, path)
        assert f"and lists {listed}: it is damaged or cut off: download or create it" in message


def test_a_program_or_other_data_in_front_of_a_zip(good, tmp_path):
    for before in (b"#!/bin/sh\n" + bytes(5000), b"MZ" + bytes(5000), b"PK" + bytes(70000)):
        (tmp_path / "z.zip").write_bytes(before + good)
        assert colors(load(tmp_path / "z.zip")) == list(range(40))


def test_offsets_modulo_4_gib_are_named(tmp_path):
    """As macOS writes it. The 4 GiB take no space on the disk."""
    path, entries = tmp_path / "z.zip", b""
    with open(path, "wb") as file:
        for i, at in enumerate((0, (1 << 32) + 1000)):
            file.seek(at)
            head = (20, 0, 0, 0, 0, 0, len(png(i)), len(png(i)), 5, 0)
            file.write(struct.pack("<4s5H3L2H", b"PK\3\4", *head) + b"%d.png" % i + png(i))
            head = (20, *head, 0, 0, 0, 0, at % (1 << 32))
            entries += struct.pack("<4s6H3L5H2L", b"PK\1\2", *head) + b"%d.png" % i
        at = file.tell()
        end = (0, 0, 2, 2, len(entries), at % (1 << 32), 0)
        file.write(entries + struct.pack("<4s4H2LH", b"PK\5\6", *end))
    message = refusal(load, path)
    assert message.endswith(
        "modulo 4 GiB, as macOS writes large archives: unpack it, and give the folder"
    )


@pytest.mark.parametrize(
    "fields, reason",
    (
        ((8, 1), "encrypted"),
        ((10, 9), "compressed by Deflate64, expected deflate"),
        ((10, 14), "compressed by LZMA, expected deflate"),
        ((10, 93), "compressed by Zstandard, expected deflate"),
        ((10, 77), "compressed by method 77, expected deflate"),
    ),
)
def test_members_that_are_not_read_are_to_be_unpacked(fields, reason, good, tmp_path):
    content, at = bytearray(good), good.index(b"PK\1\2")
    while at > 0:
        struct.pack_into("<H", content, at + fields[0], fields[1])
        at = good.find(b"PK\1\2", at + 4)
    (tmp_path / "z.zip").write_bytes(content)
    message = refusal(load, tmp_path / "z.zip")
    assert f"(00.png: {reason}; 01.png: " in message
    assert message.endswith(": unpack it, and give the folder, without those that are damaged")


def tar():
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w") as file:
        member = tarfile.TarInfo("1.png")
        member.size = len(png(1))
        file.addfile(member, io.BytesIO(png(1)))
    return memory.getvalue()


OTHERS = {
    "a tar archive": tar(),
    "packed by gzip": gzip.compress(tar()),
    "packed by bzip2": bz2.compress(tar()),
    "packed by xz": lzma.compress(tar()),
    "packed by zstd": b"\x28\xb5\x2f\xfd" + bytes(99),
    "a RAR archive": b"Rar!\x1a\x07\x01\0" + bytes(99),
    "a 7z archive": b"7z\xbc\xaf\x27\x1c" + bytes(99),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_archives_are_named(kind, tmp_path):
    (tmp_path / "z.zip").write_bytes(OTHERS[kind])
    message = refusal(load, tmp_path / "z.zip")
    assert message.endswith(f"z.zip: is {kind}, not a .zip: unpack it, and give the folder")
