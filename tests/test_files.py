"""Atomic writes: the old file or the new one, never a part, and no temporary files."""

import errno
import os

import pytest

import minigan as mg
from minigan.files import open_regular, read_regular, replacing, write_atomically
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


def test_the_umask_is_never_touched(tmp_path, monkeypatch):
    """It belongs to the whole process: other threads would make files with another one."""
    monkeypatch.setattr(os, "umask", None)
    before = set(os.listdir(tmp_path))
    with replacing(tmp_path / "file") as file:
        (new,) = set(os.listdir(tmp_path)) - before
        assert file.name == str(tmp_path / new)
    (tmp_path / "other").touch()
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "other").stat().st_mode


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


@pytest.mark.parametrize("code", (errno.EINVAL, errno.EACCES, errno.EIO))
def test_a_folder_that_cannot_be_flushed(code, tmp_path, monkeypatch):
    """The file is in its place: the folder is flushed if its file system can do that."""
    real_open, real_fsync = os.open, os.fsync

    def open_file(path, *arguments, **options):
        if code == errno.EACCES and path == tmp_path:  # mode 300
            raise OSError(code, os.strerror(code))
        return real_open(path, *arguments, **options)

    def fsync(descriptor):
        if os.path.isdir(f"/proc/self/fd/{descriptor}") or code == errno.EINVAL:
            raise OSError(code, os.strerror(code))
        real_fsync(descriptor)

    monkeypatch.setattr(os, "open", open_file)
    monkeypatch.setattr(os, "fsync", fsync)
    write_atomically(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new" and os.listdir(tmp_path) == ["file"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
def test_only_regular_files_are_read(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert read_regular(tmp_path / "link", 7) == b"content"
    with pytest.raises(OSError, match="it is larger than 6 bytes"):
        read_regular(tmp_path / "file", 6)
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, "/dev/zero"):
        with pytest.raises(OSError, match="it is no regular file"):
            open_regular(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
def test_nothing_is_written_through_a_link_or_into_a_pipe(tmp_path):
    (tmp_path / "file").write_bytes(b"mine")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    (tmp_path / "dangling").symlink_to(tmp_path / "none")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "dangling", "pipe"):
        with pytest.raises(OSError):
            open_regular(tmp_path / name, "ab")
    write_atomically(tmp_path / "link", b"another")  # takes its place
    assert (tmp_path / "file").read_bytes() == b"mine" and not (tmp_path / "none").exists()
    assert (tmp_path / "link").read_bytes() == b"another"


@pytest.mark.parametrize("name", ("a\0b", "\ud800"))
def test_names_that_no_file_can_have(name, tmp_path):
    for call in (lambda: write_atomically(tmp_path / name, b""), lambda: open_regular(name)):
        message = refusal(call, kind=mg.RunError)
        assert message.endswith("cannot be the name of a file") and message.isprintable()
