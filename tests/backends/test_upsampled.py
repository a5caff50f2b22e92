"""Upsample and a convolution as one transposed convolution: the numbers of the two layers."""

import copy
import sys

import numpy as np
import pytest

import minigan as mg
from minigan.arrays import Backend
from minigan.backends.steps import SpectralStep, UpsampleStep
from minigan.backends.upsampled import UpsampledStep
from tests.support.strict_cupy import make_module

BACKENDS = {
    "numpy": lambda: mg.get_backend("numpy", "float64", threads=2, compile=False),
    "compiled": lambda: mg.get_backend("numpy", "float64", threads=2, compile=True),
    "cupy": lambda: mg.get_backend("cupy", "float64"),
}
GEOMETRIES = {  # kernel size, scale, padding
    "G's": (3, 2, 1),
    "G's, to an odd size": (3, 2, ((1, 2), (1, 2))),
    "without padding": (3, 2, 0),
    "k5": (5, 2, "same"),
    "k1": (1, 2, 0),
    "k2, x3, uneven": (2, 3, ((1, 0), (0, 1))),
    "k5, uneven": (5, 2, ((0, 4), (3, 1))),
    "k3x5, x3": ((3, 5), 3, ((2, 0), (1, 3))),
    "x1": (3, 1, 1),
}


@pytest.fixture(params=BACKENDS)
def backend(request, monkeypatch):
    if request.param == "compiled":
        pytest.importorskip("numba")
    monkeypatch.setitem(sys.modules, "cupy", make_module())
    return BACKENDS[request.param]()


def make(layers, backend, shape=(3, 5, 4)):
    net = mg.Sequential(layers)
    net.setup(shape, backend=backend, rng=np.random.default_rng(0))
    return net


def passes(net):
    """Forward and backward passes of several sizes and modes -> all that they return and add"""
    backend, rng, found = net.backend, np.random.default_rng(1), []
    modes = ((5, True, True, True), (7, True, False, True), (7, True, True, False))
    for n, train, need_dx, need_dw in (*modes, (2, False, True, True)):
        x, dy = (rng.standard_normal((n, *shape)) for shape in (net.in_shape, net.out_shape))
        found.append(net.forward(backend.asarray(x), train=train))
        found.append(net.backward(backend.asarray(dy), need_dx=need_dx, need_dw=need_dw))
        found += [net.store.flat_grads.copy(), *(a.copy() for a in net.buffers.values())]
        net.store.flat_params[...] *= 1.1  # the next pass has other weights
        net.store.version += 1
    return [None if array is None else backend.to_host(array) for array in found]


@pytest.mark.parametrize("bias", (True, False))
@pytest.mark.parametrize("name", GEOMETRIES)
def test_the_numbers_are_those_of_the_layers(name, bias, backend):
    kernel_size, scale, padding = GEOMETRIES[name]

    def layers():
        before = [mg.Conv2d(6, 3, 1, 1), mg.BatchNorm(), mg.ReLU(), mg.Upsample(scale)]
        after = [mg.Conv2d(8, kernel_size, padding=padding, bias=bias), mg.BatchNorm()]
        return [*before, *after, mg.LeakyReLU(0.2), mg.Upsample(2), mg.Conv2d(3, 3, 1, 1)]

    definition, fast = make(layers(), Backend("float64")), make(layers(), backend)
    assert sum(isinstance(step, UpsampledStep) for step in fast.steps) == 2
    for expected, found in zip(passes(definition), passes(fast), strict=True):
        assert (expected is None) == (found is None)
        if expected is not None:
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11 * np.abs(expected).max())


def test_a_float32_result_has_the_digits_of_float32():
    layers = lambda: [mg.Upsample(2), mg.Conv2d(8, 3, 1, 1)]  # noqa: E731
    definition = make(layers(), Backend("float64"), (8, 8, 32))
    fast = make(layers(), mg.get_backend("numpy"), (8, 8, 32))
    x = np.random.default_rng(1).standard_normal((4, 8, 8, 32))
    expected, found = definition.forward(x), fast.forward(x.astype(np.float32))
    assert np.abs(found - expected).max() < 2e-6 * np.abs(expected).max()


class Louder(mg.Conv2d):
    """Means something else."""

    def forward(self, x, train=True):
        return 2 * super().forward(x, train)


@pytest.mark.parametrize(
    "layers, kinds",
    (
        ([mg.Upsample(2), mg.Conv2d(4, 3, 2, 1)], [UpsampleStep]),
        ([mg.Upsample(2), Louder(4, 3)], [UpsampleStep]),
        ([mg.Upsample(2), mg.SpectralNorm(mg.Conv2d(4, 3))], [UpsampleStep, SpectralStep]),
        ([mg.Upsample(2), mg.BatchNorm(), mg.Conv2d(4, 3)], [UpsampleStep]),
        ([mg.Upsample(2), mg.Upsample(2), mg.Conv2d(4, 3)], [UpsampleStep, UpsampledStep]),
        ([mg.Conv2d(4, 3), mg.Upsample(2)], [UpsampleStep]),
    ),
    ids=("stride 2", "other passes", "spectral norm", "norm between", "twice", "last"),
)
def test_what_is_not_joined(layers, kinds):
    """It runs layer by layer, and gives the definition's numbers."""
    definition = make(copy.deepcopy(layers), Backend("float64"))
    fast = make(layers, mg.get_backend("numpy", "float64"))
    special = (UpsampleStep, UpsampledStep, SpectralStep)
    assert [type(step) for step in fast.steps if isinstance(step, special)] == kinds
    x = np.random.default_rng(1).standard_normal((4, 3, 5, 4))
    np.testing.assert_allclose(fast.forward(x), definition.forward(x), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("replaced", (0, 1))
def test_a_pass_of_one_object_runs(replaced):
    """As one watches a layer: it is not joined, or its forward would be left out."""
    layers = [mg.Upsample(2), mg.Conv2d(4, 3)]
    layers[replaced].forward = lambda x, train=True: np.full((4, *layers[replaced].out_shape), 7.0)
    net = make(layers, mg.get_backend("numpy", "float64"))
    y = net.forward(np.random.default_rng(1).standard_normal((4, 3, 5, 4)))
    assert len(net.steps) == 2
    assert np.ptp(y, axis=(0, 1, 2)).max() < 1e-12  # of a constant image a valid convolution


def test_the_block_within_is_a_neighbor_of_the_others():
    """So the steps before and after hand their chunks on."""
    layers = [mg.Conv2d(4, 1), mg.BatchNorm(), mg.ReLU(), mg.Upsample(2), mg.Conv2d(4, 3)]
    net = make([*layers, mg.BatchNorm(), mg.ReLU(), mg.Conv2d(2, 1)], BACKENDS["numpy"]())
    first, around, last = net.steps
    (within,) = around.steps
    assert within.previous is first and last.previous is within
    assert first.is_followed and within.is_followed and not last.is_followed


def test_a_copy_has_weights_of_its_own():
    net = make([mg.Upsample(2), mg.Conv2d(4, 3, 1, 1)], mg.get_backend("numpy", "float64"))
    x = np.random.default_rng(1).standard_normal((4, 3, 5, 4))
    other, before = copy.deepcopy(net), net.forward(x)
    other.store.flat_params[...] = 0
    assert not other.forward(x).any()
    np.testing.assert_array_equal(net.forward(x), before)
