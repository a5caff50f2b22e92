"""The kernel for narrow layers, whose transpose gathers."""

import numpy as np
import pytest

import minigan as mg
from minigan.arrays.im2col import col2im
from minigan.backends.cpu.chunks import ThreadWorkspace
from minigan.backends.cpu.gathering import Gathering
from minigan.backends.cpu.trace import Trace, TracingBackend
from minigan.parallel.group import Group
from tests.support.kernel_cases import check_kernel

hypothesis = pytest.importorskip("hypothesis", reason="hypothesis is not installed")
st = hypothesis.strategies


@pytest.mark.parametrize("seed", range(20))
def test_any_geometry_gives_what_the_definition_gives(seed, monkeypatch):
    check_kernel(Gathering, seed, monkeypatch, times=4)


@st.composite
def axes(draw):
    """-> size of x, size of y, kernel, stride, (before, after) along one axis"""
    kernel, stride = draw(st.integers(1, 7)), draw(st.integers(1, 4))
    padding = draw(st.tuples(st.integers(0, kernel - 1), st.integers(0, kernel - 1)))
    size = draw(st.integers(max(1, kernel - sum(padding)), 15))
    return size, (size + sum(padding) - kernel) // stride + 1, kernel, stride, padding


@hypothesis.settings(max_examples=100, deadline=None, database=None, derandomize=True)
@hypothesis.given(axes(), axes(), st.integers(1, 6), st.integers(1, 6), st.integers(1, 4))
def test_the_transpose_is_the_definitions_whatever_was_in_memory(tall, wide, c_in, c_out, n):
    x_size, y_size, kernel, stride, padding = zip(tall, wide, strict=True)
    rng = np.random.default_rng(0)
    W = rng.standard_normal((*kernel, c_in, c_out))
    y = rng.standard_normal((n, *y_size, c_out))
    cols = np.einsum("npqo,ijco->npqijc", y, W)
    expected = col2im(cols, (n, *x_size, c_in), stride, padding, np)

    backend = mg.get_backend("numpy", "float64", threads=1)
    workspace = ThreadWorkspace(backend)
    for memory, names in ((backend.workspace, ["filters"]), (workspace, ["columns", "rows"])):
        for name in names:
            memory.get(name, (100_000,)).fill(np.nan)
    gathering = Gathering((*x_size, c_in), W.shape, (*y_size, c_out), stride, padding)
    x = np.full((n, *x_size, c_in), np.nan)
    gathering.transpose(y, gathering.prepare(W, backend, True), x, workspace)
    np.testing.assert_allclose(x, expected, rtol=0, atol=1e-13 * max(1.0, abs(expected).max()))


def test_its_calls_can_be_replayed():
    backend = TracingBackend(mg.get_backend("numpy", "float64"), Group())
    net, trace = mg.Sequential([mg.ConvTranspose2d(6, 5, 2, "same")]), Trace()
    rng = np.random.default_rng(0)
    net.setup((3, 4, 8), backend=mg.get_backend("numpy", "float64"), rng=rng)
    W = net.params["0.W"]
    gathering = Gathering((6, 8, 6), W.shape, (3, 4, 8), (2, 2), ((1, 2), (1, 2)))
    workspace, x = ThreadWorkspace(backend), np.empty((5, 6, 8, 6))

    def work(y):
        gathering.transpose(y, gathering.prepare(W, backend, True), x, workspace)

    for _ in range(3):
        y = rng.standard_normal((5, 3, 4, 8))
        trace.run(backend.xp, work, [y])
        np.testing.assert_allclose(x, net.forward(y), rtol=1e-12)
        W *= 1.5
