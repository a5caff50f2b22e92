"""Networks for the GPU backend, and checks against the definitions.

Functions named check_* are the bodies of tests. The mutants of kernels.cu run them too, and each
must fail one of them. `make` is a function (dtype) -> GPU backend.
"""

import numpy as np

import minigan as mg
from minigan.arrays import Backend
from minigan.arrays.im2col import col2im, im2col
from minigan.backends.gpu.convolution import Convolution
from minigan.backends.gpu.joined_update import update_discriminator
from minigan.backends.gpu.kernels import IDENTITY
from minigan.backends.gpu.reductions import sum_rows
from minigan.backends.workspace import Workspace
from minigan.evaluation.neighbors import nearest
from minigan.gan import update_discriminator as update_definition
from minigan.layers import sequential
from minigan.objective import Objective
from tests.support.programs import load_program

RTOL = {"float32": 2e-5, "float64": 1e-11}  # of the largest number
HALVE = dict(kernel_size=4, stride=2, padding=1)
gpu_nearest = load_program("paper/gpu_nearest")


def same(kernel_size, stride=2):
    return dict(kernel_size=kernel_size, stride=stride, padding="same")


CHAINS = {  # name -> in_shape, layers: every kernel and width; sizes odd, one, and as in real nets
    "linear": ((19,), lambda: [mg.Linear(7)]),
    "linear, norm, relu": ((12,), lambda: [mg.Linear(9, bias=False), mg.BatchNorm(), mg.ReLU()]),
    "linear, tile": ((100,), lambda: [mg.Linear(64, bias=False), mg.BatchNorm(), mg.Tanh()]),
    "linear, reshape, activation": (
        (12,),
        lambda: [
            mg.Linear(32), mg.Reshape((4, 4, 2)), mg.LeakyReLU(0.2), mg.Flatten(), mg.Linear(1),
        ],
    ),
    "vectors to images": (
        (10,), lambda: [mg.Linear(72), mg.Reshape((3, 3, 8)), mg.BatchNorm(), mg.Tanh()],
    ),
    "k5 s2 same": ((7, 7, 8), lambda: [mg.Conv2d(12, **same(5))]),
    "k5, norm, leaky relu": (
        (7, 7, 4), lambda: [mg.Conv2d(8, **same(5), bias=False), mg.BatchNorm(), mg.LeakyReLU(0.2)],
    ),
    "k4 s2 p1": ((8, 8, 4), lambda: [mg.Conv2d(8, **HALVE, bias=False), mg.BatchNorm(), mg.Tanh()]),
    "k4 s2 p1, uneven": (
        (9, 5, 3), lambda: [mg.Conv2d(7, **HALVE), mg.BatchNorm(gain=False), mg.Sigmoid()],
    ),
    "upsampled": (
        (3, 5, 4), lambda: [mg.Upsample(2), mg.Conv2d(8, 3, 1, ((1, 2), (1, 2))), mg.Tanh()],
    ),
    "upsampled, norm": (
        (4, 4, 8),
        lambda: [mg.Upsample(2), mg.Conv2d(3, 3, 1, 1, bias=False), mg.BatchNorm(), mg.ReLU()],
    ),
    "k3 s1": ((6, 5, 5), lambda: [mg.Conv2d(4, 3, 1, 1), mg.Tanh()]),
    "k1": ((5, 6, 8), lambda: [mg.Conv2d(12, 1), mg.BatchNorm(), mg.LeakyReLU(0.1)]),
    "k1 s2": ((5, 6, 8), lambda: [mg.Conv2d(4, 1, 2), mg.Tanh()]),
    "one channel in": ((14, 14, 1), lambda: [mg.Conv2d(16, **same(5)), mg.Tanh()]),
    "one channel in, narrow": (
        (9, 7, 1), lambda: [mg.Conv2d(5, (3, 4), (2, 1), ((1, 0), (2, 1))), mg.ReLU()],
    ),
    "two channels, all rows": ((5, 6, 2), lambda: [mg.Conv2d(8, 3, 1, 1), mg.Sigmoid()]),
    "three channels in": (
        (12, 12, 3), lambda: [mg.Conv2d(16, **HALVE), mg.BatchNorm(), mg.LeakyReLU(0.2)],
    ),
    "whole image to one number": ((7, 7, 6), lambda: [mg.Conv2d(1, 7), mg.Flatten()]),
    "whole image to three": ((7, 7, 6), lambda: [mg.Conv2d(3, 7), mg.Flatten()]),
    "stride above the kernel": ((8, 9, 2), lambda: [mg.Conv2d(3, 2, 3), mg.Sigmoid()]),
    "bias before the norm": ((7, 7, 4), lambda: [mg.Conv2d(6, 3, 2), mg.BatchNorm(), mg.ReLU()]),
    "transposed k5 s2 same": (
        (4, 4, 12), lambda: [mg.ConvTranspose2d(8, **same(5)), mg.BatchNorm(), mg.Tanh()],
    ),
    "transposed k4 s2 p1": (
        (4, 5, 8), lambda: [mg.ConvTranspose2d(4, **HALVE, bias=False), mg.BatchNorm(), mg.ReLU()],
    ),
    "transposed to one channel": ((7, 7, 8), lambda: [mg.ConvTranspose2d(1, **same(5)), mg.Tanh()]),
    "transposed, few to few": (
        (4, 5, 3), lambda: [mg.ConvTranspose2d(2, **HALVE), mg.BatchNorm(), mg.ReLU()],
    ),
    "transposed from one pixel": (
        (1, 1, 20), lambda: [mg.ConvTranspose2d(8, 4, bias=False), mg.BatchNorm(bias=False)],
    ),
    "transposed, uneven": (
        (3, 4, 5),
        lambda: [mg.ConvTranspose2d(6, (3, 5), (2, 3), ((1, 0), (2, 1)), (1, 2)), mg.Sigmoid()],
    ),
    "transposed k1": ((5, 6, 8), lambda: [mg.ConvTranspose2d(4, 1), mg.ReLU()]),
    "transposed, stride above the kernel": (
        (4, 3, 8), lambda: [mg.ConvTranspose2d(4, 2, 3), mg.LeakyReLU(0.2)],
    ),
    "norm alone": ((5, 3, 7), lambda: [mg.BatchNorm()]),
    "norms of vectors": (
        (9,), lambda: [mg.BatchNorm(), mg.Linear(3), mg.BatchNorm(gain=False, bias=False)],
    ),
    "batch statistics in sampling": (
        (6,), lambda: [mg.Tanh(), mg.BatchNorm(sampling="batch", unbiased=False), mg.Linear(3)],
    ),
    "activation first": (
        (6, 6, 12),
        lambda: [mg.Tanh(), mg.BatchNorm(), mg.Conv2d(8, 3), mg.Dropout(0.3), mg.ReLU()],
    ),
    "relu": ((17,), lambda: [mg.ReLU()]),
    "leaky relu": ((3, 3, 5), lambda: [mg.LeakyReLU(0.2)]),
    "sigmoid": ((17,), lambda: [mg.Sigmoid()]),
    "tanh": ((4, 3, 3), lambda: [mg.Tanh()]),
}  # fmt: skip


