"""ReLU, LeakyReLU, Tanh, Sigmoid against their formulas and PyTorch, far out too."""

import numpy as np
import pytest

import minigan as mg
from tests.support import reference
from tests.support.networks import assert_close, network
from tests.support.torch_or_skip import import_torch

MAKE = {
    "relu": mg.ReLU,
    "leaky 0.2": lambda: mg.LeakyReLU(0.2),
    "tanh": mg.Tanh,
    "sigmoid": mg.Sigmoid,
}
SHAPES = ((3, 4), (2, 3, 5, 2))


def results(name, x, dy, backend):
    """-> y, dx on the host; nothing may warn."""
    net = network([MAKE[name]()], x.shape[1:], backend)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        y = net.forward(backend.asarray(x))
        dx = net.backward(backend.asarray(dy))
    return backend.to_host(y), backend.to_host(dx)


@pytest.mark.parametrize("name", MAKE)
def test_the_formula(name, make_backend):
    rng = np.random.default_rng(9)
    for shape in SHAPES:
        x, dy = rng.standard_normal(shape) * 3, rng.standard_normal(shape)
        found = results(name, x, dy, make_backend())
        for got, wanted in zip(found, reference.activation(name, x, dy), strict=True):
            assert_close(got, wanted, name)


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("scale", (1, 30))
def test_pytorch(name, scale, make_backend):
    """scale 30: far into saturation, where a naive exponential overflows."""
    torch = import_torch()
    rng = np.random.default_rng(105)
    leaky = torch.nn.LeakyReLU(0.2)
    function = {"leaky 0.2": leaky}.get(name) or getattr(torch, name)
    for shape in SHAPES:
        x, dy = rng.standard_normal(shape) * scale, rng.standard_normal(shape)
        their_x = torch.tensor(x, requires_grad=True)
        their_y = function(their_x)
        their_y.backward(torch.tensor(dy))
        y, dx = results(name, x, dy, make_backend())
        assert_close(y, their_y.detach(), "y")
        assert_close(dx, their_x.grad, "dx")


@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_sigmoid_far_out(dtype, make_backend):
    """At ±800 the exponential overflows in any dtype: still 0 and 1, without a warning."""
    backend = make_backend(dtype)
    net = network([mg.Sigmoid()], (4,), backend)
    x = np.array([[-800.0, -40.0, 40.0, 800.0]])
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        y = backend.to_host(net.forward(backend.asarray(x)))[0]
    np.testing.assert_allclose(y, [0, np.exp(-40.0), 1, 1], rtol=2e-5, atol=1e-37)


@pytest.mark.parametrize("slope", (1, -0.1, float("nan"), "0.2"))
def test_slopes_out_of_range(slope):
    with pytest.raises(mg.ConfigError, match="LeakyReLU: slope must be at least 0 and below 1"):
        mg.LeakyReLU(slope)


def test_a_slope_cannot_be_changed():
    """The steps of a network contain it."""
    layer = mg.LeakyReLU(0.2)
    with pytest.raises(AttributeError, match="slope"):
        layer.slope = 0.5
    assert layer.slope == 0.2 and layer.describe() == "LeakyReLU 0.2"
