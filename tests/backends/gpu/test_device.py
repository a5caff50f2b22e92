"""The GPU backend in float32 and TF32, as training uses it: against exact numbers, run after run.

    MINIGAN_GPU=1 python -m pytest tests/backends/gpu

runs this and every other test of the folder on a GPU, and fails without one. By default a machine
without a GPU runs them on the stand-in for CuPy. Exact is what the definitions compute in float64
from the same numbers.
"""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

import minigan as mg
from minigan.arrays import Backend
from minigan.averaging import ema_update
from minigan.backends.gpu.table import OPERATIONS
from minigan.data import Batches
from minigan.data.files.npz import load_arrays, pack, save_arrays, unpack
from minigan.gan import update_discriminator
from minigan.losses import bce_with_logits, mean_sigmoid
from minigan.objective import Objective
from minigan.optimizers import l2_norm
from minigan.r1 import add_r1
from minigan.training.config import new_config
from minigan.training.game import Game
from tests.support.gpu_cases import CHAINS, Unmoved, build, expect_near, poison

RTOL = {"fp32": 1e-5, "tf32": 1e-3}  # of the norm of what is exact
UNFUSED = ("k5, norm, leaky relu", "k4 s2 p1", "transposed k5 s2 same", "linear, tile", "sigmoid")
FUSED = [name for name in CHAINS if name != "activation first"]  # Dropout: float64 draws others
CASES = (
    [(name, "fp32", True) for name in FUSED]
    + [(name, "fp32", False) for name in UNFUSED]
    + [pytest.param(name, "tf32", True, marks=pytest.mark.slow) for name in FUSED]
)


def exact():
    return Backend("float64")


def bits(results):
    return {name: array.tobytes() for name, array in results.items()}


def passes(net, n, train):
    """Forward, and backward in each way that a GAN requests -> name -> host array."""
    rng, host = np.random.default_rng([5, n]), net.backend.to_host
    x, dy = (
        net.backend.asarray(rng.standard_normal((n, *shape)).astype(np.float32))
        for shape in (net.in_shape, net.out_shape)
    )
    before = {name: buffer.copy() for name, buffer in net.buffers.items()}
    net.zero_grads()
    poison(net)
    found = {"y": net.forward(x, train=train), "dx": net.backward(dy)}
    net.backward(dy, need_dx=False)
    found["dx alone"] = net.backward(dy, need_dw=False)
    found |= net.grads | net.buffers
    found = {name: host(array).copy() for name, array in found.items()}
    for name, buffer in net.buffers.items():
        buffer[...] = before[name]
    return found


def joined(found):
    """Gradients and statistics of all layers as one array: TF32 rounds evenly over many numbers."""
    images = {name: array for name, array in found.items() if "." not in name}
    rest = [array.ravel() for name, array in found.items() if "." in name]
    return images | {"gradients and statistics": np.concatenate([np.zeros(0), *rest])}


@pytest.mark.parametrize("name, precision, fused", CASES)
def test_layers(name, precision, fused, make_cupy):
    """Training and sampling mode, batches of odd sizes; three runs have the same bits."""
    reference = build(name, exact(), smooth=True)
    net = build(name, make_cupy(precision=precision), smooth=True, fused=fused)
    for n, train in ((17, True), (9, True), (6, False)):
        expected, seen = passes(reference, n, train), [passes(net, n, train) for _ in range(3)]
        assert bits(seen[0]) == bits(seen[1]) == bits(seen[2])
        for what, array in joined(expected).items():
            found = joined(seen[0])[what]
            expect_near(found, array, RTOL[precision], f"{what}, n {n}, train {train}")


OPTIMIZERS = {
    "Adam": lambda net: mg.Adam(net, 0.01),
    "Adam, eps hat": lambda net: mg.Adam(net, 0.01, eps=0.1, eps_hat=True, l2=0.1),
    "SGD": lambda net: mg.SGD(net, 0.01),
    "SGD, Nesterov": lambda net: mg.SGD(net, 0.01, momentum=0.9, nesterov=True, l2=0.1),
    "RMSprop": lambda net: mg.RMSprop(net, 0.01),
}