def without_kink(layer):
    """Tanh for a ReLU: if its input is 0 but for rounding, a ReLU may go either way."""
    return mg.Tanh() if isinstance(layer, (mg.ReLU, mg.LeakyReLU)) else layer


def build(name, backend, smooth=False, fused=True):
    """-> one of CHAINS, with biases and gains at values that matter; unfused: the definitions"""
    in_shape, layers = CHAINS[name]
    if not fused:
        kept = {key: fast for key, fast in backend.operations.items() if key is not sequential.plan}
        backend.operations = kept
    layers = [without_kink(layer) if smooth else layer for layer in layers()]
    net = mg.Sequential(layers, name=name)
    net.setup(in_shape, backend=backend, rng=np.random.default_rng(3))
    for i, array in enumerate(net.params.values()):
        if array.ndim == 1:
            values = np.random.default_rng([4, i]).normal(0.5, 0.5, array.shape)
            array[...] = backend.asarray(values.astype(np.float32))
    return net


def poison(net):
    """NaN into all memory of a fast backend that a pass must write before it reads it."""
    owners = [step.memory for step in net.steps if hasattr(step, "memory")]
    for owner in [*owners, getattr(net.backend, "workspace", None)]:
        for array in owner.memory.values() if owner else ():
            if array.dtype.kind == "f":
                array.fill(np.nan)


