"""Backends as fixtures: one test body runs on every backend that this machine can offer."""

import sys

import pytest

import minigan as mg
from tests.strict_cupy import make_module

BACKENDS = ("numpy", "strict", "cupy")


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
