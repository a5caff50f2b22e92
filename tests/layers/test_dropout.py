"""Dropout: what stays is scaled, dx goes through the same holes, sampling is the identity."""

import numpy as np
import pytest

import minigan as mg
from tests.support.networks import network

P = 0.3


def test_what_stays_is_scaled_and_dx_has_the_same_holes(make_backend):
    backend, rng = make_backend(), np.random.default_rng(10)
    host, asarray = backend.to_host, backend.asarray
    x, dy = rng.uniform(1, 2, (100, 200)), rng.standard_normal((100, 200))
    net = network([mg.Dropout(P)], (200,), backend)
    y = host(net.forward(asarray(x)))
    stays = y != 0
    np.testing.assert_allclose(y, np.where(stays, x / (1 - P), 0), rtol=1e-14)
    assert abs(stays.mean() - (1 - P)) < 5 * np.sqrt(P * (1 - P) / x.size)
    dx = host(net.backward(asarray(dy)))
    np.testing.assert_allclose(dx, np.where(stays, dy / (1 - P), 0), rtol=1e-14)

    assert not np.array_equal(host(net.forward(asarray(x))) != 0, stays)  # draws again
    np.testing.assert_array_equal(host(net.forward(asarray(x), train=False)), x)
    np.testing.assert_array_equal(host(net.backward(asarray(dy))), dy)


@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_every_backend_draws_the_same_mask(dtype, make_backend):
    ys = []
    for backend in (mg.get_backend("plain", dtype=dtype), make_backend(dtype)):
        net = network([mg.Dropout(P)], (40,), backend)
        ys += [backend.to_host(net.forward(backend.asarray(np.ones((5, 40))))) for _ in range(2)]
    np.testing.assert_array_equal(ys[:2], ys[2:])


@pytest.mark.parametrize("p", (1, -0.1, float("nan")))
def test_probabilities_out_of_range(p):
    with pytest.raises(mg.ConfigError, match="Dropout: p must be at least 0 and below 1, got"):
        mg.Dropout(p)