def expect_close(found, expected, rtol, what):
    """Fails unless they are equal to rtol of the largest number; also if there is NaN."""
    assert found.shape == expected.shape, what
    off = np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-30)
    assert off <= rtol, f"{what}: off by {off:.1e} of the largest number"


def expect_near(found, expected, rtol, what):
    """Fails unless the error's norm is at most rtol of the norm; also if there is NaN."""
    assert found.shape == expected.shape, what
    off = np.linalg.norm(found.astype(np.float64) - expected)
    off /= max(np.linalg.norm(expected), 1e-30)
    assert off <= rtol, f"{what}: off by {off:.1e}"


def filled(backend, shape, value=np.nan):
    """-> new array of one value; NaN shows what is read before it is written"""
    return backend.asarray(np.full(shape, value))


PASSES = (  # n, train, need_dx, need_dw
    (6, True, True, True),
    (4, True, False, True),
    (5, True, True, False),
    (3, False, True, True),
)


def check_chain(name, dtype, make):
    """One of CHAINS against its definitions, in several modes, into memory full of NaN."""
    is_single = dtype == "float32"
    plain, fast = (build(name, each, smooth=is_single) for each in (Backend(dtype), make(dtype)))
    host, rng = fast.backend.to_host, np.random.default_rng(1)
    for n, train, need_dx, need_dw in PASSES:
        x = rng.standard_normal((n, *plain.in_shape)).astype(dtype)
        dy = rng.standard_normal((n, *plain.out_shape)).astype(dtype)
        poison(fast)
        y, y_fast = (net.forward(net.backend.asarray(x), train=train) for net in (plain, fast))
        expect_close(host(y_fast), y, RTOL[dtype], "y")
        dx, dx_fast = (
            net.backward(net.backend.asarray(dy), need_dx, need_dw) for net in (plain, fast)
        )
        assert (dx is None) == (dx_fast is None) == (not need_dx)
        if need_dx:
            expect_close(host(dx_fast), dx, 5 * RTOL[dtype], "dx")
    found = fast.grads | fast.buffers  # gradients: sums over all that was requested above
    for key, expected in (plain.grads | plain.buffers).items():
        expect_close(host(found[key]), expected, 5 * RTOL[dtype], key)


def random_convolution(rng):
    """-> x (n, h, w, c), layer"""
    while True:
        n, h, w = (int(rng.integers(1, high)) for high in (4, 12, 12))
        c, d = int(rng.choice([1, 2, 3, 4, 5, 8, 12])), int(rng.choice([1, 3, 4, 8]))
        k_h, k_w, s_h, s_w = (int(rng.integers(1, high)) for high in (6, 6, 4, 4))
        padding = tuple(tuple(map(int, rng.integers(0, k, 2))) for k in (k_h, k_w))
        if h + sum(padding[0]) >= k_h and w + sum(padding[1]) >= k_w:
            return (n, h, w, c), mg.Conv2d(d, (k_h, k_w), (s_h, s_w), padding)


def uses(one, x, y, b, dy):
    """-> name -> use of a convolution, a function that fills an array.

    y, b  what is transposed, and added then
    dy    what the gradient is taken of; it is added to 1
    """

    def gradient(out):
        out.fill(1)
        one.gradient(x, dy, out.reshape(-1, one.d), None)

    return {
        "convolve": lambda out: one.convolve(x, out, None),
        "transpose": lambda out: one.transpose(y, b, out, ("ReLU", 0.0)),
        "gradient": gradient,
    }


