"""R1: the gradient of what r1.py says, by differences, by PyTorch, and in several processes."""

import sys
from functools import partial

import numpy as np
import pytest

import minigan as mg
from minigan import r1
from minigan.arrays import Backend
from minigan.parallel.shared_memory import can_fork
from tests.support.noise_games import assert_near, make_game, play
from tests.support.strict_cupy import make_module
from tests.support.torch_or_skip import import_torch

GAMMA = 0.7
LEAKY = partial(mg.LeakyReLU, 0.2)


def discriminator(activation=LEAKY, classes=0, seed=0):
    """-> D of 5x6x2 images, in float64"""
    labels = [mg.AppendLabels(classes)] if classes else []
    layers = [*labels, mg.Conv2d(4, 3, 2, 1), activation(), mg.Flatten(), mg.Linear(1)]
    D = mg.Sequential(layers, name="D")
    D.setup((5, 6, 2), backend=Backend("float64"), rng=np.random.default_rng(seed))
    return D


def images(n, seed=1):
    return np.random.default_rng(seed).standard_normal((n, 5, 6, 2))


def steepest(D, x, labels=None):
    """-> gradients of D by x (n, ...), and their norms"""
    D.forward(x, labels=labels)
    v = D.backward(np.ones((len(x), 1)), need_dw=False)
    return v, np.sqrt((v**2).sum(axis=(1, 2, 3)))


def gradient_of(D, *arguments):
    """-> what add_r1 adds to the gradients of D"""
    D.zero_grads()
    r1.add_r1(D, *arguments)
    return D.store.flat_grads.copy()


def assert_gradient(D, gradient, loss, rel):
    """The gradient gives the slopes of loss() along random directions."""
    rng, start = np.random.default_rng(5), D.store.flat_params.copy()
    for _ in range(5):
        direction = rng.standard_normal(start.shape)
        values = []
        for e in (1e-5, -1e-5):
            D.store.flat_params[...] = start + e * direction
            values.append(loss())
        D.store.flat_params[...] = start
        assert gradient @ direction == pytest.approx((values[0] - values[1]) / 2e-5, rel=rel)


@pytest.mark.parametrize("classes", (0, 3))
def test_the_gradient_is_that_of_the_squared_slope_of_every_eighth_image(classes):
    D, x = discriminator(classes=classes), images(20)
    labels = np.eye(3)[np.arange(20) % 3] if classes else None
    picked, of_picked = x[[0, 8, 16]], None if labels is None else labels[[0, 8, 16]]
    v, norm = steepest(D, picked, of_picked)
    h = r1.STEP * np.sqrt(60)
    u = v / norm[:, None, None, None]

    def loss():
        sides = [D.forward(picked + side * h * u, labels=of_picked)[:, 0] for side in (1, -1)]
        return GAMMA / 2 * np.mean(((sides[0] - sides[1]) / (2 * h)) ** 2)

    gradient = gradient_of(D, x, labels, GAMMA)
    assert_gradient(D, gradient, loss, 1e-6)


def test_it_is_that_of_mescheders_r1_where_d_is_smooth():
    D, x = discriminator(mg.Tanh), images(3)

    def loss():
        return GAMMA / 2 * np.mean(steepest(D, x[:1])[1] ** 2)

    gradient = gradient_of(D, x, None, GAMMA)
    assert_gradient(D, gradient, loss, 1e-4)


