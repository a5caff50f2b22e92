"""Blocks do parts of their neighbors' work: the layers' numbers, in any order of calls."""

import subprocess
import sys

import numpy as np
import pytest

import minigan as mg
from minigan.arrays import Backend
from minigan.backends.cpu import convolution
from minigan.backends.cpu.blocks import Block, NormBlock
from minigan.layers.sequential import backward_pass
from minigan.presets import get_preset
from tests.support.memory import peak_of


def networks(preset, backend, width=8):
    """-> G and D of a preset"""
    system = get_preset(preset)
    shape = system.image_shape
    G = mg.Sequential(system.generator(width, system.z_dim, shape), name="G")
    G.setup((system.z_dim,), backend=backend, rng=np.random.default_rng(1))
    D = mg.Sequential(system.discriminator(width, shape), name="D")
    D.setup(shape, backend=backend, rng=np.random.default_rng(1))
    return G, D


def expect_close(found, expected, rtol, name=""):
    np.testing.assert_allclose(
        found, expected, rtol=0, atol=rtol * max(1, np.abs(expected).max()), err_msg=name
    )


CALLS = {"b": (True, True), "d": (True, False), "w": (False, True)}  # need_dx, need_dw


@pytest.mark.parametrize("preset", ("mnist", "fredriksson-mnist"))
@pytest.mark.parametrize("threads", (1, 3))
def test_blocks_in_a_row_in_any_order_of_calls(preset, threads, monkeypatch, make_numpy):
    monkeypatch.setattr(convolution, "WIDE", 1)  # Winograd wherever it can be
    plain = networks(preset, Backend("float64"))
    fast = networks(preset, make_numpy("float64", threads=threads))
    rng = np.random.default_rng(threads)
    for reference, net in zip(plain, fast, strict=True):
        assert len(net.steps) < len(net.layers) == len(reference.steps)
        for calls in ("t", "tb", "tbb", "sd", "tdbd", "stb", "tsb", "twwd", "tdw"):
            n = int(rng.integers(2, 9))
            x, dy = (rng.standard_normal((n, *shape)) for shape in (net.in_shape, net.out_shape))
            for call in calls:
                if call in "ts":  # training or sampling
                    results = [one.forward(x, train=call == "t") for one in (reference, net)]
                else:
                    results = [one.backward(dy, *CALLS[call]) for one in (reference, net)]
                if results[0] is not None:
                    expect_close(results[1], results[0], 1e-11, calls)
        for name, expected in (reference.grads | reference.buffers).items():
            expect_close((net.grads | net.buffers)[name], expected, 1e-10, name)


CHAINS = {
    "norm first": lambda: [mg.BatchNorm(), mg.Tanh(), mg.Conv2d(4, 3), mg.BatchNorm()],
    "norm without an activation, then a block": lambda: [
        mg.Conv2d(4, 3), mg.BatchNorm(gain=False), mg.Conv2d(3, 2), mg.Sigmoid(),
    ],
    "two norms": lambda: [mg.BatchNorm(bias=False), mg.BatchNorm(), mg.BatchNorm(unbiased=False)],
    "batch statistics in sampling": lambda: [mg.Conv2d(4, 3), mg.BatchNorm(sampling="batch")],
    "a layer alone between blocks": lambda: [
        mg.Conv2d(4, 3), mg.BatchNorm(), mg.Dropout(0.0), mg.Conv2d(3, 2), mg.BatchNorm(),
    ],
    "a network within": lambda: [
        mg.Conv2d(4, 3), mg.Sequential([mg.BatchNorm(), mg.ReLU(), mg.Conv2d(3, 2)]), mg.Tanh(),
    ],
    "vectors": lambda: [mg.Flatten(), mg.Linear(9), mg.BatchNorm(), mg.ReLU(), mg.Linear(1)],
    "paddings that differ at equal sizes": lambda: [
        mg.Conv2d(5, 3, 1, 1), mg.Conv2d(5, 3, 1, ((2, 0), (2, 0))),
        mg.Conv2d(5, 3, 1, ((0, 2), (0, 2))), mg.Conv2d(5, 3, 1, 1),
    ],
    "activations only": lambda: [mg.Tanh(), mg.Sigmoid(), mg.LeakyReLU(0.5)],
}  # fmt: skip


@pytest.mark.parametrize("name", CHAINS)
def test_odd_chains(name, monkeypatch, make_numpy):
    monkeypatch.setattr("minigan.backends.cpu.im2col.CACHE", 2000)  # more chunks than threads
    monkeypatch.setattr("minigan.backends.cpu.im2col.ROWS", 1)
    monkeypatch.setattr(convolution, "CACHE", 2000)
    nets = []
    for backend in (Backend("float64"), make_numpy("float64", threads=2)):
        net = mg.Sequential(CHAINS[name](), name="net")
        net.setup((6, 6, 3), backend=backend, rng=np.random.default_rng(0))
        nets.append(net)
    rng = np.random.default_rng(1)
    for n, train, needs in ((9, True, "b"), (5, True, "d"), (6, False, "b"), (7, True, "w")):
        x, dy = rng.standard_normal((n, 6, 6, 3)), rng.standard_normal((n, *nets[0].out_shape))
        y, y_fast = (net.forward(x, train=train) for net in nets)
        expect_close(y_fast, y, 1e-12)
        dx, dx_fast = (net.backward(dy, *CALLS[needs]) for net in nets)
        assert (dx is None) == (dx_fast is None) == (needs == "w")
        if dx is not None:
            expect_close(dx_fast, dx, 1e-11)
    for key, expected in (nets[0].grads | nets[0].buffers).items():
        expect_close((nets[1].grads | nets[1].buffers)[key], expected, 1e-11, key)


