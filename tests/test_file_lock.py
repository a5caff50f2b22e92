"""The lock between processes."""

import subprocess
import sys
from pathlib import Path

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
