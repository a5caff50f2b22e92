"""Winograd's transforms by rows and columns: those of whole tiles, and nothing else is written."""

import numpy as np
import pytest

import minigan as mg
from minigan.backends.cpu import winograd
from minigan.backends.cpu.chunks import ThreadWorkspace
from minigan.backends.cpu.winograd import Winograd
from tests.support.kernel_cases import check_kernel

pytest.importorskip("numba", reason="numba is not installed", exc_type=ImportError)

from minigan.backends.cpu.compiled import winograd as compiled
from minigan.backends.cpu.compiled.table import OPERATIONS
from minigan.backends.cpu.compiled.vector import BYTES

RTOL = {"float32": 2e-6, "float64": 1e-14}


@pytest.mark.parametrize("dtype", RTOL)
@pytest.mark.parametrize("taps", ((3, 3), (2, 2), (3, 2), (2, 3)))
@pytest.mark.parametrize("stride", (1, 2))
@pytest.mark.parametrize("beyond", (-1, 0, 3))
def test_a_transform_is_that_of_whole_tiles(beyond, stride, taps, dtype):
    """Into a part of a domain, and from there; runs that are shorter than a vector, and uneven."""
    kernel = tuple(stride * each for each in taps)
    run = BYTES // np.dtype(dtype).itemsize + beyond
    c = -(-run // stride)
    case = ((11, 14, c), (*kernel, c, 3), (6, 7, 3), (stride, stride), ((1, 1), (1, 1)))
    layer, rng = Winograd(*case, np.dtype(dtype)), np.random.default_rng(0)
    workspace = ThreadWorkspace(mg.get_backend("numpy", dtype, compile=True))
    tiles, n = layer.x_for_y, 2
    for matrix, of in ((layer.B, tiles), (layer.A.T, layer.y_out)):
        plane = rng.standard_normal((n, *of.plane, of.shape[2])).astype(dtype)
        depth = of.phases[0] * of.phases[1] * of.shape[2]
        results = []
        for to_domain in (winograd.to_domain, compiled.to_domain):
            whole = np.full((len(matrix.both), (n + 2) * of.count, depth), 7.0, dtype)
            domain = of.in_domain(whole, slice(1, 1 + n))
            to_domain(matrix, of.tiles(plane), domain, workspace)
            results.append(whole)
        most = np.abs(results[0]).max()
        np.testing.assert_allclose(results[1], results[0], rtol=0, atol=RTOL[dtype] * most)
        assert (results[1][:, : of.count] == 7).all() and (results[1][:, -of.count :] == 7).all()
    of, results = layer.x_out, []
    whole = rng.standard_normal((layer.products, (n + 2) * of.count, layer.depth)).astype(dtype)
    for from_domain in (winograd.from_domain, compiled.from_domain):
        frame = np.full((n + 2, *of.plane, of.shape[2]), 7.0, dtype)
        domain = of.in_domain(whole, slice(1, 1 + n))
        from_domain(layer.A, domain, of.tiles(frame[1:-1]), workspace)
        results.append(frame)
    most = np.abs(results[0]).max()
    np.testing.assert_allclose(results[1], results[0], rtol=0, atol=RTOL[dtype] * most)
    assert (results[1][[0, -1]] == 7).all()


@pytest.mark.parametrize("seed", range(8))
def test_any_geometry_gives_what_the_definition_gives(seed, monkeypatch):
    check_kernel(Winograd, seed, monkeypatch, times=8, operations=OPERATIONS)
