"""Direct convolution: the definition's numbers, and nothing outside of its arrays."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

import minigan as mg
from minigan.arrays import Backend
from minigan.backends.cpu.gathering import Gathering
from minigan.backends.cpu.im2col import Im2col
from minigan.backends.cpu.trace import TracingBackend
from minigan.backends.cpu.winograd import Winograd
from minigan.parallel.group import Group
from tests.support.convolutions import Case, assert_agree, by_loops, by_minigan, random_cases

pytest.importorskip("numba", reason="numba is not installed", exc_type=ImportError)

from minigan.backends.cpu.compiled import direct
from minigan.backends.cpu.compiled.direct import Direct
from minigan.backends.cpu.compiled.vector import BYTES

LANES = {"float32": BYTES // 4, "float64": BYTES // 8}


def kernel_of(layer, in_shape, backend):
    net = mg.Sequential([layer])
    net.setup(in_shape, backend=backend, rng=np.random.default_rng(0))
    return net.steps[0].operation.kernel


def random_case(seed, dtype):
    """-> a Case that the kernel takes: channels in whole vectors or not, or few in an image"""
    rng, lanes = np.random.default_rng([3, seed]), LANES[dtype]
    while True:
        drawn = random_cases(1, bool(rng.integers(2)), rng.integers(2**30), image_top=16)[0]
        if not isinstance(drawn.kernel, int) and rng.integers(3) == 0:
            drawn = replace(drawn, kernel=tuple(k + 2 for k in drawn.kernel))
        channels = [lanes * int(rng.choice([1, 1, 2, 3])) for _ in range(2)]
        if rng.integers(3) == 0:
            channels[drawn.transposed] = int(rng.integers(1, 5))
            channels[1 - drawn.transposed] += lanes // 2 * int(rng.integers(2))
        else:
            channels = [c + int(rng.integers(0, lanes)) for c in channels]
        case = replace(drawn, c_in=channels[0], c_out=channels[1], n=int(rng.integers(1, 6)))
        if case.fits():
            backend = mg.get_backend("numpy", dtype, compile=True)
            if type(kernel_of(case.layer(), case.in_shape, backend)) is Direct:
                return case


def direct_of(case, backend):
    return kernel_of(case.layer(), case.in_shape, backend)


many_seeds = pytest.mark.parametrize(
    "seed", [*range(10), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(10, 60))]
)
both_dtypes = pytest.mark.parametrize("dtype", LANES)


@both_dtypes
@many_seeds
def test_any_geometry_gives_what_the_definition_gives(seed, dtype, monkeypatch):
    """To 1e-13 in float64; in float32 with at most four times its error, or four roundings."""
    monkeypatch.setattr(direct, "CHUNK", (1, 2**14, 2**20)[seed % 3])
    case = random_case(seed, dtype)
    found = by_minigan(case, mg.get_backend("numpy", dtype, threads=2, compile=True))
    exact, plain = (by_minigan(case, Backend(each)) for each in ("float64", dtype))
    for name, expected in exact.items():
        largest = max(1.0, np.abs(expected).max())
        error, usual = (np.abs(each[name] - expected).max() for each in (found, plain))
        assert error <= (1e-13 * largest if dtype == "float64" else 4 * max(usual, 1e-6 * largest))


@pytest.mark.parametrize("transposed", (False, True))
@pytest.mark.parametrize("few", (False, True))
def test_naive_loops_give_the_same(few, transposed):
    lanes = LANES["float64"]
    channels = (2 if few else lanes + 1, lanes)
    c_in, c_out = channels[::-1] if transposed else channels
    padding = ((1, 0), (0, 2))
    case = Case((5, 4), (2, 3), 1, padding, 0, 1, c_in, c_out, transposed=transposed)
    backend = mg.get_backend("numpy", "float64", compile=True)
    assert type(direct_of(case, backend)) is Direct
    assert_agree(by_minigan(case, backend), by_loops(case), case)


@pytest.mark.parametrize("more", (0, 1))
@pytest.mark.parametrize("V", direct.TILES)
def test_every_tile_gives_what_naive_loops_give(V, more, monkeypatch):
    c = int(V * LANES["float64"]) + more  # of y and of x: forward, dx and dW take this tile
    case = Case((5, 4), (2, 3), 1, ((1, 0), (0, 2)), n=2, c_in=c, c_out=c)
    backend = mg.get_backend("numpy", "float64", compile=True)
    assert type(direct_of(case, backend)) is Direct
    monkeypatch.setattr(Direct, "kernels", lambda self, channels: direct.TILES[V])
    assert_agree(by_minigan(case, backend), by_loops(case), case)


# -- memory ------------------------------------------------------------------------------------


def surrounded(array, seen):
    """-> a copy with NaN before and behind it, which `seen` collects"""
    room = np.full(array.size + 200, np.nan, array.dtype)
    seen += [room[:100], room[-100:]]
    room[100:-100] = array.reshape(-1)
    return room[100:-100].reshape(array.shape)


class Surrounded:
    """A workspace whose memory has NaN before and behind it."""

    def __init__(self, backend, seen):
        self.backend, self.seen = backend, seen

    def frame(self, name, shape, dtype):
        return surrounded(np.zeros(shape, dtype), self.seen)


@both_dtypes
@pytest.mark.parametrize("seed", range(100, 116))
def test_nothing_outside_of_the_arrays_is_read_or_written(seed, dtype):
    case = random_case(seed, dtype)
    backend = mg.get_backend("numpy", dtype, threads=1, compile=True)
    kernel, rng = direct_of(case, backend), np.random.default_rng(seed)
    n = min(case.n, kernel.images(backend.dtype.itemsize))
    x, W, y = (
        rng.standard_normal(shape).astype(dtype)
        for shape in ((n, *kernel.x_shape), kernel.W_shape, (n, *kernel.y_shape))
    )
    seen = []

    def results(keep, workspace):
        x_read = kernel.read_x(keep(x), workspace, None)
        y_out, x_out = keep(np.full_like(y, np.nan)), keep(np.full_like(x, np.nan))
        dW = keep(np.full((kernel.window, W.shape[3]), np.nan, dtype))
        kernel.forward(x_read, keep(kernel.prepare(W, backend, False)), y_out, workspace)
        kernel.gradient_part(x_read, keep(y), dW, workspace)
        kernel.transpose(
            keep(y), keep(kernel.prepare(W, backend, True)), x_out, workspace
        )  # may pad y where x was
        return y_out, x_out, dW

    found = results(partial(surrounded, seen=seen), Surrounded(backend, seen))
    expected = results(np.copy, backend.memory.workspaces[0])
    assert all(np.isnan(array).all() for array in seen)
    for one, other in zip(found, expected, strict=True):
        assert np.isfinite(one).all() and one.tobytes() == other.tobytes()


# -- bits --------------------------------------------------------------------------------------


def passes(net, seed):
    """-> y, dx and gradients, copied"""
    rng = np.random.default_rng(seed)
    x, dy = (
        rng.standard_normal((24, *shape)).astype("float32")
        for shape in (net.in_shape, net.out_shape)
    )
    net.zero_grads()
    y = net.forward(x).copy()
    return y, net.backward(dy).copy(), net.store.flat_grads.copy()


def small_net(backend):
    net = mg.Sequential([mg.Conv2d(33, 4, 2, 1), mg.ConvTranspose2d(17, 5, 3, "same")])
    net.setup((10, 9, 3), backend=backend, rng=np.random.default_rng(0))
    return net


def assert_same_bits(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert one.tobytes() == other.tobytes()


def test_the_chunks_of_a_batch_change_no_bit_of_its_images(monkeypatch):
    """Nor do tiles, which lie elsewhere in other chunks."""
    found = []
    for size in (2**20, 2**14, 1):
        monkeypatch.setattr(direct, "CHUNK", size)
        found.append(passes(small_net(mg.get_backend("numpy", threads=3, compile=True)), 1))
    for y, dx, gradients in found[1:]:
        assert_same_bits((y, dx), found[0][:2])
        np.testing.assert_allclose(gradients, found[0][2], rtol=0, atol=1e-3)


def test_a_trace_replays_every_call():
    parent = mg.get_backend("numpy", threads=1, compile=True)
    traced, net = small_net(TracingBackend(parent, Group())), small_net(parent)
    for seed in range(3):
        assert_same_bits(passes(traced, seed), passes(net, seed))


# -- choice ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "layer, in_shape, kind",
    (
        (lambda c: mg.Conv2d(2 * c, 4, 2, 1), (14, 14, 1), Direct),
        (lambda c: mg.Conv2d(2 * c, 4, 2, 1), (28, 28, 4), Direct),
        (lambda c: mg.ConvTranspose2d(c, 4, 2, 1), (7, 7, 32), Direct),
        (lambda c: mg.ConvTranspose2d(1, 4, 2, 1), (7, 7, 32), Direct),
        (lambda c: mg.Conv2d(c - 1, 4, 2, 1), (28, 28, 32), Gathering),  # less than a vector
        (lambda c: mg.Conv2d(c + c // 2, 4, 2, 1), (28, 28, 1), Direct),  # two pixels: 3 vectors
        (lambda c: mg.Conv2d(c + c // 2, 3, 1, 1), (28, 28, 1), Gathering),  # no whole vectors
        (lambda c: mg.Conv2d(c + 1, 4, 2, 1), (28, 28, 1), Gathering),
        (lambda c: mg.Conv2d(2 * c, 4, 2, 1), (4, 4, 32), Gathering),  # fewer pixels than a tile
        (lambda c: mg.Conv2d(64, 5, 2, "same"), (14, 14, 32), Winograd),  # 51,200 weights
        (lambda c: mg.Conv2d(64, 3, 1, 1), (8, 8, 64), Winograd),  # 36,864, with a stride of 1
        (lambda c: mg.Conv2d(32, 3, 1, 1), (8, 8, 32), Direct),  # 9,216
        (lambda c: mg.Conv2d(128, 4, 2, 1), (8, 8, 64), Direct),  # 131,072, but only one tile
        (lambda c: mg.Conv2d(256, 4, 2, 1), (8, 8, 128), Im2col),  # 524,288
        (lambda c: mg.Linear(64), (32,), Im2col),
    ),
)
def test_the_shape_decides_which_kernel_multiplies(layer, in_shape, kind):
    backend = mg.get_backend("numpy", compile=True)
    assert type(kernel_of(layer(LANES["float32"]), in_shape, backend)) is kind


@pytest.mark.parametrize(
    "channels, V",  # both in vectors
    (
        *((1, 1), (1.25, 1), (1.5, 1.5), (2, 2), (2.5, 2.5), (3, 3)),
        *((3.5, 2), (4.5, 1.5), (5, 2.5), (6, 3)),
    ),
)
def test_a_tile_computes_the_fewest_channels_or_is_the_widest_that_does(channels, V):
    c = int(channels * LANES["float32"])
    kernel = direct_of(
        Case((9, 9), 3, 2, 1, c_in=16, c_out=c), mg.get_backend("numpy", compile=True)
    )
    assert kernel.kernels(c) is direct.TILES[V]


def test_dw_of_many_pixels_has_the_rounding_errors_of_few():
    """12,544 products for each number, all above 0 in the mean."""
    gradients = []
    for dtype, compiled in (("float64", False), ("float32", True)):
        net = mg.Sequential([mg.Conv2d(LANES["float32"], 4, 2, 1, bias=False)])
        backend = mg.get_backend("numpy", dtype, threads=1, compile=compiled)
        net.setup((28, 28, 1), backend=backend, rng=np.random.default_rng(0))
        assert not compiled or type(net.steps[0].operation.kernel) is Direct
        rng = np.random.default_rng(1)
        y = net.forward((1 + rng.standard_normal((64, 28, 28, 1))).astype(dtype))
        net.backward((1 + rng.standard_normal(y.shape)).astype(dtype))
        gradients.append(np.array(net.grads["0.W"], np.float64))
    exact, found = gradients
    assert np.abs(found - exact).max() < 1e-6 * np.abs(exact).max()