def five_steps(backend, optimizer):
    """-> how far each parameter went, and the moments"""
    net = build("linear", backend)
    first, made = backend.to_host(net.store.flat_params).copy(), OPTIMIZERS[optimizer](net)
    for step in range(5):
        gradient = np.random.default_rng([6, step]).standard_normal(first.shape).astype(np.float32)
        net.store.flat_grads[...] = backend.asarray(gradient)
        made.step()
    moments = {name: backend.to_host(getattr(made, name)) for name in made.moments}
    return {"change": backend.to_host(net.store.flat_params) - first, **moments}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_optimizers(optimizer, make_cupy):
    seen = [five_steps(make_cupy(), optimizer) for _ in range(3)]
    assert bits(seen[0]) == bits(seen[1]) == bits(seen[2])
    for what, array in five_steps(exact(), optimizer).items():
        expect_near(seen[0][what], array, RTOL["fp32"], what)


def measure(backend):
    """-> losses with hard, soft and clipped targets, a probability, a norm, an average"""
    logits = backend.asarray(np.random.default_rng(7).normal(0, 20, (37, 1)).astype(np.float32))
    gradient = backend.asarray(np.random.default_rng(7).standard_normal(4099).astype(np.float32))
    average, find = backend.asarray(np.arange(4099) / 100), backend.operation_for
    find(ema_update)(average, gradient, 0.3, backend)
    found = {"probability": find(mean_sigmoid)(logits, backend), "average": average}
    found["norm"] = find(l2_norm)(gradient, backend)
    for target in (0, 0.9, 1):
        for limit in (None, 15.0):
            loss, dlogits = bce_with_logits(logits, target, limit=limit, backend=backend)
            found |= {f"loss, {target}, {limit}": loss, f"dlogits, {target}, {limit}": dlogits}
    for name in ("lsgan", "hinge"):
        objective = Objective(name, 0.9, 0.1)
        for mean_loss in (objective.of_real, objective.of_fake, objective.of_generator):
            label = f"{name} {mean_loss.__name__}"
            found[f"loss, {label}"], found[f"dlogits, {label}"] = mean_loss(logits, backend)
    return {name: np.asarray(backend.to_host(array)).copy() for name, array in found.items()}


def test_losses_and_norms(make_cupy):
    seen = [measure(make_cupy()) for _ in range(3)]
    assert bits(seen[0]) == bits(seen[1]) == bits(seen[2])
    for what, array in measure(exact()).items():
        expect_near(seen[0][what], array, RTOL["fp32"], what)


def r1_gradients(backend, is_flat=False):
    """-> what R1 adds to the gradients of a D with classes; flat: of weights 0 at its end"""
    layers = [mg.AppendLabels(3), mg.Conv2d(8, 3, 2, 1), mg.Tanh(), mg.Flatten(), mg.Linear(1)]
    D, rng = mg.Sequential(layers, name="D"), np.random.default_rng(8)
    D.setup((6, 6, 2), backend=backend, rng=rng)
    x = backend.asarray(rng.standard_normal((20, 6, 6, 2)).astype(np.float32))
    labels = backend.asarray(np.eye(3)[np.arange(20) % 3])
    if is_flat:
        D.params["4.W"].fill(0)
    D.zero_grads()
    backend.operation_for(add_r1)(D, x, labels, 0.7)
    return {name: backend.to_host(array).copy() for name, array in D.grads.items()}


def test_r1(make_cupy, monkeypatch):
    """With a larger h than usual, because the rounding of logits is divided by it."""
    monkeypatch.setattr("minigan.r1.STEP", 0.02)
    seen = [r1_gradients(make_cupy()) for _ in range(3)]
    assert bits(seen[0]) == bits(seen[1]) == bits(seen[2])
    for what, array in r1_gradients(exact()).items():
        expect_near(seen[0][what], array, RTOL["fp32"], what)
    assert not any(array.any() for array in r1_gradients(make_cupy(), is_flat=True).values())


