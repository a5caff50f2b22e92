"""Convolutions on the GPU: columns, the three products, and what is kept for backward."""

import numpy as np
import pytest

import minigan as mg
from minigan.backends.gpu import convolution
from minigan.backends.gpu.kernels import Geometry
from tests.support.gpu_cases import check_convolution


@pytest.mark.parametrize("seed", range(24))
@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_odd_shapes(seed, dtype, make_cupy, monkeypatch):
    """Also in parts of one image."""
    if seed % 2:
        monkeypatch.setattr(convolution, "COLUMNS", 1)
    check_convolution(seed, dtype, make_cupy)


def test_columns_that_are_kept_change_no_bit(make_cupy, monkeypatch):
    """Kept from forward to backward, in one part and in several, or made again."""
    found = {}
    for kept in (2**28, 0):
        for columns in (2**27, 1):
            monkeypatch.setattr(convolution, "KEPT", kept)
            monkeypatch.setattr(convolution, "COLUMNS", columns)
            backend, rng = make_cupy(), np.random.default_rng(5)
            layers = [mg.Conv2d(8, 3, 2, 1), mg.LeakyReLU(0.2), mg.Conv2d(4, 3, 1, 1)]
            net = mg.Sequential([*layers, mg.BatchNorm(), mg.ReLU()])
            net.setup((6, 5, 8), backend=backend, rng=rng)
            for n, train in ((5, True), (3, True), (4, False), (2, True)):
                y = net.forward(backend.asarray(rng.standard_normal((n, 6, 5, 8))), train=train)
                net.backward(backend.asarray(rng.standard_normal(y.shape)))
                for step in net.steps:  # sampling keeps none
                    assert (step.saved[2] is not None) == bool(kept and train)
            found[kept, columns] = backend.to_host(net.store.flat_grads).tobytes()
    for columns in (2**27, 1):
        assert found[2**28, columns] == found[0, columns]


def test_dx_has_the_same_bits_with_and_without_dw(make_cupy):
    for layer, in_shape in (
        (mg.ConvTranspose2d(6, 4, 2, 1), (5, 4, 8)),
        (mg.Conv2d(6, 4, 2, 1), (8, 6, 8)),
    ):
        backend, net = make_cupy(), mg.Sequential([layer])
        net.setup(in_shape, backend=backend, rng=np.random.default_rng(0))
        y = net.forward(backend.asarray(np.random.default_rng(1).standard_normal((3, *in_shape))))
        dy = backend.asarray(np.random.default_rng(2).standard_normal(y.shape))
        seen = [backend.to_host(net.backward(dy, need_dw=need_dw)) for need_dw in (True, False)]
        np.testing.assert_array_equal(*seen)


@pytest.mark.parametrize(
    "layer, in_shape, is_linear, is_few",
    (
        (lambda: mg.Linear(3), (8,), True, False),
        (lambda: mg.Conv2d(3, 1), (5, 6, 8), True, False),
        (lambda: mg.Conv2d(3, (5, 6)), (5, 6, 2), True, False),
        (lambda: mg.Conv2d(3, 3), (5, 6, 4), False, True),
        (lambda: mg.Conv2d(3, 3), (5, 6, 5), False, False),
        (lambda: mg.ConvTranspose2d(3, 3), (5, 6, 8), False, True),
    ),
)
def test_which_way_a_shape_takes(layer, in_shape, is_linear, is_few, make_cupy):
    net = mg.Sequential([layer()])
    net.setup(in_shape, backend=make_cupy(), rng=np.random.default_rng(0))
    found = net.steps[0].convolution
    assert (found.is_linear, found.is_few) == (is_linear, is_few)


def test_the_geometry_is_that_of_the_convolution(make_cupy):
    """For a transposed one, that of the convolution it transposes."""
    layers = (mg.Conv2d(7, (3, 2), (2, 1), ((1, 1), (0, 1))), (5, 6, 2))
    transposed = (mg.ConvTranspose2d(2, (3, 2), (2, 1), ((1, 1), (0, 1))), (3, 6, 7))
    for layer, in_shape in (layers, transposed):
        net = mg.Sequential([layer])
        net.setup(in_shape, backend=make_cupy(), rng=np.random.default_rng(0))
        assert net.steps[0].convolution.geometry == Geometry(
            H=5, W=6, C=2, P=3, Q=6, D=7, KH=3, KW=2, SH=2, SW=1, TOP=1, LEFT=0
        )
