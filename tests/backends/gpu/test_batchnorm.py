"""BatchNorm on the GPU: sums over many rows, running statistics, and parts of a batch."""

import numpy as np
import pytest

import minigan as mg
from minigan.arrays import Backend
from minigan.backends.gpu import batchnorm, kernels
from tests.support.gpu_cases import check_far_from_zero, check_pooled_moments, expect_close


@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_a_batch_far_from_zero_keeps_its_variance(dtype, make_cupy):
    check_far_from_zero(dtype, make_cupy)


def test_moments_of_several_processes(make_cupy):
    check_pooled_moments("float32", make_cupy)


@pytest.mark.parametrize("rows, group", ((1, 32), (8, 32), (17, 2), (1000, 3), (70_000, 32)))
def test_any_number_of_rows_and_strips(rows, group, make_cupy, monkeypatch):
    """Strips of which the last is shorter, folded in several rounds."""
    monkeypatch.setattr(batchnorm, "GROUP", group)
    found = []
    for backend in (Backend("float64"), make_cupy("float64")):
        net = mg.Sequential([mg.BatchNorm(running_rate=0.3), mg.Tanh()])
        net.setup((3,), backend=backend, rng=np.random.default_rng(0))
        x = backend.asarray(np.random.default_rng(1).normal(5, 2, (rows + 1, 3)))
        dy = backend.asarray(np.random.default_rng(2).standard_normal((rows + 1, 3)))
        y, dx = net.forward(x), net.backward(dy)
        arrays = [y, dx, *net.grads.values(), *net.buffers.values()]
        found.append([backend.to_host(array) for array in arrays])
    for expected, one in zip(*found, strict=True):
        expect_close(one, expected, 1e-10, rows)


def test_a_batch_of_one_is_refused(make_cupy):
    net = mg.Sequential([mg.BatchNorm()], name="D")
    net.setup((3,), backend=make_cupy(), rng=np.random.default_rng(0))
    x = net.backend.asarray(np.ones((1, 3)))
    with pytest.raises(mg.ShapeError, match=r"D\.0 .*a batch of 1 has no batch statistics"):
        net.forward(x)
    net.forward(x, train=False)


@pytest.mark.parametrize("rows, lanes", ((1, 1), (7, 4), (100_000, 3), (64, 2**17), (2**20, 32)))
def test_strips_cover_the_rows_and_keep_a_gpu_busy(rows, lanes):
    strip, count = kernels.strips(rows, lanes)
    assert (count - 1) * strip < rows <= count * strip
    assert count == 1 or (strip >= 8 and count * lanes <= 2**16)
