"""Convolutions without columns: each use against float64, and that mistakes are found."""

import sys

import numpy as np
import pytest

import minigan as mg
from minigan.arrays import Backend
from minigan.backends.gpu import kernels
from minigan.backends.gpu.implicit import DEEP, TILES, ImplicitConvolution
from minigan.backends.gpu.joined_update import update_discriminator
from tests.support import host_kernels
from tests.support.gpu_cases import HALVE, Unmoved, expect_near, poison, same
from tests.support.implicit_cases import CASES, check_implicit, make_implicit
from tests.support.strict_cupy import make_module

pytestmark = pytest.mark.usefixtures("make_cupy")


@pytest.mark.parametrize("name", CASES)
def test_each_use(name):
    """TF32's factors, but for the order of a sum."""
    check_implicit(name, runs=3 if name == "k4 s2 p1" else 1)


@pytest.mark.parametrize("tile", TILES)
def test_each_tile(tile):
    """Of rows, columns and depth that do not fill it."""
    check_implicit("k3 s2", tile)


def test_nan_stays_nan():
    """And touches the windows that see it, no other."""
    net, x = mg.Sequential([mg.Conv2d(32, 3, 1, 1)]), np.zeros((1, 4, 4, 32))
    net.setup((4, 4, 32), backend=make_implicit(), rng=np.random.default_rng(0))
    x[0, 0, 0, 7] = np.nan
    y = net.backend.to_host(net.forward(net.backend.asarray(x)))
    assert np.isnan(y[0, :2, :2]).all() and np.isfinite(y[0, 2:]).all()
    assert np.isfinite(y[0, :, 2:]).all()


def layers():
    return [
        mg.Conv2d(32, 3, 1, 1), mg.LeakyReLU(0.2), mg.Conv2d(64, **same(5), bias=False),
        mg.BatchNorm(), mg.Tanh(), mg.ConvTranspose2d(32, **HALVE), mg.Tanh(),
        mg.ConvTranspose2d(32, **same(3), bias=False), mg.BatchNorm(), mg.ReLU(),
    ]  # fmt: skip


def made(backend, layers):
    net = mg.Sequential(layers)
    net.setup((7, 6, 32), backend=backend, rng=np.random.default_rng(3))
    return net


def test_a_net_in_each_way_that_a_gan_asks_for(monkeypatch):
    """Both kinds of layers, with and without BatchNorm; in full float32, to rounding."""
    monkeypatch.setattr(host_kernels, "ROUNDS", False)
    plain, fast = (made(each, layers()) for each in (Backend("float64"), make_implicit()))
    strict, host = fast.backend.xp.__version__ == "strict", fast.backend.to_host
    assert all(type(step.convolution) is ImplicitConvolution for step in fast.steps)
    rng = np.random.default_rng(1)
    for n, train, need_dx, need_dw in (
        (3, True, True, True), (2, True, False, True), (1, False, True, False),
    ):  # fmt: skip
        x, dy = rng.standard_normal((n, 7, 6, 32)), rng.standard_normal((n, *plain.out_shape))
        poison(fast)
        found = []
        for net in (plain, fast):
            y = net.forward(net.backend.asarray(x), train=train)
            found.append((y, net.backward(net.backend.asarray(dy), need_dx, need_dw)))
        for exact, seen in zip(*found, strict=True):
            assert (exact is None) == (seen is None)
            if exact is not None:
                expect_near(host(seen), exact, 1e-5 if strict else 5e-3, f"{n} images")
    for name, exact in (plain.grads | plain.buffers).items():
        seen = host((fast.grads | fast.buffers)[name])
        expect_near(seen, exact, 1e-5 if strict else 5e-3, name)


def test_a_captured_update_of_d_has_the_bits_of_the_program():
    """With real and fake images in one pass; dW is added to."""
    rng, found = np.random.default_rng(0), []
    images = rng.standard_normal((2, 2, 7, 6, 32))
    for is_captured in (False, True):
        backend = make_implicit()
        D = made(backend, [*layers()[2:7], mg.Flatten(), mg.Linear(1)])
        real, fake = (backend.asarray(each) for each in images)

        def make_step(backend, D=D, real=real, fake=fake):
            net = D.on(backend)
            return lambda: update_discriminator(net, Unmoved(), real, fake)

        step = backend.capture(make_step, [D.ready()]) if is_captured else make_step(backend)
        for _ in range(2):
            result = step()
        assert "joined x" in backend.workspace.memory or is_captured
        found.append([backend.to_host(D.store.flat_grads).tobytes()])
        found[-1] += [backend.to_host(each).tobytes() for each in result.values()]
    assert found[0] == found[1]