def check_convolution(seed, dtype, make):
    """Columns exactly; the three products, and col2im, into NaN; three times the same bits."""
    rng, backend = np.random.default_rng(seed), make(dtype)
    (n, *in_shape), layer = random_convolution(rng)
    net = mg.Sequential([layer])
    net.setup(tuple(in_shape), backend=backend, rng=rng)
    one = Convolution(layer, ("Tanh", 0.0), backend, Workspace(backend))
    host, (c, d) = backend.to_host, layer.W.shape[2:]
    shapes = dict(x=(n, *in_shape), y=(n, *one.out_shape), W=layer.W.shape, b_c=(c,), b_d=(d,))
    values = {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}
    given = {name: backend.asarray(array) for name, array in values.items()}
    layer.W[...], layer.b[...] = given["W"], given["b_d"]
    x, y, W, b_c, b_d = (values[name].astype(np.float64) for name in shapes)

    geometry = (layer.kernel_size, layer.stride, layer.pads)
    cols, dcols = im2col(x, *geometry, np), y.reshape(-1, d) @ W.reshape(-1, d).T
    folded = col2im(dcols.reshape(cols.shape), x.shape, *geometry[1:], np)
    rows = cols.reshape(len(dcols), -1)
    expected = {
        "convolve": np.tanh((rows @ W.reshape(-1, d)).reshape(y.shape) + b_d),
        "transpose": np.maximum(folded + b_c, 0),
        "gradient": 1 + (rows.T @ y.reshape(-1, d)).reshape(W.shape),
    }

    operations = uses(one, given["x"], given["y"], given["b_c"], given["y"])
    for name, operation in operations.items():
        seen = []
        for _ in range(3):
            out = filled(backend, expected[name].shape)
            operation(out)
            seen.append(host(out))
        assert len({out.tobytes() for out in seen}) == 1, f"{name}: not the same bits at every run"
        expect_near(seen[0], expected[name], 1e-5 if dtype == "float32" else 1e-13, name)
    np.testing.assert_array_equal(host(one.columns(given["x"])), rows)


def check_far_from_zero(dtype, make):
    """Mean 1000, deviation 1: a sum of squares would keep no digit of the variance in float32."""
    backend, rng = make(dtype), np.random.default_rng(0)
    x = (1000 + rng.standard_normal((9_001, 8))).astype(dtype)
    net = mg.Sequential([mg.BatchNorm()])
    net.setup((8,), backend=backend, rng=rng)
    y = backend.to_host(net.forward(backend.asarray(x)))
    x = x.astype(np.float64)
    off = np.abs(y - (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + 1e-5)).max()
    assert off < {"float32": 2e-4, "float64": 1e-10}[dtype]
    running = backend.to_host(net.buffers["0.running_var"])
    rtol = {"float32": 1e-5, "float64": 1e-12}[dtype]
    np.testing.assert_allclose(running, 0.9 + 0.1 * x.var(axis=0, ddof=1), rtol=rtol)


def check_pooled_moments(dtype, make):
    """Moments of uneven shards far from 0, summed up as processes do, are those of all rows."""
    backend = make(dtype)
    xp, host, kernel = backend.xp, backend.to_host, backend.kernels.get("pool_moments")
    x = np.random.default_rng(0).normal(1000, [1, 2, 0.01], (2, 21, 3))  # two parts
    shards = np.split(x, (4, 9), axis=1)

    def moments_of(rows):
        mean = rows.mean(axis=1, keepdims=True)
        return np.concatenate([mean, ((rows - mean) ** 2).sum(axis=1, keepdims=True)], axis=1)

    moments = [xp.asarray(moments_of(rows), dtype=np.float64) for rows in shards]
    abouts, pooled = moments, [xp.zeros((2, 2, 3), np.float64) for _ in shards]
    for _ in range(2):
        for rows, own, about, out in zip(shards, moments, abouts, pooled, strict=True):
            kernel(6, own, about, out, 2, 3, rows.shape[1], rows.shape[1] / 21)
        total = np.sum([host(each) for each in pooled], axis=0)
        for out in pooled:
            out[...] = xp.asarray(total, dtype=np.float64)
        abouts = pooled
    np.testing.assert_allclose(total, moments_of(x), rtol=1e-9)


def check_sums(dtype, make):
    """More strips than are folded at once, an odd number of rows, a mean far from 0."""
    backend, rng = make(dtype), np.random.default_rng(0)
    rows = (1000 + rng.standard_normal((20_011, 3))).astype(dtype)
    total = filled(backend, 3, 5.0)
    sum_rows(IDENTITY, backend.asarray(rows), None, None, total, backend)
    rtol = 1e-5 if dtype == "float32" else 1e-13
    expect_near(backend.to_host(total), 5 + rows.sum(axis=0, dtype=np.float64), rtol, "sums")
    vector = rng.standard_normal(2 * 2**17 + 7).astype(dtype)
    l2_norm = backend.operation_for(mg.optimizers.l2_norm)
    norm = backend.to_host(l2_norm(backend.asarray(vector), backend))
    expect_near(norm, np.linalg.norm(vector.astype(np.float64)), rtol, "norm")


