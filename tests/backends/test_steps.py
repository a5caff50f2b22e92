"""AppendLabels and Dropout without new memory: the definitions' bits, on both fast backends."""

import sys

import numpy as np
import pytest

import minigan as mg
from minigan.arrays import Backend
from tests.support.strict_cupy import make_module


@pytest.fixture(params=("numpy", "cupy"))
def backends(request, monkeypatch):
    """-> function dtype -> plain and fast backend; the GPU's runs on the stand-in"""
    monkeypatch.setitem(sys.modules, "cupy", make_module())
    return lambda dtype: (Backend(dtype), mg.get_backend(request.param, dtype))


def results(make_layer, in_shape, backend, labels):
    """Forward and backward passes of several sizes and modes -> all that they return"""
    net = mg.Sequential([make_layer()])
    net.setup(in_shape, backend=backend, rng=np.random.default_rng(0))
    rng, found = np.random.default_rng(1), []
    for n, train, need_dx in ((5, True, True), (7, True, True), (3, False, True), (5, True, False)):
        x, dy = (rng.standard_normal((n, *shape)) for shape in (in_shape, net.out_shape))
        given = backend.asarray(np.eye(4)[np.arange(n) % 4]) if labels else None
        found.append(net.forward(backend.asarray(x), train=train, labels=given))
        found.append(net.backward(backend.asarray(dy), need_dx=need_dx))
    return [None if array is None else backend.to_host(array) for array in found]


@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("in_shape", ((6,), (3, 2, 5)))
@pytest.mark.parametrize("layer", ("labels", "dropout"))
def test_the_bits_are_those_of_the_definition(layer, in_shape, dtype, backends):
    make_layer = {"labels": lambda: mg.AppendLabels(4), "dropout": lambda: mg.Dropout(0.4)}[layer]
    expected, found = (
        results(make_layer, in_shape, backend, layer == "labels") for backend in backends(dtype)
    )
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one, other)