@pytest.mark.parametrize(
    "expected, make, shape, layer",
    (
        (True, {}, (6, 6, 32), lambda: mg.Conv2d(64, 3)),
        (True, {}, (6, 6, 32), lambda: mg.ConvTranspose2d(64, 3)),
        (False, {"implicit": False}, (6, 6, 32), lambda: mg.Conv2d(64, 3)),
        (False, {"precision": "fp32"}, (6, 6, 32), lambda: mg.Conv2d(64, 3)),
        (False, {"dtype": "float64"}, (6, 6, 32), lambda: mg.Conv2d(64, 3)),
        (False, {}, (6, 6, 3), lambda: mg.Conv2d(64, 3)),
        (False, {}, (6, 6, 48), lambda: mg.Conv2d(64, 3)),
        (False, {}, (6, 6, 32), lambda: mg.Conv2d(48, 3)),
        (False, {}, (6, 6, 32), lambda: mg.Conv2d(64, 6)),
        (False, {}, (20, 20, 32), lambda: mg.Conv2d(32, (17, 3))),
        (False, {}, (6, 6, 32), lambda: mg.Conv2d(64, 1)),
        (False, {}, (64,), lambda: mg.Linear(64)),
    ),
)
def test_which_layers_need_no_columns(expected, make, shape, layer):
    net = mg.Sequential([layer()])
    net.setup(shape, backend=make_implicit(**make), rng=np.random.default_rng(0))
    assert (type(net.steps[0].convolution) is ImplicitConvolution) == expected


def test_by_default_there_are_columns():
    assert mg.get_backend("cupy", precision="tf32").implicit is False


def test_no_two_threads_of_a_warp_read_from_the_same_bank():
    lanes = [(lane // 4, lane % 4) for lane in range(32)]
    for apart in {size + 8 for tile in TILES for size in tile}:
        assert len({(t * apart + g) % 32 for g, t in lanes}) == 32
    assert len({(g * (DEEP + 4) + t) % 32 for g, t in lanes}) == 32


def test_tiles_for_the_layers_of_a_net():
    """Large ones, if there are enough of them."""
    backend, found = make_implicit(), {}
    for c, size in ((64, 32), (128, 16), (256, 8)):  # pytorch-64
        layer = mg.Conv2d(2 * c, **HALVE)
        net = mg.Sequential([layer])
        net.setup((size, size, c), backend=backend, rng=np.random.default_rng(0))
        one = net.steps[0].convolution
        found[c] = one.tiles
    assert found == {
        64: {"convolve": (256, 128), "transpose": (256, 64), "gradient": (256, 128)},
        128: {"convolve": (128, 128), "transpose": (256, 128), "gradient": (256, 128)},
        256: {"convolve": (128, 128), "transpose": (128, 128), "gradient": (256, 128)},
    }


MUTANTS = {  # name -> text, what replaces it, the case that shows it
    "no barrier": ("    __syncthreads();", "", "k4 s2 p1"),
    "a stage too early": ("await_groups<STAGES - 2>", "await_groups<STAGES - 1>", "k4 s2 p1"),
    "a barrier that some reach": (
        "    __syncthreads();", "    if (thread < 40) __syncthreads();", "k4 s2 p1",
    ),
    "phase of the rows": ("G::TOP, z / G::SW);", "G::TOP, z % G::SH);", "k5 s2 same"),
    "first pixel of a phase": (
        "first = (before - phase + s - 1) / s;", "first = (before - phase + s - 1) / s + 1;",
        "uneven",
    ),
    "pixels of a phase": (
        "(size + before - phase + s - 1) / s - first", "size / s", "k4 s2 p1, odd",
    ),
    "taps of a phase": ("(k - phase + s - 1) / s", "(k - phase) / s", "k5 s2 same"),
    "pixels left of the image": (
        "(unsigned)(w + v * across.sign) < W", "w + v * across.sign < W", "k4 s2 p1",
    ),
    "rows for columns": ("1 << u | 1 << (16 + v)", "1 << v | 1 << (16 + u)", "k4 s2 p1"),
    "pixels left of the image, for dW": ("(unsigned)x < W", "x < W", "k4 s2 p1"),
    "all parts of dW in one place": ("z * rows + r : r;", "r : r;", "k3 s1 p1"),
    "a part's share": ("least(all, from + share)", "least(all, from + share - 1)", "k3 s1 p1"),
    "a fragment's rows": (
        "g + q % 2 * 8, d = k + t + q / 2 * 4", "g + q / 2 * 8, d = k + t + q % 2 * 4",
        "k4 s1",
    ),
    "the bias of another channel": ("value + b[c + q]", "value + b[c]", "k4 s1"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mistake_is_found(mutant, monkeypatch):
    text, wrong, case = MUTANTS[mutant]
    assert kernels.source().count(text) == 1
    module = make_module(mutate=lambda source: source.replace(text, wrong))
    monkeypatch.setitem(sys.modules, "cupy", module)
    with pytest.raises(AssertionError):
        check_implicit(case)
