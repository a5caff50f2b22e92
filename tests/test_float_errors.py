"""The library is independent of the caller's np.seterr, print options and warning filters."""

import warnings
from math import exp, log1p

import numpy as np
import pytest

import minigan as mg
from minigan import gan
from minigan.averaging import Average
from minigan.data.batches import to_pixels
from minigan.evaluation.frechet import frechet_distance, moments
from minigan.evaluation.kid import kernel_distance
from minigan.evaluation.precision_recall import precision_recall, two_sample_accuracy
from minigan.evaluation.scores import classifier_score, entropies
from minigan.frozen_statistics import freeze_statistics, with_own_statistics
from minigan.inspection.interpolation import spherical
from minigan.inspection.open_run import activations
from minigan.layers.sequential import forward_pass
from minigan.objective import hinge, least_squares
from tests.support.noise_games import SYSTEMS, make_batches, make_game, play

EXTREME = (1e4, -1e4, 1e-42, -1e-30, 0.5, 88.8, -104.0, 3e38)


@pytest.fixture(autouse=True)
def strict():
    """Every floating-point error of the caller's raises, and so does every warning."""
    with np.errstate(all="raise"), warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def extreme(shape, scale=1.0, dtype="f4"):
    with np.errstate(all="ignore"):
        return (np.resize(EXTREME, shape) * scale).astype(dtype)


OPTIMIZERS = {
    "Adam": lambda net: mg.Adam(net, 0.1, l2=1e-3),
    "RMSprop": lambda net: mg.RMSprop(net, 0.1),
    "SGD": lambda net: mg.SGD(net, 0.1, momentum=0.9, nesterov=True),
}


@pytest.mark.parametrize("scale", (1e-25, 1.0, 1e25))
@pytest.mark.parametrize("make_optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_layers_and_optimizers(make_backend, make_optimizer, scale):
    backend = make_backend("float32")
    layers = [mg.Conv2d(3, 3, 2, "same"), mg.BatchNorm(), mg.LeakyReLU(0.2)]
    layers += [mg.ConvTranspose2d(2, 4, 2, 1), mg.ReLU(), mg.Dropout(0.4), mg.Flatten()]
    layers += [mg.Linear(4), mg.Sigmoid(), mg.Linear(3), mg.Tanh()]
    net = mg.Sequential(layers)
    net.setup((4, 4, 2), backend=backend, rng=np.random.default_rng(0))
    optimizer, average = make_optimizer(net), Average(net, net, 0.9)
    x = backend.asarray(extreme((4, 4, 4, 2), scale, "f8"))  # of another dtype
    for train in (True, False):
        net.zero_grads()
        y = net.forward(x, train=train)
        net.backward(backend.asarray(extreme(y.shape, scale)))
        net.grads.update({name: extreme(g.shape, scale) for name, g in net.grads.items()})
        optimizer.step()
        average.update()


@pytest.mark.parametrize("logit", (0.0, 1e-42, 87.5, -87.5, 103.9, -103.9, 1e4, -1e4))
@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_losses(make_backend, dtype, logit):
    backend = make_backend(dtype)
    with np.errstate(all="ignore"):
        logits, pair = (backend.asarray(values) for values in ([[logit]], [[logit, -logit]]))
    for target in (0.0, 0.9, 1.0):
        loss, dlogits = mg.bce_with_logits(logits, target, backend=backend)
        expected = max(logit, 0) - logit * target + log1p(exp(-abs(logit)))
        assert float(backend.to_host(loss)) == pytest.approx(expected, rel=1e-6)
        assert abs(float(backend.to_host(dlogits)[0, 0])) <= 1
        for other in (least_squares, hinge):
            other(logits, target, backend=backend)
    loss, _ = mg.softmax_cross_entropy(pair, backend.asarray([[0.0, 1.0]]), backend=backend)
    expected = max(2 * logit, 0) + log1p(exp(-abs(2 * logit)))
    assert float(backend.to_host(loss)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    "preset",
    (
        "mnist",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("shibuya-mnist", "radford-mnist-conditional")
        ),
    ),
)
def test_games_on_threads_and_processes(preset):
    game = make_game(preset, **({"ema": 0.9} if preset == "mnist" else {}))
    batches = make_batches(game)
    for value in (None, 1e-25, 1e25):
        if value is not None:
            for net in game.nets.values():
                net.params.update({name: np.full(p.shape, value) for name, p in net.params.items()})
        play(game, 2, batches)
        if value != 1e25:
            game.sample(3, game.stream("sample"))
    assert preset in SYSTEMS


