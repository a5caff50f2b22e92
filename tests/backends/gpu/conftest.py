"""The stand-in for CuPy, for tests of what a real GPU would hide."""

import pytest

from tests.support.strict_cupy import use_stand_in


@pytest.fixture
def stand_in(monkeypatch):
    """-> the module that stands in for CuPy"""
    return use_stand_in(monkeypatch)
