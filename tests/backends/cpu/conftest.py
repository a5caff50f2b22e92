"""The CPU backend as a fixture: with and without compiled kernels."""

from functools import partial

import pytest

import minigan as mg


@pytest.fixture(params=(False, True), ids=("numpy", "numba"))
def make_numpy(request):
    """-> function (dtype, threads) -> backend"""
    if request.param:
        pytest.importorskip("numba", reason="numba is not installed", exc_type=ImportError)
    return partial(mg.get_backend, "numpy", compile=request.param)