def test_pytorch_differentiates_twice_and_gets_the_same():
    torch = import_torch()
    D, x = discriminator(mg.Tanh), images(9)
    W, b, w, c = (
        torch.tensor(np.array(D.params[name]), requires_grad=True)
        for name in ("0.W", "0.b", "3.W", "3.b")
    )
    seen = torch.tensor(x[[0, 8]].transpose(0, 3, 1, 2).copy(), requires_grad=True)
    maps = torch.nn.functional.conv2d(seen, W.permute(3, 2, 0, 1), b, stride=2, padding=1)
    logits = torch.tanh(maps).permute(0, 2, 3, 1).reshape(2, -1) @ w + c
    (v,) = torch.autograd.grad(logits.sum(), seen, create_graph=True)
    penalty = GAMMA / 2 * (v**2).sum(dim=(1, 2, 3)).mean()
    penalty.backward()
    gradient_of(D, x, None, GAMMA)
    for name, expected in (("0.W", W), ("0.b", b), ("3.W", w)):
        np.testing.assert_allclose(D.grads[name], expected.grad.numpy(), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(D.grads["3.b"], 0, atol=1e-12)


def test_it_adds_to_the_gradients_in_proportion_to_gamma():
    D, x = discriminator(), images(8)
    once = gradient_of(D, x, None, GAMMA)
    r1.add_r1(D, x, None, 2 * GAMMA)
    np.testing.assert_allclose(D.store.flat_grads, 3 * once, rtol=1e-12)
    assert once.any()


def test_a_d_that_is_steep_over_a_short_way_only_pays_for_it():
    """D climbs where numbers move by less than a hundredth, and is flat beyond: a run ended so."""
    D = mg.Sequential([mg.Flatten(), mg.Linear(2), mg.ReLU(), mg.Linear(1)], name="D")
    D.setup((5, 6, 2), backend=Backend("float64"), rng=np.random.default_rng(0))
    way, steepness = 0.01 * np.sqrt(60), 30.0
    D.params["1.W"][...] = 1 / np.sqrt(60)
    D.params["1.b"][...] = way, -way
    D.params["3.W"][...] = [[steepness], [-steepness]]
    r1.add_r1(D, np.zeros((8, 5, 6, 2)), None, GAMMA)
    by_steepness = np.sum(D.grads["3.W"] * [[1], [-1]])  # R1 is γ/2 · steepness²
    assert by_steepness == pytest.approx(GAMMA * steepness)


def test_a_flat_d_has_no_penalty():
    D = discriminator()
    D.params["3.W"][...] = 0
    gradient = gradient_of(D, images(8), None, GAMMA)
    assert not gradient.any()


@pytest.mark.parametrize("layer", (mg.BatchNorm(), mg.Dropout(0.5)), ids=("BatchNorm", "Dropout"))
def test_a_d_that_mixes_images_or_changes_is_refused(layer):
    D = mg.Sequential([mg.Flatten(), mg.Linear(4), layer, mg.Linear(1)], name="D")
    D.setup((5, 6, 2), backend=Backend("float64"), rng=np.random.default_rng(0))
    with pytest.raises(mg.ConfigError, match=r"R1: D\.2 .*must see each image alone"):
        r1.add_r1(D, images(8), None, 1.0)


def test_a_d_of_vectors_is_refused():
    D = mg.Sequential([mg.Linear(1)], name="D")
    D.setup((5,), backend=Backend("float64"), rng=np.random.default_rng(0))
    with pytest.raises(mg.ConfigError, match=r"R1: D takes \(5,\): expected images"):
        r1.add_r1(D, np.ones((8, 5)), None, 1.0)


def test_d_becomes_less_steep():
    steep = []
    for gamma in (0.0, 50.0):
        game = make_game("mnist", r1=gamma or 1e-9)
        play(game, 100)
        rng, one = np.random.default_rng(0), np.ones((16, 1), np.float32)
        game.D.forward(rng.standard_normal((16, 28, 28, 1)).astype(np.float32))
        steep.append(np.abs(game.D.backward(one, need_dw=False)).mean())
    assert steep[1] < 0.5 * steep[0]


@pytest.mark.parametrize("backend", ("numpy", "cupy"))
def test_fast_backends_train_as_plain_does(backend, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", make_module())
    options = dict(r1=0.5, dtype="float64", classes=10)
    plain = play(make_game("mnist", backend="plain", **options), 4)
    fast = make_game("mnist", backend=backend, **options)
    assert fast.captured is not None
    for found, expected in zip(play(fast, 4).rows, plain.rows, strict=True):
        assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.skipif(not can_fork(), reason="processes cannot be forked here")
@pytest.mark.parametrize("batch_size, threads", ((32, 2), (14, 2), (13, 3)))
def test_processes_look_at_the_images_that_one_does(batch_size, threads):
    """Also where their rows begin anywhere, and where a process has none of these images."""
    options = dict(r1=0.5, dtype="float64", batch_size=batch_size)
    games = [make_game("mnist", threads=each, **options) for each in (threads, 1)]
    played = [play(game, 2) for game in games]
    assert games[0].captured.replay.group.size == threads
    games[0].captured.close()
    assert_near(*played)
