"""Atomic writes: the old file or the new one, never a part, and no temporary files."""

import errno
import os

import pytest

import minigan as mg
from minigan.files import replacing, write_atomically
from tests.support.refusals import refusal


def test_a_file_is_replaced(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, b"old")
    assert path.read_bytes() == b"old"
    write_atomically(str(path), lambda file: file.write(b"new"))
    assert path.read_bytes() == b"new" and os.listdir(tmp_path) == ["file"]
    (tmp_path / "other").touch()
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode


def test_the_name_appears_when_the_file_is_complete(tmp_path):
    with replacing(tmp_path / "file") as file:
        file.write(b"part")
        assert not (tmp_path / "file").exists()
    assert (tmp_path / "file").read_bytes() == b"part"


@pytest.mark.parametrize("call", ("fsync", "replace"))
def test_a_failure_leaves_the_old_file(call, tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    message = refusal(write_atomically, path, b"new", kind=mg.RunError)
    assert message.startswith(f"cannot write {path}: No space left on device: free some space")
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["file"]


def test_ctrl_c_leaves_the_old_file(tmp_path):
    def interrupted(file):
        file.write(b"new")
        raise KeyboardInterrupt

    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "file", interrupted)
    assert (tmp_path / "file").read_bytes() == b"old" and os.listdir(tmp_path) == ["file"]


def test_a_folder_that_does_not_exist(tmp_path):
    message = refusal(write_atomically, tmp_path / "none" / "file", b"", kind=mg.RunError)
    assert "No such file or directory" in message