def test_updates_called_directly():
    """Under a caller that is called at each error."""

    def fail(*arguments):
        raise FloatingPointError("called")

    G, D = mg.Sequential([mg.Linear(2)], name="G"), mg.Sequential([mg.Linear(1)], name="D")
    for net in (G, D):
        net.setup((2,), backend=mg.get_backend(), rng=np.random.default_rng(0))
    x, z = extreme((8, 2), 1e-3), extreme((8, 2), 1e-20)
    with np.errstate(all="call", call=fail):
        gan.update_discriminator(D, mg.Adam(D), x, G.forward(z))
        gan.update_generator(G, D, mg.Adam(G), G.forward(z))


def test_passes_through_a_part_of_a_network():
    net = mg.Sequential([mg.Linear(2), mg.BatchNorm(), mg.Linear(1)], name="D")
    net.setup((2,), backend=mg.get_backend(), rng=np.random.default_rng(0))
    x = extreme((8, 2), 1e-20)
    forward_pass(net.layers[:3], x, False, None)
    activations(net, x)
    freeze_statistics(with_own_statistics(net), x)


def test_gradient_checks():
    net = mg.Sequential([mg.Linear(3), mg.BatchNorm(), mg.Tanh()])
    net.setup((2,), backend=mg.get_backend(dtype="float64"), rng=np.random.default_rng(0))
    x = np.array([[1e3, 1e-300], [3.0, 2.0], [0.0, 0.0]])
    mg.check_gradients(net, x, raise_on_failure=False)


@pytest.mark.parametrize("scale", (0.0, 1e-30, 1.0))
def test_metrics_and_pictures(scale):
    with np.errstate(all="ignore"):
        rows = np.random.default_rng(0).standard_normal((30, 4)) * 1e-160
        far = extreme((30, 4), 1e-30, "f8")
        a, b = (rows * scale).astype("f4"), (far * scale).astype("f4")
    frechet_distance(moments(rows), moments(far * scale))
    frechet_distance(moments(a), moments(b))
    kernel_distance(far * scale, rows, np.random.default_rng(0))
    precision_recall(a, b)
    two_sample_accuracy(a, b)
    p = np.array([[1.0, 1e-310, 0.0], [0.0, 0.5, 0.5]])
    assert np.isfinite(classifier_score(p)) and np.all(np.isfinite(entropies(p)))
    spherical(a[0], b[0], np.linspace(0, 1, 3))
    to_pixels(extreme((4, 4)))


def test_messages_do_not_depend_on_print_options():
    net = mg.Sequential([mg.Linear(2)], name="D")
    net.setup((2,), backend=mg.get_backend(dtype="float64"), rng=np.random.default_rng(0))
    with np.printoptions(legacy="1.13", precision=1, formatter={"all": lambda x: 1 / 0}):
        report = str(mg.check_gradients(net, np.eye(2)))
        with pytest.raises(mg.ConfigError, match=r"got \(3, 3\)$"):
            layer = mg.Linear(2, initializer=lambda rng, shape, *fans: np.zeros((3, 3)))
            mg.Sequential([layer]).setup((2,), backend=net.backend, rng=np.random.default_rng(0))
    assert report == str(mg.check_gradients(net, np.eye(2)))
