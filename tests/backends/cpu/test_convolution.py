"""A layer's convolution: which kernel it takes, its chunks, and what surrounds them."""

import numpy as np
import pytest

import minigan as mg
from minigan.backends.cpu import convolution
from minigan.backends.cpu.convolution import Convolution, Identity
from minigan.backends.cpu.gathering import Gathering
from minigan.backends.cpu.im2col import Im2col
from minigan.backends.cpu.winograd import Winograd
from minigan.backends.workspace import Workspace


def set_up(layer, in_shape, dtype="float64", threads=2):
    net = mg.Sequential([layer])
    backend = mg.get_backend("numpy", dtype, threads=threads, compile=False)
    net.setup(in_shape, backend=backend, rng=np.random.default_rng(0))
    return net


@pytest.mark.parametrize(
    "layer, in_shape, kind",
    (
        (lambda: mg.Linear(300), (100,), Im2col),
        (lambda: mg.Conv2d(32, 5, 2, "same"), (28, 28, 1), Gathering),
        (lambda: mg.Conv2d(64, 4, 2, 1), (32, 32, 4), Gathering),
        (lambda: mg.Conv2d(32, 4, 2, 1), (32, 32, 5), Gathering),  # few weights
        (lambda: mg.Conv2d(128, 5, 2, "same"), (14, 14, 64), Winograd),
        (lambda: mg.Conv2d(128, 5, 2, "same"), (4, 4, 64), Im2col),  # few tiles
        (lambda: mg.Conv2d(128, 5, 3, "same"), (14, 14, 64), Im2col),  # stride of 3
        (lambda: mg.Conv2d(128, 7, 2, "same"), (14, 14, 64), Im2col),  # four taps
        (lambda: mg.Conv2d(1, 7), (7, 7, 2), Im2col),  # the whole image
        (lambda: mg.ConvTranspose2d(1, 4, 2, 1), (14, 14, 32), Gathering),
        (lambda: mg.ConvTranspose2d(64, 5, 2, "same"), (7, 7, 128), Winograd),
    ),
)
def test_the_shape_decides_which_kernel_multiplies(layer, in_shape, kind):
    net = set_up(layer(), in_shape)
    assert type(net.steps[0].operation.kernel) is kind


@pytest.mark.parametrize("make", (lambda: mg.Conv2d(3, 3), lambda: mg.ConvTranspose2d(3, 3)))
def test_work_around_the_chunks_sees_each_image_once(make, monkeypatch):
    monkeypatch.setattr("minigan.backends.cpu.im2col.CACHE", 1)
    monkeypatch.setattr("minigan.backends.cpu.im2col.ROWS", 1)  # chunks of one image
    net = set_up(make(), (6, 5, 8))
    layer, backend = net.layers[0], net.backend
    operation, rng = Convolution(layer, backend, Workspace(backend)), np.random.default_rng(1)
    x, seen = rng.standard_normal((7, 6, 5, 8)), {"before": [], "after": []}
    y = np.empty((7, *operation.out_shape))
    gradient = operation.forward(
        x,
        y,
        lambda part, workspace: seen["before"].append(part.start),
        lambda part, of_chunk, workspace, i: seen["after"].append((part.start, i, len(of_chunk))),
    )
    assert sorted(seen["before"]) == list(range(7))
    assert sorted(seen["after"]) == [(i, i, 1) for i in range(7)]
    np.testing.assert_allclose(y, net.forward(x), rtol=1e-12)

    dy, chunks_of_dx = rng.standard_normal(y.shape), np.empty_like(x)

    def after(part, dx, workspace, i):
        chunks_of_dx[part] = dx

    net.zero_grads()
    operation.backward(2 * dy, x, gradient, True, None, lambda part, *_: dy[part], after)
    grads = net.store.flat_grads.copy()
    net.zero_grads()
    np.testing.assert_allclose(chunks_of_dx, net.backward(dy), rtol=1e-12)
    np.testing.assert_allclose(grads, net.store.flat_grads, rtol=1e-12)


def test_without_a_core_x_goes_through_in_chunks():
    backend = mg.get_backend("numpy", "float64", threads=2)
    identity, x = Identity((3, 2), backend), np.arange(30.0).reshape(5, 3, 2)
    y, dx = np.empty_like(x), np.empty_like(x)

    def copy(part, chunk, workspace, i):
        y[part] = chunk

    identity.forward(x, None, None, copy)
    identity.backward(2 * x, x, None, True, dx)
    np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(dx, 2 * x)


@pytest.mark.parametrize("wide", (convolution.WIDE, 1))
def test_another_number_of_threads_gives_the_same_to_rounding(wide, monkeypatch):
    monkeypatch.setattr(convolution, "WIDE", wide)
    results = []
    for threads in (1, 2, 3):
        layer = mg.Conv2d(12, 5, 2, "same")
        net = set_up(layer, (14, 14, 8), "float32", threads)
        rng = np.random.default_rng(2)
        y = net.forward(rng.standard_normal((20, 14, 14, 8), np.float32))
        dx = net.backward(rng.standard_normal(y.shape, np.float32))
        results.append((y, dx, net.store.flat_grads))
    for other in results[1:]:
        for found, expected in zip(other, results[0], strict=True):
            np.testing.assert_allclose(found, expected, rtol=0, atol=5e-6 * np.abs(expected).max())
