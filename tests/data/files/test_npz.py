"""Arrays in .npz files: disks that fail while they are written, and files from strangers."""

import errno
import io
import os
import random
import zipfile

import numpy as np
import pytest

import minigan as mg
from minigan.data.files.npz import HASH, content_hash, load_arrays, pack, save_arrays, unpack
from tests.support.refusals import refusal

ARRAYS = {
    "G/0.W": np.arange(1000, dtype=np.float32),
    "D/0.W": np.ones((3, 4), np.float64),
    "json": np.frombuffer(b'{"step": 1}', np.uint8),
}


def test_arrays_are_the_same_after_save_and_load(tmp_path):
    sections, record = unpack(pack({"G": {"0.W": ARRAYS["G/0.W"]}}, {"step": 7}), "x")
    assert record == {"step": 7} and list(sections) == ["G"]
    save_arrays(tmp_path / "a.npz", ARRAYS)
    save_arrays(tmp_path / "b.npz", ARRAYS)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    loaded = load_arrays(tmp_path / "a.npz")
    assert loaded.keys() == ARRAYS.keys()
    for name, array in loaded.items():
        np.testing.assert_array_equal(array, ARRAYS[name])
        assert array.dtype == ARRAYS[name].dtype and not array.flags.writeable
    assert "is this the folder of a run?" in refusal(load_arrays, tmp_path / "c", kind=mg.RunError)
    assert "x holds no record of a run" in refusal(unpack, {}, "x", kind=mg.RunError)


