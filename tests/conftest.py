"""Backends as fixtures: one test body runs on every backend that this machine can offer. And how long the long tests are."""

import os
import sys
from collections import Counter

import pytest

import minigan as mg
from tests.support.strict_cupy import make_module

BACKENDS = ("numpy", "strict", "cupy")
LONG = {  # of the tests marked `long`, which run by: pytest -m long
    "kills": (300, "processes killed by SIGKILL"),
    "mutants": (100_000, "damaged files"),
    "examples": (20_000, "stacks of layers drawn at random"),
    "repeats": (100, "times that each chain of layers must give the same bits"),
    "run-steps": (20_000, "steps of the run whose memory is watched"),
}


def pytest_addoption(parser):
    """--kills N and so on."""
    for name, (count, what) in LONG.items():
        parser.addoption(
            f"--{name}",
            type=int,
            default=count,
            help=f"{what} in the long tests (default {count:,})",
        )


@pytest.fixture(params=BACKENDS)
def make_backend(request, monkeypatch):
    """-> function (dtype) -> backend. "strict" is the CuPy backend on the stand-in for CuPy."""
    if request.param == "strict":
        monkeypatch.setitem(sys.modules, "cupy", make_module())
    elif request.param == "cupy":
        try:
            mg.get_backend("cupy")
        except mg.BackendError as error:
            pytest.skip(str(error))
    name = "numpy" if request.param == "numpy" else "cupy"
    return lambda dtype="float64": mg.get_backend(name, dtype=dtype)


@pytest.fixture
def make_cupy(monkeypatch):
    """-> function (dtype, precision) -> CupyBackend, on a GPU where there is one, else on the stand-in."""
    try:
        mg.get_backend("cupy")
    except mg.BackendError:
        if os.environ.get("MINIGAN_GPU"):  # it is the GPU that is to be tested
            raise
        monkeypatch.setitem(sys.modules, "cupy", make_module())
        monkeypatch.setattr(
            "minigan.backends.gpu.gemm.WORKSPACE", 1024
        )  # the stand-in would fill it anew for each backend
    return lambda dtype="float32", precision="fp32": mg.get_backend(
        "cupy", dtype=dtype, precision=precision
    )


@pytest.fixture
def many(request):
    """-> function: a number as it is; the name of an option -> its number. For tests with a quick and a long form."""
    return lambda count: request.config.getoption(f"--{count}") if isinstance(count, str) else count


@pytest.fixture
def tally(request, capsys):
    """-> Counter of what came out, which a long test prints at its end."""
    counts = Counter()
    yield counts
    if request.node.get_closest_marker("long"):
        with capsys.disabled():
            print(
                f"\n{request.node.name}: "
                + ", ".join(f"{count:,} {what}" for what, count in counts.items()),
                end=" ",
            )
