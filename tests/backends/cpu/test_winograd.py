"""Winograd's kernel: exact in real numbers, and the rounding in float32 that it promises."""

import numpy as np
import pytest

import minigan as mg
from minigan.backends.cpu import convolution
from minigan.backends.cpu.backend import CpuBackend
from minigan.backends.cpu.im2col import Im2col
from minigan.backends.cpu.table import OPERATIONS
from minigan.backends.cpu.winograd import Winograd, toom_cook
from tests.support.kernel_cases import check_kernel, passes
from tests.support.memory import peak_of


@pytest.mark.parametrize("seed", range(20))
def test_any_geometry_gives_what_the_definition_gives(seed, monkeypatch):
    check_kernel(Winograd, seed, monkeypatch, times=8)


@pytest.mark.parametrize(
    "size, k, stride, padding, tiles, readings",
    (
        ((16, 16), 4, 2, (1, 1), 4, 4),  # phases of 8, of which common tiles would hold 9
        ((32, 32), 5, 2, (1, 2), 16, 4),
        ((28, 28), 5, 2, (1, 2), 16, 1),  # 14 or 15: four tiles along each axis either way
        ((16, 28), 5, 2, (1, 2), 8, 2),
        ((16, 16), 5, 2, (2, 2), 4, 1),  # an even padding: no shift
        ((16, 16), 3, 1, (1, 1), 16, 1),
    ),
)
def test_phases_have_their_own_tiles_where_that_takes_fewer(
    size, k, stride, padding, tiles, readings, monkeypatch
):
    kernels = []

    def choose(core, backend):
        geometry = (core.x_shape, core.W_shape, core.y_shape, core.stride, core.pads)
        kernels.append(Winograd(*geometry, backend.dtype))
        return kernels[-1]

    monkeypatch.setattr(convolution, "choose_kernel", choose)
    layer = lambda: mg.Conv2d(6, k, stride, (padding, padding))  # noqa: E731
    backends = mg.get_backend("plain", "float64"), mg.get_backend("numpy", "float64")
    expected, found = (passes((*size, 5), layer(), each, 3, seed=0) for each in backends)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-12 * np.abs(other).max())
    assert {(each.x_out.count, len(each.y_for_x)) for each in kernels} == {(tiles, readings)}


@pytest.mark.parametrize("m, r", ((2, 2), (2, 3), (4, 2), (4, 3)))
def test_one_axis_is_exact_but_for_rounding(m, r):
    A, G, B = toom_cook(m, r)
    rng = np.random.default_rng(0)
    d, g = rng.standard_normal(m + r - 1), rng.standard_normal(r)
    expected = [d[j : j + r] @ g for j in range(m)]
    np.testing.assert_allclose(A @ ((G @ g) * (B @ d)), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("k", (4, 5))
def test_float32_at_the_sizes_of_a_real_layer(k):
    """Sums of 2,048 or 3,200 products: at most 1e-5 off, root mean square 3e-6."""
    layer = lambda: mg.Conv2d(256, k, 2, ((1, k - 3), (1, k - 3)))  # noqa: E731
    in_shape = (14, 14, 128)
    exact = passes(in_shape, layer(), mg.get_backend("numpy", "float64"), 4, seed=0)
    for is_on, most, usual in ((True, 1e-5, 3e-6), (False, 2e-6, 1e-6)):
        backend = CpuBackend("float32", winograd=is_on, operations=OPERATIONS)
        found = passes(in_shape, layer(), backend, 4, seed=0)
        for one, expected in zip(found[:3], exact[:3], strict=True):
            off = np.abs(one - expected)
            assert off.max() <= most * np.abs(expected).max()
            assert np.sqrt(np.mean(off**2)) <= usual * np.sqrt(np.mean(expected**2))


@pytest.mark.parametrize("winograd", (True, False))
def test_a_backend_may_do_without(winograd):
    net = mg.Sequential([mg.Conv2d(64, 4, 2, 1)])
    backend = CpuBackend(winograd=winograd, operations=OPERATIONS)
    net.setup((16, 16, 64), backend=backend, rng=np.random.default_rng(0))
    assert type(net.steps[0].operation.kernel) is (Winograd if winograd else Im2col)


@pytest.mark.parametrize(
    "layers, in_shape",
    (
        (lambda: [mg.Conv2d(6, 5, 2, "same"), mg.BatchNorm(), mg.Tanh()], (19, 32, 5)),
        (lambda: [mg.ConvTranspose2d(6, 4, 2, 1), mg.BatchNorm(), mg.Tanh()], (8, 7, 5)),
    ),
)
def test_gradients(layers, in_shape, monkeypatch):
    monkeypatch.setattr(convolution, "WIDE", 1)
    net = mg.Sequential(layers())
    backend = mg.get_backend("numpy", "float64", threads=2)
    net.setup(in_shape, backend=backend, rng=np.random.default_rng(0))
    assert type(net.steps[0].operation.kernel) is Winograd
    mg.check_gradients(net, np.random.default_rng(1).standard_normal((3, *in_shape)))


def test_nothing_is_allocated_once_it_is_warm(monkeypatch):
    monkeypatch.setattr(convolution, "WIDE", 1)
    layers = [mg.Conv2d(24, 5, 2, "same"), mg.BatchNorm(), mg.LeakyReLU(0.2)]
    net = mg.Sequential([*layers, mg.Conv2d(32, 4, 2, 1)])
    net.setup((28, 28, 8), backend=mg.get_backend("numpy"), rng=np.random.default_rng(0))
    rng = np.random.default_rng(1)
    x = rng.standard_normal((32, 28, 28, 8)).astype(np.float32)
    dy = rng.standard_normal((32, *net.out_shape)).astype(np.float32)

    def step():
        net.forward(x)
        net.backward(dy)

    step()
    step()
    assert peak_of(step, 3) < 200_000 < x.nbytes / 4
