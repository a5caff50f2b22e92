"""Upsample: values by loops, PyTorch's, and odd uses."""

import numpy as np
import pytest

import minigan as mg
from tests.support.networks import network
from tests.support.torch_or_skip import import_torch


@pytest.mark.parametrize("scale", (1, 2, 3))
def test_by_naive_loops(scale, make_backend):
    net = network([mg.Upsample(scale)], (3, 2, 4), make_backend())
    x = np.random.default_rng(0).standard_normal((2, 3, 2, 4))
    y = net.backend.to_host(net.forward(net.backend.asarray(x)))
    dy = np.random.default_rng(1).standard_normal(y.shape)
    dx = net.backend.to_host(net.backward(net.backend.asarray(dy)))
    expected = np.zeros_like(x)
    for n, p, q, c in np.ndindex(y.shape):
        assert y[n, p, q, c] == x[n, p // scale, q // scale, c]
        expected[n, p // scale, q // scale, c] += dy[n, p, q, c]
    np.testing.assert_allclose(dx, expected, rtol=1e-13)


def test_in_pytorch(make_backend):
    torch, backend = import_torch(), make_backend()
    net = network([mg.Upsample(2)], (4, 5, 3), backend)
    x = np.random.default_rng(0).standard_normal((2, 4, 5, 3))
    theirs = torch.nn.functional.interpolate(
        torch.tensor(x).permute(0, 3, 1, 2), scale_factor=2, mode="nearest"
    )
    ours = backend.to_host(net.forward(backend.asarray(x)))
    np.testing.assert_array_equal(ours, theirs.permute(0, 2, 3, 1).numpy())


def test_wrong_arguments_get_one_line():
    with pytest.raises(mg.ConfigError, match=r"^Upsample: scale must be .* got 0"):
        mg.Upsample(0)
    with pytest.raises(mg.ShapeError, match=r"^N.0 \(Upsample x2\): expected an image"):
        network([mg.Upsample(2)], (4,))