def test_a_backward_pass_may_start_at_any_block(make_numpy):
    """As those of single layers in inspection/ do; the block behind has not measured anything."""
    plain, fast = (
        networks("mnist", backend)[1]
        for backend in (Backend("float64"), make_numpy("float64", threads=2))
    )
    rng, n = np.random.default_rng(0), 5
    x, dy = (rng.standard_normal((n, *shape)) for shape in (plain.in_shape, plain.out_shape))
    for net in (plain, fast):
        net.forward(x)
        net.backward(dy)  # all blocks measure for those before them
    for count in range(1, len(fast.steps) + 1):
        steps = fast.steps[:count]
        layers = plain.layers[: sum(len(step.layers) for step in steps)]
        dy = rng.standard_normal((n, *layers[-1].out_shape))
        expected = backward_pass(layers, dy, True, True)
        expect_close(backward_pass(steps, dy, True, True), expected, 1e-11, str(count))
    for name, expected in plain.grads.items():
        expect_close(fast.grads[name], expected, 1e-10, name)


def test_a_batch_far_from_zero_keeps_its_variance(make_numpy):
    """Mean 1000, deviation 1: a difference of sums of squares would have no digit left."""
    net = mg.Sequential([mg.BatchNorm()])
    net.setup((4, 4, 8), backend=make_numpy(), rng=np.random.default_rng(0))
    x = (1000 + np.random.default_rng(0).standard_normal((500, 4, 4, 8))).astype(np.float32)
    y, exact = net.forward(x), x.astype(np.float64)
    mean, var = exact.mean(axis=(0, 1, 2)), exact.var(axis=(0, 1, 2))
    assert np.abs(y - (exact - mean) / np.sqrt(var + 1e-5)).max() < 1e-3, "1e-6 of the mean"
    unbiased = var * 8000 / 7999
    np.testing.assert_allclose(net.buffers["0.running_var"], 0.9 + 0.1 * unbiased, rtol=1e-5)


@pytest.mark.parametrize("preset", ("mnist", "fredriksson-mnist"))
def test_the_callers_arrays_are_only_read(preset, make_numpy):
    """Arrays that cannot be written to, and arrays that are not contiguous."""
    for net in networks(preset, make_numpy()):
        rng = np.random.default_rng(0)
        x = rng.standard_normal((6, *net.in_shape), np.float32)
        dy = rng.standard_normal((6, *net.out_shape), np.float32)
        results = []
        for is_contiguous in (True, False):
            given = [x.copy(), dy.copy()]
            if not is_contiguous:
                given = [np.repeat(array, 2, axis=-1)[..., ::2] for array in (x, dy)]
            for array in given:
                array.flags.writeable = False
            net.zero_grads()
            y, dx = net.forward(given[0]), net.backward(given[1])
            results.append((y, dx, net.store.flat_grads.copy()))
        for one, other in zip(*results, strict=True):
            np.testing.assert_array_equal(one, other)


def test_passes_allocate_nothing_once_they_are_warm(make_numpy):
    G, D = networks("mnist", make_numpy(), width=16)
    rng = np.random.default_rng(0)
    z = rng.standard_normal((64, *G.in_shape), np.float32)

    def step():
        loss, dlogits = mg.bce_with_logits(D.forward(G.forward(z)), 1.0, backend=G.backend)
        G.backward(D.backward(dlogits))
        return loss

    step()
    step()
    assert peak_of(step, 3) < 100_000, "one image batch has 200,704 bytes"


def test_a_block_per_run_and_its_neighbors():
    _, D = networks("mnist", mg.get_backend("numpy", compile=False))
    assert [type(step) for step in D.steps] == [Block, NormBlock, NormBlock, NormBlock, Block]
    assert [step.parity for step in D.steps] == [0, 1, 0, 1, 0]
    assert [step.previous for step in D.steps] == [None, *D.steps[:-1]]
    assert [step.is_followed for step in D.steps] == [True, True, True, True, False]


@pytest.fixture(scope="module")
def busy_machine():
    """Another process that keeps a core busy, so that threads here run in every order."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
        yield
        other.kill()


@pytest.mark.parametrize("repeats", (10, pytest.param(500, marks=pytest.mark.long)))
@pytest.mark.parametrize("wide", (convolution.WIDE, 1))
def test_the_same_bits_however_busy_the_machine(
    wide, repeats, busy_machine, monkeypatch, make_numpy
):
    monkeypatch.setattr(convolution, "WIDE", wide)
    for net in networks("mnist", make_numpy(threads=2)):
        rng = np.random.default_rng(2)
        x = rng.standard_normal((32, *net.in_shape), np.float32)
        dy = rng.standard_normal((32, *net.out_shape), np.float32)
        seen = set()
        for _ in range(repeats):
            net.zero_grads()
            y, dx = net.forward(x), net.backward(dy)
            seen.add((y.tobytes(), dx.tobytes(), net.store.flat_grads.tobytes()))
        assert len(seen) == 1
