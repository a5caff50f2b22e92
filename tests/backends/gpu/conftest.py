"""The stand-in for CuPy, for tests of what a real GPU would hide."""

import sys

import pytest

from tests.support.strict_cupy import make_module


@pytest.fixture
def stand_in(monkeypatch):
    """-> the module that stands in for CuPy"""
    module = make_module()
    monkeypatch.setitem(sys.modules, "cupy", module)
    monkeypatch.setattr("minigan.backends.gpu.gemm.WORKSPACE", 1024)  # new memory is filled
    return module
