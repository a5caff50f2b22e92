"""Compiled loops of blocks: the definitions' numbers. ../test_blocks.py has whole chains."""

import numpy as np
import pytest

import minigan as mg
from minigan.arrays import Backend
from minigan.backends.cpu.trace import TracingBackend
from minigan.parallel.group import Group

pytest.importorskip("numba", reason="numba is not installed", exc_type=ImportError)

from minigan.backends.cpu.compiled import blocks
from minigan.backends.cpu.compiled.blocks import CompiledBlock, CompiledNormBlock

ACTIVATIONS = {
    "none": list,
    "LeakyReLU": lambda: [mg.LeakyReLU(0.3)],
    "LeakyReLU 0": lambda: [mg.LeakyReLU(0)],
    "ReLU": lambda: [mg.ReLU()],
    "Tanh": lambda: [mg.Tanh()],
    "Sigmoid": lambda: [mg.Sigmoid()],
}
DTYPES = {"float32": 3e-6, "float64": 1e-13}  # relative to the largest number
SPECIAL = [0.0, -0.0, 1e-30, -1e-30, 90.0, -90.0, 800.0, -800.0, np.inf, -np.inf, np.nan]


def nets(layers, shape, dtype, threads=2):
    """-> the same network by definitions, and on compiled kernels"""
    found = []
    for backend in (Backend(dtype), mg.get_backend("numpy", dtype, threads, compile=True)):
        net = mg.Sequential(layers(), name="net")
        net.setup(shape, backend=backend, rng=np.random.default_rng(0))
        found.append(net)
    return found


