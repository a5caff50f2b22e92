"""Activations written into given memory: what the definitions compute, bit for bit.

Only the sigmoid's gradient multiplies its three factors in another order.
"""

import numpy as np
import pytest

import minigan as mg
from minigan.backends.cpu.activations import functions_of


class Mine(mg.Tanh):
    """Derived, with the same passes."""


LAYERS = (mg.LeakyReLU(0.2), mg.LeakyReLU(0), mg.ReLU(), mg.Sigmoid(), mg.Tanh(), Mine())


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: f"{type(layer).__name__}")
@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_the_bits_are_those_of_the_definition(layer, dtype):
    forward, backward = functions_of(layer)
    special = [0.0, -0.0, 1e-30, -1e-30, 90.0, -90.0, 800.0, -800.0]
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.standard_normal(200) * 3, special]).astype(dtype)
    dy = rng.standard_normal(x.shape).astype(dtype)
    y, dx = np.full_like(x, np.nan), np.full_like(x, np.nan)
    forward(x, *layer.constants, y, np)
    backward(dy, y, *layer.constants, dx, np)
    expected = type(layer).forward_definition(x, *layer.constants, np)
    np.testing.assert_array_equal(y, expected)
    expected = type(layer).backward_definition(dy, expected, *layer.constants)
    rtol = 2 * np.finfo(dtype).eps if isinstance(layer, mg.Sigmoid) else 0
    np.testing.assert_allclose(dx, expected, rtol=rtol, atol=np.finfo(dtype).tiny if rtol else 0)


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: f"{type(layer).__name__}")
def test_nan_stays_nan(layer):
    forward, _ = functions_of(layer)
    y = np.zeros(1)
    forward(np.full(1, np.nan), *layer.constants, y, np)
    assert np.isnan(y).all()