class OwnNorm(mg.BatchNorm):
    """A layer that stays alone, since its passes may mean something else."""

    def forward(self, x, train=True):
        return super().forward(x, train)


DISCRIMINATORS = {  # name -> can both batches go through at once?, layers
    "blocks": (
        True,
        lambda: [
            mg.Conv2d(4, **HALVE), mg.LeakyReLU(0.2), mg.Conv2d(8, **HALVE, bias=False),
            mg.BatchNorm(), mg.LeakyReLU(0.2), mg.Flatten(), mg.Linear(1),
        ],
    ),
    "labels": (
        True,
        lambda: [
            mg.AppendLabels(3), mg.Conv2d(4, **HALVE, bias=False), mg.BatchNorm(),
            mg.Sequential([mg.ReLU(), mg.Flatten(), mg.AppendLabels(3)]), mg.Linear(1),
        ],
    ),
    "dropout": (
        False,
        lambda: [
            mg.Conv2d(4, **HALVE, bias=False), mg.BatchNorm(), mg.Dropout(0.5), mg.Flatten(),
            mg.Linear(1),
        ],
    ),
    "a user's layer": (
        False, lambda: [mg.Conv2d(4, **HALVE, bias=False), OwnNorm(), mg.Flatten(), mg.Linear(1)],
    ),
}  # fmt: skip


class Unmoved:
    """An optimizer that does not change anything."""

    def step(self):
        pass


def check_joined_update(name, make):
    """D's update with both batches in one pass: gradients, statistics and measures of two."""
    can_join, layers = DISCRIMINATORS[name]
    rng = np.random.default_rng(0)
    real, fake = rng.standard_normal((2, 5, 8, 8, 2))
    labels, results, nets = np.eye(3)[[0, 2, 1, 1, 0]], [], []
    for backend, update in (
        (make("float64"), update_discriminator),
        (Backend("float64"), update_definition),
    ):
        D = mg.Sequential(layers(), name="D")
        D.setup((8, 8, 2), backend=backend, rng=np.random.default_rng(1))
        given = [backend.asarray(array) for array in (real, fake)]
        given.append(backend.asarray(labels) if name == "labels" else None)
        for _ in range(2):
            result = update(D, Unmoved(), *given, objective=Objective("bce", 0.9, 0.1, 0.5))
        results.append({key: float(backend.to_host(value)) for key, value in result.items()})
        nets.append(D)
    fast, plain = nets
    assert ("joined x" in fast.backend.workspace.memory) == can_join
    assert list(results[0]) != [] and results[0].keys() == results[1].keys()
    for key, expected in results[1].items():
        assert abs(results[0][key] - expected) <= 1e-11 * abs(expected), key
    found = fast.grads | fast.buffers
    for key, expected in (plain.grads | plain.buffers).items():
        expect_close(fast.backend.to_host(found[key]), expected, 1e-10, key)


def check_nearest(d, levels, make, monkeypatch):
    """In one tile and in several, of fewer images than strips and of more; ties; far ones."""
    backend, rng = make("float32"), np.random.default_rng(0)
    queries = rng.integers(0, 256 if levels == 256 else 2, (9, d, 1, 1), dtype=np.uint8)
    queries[0] = 255
    assert gpu_nearest.DeviceNearest.can_take(queries, backend)
    find = gpu_nearest.DeviceNearest(queries, backend)
    other = gpu_nearest.DeviceNearest(queries[::-1].copy(), backend)  # has memory of its own
    for n, tile in ((1, 150), (30, 150), (150, 150), (150, 70)):
        monkeypatch.setattr(gpu_nearest, "TILE", max(9, d) * 4 * tile)
        corpus = rng.integers(0, levels, (n, d, 1, 1), dtype=np.uint8)
        corpus[n // 2] = 0
        expected, order = nearest(queries, corpus)
        for distances, indices in (
            find.among(corpus), [found[::-1] for found in other.among(corpus)]
        ):  # fmt: skip
            assert distances.dtype == np.float64 and indices.dtype == np.int64
            np.testing.assert_array_equal(distances, expected[:, 0])
            np.testing.assert_array_equal(indices, order[:, 0])