def expect_close(found, expected, rtol, name=""):
    np.testing.assert_allclose(
        found, expected, rtol=0, atol=rtol * max(1, np.abs(expected).max()), err_msg=name
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("channels", (1, 3, 16, blocks.ROW + 1))
def test_passes_are_those_of_the_definitions(channels, name, dtype):
    """Rows that do not fill the last chunk, images of uneven chunks, running statistics."""
    definition, compiled = nets(
        lambda: [mg.BatchNorm(eps=1e-3), *ACTIVATIONS[name]()], (5, 3, channels), dtype, threads=3
    )
    (step,) = compiled.steps
    assert type(step) is CompiledNormBlock
    rng, rtol = np.random.default_rng(channels), DTYPES[dtype]
    for net in (definition, compiled):
        net.params["0.gain"][...] = np.linspace(-2, 2, channels)
        net.params["0.bias"][...] = np.linspace(1, -1, channels)
    for n, train in ((7, True), (2, True), (5, False)):
        x = (3 + rng.standard_normal((n, 5, 3, channels))).astype(dtype)
        dy = rng.standard_normal(x.shape).astype(dtype)
        y, y_fast = (net.forward(x, train=train) for net in (definition, compiled))
        expect_close(y_fast, y, rtol)
        dx, dx_fast = (net.backward(dy) for net in (definition, compiled))
        expect_close(dx_fast, dx, 10 * rtol)
    for key, expected in (definition.grads | definition.buffers).items():
        expect_close((compiled.grads | compiled.buffers)[key], expected, 10 * rtol, key)


@pytest.mark.parametrize("name", list(ACTIVATIONS)[1:])
@pytest.mark.parametrize("dtype", DTYPES)
def test_an_activation_alone_has_the_bits_of_the_definition(name, dtype):
    """But for the sigmoid's gradient, which multiplies its factors in another order."""
    definition, compiled = nets(ACTIVATIONS[name], (211,), dtype)
    assert type(compiled.steps[0]) is CompiledBlock
    rng = np.random.default_rng(0)
    x = np.concatenate([3 * rng.standard_normal(200), SPECIAL]).astype(dtype)[None].repeat(3, 0)
    dy = rng.standard_normal(x.shape).astype(dtype)
    y, y_fast = (net.forward(x) for net in (definition, compiled))
    np.testing.assert_array_equal(y_fast, y)
    dx, dx_fast = (net.backward(dy) for net in (definition, compiled))
    rtol = 2 * np.finfo(dtype).eps if name == "Sigmoid" else 0
    np.testing.assert_allclose(dx_fast, dx, rtol=rtol, atol=np.finfo(dtype).tiny if rtol else 0)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_gradients_are_those_of_differences(name):
    _, net = nets(
        lambda: [mg.Conv2d(5, 3), mg.BatchNorm(), *ACTIVATIONS[name]()], (6, 6, 2), "float64"
    )
    mg.check_gradients(net, np.random.default_rng(1).standard_normal((4, 6, 6, 2)))


@pytest.mark.parametrize("mean", (0.0, 100.3, -1e4))
def test_the_statistics_of_a_batch_far_from_zero(mean):
    """A constant has variance 0 to the last bit; else the deviation is 1, and keeps its digits."""
    _, net = nets(lambda: [mg.BatchNorm(unbiased=False, running_rate=1)], (9, 7, 24), "float32")
    noise = np.random.default_rng(0).standard_normal((300, 9, 7, 24))
    for deviation in (0, 1):
        x = (mean + deviation * noise).astype("float32")
        net.forward(x)
        exact = x.astype("float64")
        found = net.buffers["0.running_mean"], net.buffers["0.running_var"]
        np.testing.assert_allclose(found[0], exact.mean((0, 1, 2)), rtol=3e-7, atol=3e-7)
        expected = exact.var((0, 1, 2)) if deviation else 0
        np.testing.assert_allclose(found[1], expected, rtol=1e-5 if deviation else 0)


def test_long_sums_keep_their_digits():
    """All alike, and exact in float64: rounding in float32 would drift with their number."""
    _, net = nets(lambda: [mg.BatchNorm()], (64, 64, 1), "float32", threads=1)
    x = np.random.default_rng(0).standard_normal((200, 64, 64, 1)).astype("float32")
    net.forward(x)
    net.backward(np.full_like(x, 0.1))
    assert abs(net.grads["0.bias"][0] / (np.float32(0.1) * np.float64(x.size)) - 1) < 1e-6


def test_a_row_takes_no_numbers_from_its_neighbors():
    """A chunk's last row is shorter than the others; what is behind the chunk stays as it is."""
    memory = np.full(3 * blocks.ROW, 7.0)
    y, dy, c = (np.random.default_rng(i).standard_normal(700) for i in range(3))
    row, sums = np.full(blocks.ROW, 2.0), np.empty((2, 4))
    out, g = memory[:700], memory[blocks.ROW : blocks.ROW + 700]
    blocks.normalize(y, row, row, row, c, out, blocks.NONE, 0.0)
    np.testing.assert_array_equal(out, (y - 2) * 2 + 2)
    np.testing.assert_array_equal(memory[700:], 7)
    memory[:] = 7
    blocks.sums_of_g(dy, y, c, g, blocks.LEAKY, 0.5, 1.0, row, sums)
    expected = dy * np.where(y > 0, 1, 0.5)
    np.testing.assert_array_equal(g, expected)
    np.testing.assert_allclose(sums[0], expected.reshape(-1, 4).sum(0), rtol=1e-12)
    np.testing.assert_allclose(sums[1], (expected * c).reshape(-1, 4).sum(0), rtol=1e-12)
    blocks.norm_backward(dy, c, row, row, row, True, g)
    np.testing.assert_array_equal(g, dy * 2 - c * 2 - 2)
    np.testing.assert_array_equal(memory[: blocks.ROW], 7)
    np.testing.assert_array_equal(memory[blocks.ROW + 700 :], 7)


def test_a_trace_keeps_compiled_calls():
    """Replayed on other numbers, it gives what the layers give on these."""
    parent = mg.get_backend("numpy", compile=True, threads=1)
    traced = TracingBackend(parent, Group())
    layers = [mg.Conv2d(4, 3), mg.BatchNorm(), mg.ReLU(), mg.Conv2d(2, 3), mg.LeakyReLU(0.2)]
    net = mg.Sequential(layers)
    net.setup((7, 7, 3), backend=parent, rng=np.random.default_rng(0))
    twin, rng = net.on(traced), np.random.default_rng(1)
    for _ in range(3):
        x, dy = (rng.standard_normal((5, *s), np.float32) for s in (net.in_shape, net.out_shape))
        found = [twin.forward(x).copy(), twin.backward(dy).copy()]
        np.testing.assert_array_equal(found[0], net.forward(x))
        np.testing.assert_array_equal(found[1], net.backward(dy))
