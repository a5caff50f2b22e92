"""The fast NumPy backend against the definitions: the same nets on the plain base class, layer by layer.

`Backend(numpy)` has no faster version of anything and fuses nothing: a net that is set up on it
is the chain of the definitions in the layer files.
"""

import subprocess
import sys

import numpy as np
import pytest

import minigan as mg
from minigan.arrays import Backend
from minigan.backends.cpu.backend import NumpyBackend
from minigan.presets import get_preset
from minigan.training.config import new_config
from tests.mutants import long_form

RTOL = {
    "float32": 2e-5,
    "float64": 1e-11,
}  # of the largest value; Winograd's error is a few 1e-6 of it in float32


def same(kernel_size, stride=2):
    return dict(kernel_size=kernel_size, stride=stride, padding="same")


CHAINS = {  # name: in_shape, layers. Sizes at which every path is taken: columns, planes, Winograd; with and without fusion
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


def without_kink(layer):
    """Tanh for a ReLU: where its input is 0 to rounding in float32, a ReLU may go either way, and both are right."""
    return mg.Tanh() if isinstance(layer, (mg.ReLU, mg.LeakyReLU)) else layer


def two_networks(name, dtype, threads=None):
    """-> the same net twice: on the definitions, and on the fast backend"""
    in_shape, layers = CHAINS[name]
    nets = []
    for backend in (Backend(np, dtype), NumpyBackend(dtype, threads=threads)):
        net = mg.Sequential(
            [without_kink(layer) if dtype == "float32" else layer for layer in layers()], name=name
        )
        net.setup(in_shape, backend=backend, rng=np.random.default_rng(3))
        for i, array in enumerate(net.params.values()):
            if array.ndim == 1:  # biases and gains too at values that matter
                array[...] = np.random.default_rng([4, i]).normal(0.5, 0.5, array.shape)
        nets.append(net)
    return nets


def assert_close(found, wanted, rtol, what):
    assert found.dtype == wanted.dtype and found.shape == wanted.shape
    off = np.max(np.abs(found - wanted)) / max(np.max(np.abs(wanted)), 1e-30)
    assert off <= rtol, f"{what}: off by {off:.1e} of the largest value"


@pytest.mark.parametrize("dtype", RTOL)
@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_of_layers(name, dtype):
    """Batches of several sizes, training and sampling mode, every combination of what backward may be asked for."""
    plain, fast = two_networks(name, dtype)
    rng = np.random.default_rng(1)
    for n, train, need_dx, need_dw in (
        (24, True, True, True),
        (7, True, False, True),
        (2, True, True, False),
        (24, False, True, True),
        (1, False, True, True),
    ):
        x = rng.standard_normal((n, *plain.in_shape)).astype(dtype)
        dy = rng.standard_normal((n, *plain.out_shape)).astype(dtype)
        results = []
        for net in (plain, fast):
            y = net.forward(x, train=train)
            results.append((y, net.backward(dy, need_dx=need_dx, need_dw=need_dw)))
        (y, dx), (y_fast, dx_fast) = results
        assert_close(y_fast, y, RTOL[dtype], "y")
        assert (dx is None) == (dx_fast is None) == (not need_dx)
        if need_dx:
            assert_close(dx_fast, dx, 5 * RTOL[dtype], "dx")
    for kind in ("grads", "buffers"):  # the gradients are sums over all that was asked for above
        for key, wanted in getattr(plain, kind).items():
            assert_close(getattr(fast, kind)[key], wanted, 5 * RTOL[dtype], key)


@pytest.mark.parametrize("preset", ("mnist", "fredriksson-mnist"))
def test_training_goes_the_same_way(preset):
    """Losses of ten steps of a whole game, equal to rounding at first."""
    system, losses = get_preset(preset), []
    for backend in (Backend(np, "float32"), NumpyBackend("float32")):
        config = new_config(dict(preset=preset, width=16, batch_size=32))
        G = mg.Sequential(system.generator(16, config.z_dim, (28, 28, 1)), name="G")
        D = mg.Sequential(system.discriminator(16, (28, 28, 1)), name="D")
        rng = np.random.default_rng(0)
        G.setup((config.z_dim,), backend=backend, rng=rng)
        D.setup((28, 28, 1), backend=backend, rng=rng)
        optimizers = dict(G=mg.Adam(G, 2e-4), D=mg.Adam(D, 2e-4))
        images = rng.uniform(-1, 1, (32, 28, 28, 1)).astype(np.float32)

        def draw_z(n, config=config, rng=rng):
            return rng.standard_normal((n, config.z_dim), np.float32)

        steps = [
            mg.gan.play_round(G, D, optimizers, lambda x=images: (x, None), draw_z, system.rules)
            for _ in range(10)
        ]
        losses.append(
            [
                [float(step[name]) for name in ("loss_d_real", "loss_d_fake", "loss_g")]
                for step in steps
            ]
        )
    plain, fast = np.array(losses)
    np.testing.assert_allclose(fast[0], plain[0], rtol=1e-4)
    np.testing.assert_allclose(fast[9], plain[9], rtol=1e-2)


@pytest.fixture(scope="module")
def busy_machine():
    """Another process that keeps a core busy, so that the threads here come and go in every order."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
        yield
        other.kill()


@pytest.mark.parametrize("repeats", (10, long_form("repeats")))
@pytest.mark.parametrize("name", CHAINS)
def test_the_same_bits_however_busy_the_machine(name, repeats, many, busy_machine):
    _, net = two_networks(name, "float32", threads=2)
    rng = np.random.default_rng(2)
    x = rng.standard_normal((32, *net.in_shape)).astype(np.float32)
    dy = rng.standard_normal((32, *net.out_shape)).astype(np.float32)
    seen = set()
    for _ in range(many(repeats)):
        for generator in net.store.generators.values():  # Dropout's masks are drawn anew
            generator.bit_generator.state = np.random.default_rng(0).bit_generator.state
        net.zero_grads()
        y = net.forward(x)
        dx = net.backward(dy)
        seen.add((y.tobytes(), dx.tobytes(), net.store.flat_grads.tobytes()))
    assert len(seen) == 1


def test_any_number_of_threads_gives_the_same_to_rounding():
    results = []
    for threads in (1, 2, 3):
        _, net = two_networks("k5 s2 same, 32->64", "float32", threads=threads)
        rng = np.random.default_rng(2)
        y = net.forward(rng.standard_normal((20, *net.in_shape)).astype(np.float32))
        dx = net.backward(rng.standard_normal(y.shape).astype(np.float32))
        results.append((y, dx, net.store.flat_grads))
    for other in results[1:]:
        for found, wanted in zip(other, results[0], strict=True):
            assert_close(found, wanted, RTOL["float32"], "threads")


@pytest.mark.parametrize("threads", (0, -1, 1.5, True, 10**6))
def test_threads_out_of_range(threads):
    with pytest.raises(mg.ConfigError, match="threads must be a whole number"):
        mg.get_backend("numpy", threads=threads)
