"""The CuPy backend's kernels and blocks against the definitions: the same nets on the plain base class, layer by layer.

On a GPU where there is one; else on the strict stand-in, where the kernels of kernels.cu run on the CPU.
"""

import numpy as np
import pytest

import minigan as mg
from minigan.arrays import Backend
from minigan.backends.gpu import convolution as cupy_convolution
from tests.test_definitions import CHAINS, RTOL, assert_close, without_kink

MORE = {  # kernels and widths that the chains of the NumPy backend do not reach
    "one channel, narrow": (
        (9, 7, 1),
        lambda: [mg.Conv2d(5, (3, 4), (2, 1), ((1, 0), (2, 1))), mg.ReLU()],
    ),
    "two channels, all rows": ((5, 6, 2), lambda: [mg.Conv2d(8, 3, 1, 1), mg.Sigmoid()]),
    "1x1": ((5, 6, 8), lambda: [mg.Conv2d(12, 1), mg.BatchNorm(), mg.LeakyReLU(0.1)]),
    "1x1, stride 2": ((5, 6, 8), lambda: [mg.Conv2d(4, 1, 2), mg.Tanh()]),
    "transposed 1x1": ((5, 6, 8), lambda: [mg.ConvTranspose2d(4, 1), mg.ReLU()]),
    "transposed, few to few": (
        (4, 5, 3),
        lambda: [mg.ConvTranspose2d(2, 4, 2, 1), mg.BatchNorm(), mg.ReLU()],
    ),
    "transposed, stride above the kernel": (
        (4, 3, 8),
        lambda: [mg.ConvTranspose2d(4, 2, 3), mg.LeakyReLU(0.2)],
    ),
    "bias before BatchNorm": ((7, 7, 4), lambda: [mg.Conv2d(6, 3, 2), mg.BatchNorm(), mg.ReLU()]),
    "Linear, Reshape, activation": (
        (12,),
        lambda: [
            mg.Linear(32),
            mg.Reshape((4, 4, 2)),
            mg.LeakyReLU(0.2),
            mg.Flatten(),
            mg.Linear(1),
        ],
    ),
    "BatchNorm of vectors": (
        (9,),
        lambda: [mg.BatchNorm(), mg.Linear(3), mg.BatchNorm(gain=False, bias=False), mg.Tanh()],
    ),
    "batch statistics in sampling": (
        (6,),
        lambda: [
            mg.Linear(8, bias=False),
            mg.BatchNorm(sampling="batch", unbiased=False),
            mg.ReLU(),
        ],
    ),
}
SIZES = (  # n, train, need_dx, need_dw; few, since a CPU runs a GPU's threads one by one
    (6, True, True, True),
    (4, True, False, True),
    (5, True, True, False),
    (3, False, True, True),
)


def network(name, backend):
    in_shape, layers = {**CHAINS, **MORE}[name]
    net = mg.Sequential(
        [without_kink(layer) if backend.dtype == "float32" else layer for layer in layers()],
        name=name,
    )
    net.setup(in_shape, backend=backend, rng=np.random.default_rng(3))
    for i, array in enumerate(net.params.values()):
        if array.ndim == 1:  # biases and gains too at values that matter
            array[...] = backend.asarray(
                np.random.default_rng([4, i]).normal(0.5, 0.5, array.shape)
            )
    return net


@pytest.mark.parametrize("dtype", RTOL)
@pytest.mark.parametrize("name", [*CHAINS, *MORE])
def test_a_chain_of_layers(name, dtype, make_cupy):
    """Batches of several sizes, training and sampling mode, every combination of what backward may be asked for."""
    plain, fast = network(name, Backend(np, dtype)), network(name, make_cupy(dtype))
    host, rng = fast.backend.to_host, np.random.default_rng(1)
    for n, train, need_dx, need_dw in SIZES:
        x = rng.standard_normal((n, *plain.in_shape)).astype(dtype)
        dy = rng.standard_normal((n, *plain.out_shape)).astype(dtype)
        results = []
        for net in (plain, fast):
            y = net.forward(net.backend.asarray(x), train=train)
            results.append(
                (y, net.backward(net.backend.asarray(dy), need_dx=need_dx, need_dw=need_dw))
            )
        (y, dx), (y_fast, dx_fast) = results
        assert_close(host(y_fast), y, RTOL[dtype], "y")
        assert (dx is None) == (dx_fast is None) == (not need_dx)
        if need_dx:
            assert_close(host(dx_fast), dx, 5 * RTOL[dtype], "dx")
    for kind in ("grads", "buffers"):  # the gradients are sums over all that was asked for above
        for key, wanted in getattr(plain, kind).items():
            assert_close(host(getattr(fast, kind)[key]), wanted, 5 * RTOL[dtype], key)