class FailingFile:
    """A file whose n-th write fails, at once or after part of the data."""

    left = 0  # writes that succeed
    error = errno.ENOSPC
    short = False

    def __init__(self, file):
        self.file = file

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        self.file.__enter__()
        return self

    def __exit__(self, *exception):
        return self.file.__exit__(*exception)

    def write(self, data):
        cls = type(self)
        if cls.left <= 0:
            if cls.short:
                self.file.write(bytes(data)[: len(data) // 2])
            raise OSError(cls.error, os.strerror(cls.error))
        cls.left -= 1
        return self.file.write(data)


def test_what_could_not_be_read_again_is_not_saved(tmp_path):
    """The state of an optimizer, which counts steps, can be."""
    for dtype in (bool, np.float16, object, "U3"):
        with pytest.raises(mg.RunError, match=r"x is .*: save float32 or float64"):
            save_arrays(tmp_path / "a.npz", {"x": np.ones(3, dtype)})
    assert list(tmp_path.iterdir()) == []
    save_arrays(tmp_path / "a.npz", {"steps": 7})
    assert load_arrays(tmp_path / "a.npz")["steps"] == 7


@pytest.mark.parametrize(
    "error, short", ((errno.ENOSPC, False), (errno.EIO, False), (errno.ENOSPC, True))
)
def test_after_any_failed_write_the_old_file_is_there(error, short, tmp_path, monkeypatch):
    path = tmp_path / "step-00000001.npz"
    save_arrays(path, {"old": np.zeros(3)})
    before, failures = path.read_bytes(), 0

    def open_new(path, mode, **options):
        file = open(path, mode, **options)
        return FailingFile(file) if "x" in mode else file

    monkeypatch.setattr("minigan.files.open", open_new, raising=False)
    monkeypatch.setattr(FailingFile, "error", error)
    monkeypatch.setattr(FailingFile, "short", short)
    while True:
        monkeypatch.setattr(FailingFile, "left", failures)
        try:
            save_arrays(path, ARRAYS)
            break
        except mg.RunError as trouble:
            assert os.strerror(error) in str(trouble)
        assert os.listdir(tmp_path) == [path.name] and path.read_bytes() == before
        failures += 1
    assert failures > 8  # headers, arrays, directory
    np.testing.assert_array_equal(load_arrays(path)["G/0.W"], ARRAYS["G/0.W"])


def npy(header, data=b""):
    text = header.encode("latin1")
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


def float_npy(shape, data=bytes(8)):
    return npy(f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}", data)


GOOD = float_npy("(2,)")
BAD_ARRAYS = {
    "objects": npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", b"\x80\x04N."),
    "a huge shape": float_npy("(10000000000,)"),
    "a shape that overflows": float_npy("(4294967296, 4294967296, 2)"),
    "a negative size": float_npy("(-2,)"),
    "two negative sizes": float_npy("(-1, -2)"),
    "NaN for a size": float_npy("(float('nan'),)"),
    "a float for a size": float_npy("(2.0,)"),
    "integers": npy("{'descr': '<i4', 'fortran_order': False, 'shape': (2,), }", bytes(8)),
    "columns first": npy("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 2), }", bytes(16)),
    "a structure": npy(
        "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,), }", bytes(8)
    ),
    "code for a header": npy("__import__('os').mkdir('owned')", bytes(8)),
    "brackets without end": npy("(" * 5000, bytes(8)),
    "too few numbers": GOOD[:-1],
    "too many numbers": GOOD + b"\0",
    "another version": GOOD[:6] + b"\x02" + GOOD[7:],
    "nothing": b"",
    "a header beyond the file": b"\x93NUMPY\x01\x00\xff\xff{",
}


@pytest.mark.parametrize("kind", BAD_ARRAYS)
def test_arrays_from_a_stranger(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile("x.npz", "w") as archive:
        archive.writestr("good.npy", GOOD)
        archive.writestr("bad.npy", BAD_ARRAYS[kind])
    message = refusal(load_arrays, "x.npz", kind=mg.RunError)
    assert message.startswith("x.npz is damaged, or not written by minigan (")
    assert os.listdir() == ["x.npz"]


def archive_bytes(change=lambda archive: None, compression=zipfile.ZIP_STORED):
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", compression) as archive:
        archive.writestr("good.npy", GOOD)
        change(archive)
    return memory.getvalue()


def with_declared_size(size):
    """The sizes of the member in the directory, changed."""
    data = bytearray(archive_bytes())
    at = data.index(b"PK\x01\x02")
    data[at + 20 : at + 28] = 2 * size.to_bytes(4, "little")
    return bytes(data)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_archives_from_a_stranger(tmp_path):
    bomb = npy("{'descr': '|u1', 'fortran_order': False, 'shape': (1073741824,), }") + bytes(
        1 << 24
    )
    kinds = {
        "a zip bomb": archive_bytes(lambda a: a.writestr("b.npy", bomb), zipfile.ZIP_DEFLATED),
        "compressed": archive_bytes(compression=zipfile.ZIP_DEFLATED),
        "two of one name": archive_bytes(lambda archive: archive.writestr("good.npy", GOOD)),
        "two of one array": archive_bytes(lambda archive: archive.writestr("good", GOOD)),
        "sizes beyond the file": with_declared_size(1 << 30),
        "full 32-bit sizes without a 64-bit field": with_declared_size(0xFFFFFFFF),
        "cut off": archive_bytes()[:-30],
        "another hash": archive_bytes(
            lambda archive: setattr(archive, "comment", b"sha256:" + b"0" * 64)
        ),
    }
    path = tmp_path / "x.npz"
    for kind, data in kinds.items():
        path.write_bytes(data)
        message = refusal(load_arrays, path, kind=mg.RunError)
        assert "is damaged, or not written by minigan" in message, kind
    path.write_bytes(archive_bytes(lambda archive: archive.writestr("../../etc/passwd.npy", GOOD)))
    assert set(load_arrays(path)) == {"good", "../../etc/passwd"}  # only names
    assert os.listdir(tmp_path) == ["x.npz"]


def test_a_changed_byte_anywhere_is_noticed_or_harmless(tmp_path):
    path = tmp_path / "x.npz"
    save_arrays(path, ARRAYS)
    good, rng, refusals = path.read_bytes(), random.Random(0), 0
    places = {0, 1, len(good) - 1, len(good) - 70, *(rng.randrange(len(good)) for _ in range(300))}
    for place in places:
        changed = bytearray(good)
        changed[place] ^= 1 << rng.randrange(8)
        path.write_bytes(changed)
        try:
            arrays = load_arrays(path)
        except mg.RunError:
            refusals += 1
            continue
        assert arrays.keys() == ARRAYS.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, ARRAYS[name])
    assert refusals > 0.9 * len(places)


def test_a_file_has_the_bytes_of_earlier_versions(tmp_path):
    """Written by NumPy, and hashed when it was read again."""
    arrays = {
        "a/W": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.zeros(0),
        "c": np.ones(()),
    }
    with zipfile.ZipFile(tmp_path / "then", "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array)
    with zipfile.ZipFile(tmp_path / "then", "a") as archive:
        archive.comment = HASH + content_hash(archive)
    save_arrays(tmp_path / "now", arrays)
    assert (tmp_path / "now").read_bytes() == (tmp_path / "then").read_bytes()
