"""Linear against naive loops and PyTorch."""

import numpy as np
import pytest

import minigan as mg
from tests.support import reference
from tests.support.networks import assert_close, network
from tests.support.torch_or_skip import import_torch


def results(n, c_in, c_out, backend):
    """-> x, dy, W, b; and y, dx, dW, db on the host"""
    rng = np.random.default_rng([n, c_in, c_out])
    net = network([mg.Linear(c_out)], (c_in,), backend)
    x, dy = rng.standard_normal((n, c_in)), rng.standard_normal((n, c_out))
    y = net.forward(backend.asarray(x))
    found = (y, net.backward(backend.asarray(dy)), *net.grads.values())
    given = (x, dy, *map(backend.to_host, net.params.values()))
    return given, tuple(map(backend.to_host, found))


@pytest.mark.parametrize("n, c_in, c_out", ((1, 1, 1), (3, 5, 2), (4, 2, 7)))
def test_naive_loops(n, c_in, c_out, make_backend):
    (x, dy, W, b), found = results(n, c_in, c_out, make_backend())
    expected = (reference.linear_forward(x, W, b), *reference.linear_backward(dy, x, W))
    for got, wanted, name in zip(found, expected, ("y", "dx", "dW", "db"), strict=True):
        assert_close(got, wanted, name)


def test_pytorch(make_backend):
    torch = import_torch()
    backend, rng = make_backend(), np.random.default_rng(4)
    for _ in range(10):
        (x, dy, W, b), found = results(*map(int, rng.integers(1, 9, 3)), backend)
        x, W, b = (torch.tensor(array, requires_grad=True) for array in (x, W, b))
        y = torch.nn.functional.linear(x, W.T, b)
        y.backward(torch.tensor(dy))
        expected = (y.detach(), x.grad, W.grad, b.grad)
        for got, wanted, name in zip(found, expected, ("y", "dx", "dW", "db"), strict=True):
            assert_close(got, wanted.numpy(), name)


def test_images_are_refused():
    message = r"N.0 \(Linear \?->2\): expected vectors \(in,\), got \(4, 4, 1\): put Flatten\(\)"
    with pytest.raises(mg.ShapeError, match=message):
        network([mg.Linear(2)], (4, 4, 1))


@pytest.mark.parametrize("out", (0, 2.5, True, "3", 2**31))
def test_impossible_sizes(out):
    with pytest.raises(mg.ConfigError, match="Linear: out must be a whole number of at least 1"):
        mg.Linear(out)
