"""Chains of layers on the CPU backend against the same chains on the plain one.

The sizes are such that every path is taken: columns, gathering, Winograd; with and without a
fused BatchNorm and activation.
"""

import numpy as np
import pytest

import minigan as mg
from tests.support.long_form import slow

# of the largest number; Winograd's error is a few 1e-6 of it in float32
RTOL = {"float32": 2e-5, "float64": 1e-11}


def same(kernel_size, stride=2):
    return dict(kernel_size=kernel_size, stride=stride, padding="same")


CHAINS = {  # name -> in_shape, layers
    "Linear, BatchNorm, ReLU": ((100,), lambda: [mg.Linear(300), mg.BatchNorm(), mg.ReLU()]),
    "Linear, Reshape, BatchNorm": (
        (64,),
        lambda: [mg.Linear(7 * 7 * 24), mg.Reshape((7, 7, 24)), mg.BatchNorm(), mg.ReLU()],
    ),
    "k5 s2 same, 32->64": (
        (14, 14, 32),
        lambda: [mg.Conv2d(64, **same(5)), mg.BatchNorm(), mg.LeakyReLU(0.2)],
    ),
    "k5 s2 same, 64->128": (
        (14, 14, 64),
        lambda: [mg.Conv2d(128, **same(5), bias=False), mg.LeakyReLU(0.2)],
    ),
    "k4 s2 p1, 48->96": (
        (16, 16, 48),
        lambda: [mg.Conv2d(96, 4, 2, 1), mg.BatchNorm(bias=False), mg.LeakyReLU(0.2)],
    ),
    "k4 s2 p1, uneven image": ((9, 13, 40), lambda: [mg.Conv2d(70, 4, 2, 1), mg.Tanh()]),
    "k3 s1 p1": (
        (8, 10, 64),
        lambda: [mg.Conv2d(64, 3, 1, 1), mg.BatchNorm(gain=False), mg.ReLU()],
    ),
    "one channel in": ((28, 28, 1), lambda: [mg.Conv2d(32, **same(5)), mg.LeakyReLU(0.2)]),
    "three channels in": (
        (32, 32, 3),
        lambda: [mg.Conv2d(64, 4, 2, 1), mg.BatchNorm(), mg.LeakyReLU(0.2)],
    ),
    "whole image to one number": ((7, 7, 64), lambda: [mg.Conv2d(1, 7), mg.Flatten()]),
    "transposed k5 s2 same": (
        (7, 7, 64),
        lambda: [mg.ConvTranspose2d(32, **same(5)), mg.BatchNorm(), mg.LeakyReLU(0.2)],
    ),
    "transposed k5, wide": (
        (7, 7, 128),
        lambda: [mg.ConvTranspose2d(64, **same(5), bias=False), mg.BatchNorm(), mg.ReLU()],
    ),
    "transposed k4 s2 p1": (
        (8, 8, 96),
        lambda: [mg.ConvTranspose2d(48, 4, 2, 1), mg.BatchNorm(), mg.ReLU()],
    ),
    "transposed to one channel": (
        (14, 14, 32),
        lambda: [mg.ConvTranspose2d(1, **same(5)), mg.Tanh()],
    ),
    "transposed to three channels": (
        (16, 16, 64),
        lambda: [mg.ConvTranspose2d(3, 4, 2, 1), mg.Tanh()],
    ),
    "transposed from one pixel": (
        (1, 1, 100),
        lambda: [mg.ConvTranspose2d(64, 7, bias=False), mg.BatchNorm(), mg.LeakyReLU(0.2)],
    ),
    "transposed, odd ways": (
        (5, 4, 20),
        lambda: [
            mg.ConvTranspose2d(33, (3, 5), (2, 3), ((1, 0), (2, 1)), output_padding=(1, 2)),
            mg.Sigmoid(),
        ],
    ),
    "stride above the kernel": (
        (12, 11, 16),
        lambda: [mg.Conv2d(24, 2, 3), mg.BatchNorm(), mg.Sigmoid()],
    ),
    "activation first": (
        (6, 6, 12),
        lambda: [mg.Tanh(), mg.BatchNorm(), mg.Conv2d(8, 3), mg.Dropout(0.3), mg.ReLU()],
    ),
}


def make(name, dtype, backend):
    """In float32 a Tanh replaces each ReLU: if its input is 0 to rounding, both ways are right."""
    in_shape, layers = CHAINS[name]
    layers = [
        mg.Tanh() if dtype == "float32" and isinstance(layer, (mg.ReLU, mg.LeakyReLU)) else layer
        for layer in layers()
    ]
    net = mg.Sequential(layers, name=name)
    net.setup(in_shape, backend=backend, rng=np.random.default_rng(3))
    for i, array in enumerate(net.params.values()):
        if array.ndim == 1:  # biases and gains too at values that matter
            array[...] = np.random.default_rng([4, i]).normal(0.5, 0.5, array.shape)
    return net


def assert_close(found, expected, rtol, what):
    assert found.dtype == expected.dtype and found.shape == expected.shape
    error = np.max(np.abs(found - expected)) / max(np.max(np.abs(expected)), 1e-30)
    assert error <= rtol, f"{what}: off by {error:.1e} of the largest number"


@pytest.mark.parametrize("dtype", (slow("float32"), "float64"))
@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_of_layers(name, dtype):
    """Batches of several sizes, in both modes, with every combination of requested gradients."""
    plain = make(name, dtype, mg.get_backend("plain", dtype=dtype))
    fast = make(name, dtype, mg.get_backend("numpy", dtype=dtype))
    rng, rtol = np.random.default_rng(1), RTOL[dtype]
    for n, train, need_dx, need_dw in (
        (8, True, True, True),
        (5, True, False, True),
        (2, True, True, False),
        (8, False, True, True),
        (1, False, True, True),
    ):
        x = rng.standard_normal((n, *plain.in_shape)).astype(dtype)
        dy = rng.standard_normal((n, *plain.out_shape)).astype(dtype)
        results = []
        for net in (plain, fast):
            y = net.forward(x, train=train)
            results.append((y, net.backward(dy, need_dx=need_dx, need_dw=need_dw)))
        (y, dx), (y_fast, dx_fast) = results
        assert_close(y_fast, y, rtol, "y")
        assert (dx is None) == (dx_fast is None) == (not need_dx)
        if need_dx:
            assert_close(dx_fast, dx, 5 * rtol, "dx")
    for kind in ("grads", "buffers"):  # gradients are sums over all that was requested above
        for key, expected in getattr(plain, kind).items():
            assert_close(getattr(fast, kind)[key], expected, 5 * rtol, key)
