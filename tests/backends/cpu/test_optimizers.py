"""Optimizers and the average, in blocks on threads: bit for bit the definitions."""

import numpy as np
import pytest

import minigan as mg
from minigan.arrays import Backend
from minigan.averaging import ema_update
from minigan.backends.cpu import optimizers as fast
from tests.support.memory import peak_of

OPTIMIZERS = {
    "SGD": lambda net: mg.SGD(net, 0.1),
    "SGD, momentum": lambda net: mg.SGD(net, 0.1, momentum=0.9),
    "SGD, Nesterov, L2": lambda net: mg.SGD(net, 0.1, momentum=0.9, nesterov=True, l2=0.01),
    "RMSprop": lambda net: mg.RMSprop(net, 1e-2),
    "RMSprop, L2": lambda net: mg.RMSprop(net, 1e-2, rho=0.99, eps=1e-7, l2=0.01),
    "Adam": lambda net: mg.Adam(net, 1e-2),
    "Adam, eps hat, L2": lambda net: mg.Adam(net, 1e-2, beta1=0.9, eps_hat=True, l2=0.01),
}


def steps(name, backend):
    """-> parameters and moments after five steps with changing rates"""
    net = mg.Sequential([mg.Linear(41)])
    net.setup((53,), backend=backend, rng=np.random.default_rng(0))
    optimizer = OPTIMIZERS[name](net)
    for step in range(5):
        gradient = np.random.default_rng([1, step]).standard_normal(net.store.flat_grads.shape)
        net.store.flat_grads[...] = gradient
        optimizer.lr = 0.1 / (1 + step)
        optimizer.step()
    return [net.store.flat_params, *optimizer.state_arrays()]


@pytest.mark.parametrize("threads", (1, 3))
@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_bits_are_those_of_the_definition(name, dtype, threads, monkeypatch, make_numpy):
    monkeypatch.setattr(fast, "BLOCK", 500)  # several blocks, and a smaller last one
    backend = make_numpy(dtype, threads=threads)
    for found, expected in zip(steps(name, backend), steps(name, Backend(dtype)), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_step_allocates_some_blocks_whatever_the_number_of_parameters():
    threads, block = 2, fast.BLOCK * 4
    net = mg.Sequential([mg.Linear(1000)])
    backend = mg.get_backend("numpy", threads=threads, compile=False)
    net.setup((1000,), backend=backend, rng=np.random.default_rng(0))
    optimizer = mg.Adam(net)
    optimizer.step()
    assert peak_of(optimizer.step, 3) < 3 * threads * block < net.store.flat_params.nbytes / 8


@pytest.mark.parametrize("shape", ((), (7,), (3, 1001)))
def test_an_average_has_the_bits_of_the_definition(shape, monkeypatch):
    monkeypatch.setattr(fast, "BLOCK", 500)
    backend, rng = mg.get_backend("numpy", threads=2), np.random.default_rng(0)
    mean, new = (np.asarray(rng.standard_normal(shape), np.float32) for _ in range(2))
    expected = mean.copy()
    ema_update(expected, new, 0.3, Backend("float32"))
    backend.operation_for(ema_update)(mean, new, 0.3, backend)
    np.testing.assert_array_equal(mean, expected)
