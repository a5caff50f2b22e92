"""How kernels are compiled and kept: once, beside their source, and without any cache too."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("numba", reason="numba is not installed", exc_type=ImportError)

from minigan.backends.cpu.compiled.kernel import FunctionCache, kernel

PACKAGE = Path(__file__).parents[4] / "minigan"
LINE = "minigan: compiling kernels, once: this takes some seconds\n"
PROGRAM = """
import numpy as np, minigan as mg
net = mg.Sequential([mg.ReLU()])
net.setup((3,), backend=mg.get_backend("numpy", compile=True), rng=np.random.default_rng(0))
print(*net.forward(np.array([[-1, 0, 2]], "float32"))[0])
"""


@pytest.fixture
def run(tmp_path):
    """-> function: what a new process with a copy of the package says on stderr"""
    shutil.copytree(PACKAGE, tmp_path / "minigan", ignore=shutil.ignore_patterns("__pycache__"))

    def program(**environment):
        command = [sys.executable, "-c", PROGRAM]
        environment = {**os.environ, "PYTHONPATH": str(tmp_path), **environment}
        options = dict(capture_output=True, text=True, cwd=tmp_path, env=environment)
        done = subprocess.run(command, **options)
        assert done.stdout == "0.0 0.0 2.0\n", done.stderr
        return done.stderr

    program.compiled = tmp_path / "minigan/backends/cpu/compiled"
    return program


@pytest.mark.slow
def test_kernels_are_compiled_once_and_again_if_source_or_cache_changed(run):
    assert run() == LINE
    assert run() == ""
    for pattern in ("*.nbi", "*.nbc"):
        files = list(run.compiled.glob(f"__pycache__/{pattern}"))
        assert files
        for content in (b"", b"not numba's", files[0].read_bytes()[:100]):
            for file in files:
                file.write_bytes(content)
            assert run() == LINE
            assert run() == ""
    with open(run.compiled / "table.py", "a") as file:  # not where the kernel is
        file.write("# more\n")
    assert run() == LINE


@pytest.mark.slow
def test_without_a_folder_for_the_cache_kernels_work(run):
    (run.compiled / "__pycache__").write_text("a file")
    nowhere = dict(HOME="/dev/null/home", XDG_CACHE_HOME="/dev/null/cache")
    nowhere["PYTHONDONTWRITEBYTECODE"] = "1"
    assert run(**nowhere) == run(**nowhere) == LINE
    cache = run.compiled.parents[3] / "home"  # as if the package were read-only
    assert run(HOME=str(cache), XDG_CACHE_HOME=str(cache)) == LINE
    assert run(HOME=str(cache), XDG_CACHE_HOME=str(cache)) == ""
    assert list(cache.rglob("*.nbc"))


def test_a_full_disk_is_no_reason_to_stop(monkeypatch):
    def fail(self, sig, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(FunctionCache, "save_overload", fail)

    @kernel
    def add(x, y):
        return x + y

    assert add(1, 2) == 3 and add.py_func(1, 2) == 3