def test_every_fast_operation_is_compared_with_its_definition(make_cupy):
    """The cases above, and test_joined_update.py, call all that is in the table."""
    counts = Counter()

    def counted():
        backend = make_cupy()

        def count(definition, operation):
            def called(*arguments, **options):
                counts[definition] += 1
                return operation(*arguments, **options)

            return called

        backend.operations = {key: count(key, fast) for key, fast in OPERATIONS.items()}
        return backend

    passes(build("k4 s2 p1", counted()), 2, True)
    five_steps(counted(), "Adam")
    measure(counted())
    r1_gradients(counted())
    D = build("k4 s2 p1", counted())
    images = [D.backend.asarray(np.ones((3, *D.in_shape))) for _ in range(2)]
    D.backend.operation_for(update_discriminator)(D, Unmoved(), *images)
    counted().capture(lambda backend: lambda: None, [])
    assert set(counts) == set(OPERATIONS)


# -- the game ----------------------------------------------------------------------------------


@pytest.fixture
def smooth(monkeypatch):
    """Tanh for each ReLU: else rounding that crosses its kink is all that one sees."""

    def get(name):
        preset = mg.presets.get_preset(name)

        def without_kinks(layers):
            return lambda *arguments, **options: [
                mg.Tanh() if isinstance(layer, (mg.ReLU, mg.LeakyReLU)) else layer
                for layer in layers(*arguments, **options)
            ]

        G, D = without_kinks(preset.generator), without_kinks(preset.discriminator)
        return replace(preset, generator=G, discriminator=D)

    monkeypatch.setattr("minigan.training.switches.get_preset", get)


def small(backend, preset, **options):
    """-> Game, Batches of noise: three whole ones in an epoch"""
    options = dict(preset=preset, width=4, batch_size=8, backend=backend, **options)
    game = Game(new_config(options))
    images = np.random.default_rng(8).integers(0, 256, (24, *game.config.image_shape), np.uint8)
    return game, Batches(images, 8, [0, 4], pixel_min=game.preset.pixel_min)


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("color32", "tensorflow-mnist")]


@pytest.mark.parametrize("preset", ["mnist", "fredriksson-mnist", *SLOW])
def test_ten_rounds_are_those_of_the_cpu(preset, make_cupy, smooth):
    make_cupy()
    losses = []
    for backend in ("numpy", "cupy"):
        game, batches = small(backend, preset)
        losses.append([list(game.read(game.round(batches)).values()) for _ in range(10)])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-3)


@pytest.mark.parametrize("precision", RTOL)
def test_a_graph_plays_what_the_program_plays(precision, make_cupy):
    """Bit for bit after each of several rounds."""
    make_cupy()
    games = [small("cupy", "mnist", precision=precision) for _ in range(2)]
    games[1][0].captured = None
    seen = set()
    for _ in range(4):
        states = []
        for game, batches in games:
            game.round(batches)
            states.append([bits(arrays) for arrays in game.state()[0].values()])
        assert states[0] == states[1]
        seen.add(states[0][0]["0.W"])
    assert len(seen) == 4, "training goes on"


@pytest.mark.parametrize(
    "preset", ["mnist", pytest.param("fredriksson-mnist", marks=pytest.mark.slow)]
)
def test_a_checkpoint_goes_to_the_cpu_and_back(preset, make_cupy, smooth, tmp_path):
    """All numbers arrive bit for bit, and the game continues as if it had stayed."""
    make_cupy()
    games = {name: small("cupy", preset) for name in ("stays", "gpu", "back")}
    games["cpu"], last = small("numpy", preset), {}
    for name, source in (("stays", None), ("gpu", None), ("cpu", "gpu"), ("back", "cpu")):
        game, batches = games[name]
        if source is not None:
            other, others = games[source]
            save_arrays(tmp_path / "state.npz", pack(*other.state()))
            sections, record = unpack(load_arrays(tmp_path / "state.npz"), "state.npz")
            game.load(sections, record, "state.npz")
            batches.seek(others.epoch, others.position)
            for key, arrays in game.state()[0].items():
                assert bits(arrays) == bits(sections[key])
        for _ in range(9 if name == "stays" else 3):
            result = game.round(batches)
        last[name] = list(game.read(result).values())
    np.testing.assert_allclose(last["back"], last["stays"], rtol=1e-3)