def test_columns_that_are_kept_change_no_bit(make_cupy, monkeypatch):
    """Kept from forward to backward, in one part and in several, or made anew; of a batch after a larger one; and of sampling mode none."""
    found = []
    for kept, columns in ((2**28, 2**27), (2**28, 1), (0, 2**27), (0, 1)):
        monkeypatch.setattr(cupy_convolution, "KEPT", kept)
        monkeypatch.setattr(cupy_convolution, "COLUMNS", columns)
        backend, rng = make_cupy("float32"), np.random.default_rng(5)
        net = mg.Sequential(
            [
                mg.Conv2d(8, 3, 2, 1),
                mg.LeakyReLU(0.2),
                mg.Conv2d(4, 3, 1, 1),
                mg.BatchNorm(),
                mg.ReLU(),
            ]
        )
        net.setup((6, 5, 8), backend=backend, rng=rng)
        for n, train in ((5, True), (3, True), (4, False), (2, True)):
            y = net.forward(backend.asarray(rng.standard_normal((n, 6, 5, 8))), train=train)
            net.backward(backend.asarray(rng.standard_normal(y.shape)))
        assert all((block.kept is not None) == bool(kept) for block in net.steps)
        found.append(
            (columns, {name: backend.to_host(array).tobytes() for name, array in net.grads.items()})
        )
    for columns in (1, 2**27):
        one, other = (grads for of, grads in found if of == columns)
        assert one == other


class Plain:
    """An optimizer that does not move."""

    def step(self):
        pass


class OwnNorm(mg.BatchNorm):
    """A layer that stays alone: what it does is not known."""


HALVE = dict(
    kernel_size=4, stride=2, padding=1, bias=False
)  # a bias before BatchNorm has no gradient but rounding
DISCRIMINATORS = {
    "blocks": (
        True,
        lambda: [
            mg.Conv2d(4, 4, 2, 1),
            mg.LeakyReLU(0.2),
            mg.Conv2d(8, **HALVE),
            mg.BatchNorm(),
            mg.LeakyReLU(0.2),
            mg.Flatten(),
            mg.Linear(6, bias=False),
            mg.BatchNorm(unbiased=False, running_rate=0.3),
            mg.ReLU(),
            mg.Linear(1),
        ],
    ),
    "labels": (
        True,
        lambda: [
            mg.AppendLabels(3),
            mg.Conv2d(4, **HALVE),
            mg.BatchNorm(),
            mg.Sequential([mg.ReLU(), mg.Flatten()]),
            mg.Linear(1),
        ],
    ),
    "Dropout": (
        False,
        lambda: [
            mg.Conv2d(4, **HALVE),
            mg.BatchNorm(),
            mg.Dropout(0.5),
            mg.Flatten(),
            mg.Linear(1),
        ],
    ),
    "a layer of one's own": (
        False,
        lambda: [mg.Conv2d(4, **HALVE), OwnNorm(), mg.Flatten(), mg.Linear(1)],
    ),
}


@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_real_and_fake_at_once_is_one_after_the_other(name, make_cupy):
    """D's update with both batches in one pass, where that can be done: the same gradients, statistics, and measures."""
    paired, layers = DISCRIMINATORS[name]
    rng = np.random.default_rng(0)
    real, fake = rng.standard_normal((2, 5, 8, 8, 2))
    labels = np.eye(3)[[0, 2, 1, 1, 0]]
    results, nets = [], []
    for backend in (make_cupy("float64"), Backend(np, "float64")):
        D = mg.Sequential(layers(), name="D")
        D.setup((8, 8, 2), backend=backend, rng=np.random.default_rng(1))
        told = backend.asarray(labels) if name == "labels" else None
        rules, images = (
            mg.gan.Rules(real_target=0.9),
            [backend.asarray(array) for array in (real, fake)],
        )
        for _ in range(2):
            result = backend.implementation(mg.gan.update_discriminator)(
                D, Plain(), *images, rules, told
            )
        results.append({key: backend.to_host(value) for key, value in result.items()})
        nets.append(D)
    fast, plain = nets
    assert any("real and fake" in key for _, key in fast.memory.memory) == paired
    assert results[0].keys() == results[1].keys()
    for key, wanted in results[1].items():
        assert results[0][key] == pytest.approx(wanted, rel=1e-11), key
    for kind in ("grads", "buffers"):
        for key, wanted in getattr(plain, kind).items():
            assert_close(fast.backend.to_host(getattr(fast, kind)[key]), wanted, 1e-10, key)
