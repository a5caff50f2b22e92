"""Reshape and Flatten: the same numbers under another shape."""

import numpy as np
import pytest

import minigan as mg
from tests.support.networks import network


@pytest.mark.parametrize(
    "make, in_shape, out_shape",
    ((mg.Flatten, (2, 3, 4), (24,)), (lambda: mg.Reshape((3, 4, 2)), (24,), (3, 4, 2))),
)
def test_the_numbers_stay_in_order(make, in_shape, out_shape, make_backend):
    backend, rng = make_backend(), np.random.default_rng(11)
    net = network([make()], in_shape, backend)
    assert net.out_shape == out_shape
    x, dy = rng.standard_normal((3, *in_shape)), rng.standard_normal((3, *out_shape))
    y = backend.to_host(net.forward(backend.asarray(x)))
    np.testing.assert_array_equal(y, x.reshape(3, *out_shape))
    dx = backend.to_host(net.backward(backend.asarray(dy)))
    np.testing.assert_array_equal(dx, dy.reshape(3, *in_shape))


def test_another_number_of_numbers_is_refused():
    with pytest.raises(mg.ShapeError, match=r"\(13,\) has 13 numbers, \(3, 4\) needs 12"):
        network([mg.Reshape((3, 4))], (13,))


@pytest.mark.parametrize("shape", (7, "7", (3, 0), (2.5, 2)))
def test_impossible_shapes(shape):
    with pytest.raises(mg.ConfigError, match=r"^Reshape: "):
        mg.Reshape(shape)
