"""Backends as fixtures: one test body runs on every backend that this machine has."""

import os
import sys
import uuid
from collections import Counter
from pathlib import Path

import pytest

import minigan as mg
from tests.support.ranks import processes_with
from tests.support.strict_cupy import use_stand_in

HERE = Path(__file__).parent
COMPILED = "minigan.backends.cpu.compiled"
BACKENDS = ("plain", "numpy", "strict", "cupy")
LONG = {  # option -> how many, in the tests marked `long`; they run with: pytest -m long
    "kills": (300, "processes killed by SIGKILL"),
    "mutants": (100_000, "damaged files"),
    "examples": (20_000, "stacks of layers drawn at random"),
    "repeats": (100, "times that each chain of layers must give the same bits"),
    "run-steps": (20_000, "steps of the run whose memory is watched"),
}


def pytest_addoption(parser):
    """--kills N and so on."""
    for name, (count, meaning) in LONG.items():
        text = f"{meaning} in the long tests (default {count:,})"
        parser.addoption(f"--{name}", type=int, default=count, help=text)


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items):
    """The tests of benchmarks and examples are `slow`: the default run is about the library."""
    for item in items:
        if {"benchmarks", "examples"} & set(item.path.parts[len(HERE.parts) :]):
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def hide_numba(monkeypatch):
    """-> function: from then on numba cannot be imported"""

    def hide():
        for name in [name for name in sys.modules if name.startswith(COMPILED)]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "numba", None)

    return hide


@pytest.fixture(params=BACKENDS)
def make_backend(request, monkeypatch):
    """-> function (dtype) -> backend. "strict" is the GPU backend on the stand-in for CuPy."""
    if request.param == "strict":
        use_stand_in(monkeypatch)
    elif request.param == "cupy":
        try:
            mg.get_backend("cupy")
        except mg.BackendError as error:
            pytest.skip(str(error))
    name = "cupy" if request.param == "strict" else request.param
    return lambda dtype="float64": mg.get_backend(name, dtype=dtype)


@pytest.fixture
def make_cupy(monkeypatch):
    """-> function (dtype, precision) -> GPU backend; without a GPU, on the stand-in for CuPy."""
    try:
        mg.get_backend("cupy")
    except mg.BackendError:
        if os.environ.get("MINIGAN_GPU"):  # it is the GPU that must be tested
            raise
        use_stand_in(monkeypatch)
    return lambda dtype="float32", precision="fp32": mg.get_backend(
        "cupy", dtype=dtype, precision=precision
    )


@pytest.fixture(scope="session", autouse=True)
def no_rank_is_left_behind():
    """Processes of MPI that any test has started, and that nothing has ended."""
    name, value = "MINIGAN_TEST_SESSION", uuid.uuid4().hex
    os.environ[name] = value  # whatever starts a process hands it on
    yield
    left = processes_with(f"{name}={value}", "PMI_", patience=5.0)
    assert not left, f"processes of MPI are left behind: {left}"


@pytest.fixture
def many(request):
    """-> function: a number stays as it is; the name of an option becomes the option's number."""
    return lambda count: request.config.getoption(f"--{count}") if isinstance(count, str) else count


@pytest.fixture
def tally(request, capsys):
    """-> Counter of outcomes, which a long test prints at its end."""
    counts = Counter()
    yield counts
    if request.node.get_closest_marker("long"):
        outcomes = ", ".join(f"{count:,} {name}" for name, count in counts.items())
        with capsys.disabled():
            print(f"\n{request.node.name}: {outcomes}", end=" ")
