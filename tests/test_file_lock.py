"""The lock between processes."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from minigan.file_lock import locked, try_lock, unlock

HOLD = (
    "import sys; from minigan.file_lock import locked\n"
    "with locked(sys.argv[1], print): print('held', flush=True); sys.stdin.read()"
)


def test_a_lock_ends_with_its_process(tmp_path):
    path, waits = tmp_path / "lock", []
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, path],
        cwd=Path(__file__).parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"held\n"
    with open(path, "ab") as file:
        assert not try_lock(file)

        def end_the_holder():
            waits.append(path)
            process.kill()
            process.communicate()

        with locked(path, end_the_holder):
            assert waits == [path] and not try_lock(file)
        assert try_lock(file)
        unlock(file)
    assert path.exists()  # which means nothing


@pytest.mark.skipif(os.name != "posix", reason="flock is of POSIX")
def test_a_file_system_without_locks_refuses_nobody(tmp_path, monkeypatch):
    errors = [errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK, errno.EIO]

    def flock(file, flags):
        raise OSError(errors[0], os.strerror(errors[0]))

    monkeypatch.setattr("fcntl.flock", flock)
    while len(errors) > 1:
        with locked(tmp_path / "lock", pytest.fail):
            pass
        del errors[0]
    with pytest.raises(OSError) as caught, locked(tmp_path / "lock", print):
        pass
    assert caught.value.errno == errno.EIO


@pytest.mark.skipif(os.name != "posix", reason="links need rights on Windows")
def test_a_link_in_the_place_of_a_lock_is_refused(tmp_path):
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError), locked(tmp_path / "lock", print):
        pass
    assert not (tmp_path / "elsewhere").exists()
