"""Convolutions of one layer at any geometry, each kernel against the definition."""

from functools import partial

import numpy as np

import minigan as mg
from minigan.arrays import Backend
from minigan.backends.cpu import convolution
from minigan.backends.cpu.backend import CpuBackend
from minigan.backends.cpu.table import OPERATIONS
from minigan.backends.cpu.winograd import Winograd


def random_geometry(rng, kind):
    """-> x (h, w, c_in), channels, kernel, stride, padding: any that the kernel can take."""
    while True:
        s = int(rng.integers(1, 3 if kind is Winograd else 4))
        least, most = 1, 5
        if kind is Winograd:  # two or three taps
            taps = int(rng.integers(2, 4))
            least, most = s * (taps - 1) + 1, s * taps
        k = tuple(int(size) for size in rng.integers(least, most + 1, 2))
        padding = tuple(tuple(int(p) for p in rng.integers(0, size, 2)) for size in k)
        c_in = int(rng.choice([1, 3, 5, 12]))
        c_out = int(rng.choice([1, 3, 4, 9]))
        h, w = (int(size) for size in rng.integers(1, 20, 2))
        if h + sum(padding[0]) >= k[0] and w + sum(padding[1]) >= k[1]:
            return (h, w, c_in), c_out, k, (s, s), padding


def both_layers(geometry):
    """-> in_shape, layer: the convolution, and the transposed one at the same geometry."""
    (h, w, c_in), c_out, k, stride, padding = geometry
    yield (h, w, c_in), mg.Conv2d(c_out, k, stride, padding)
    padded = [size + sum(pads) for size, pads in zip((h, w), padding, strict=True)]
    h_out, w_out = ((size - each) // stride[0] + 1 for size, each in zip(padded, k, strict=True))
    rest = [(size - each) % stride[0] for size, each in zip(padded, k, strict=True)]
    yield (h_out, w_out, c_out), mg.ConvTranspose2d(c_in, k, stride, padding, rest)


def passes(in_shape, layer, backend, n, seed):
    """One forward and backward pass -> y, dx, dW, db in float64"""
    net = mg.Sequential([layer])
    net.setup(in_shape, backend=backend, rng=np.random.default_rng(seed))
    rng = np.random.default_rng([seed, 1])
    for array in net.params.values():
        array[...] = rng.standard_normal(array.shape)
    x, dy = (
        rng.standard_normal((n, *shape)).astype(backend.dtype)
        for shape in (in_shape, net.out_shape)
    )
    y = net.forward(x)
    dx = net.backward(dy)
    return [array.astype(np.float64) for array in (y, dx, net.grads["0.W"], net.grads["0.b"])]


def check_kernel(kind, seed, monkeypatch, times, operations=OPERATIONS):
    """Both convolutions by one kernel against the definition, on two threads.

    float64  to 1e-13 of the largest number
    float32  the error is at most `times` that of the definition, or 1e-6 of the largest number
    """

    def choose(core, backend):
        geometry = (core.x_shape, core.W_shape, core.y_shape, core.stride, core.pads)
        return Winograd(*geometry, backend.dtype) if kind is Winograd else kind(*geometry)

    monkeypatch.setattr(convolution, "choose_kernel", choose)
    rng = np.random.default_rng([7, seed])
    geometry, n = random_geometry(rng, kind), int(rng.integers(1, 8))
    fast = partial(CpuBackend, threads=2, operations=operations)
    for number in range(2):
        found = {}
        for name, backend in (
            ("exact", Backend("float64")),
            ("fast64", fast("float64")),
            ("plain32", Backend("float32")),
            ("fast32", fast("float32")),
        ):
            in_shape, layer = list(both_layers(geometry))[number]
            found[name] = passes(in_shape, layer, backend, n, seed)
        for i, exact in enumerate(found["exact"]):
            largest = max(1.0, np.abs(exact).max())
            off = {name: np.abs(found[name][i] - exact).max() for name in found}
            assert off["fast64"] <= 1e-13 * largest
            assert off["fast32"] <= times * max(off["plain32"], 1e-6 * largest)
