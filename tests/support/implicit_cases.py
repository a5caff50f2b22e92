"""Convolutions without columns on the stand-in for CuPy, or on a GPU, against float64."""

import numpy as np

import minigan as mg
from minigan.arrays.im2col import col2im, im2col
from minigan.backends.gpu.backend import GpuBackend
from minigan.backends.gpu.implicit import ImplicitConvolution, convolution_of
from minigan.backends.gpu.table import OPERATIONS
from minigan.backends.workspace import Workspace
from tests.support.gpu_cases import HALVE, expect_near, filled, same, uses
from tests.support.strict_cupy import round_to_tf32

CASES = {  # name -> n, in_shape, layer: those of presets, smaller; odd sizes, tails of tiles
    "k4 s2 p1": (5, (8, 8, 32), lambda: mg.Conv2d(64, **HALVE)),
    "k4 s2 p1, odd": (2, (9, 7, 64), lambda: mg.Conv2d(32, **HALVE)),
    "k5 s2 same": (3, (14, 14, 32), lambda: mg.Conv2d(32, **same(5))),
    "k5 s2 same, odd": (2, (7, 9, 32), lambda: mg.Conv2d(96, **same(5))),
    "k3 s1 p1": (2, (20, 20, 32), lambda: mg.Conv2d(32, 3, 1, 1)),  # 6 parts of dW, one empty
    "k3 s2": (2, (8, 6, 96), lambda: mg.Conv2d(32, 3, 2)),
    "k4 s1": (2, (6, 5, 32), lambda: mg.Conv2d(64, 4)),
    "k1 s2": (3, (5, 6, 32), lambda: mg.Conv2d(32, 1, 2)),
    "stride above the kernel": (3, (8, 9, 32), lambda: mg.Conv2d(32, 2, 3)),
    "uneven": (3, (5, 8, 32), lambda: mg.Conv2d(96, (3, 5), (2, 3), ((1, 0), (2, 1)))),
    "whole image and padding": (4, (4, 4, 32), lambda: mg.Conv2d(32, (5, 5), 1, ((1, 0), (0, 1)))),
}


def make_implicit(implicit=True, dtype="float32", precision="tf32"):
    return GpuBackend(dtype, precision, operations=OPERATIONS, implicit=implicit)


def check_implicit(name, tile=None, runs=1):
    """The three products into NaN, with what follows them; the same bits in each of the runs."""
    backend, rng = make_implicit(), np.random.default_rng(0)
    n, in_shape, make_layer = CASES[name]
    layer = make_layer()
    net = mg.Sequential([layer])
    net.setup(in_shape, backend=backend, rng=rng)
    one = convolution_of(layer, ("Tanh", 0.0), backend, Workspace(backend))
    assert type(one) is ImplicitConvolution
    if tile is not None:
        one.tiles = dict.fromkeys(one.tiles, tile)
    host, (c, d) = backend.to_host, layer.W.shape[2:]
    shapes = dict(x=(n, *in_shape), y=(n, *one.out_shape), W=layer.W.shape, b_c=(c,), b_d=(d,))
    values = {key: rng.standard_normal(shape, np.float32) for key, shape in shapes.items()}
    given = {key: backend.asarray(array) for key, array in values.items()}
    layer.W[...], layer.b[...] = given["W"], given["b_d"]
    x, y, W = (round_to_tf32(values[key]).astype(np.float64) for key in ("x", "y", "W"))
    geometry = (layer.kernel_size, layer.stride, layer.pads)
    cols, dcols = im2col(x, *geometry, np), y.reshape(-1, d) @ W.reshape(-1, d).T
    folded = col2im(dcols.reshape(cols.shape), x.shape, *geometry[1:], np)
    rows = cols.reshape(len(dcols), -1)
    expected = {
        "convolve": np.tanh((rows @ W.reshape(-1, d)).reshape(y.shape) / 16 + values["b_d"]),
        "transpose": np.maximum(folded / 16 + values["b_c"], 0),
        "gradient": 1 + (rows.T @ y.reshape(-1, d)).reshape(W.shape) / 16,
    }
    for key in ("x", "y"):  # powers of 2 round nothing
        given[key][...] = backend.asarray(values[key] / 16)

    dy = backend.asarray(values["y"])
    # tensor cores add up less exactly than the stand-in
    rtol = 1e-6 if backend.xp.__version__ == "strict" else 1e-4
    for use, operation in uses(one, given["x"], given["y"], given["b_c"], dy).items():
        seen = []
        for _ in range(runs):
            out = filled(backend, expected[use].shape)
            for array in backend.workspace.memory.values():
                array.fill(np.nan)
            operation(out)
            seen.append(host(out).copy())
        assert len({out.tobytes() for out in seen}) == 1, f"{use}: not the same bits at every run"
        expect_near(seen[0], expected[use], rtol, f"{name}, {use}")
