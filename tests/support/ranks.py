"""Jobs of several ranks, started by the mpiexec of the wheel `mpich`."""

import os
import signal
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MPIEXEC = Path(sys.executable).parent / "mpiexec"
needs_mpi = pytest.mark.skipif(
    not (MPIEXEC.exists() and find_spec("mpi4py")), reason="needs the packages mpi4py and mpich"
)
SMALL = "--dataset strokes --limit 110 --width 4 --z-dim 8 --batch-size 32 --sample-every 4"


def job(size, *words, seconds=60, environment=None, before=()):
    """Run `python words...` on `size` ranks -> CompletedProcess.

    before  words for mpiexec
    An AssertionError if a process of it is left behind, which is then killed; also after a timeout.
    """
    mark = f"MINIGAN_TEST_JOB={uuid.uuid4().hex}"
    name, value = mark.split("=")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), name: value, **(environment or {})}
    command = [MPIEXEC, *before, "-n", str(size), sys.executable, *map(str, words)]
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=seconds, env=environment, check=False
        )
    finally:
        left = processes_with(mark)
        for process in left:
            with suppress(OSError):
                os.kill(process, signal.SIGKILL)
        assert not left, f"{len(left)} processes are left behind"


def processes_with(*marks, patience=2.0):
    """-> those whose environment has these marks, once those that are ending have ended."""
    until = time.monotonic() + patience
    while True:
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):
                content = path.read_bytes()
                if all(mark.encode() in content for mark in marks):
                    found.append(int(path.parent.name))
        if not found or time.monotonic() > until:
            return found
        time.sleep(0.02)


def minigan(size, *words, fault="none", rank=0, step=0, **options):
    """`minigan words...` on ranks, one with a fault: see rank_program.py -> CompletedProcess"""
    program = ROOT / "tests/support/rank_program.py"
    return job(size, program, rank, fault, step, *words, **options)
