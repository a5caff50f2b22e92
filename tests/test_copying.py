"""Copies of networks and of all that refers to them; pickle is refused."""

import copy
import pickle

import numpy as np
import pytest

import minigan as mg
from minigan.averaging import Average
from minigan.data import Batches
from minigan.data.base import Dataset
from minigan.training.config import new_config
from tests.support.noise_games import assert_near, assert_same_bits, make_batches, make_game, play

LAYERS = {
    "Linear": lambda: mg.Linear(3),
    "Conv2d": lambda: mg.Conv2d(3, 3),
    "Sequential": lambda: mg.Sequential([mg.Flatten(), mg.Linear(2)]),
}


def make(backend, name="net"):
    inner = mg.Sequential([mg.Flatten(), mg.Dropout(0.3), mg.Linear(1)])
    layers = [mg.Conv2d(4, 3, 2, "same"), mg.BatchNorm(), mg.LeakyReLU(0.2), inner]
    net = mg.Sequential(layers, name=name)
    net.setup((6, 6, 1), backend=backend, rng=np.random.default_rng(0))
    return net


def step(net, optimizer, seed=1):
    """One step -> the parameters after it, on the host."""
    images = np.random.default_rng(seed).standard_normal((4, 6, 6, 1))
    net.zero_grads()
    net.backward(net.forward(net.backend.asarray(images)))
    optimizer.step()
    return net.backend.to_host(net.ready().flat_params).copy()


def assert_connected(net):
    """Fails unless the names of the network's layers and of its flat arrays are one memory."""
    backend, store = net.backend, net.ready()
    for number, (views, flat) in enumerate(
        ((net.params, store.flat_params), (net.grads, store.flat_grads)), start=1
    ):
        flat.fill(number)
        assert all(np.all(backend.to_host(view) == number) for view in views.values())
    assert net.layers[0].W is net.params["0.W"] and net.layers[0].dW is net.grads["0.W"]
    assert net.layers[1].running_mean is net.buffers["1.running_mean"]
    dropout = net.layers[3].layers[1]
    assert dropout.generator is store.generators["3.1.generator"]
    assert dropout.container.container is net


def test_a_copy_takes_the_same_steps_and_leaves_the_original_alone(make_backend):
    net = make(make_backend("float32"))
    optimizer = mg.Adam(net, 0.01)
    average = Average(make(net.backend, "average"), net, 0.9)
    step(net, optimizer)
    average.update()
    before = step(net, optimizer)
    other, its_optimizer, its_average = copy.deepcopy((net, optimizer, average))
    assert its_optimizer.net is other and its_optimizer.store is other.store
    assert its_average.source is other and its_average.net is not average.net
    assert other.backend is net.backend
    expected = step(other, its_optimizer, seed=2)
    assert np.array_equal(net.backend.to_host(net.ready().flat_params), before)
    assert np.array_equal(step(net, optimizer, seed=2), expected)
    assert_connected(other)
    assert_connected(net)


@pytest.mark.parametrize("backend", ("plain", "numpy"))
def test_whatever_is_copied_brings_its_network_along(backend):
    net = make(mg.get_backend(backend))
    optimizer = mg.Adam(net)
    assert_connected(copy.deepcopy(optimizer).net)
    assert_connected(copy.deepcopy(net.params).owner and copy.deepcopy([net.params, net])[1])
    assert_connected(copy.deepcopy([net.layers[0].W, net.store, net])[2])
    layer = copy.deepcopy(net.layers[0])
    assert layer.container.layers[0] is layer is not net.layers[0]
    assert_connected(layer.container)
    inner = copy.deepcopy(net.layers[3].layers[2]).container
    assert inner.container.layers[3] is inner
    step(inner.container, mg.SGD(inner.container, 0.1))
    assert_connected(inner.container)


def test_a_copy_between_forward_and_backward_needs_another_forward():
    net = make(mg.get_backend("numpy"))
    y = net.forward(np.ones((2, 6, 6, 1), "f4"))
    with pytest.raises(mg.StateError, match="backward before forward"):
        copy.deepcopy(net).backward(y)
    net.backward(y)


@pytest.mark.parametrize("make_layer", LAYERS.values(), ids=LAYERS)
def test_layers_without_a_network_are_copied_for_another_one(make_layer):
    layer = make_layer()
    for other in (copy.deepcopy(layer), copy.copy(layer)):
        net = mg.Sequential([other])
        in_shape = (5,) if isinstance(layer, mg.Linear) else (5, 5, 1)
        net.setup(in_shape, backend=mg.get_backend(), rng=np.random.default_rng(0))
        assert layer.container is None and not layer.held


def test_a_shallow_copy_shares_the_arrays():
    net = make(mg.get_backend())
    other = copy.copy(net)
    other.layers[0].W = np.ones((3, 3, 1, 4))
    assert other.params is net.params and np.all(net.params["0.W"] == 1)


GAMES = (
    dict(threads=1, ema=0.9),
    *(
        pytest.param(options, marks=pytest.mark.slow)
        for options in ({}, dict(backend="plain"), dict(preset="fredriksson-mnist"))
    ),
)


@pytest.mark.parametrize("options", GAMES, ids=str)
def test_a_copied_game_plays_the_same_rounds(options):
    options = {"preset": "mnist", **options}
    game = make_game(**options, dtype="float64")
    batches = make_batches(game, flip=True)
    play(game, 2, batches)
    other, its_batches = copy.deepcopy((game, batches))
    assert other.optimizers["G"].net is other.G is other.nets["G"] is not game.G
    expected = play(other, 4, its_batches)
    compare = assert_near if options.get("threads") is None else assert_same_bits
    compare(play(game, 4, batches), expected)
    drawn = [each.sample(3, each.stream("sample")) for each in (game, other)]
    assert np.array_equal(*drawn)


def test_copied_batches_have_their_own_place(tmp_path):
    images = np.memmap(tmp_path / "images", np.uint8, "w+", shape=(9, 4, 4, 1))
    images[:] = np.arange(9)[:, None, None, None]
    batches = Batches(images, 2, 5, labels=np.arange(9), flip=True, drop_last=True)
    batches.draw()
    others = [copy.copy(batches), copy.deepcopy(batches)]
    expected = [[array.copy() for array in batches.draw()] for _ in range(6)]
    del batches  # and with it its file
    for other in others:
        for pair in expected:
            assert all(map(np.array_equal, other.draw(), pair))


def refused():
    net = make(mg.get_backend("numpy"))
    game = make_game("mnist")
    yield from (net, net.layers[0], net.layers[3], net.params, net.ready(), net.backend)
    yield from (
        mg.Adam(net),
        mg.SGD(net, 0.1),
        Average(net, net, 0.9),
        mg.ReLU(),
        [net],
        {"D": net},
    )
    yield from (game, game.captured, make_batches(game), mg.get_backend("plain"))


def test_pickle_is_refused_in_one_line():
    for value in refused():
        for protocol in (0, 2, pickle.HIGHEST_PROTOCOL):
            with pytest.raises(mg.ArrayTypeError, match=r"cannot be pickled.*save_arrays.*safeten"):
                pickle.dumps(value, protocol)


def test_plain_data_can_be_pickled_and_copied():
    config = new_config({"steps": 3})
    data = Dataset("name", np.zeros((2, 4, 4, 1), np.uint8), None, (), "fingerprint")
    for copied in (copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))):
        assert copied(config) == config
        assert copied(data).name == "name" and np.array_equal(copied(data).images, data.images)
