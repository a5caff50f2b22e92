"""Networks that are told the class: the layer, the door, and whole conditional nets."""

import numpy as np
import pytest

import minigan as mg
from minigan.presets import get_preset


def one_hot(backend, numbers, classes):
    return backend.asarray(np.eye(classes)[numbers])


def network(backend, *layers, in_shape, name="D"):
    net = mg.Sequential(layers, name=name)
    net.setup(in_shape, backend=backend, rng=np.random.default_rng(0))
    return net


def test_a_vector_gets_the_label_behind_its_numbers(make_backend):
    net = network(make_backend(), mg.AppendLabels(3), in_shape=(2,))
    backend = net.backend
    y = net.forward(backend.asarray([[5.0, 6.0], [7.0, 8.0]]), labels=one_hot(backend, [2, 0], 3))
    np.testing.assert_array_equal(backend.to_host(y), [[5, 6, 0, 0, 1], [7, 8, 1, 0, 0]])


def test_an_image_gets_it_as_planes(make_backend):
    net = network(make_backend(), mg.AppendLabels(2), in_shape=(2, 3, 1))
    backend = net.backend
    x = np.arange(12.0).reshape(2, 2, 3, 1)
    y = backend.to_host(net.forward(backend.asarray(x), labels=one_hot(backend, [1, 0], 2)))
    assert y.shape == (2, 2, 3, 3)
    np.testing.assert_array_equal(y[..., :1], x)
    for sample, number in ((0, 1), (1, 0)):
        for plane in (0, 1):
            assert np.all(y[sample, :, :, 1 + plane] == (plane == number))


def conditional(backend):
    """Labels before, within and behind convolutions and dense layers, in a nested Sequential too."""
    return network(
        backend,
        mg.AppendLabels(3),
        mg.Conv2d(4, 3, 2, 1),
        mg.LeakyReLU(0.2),
        mg.Sequential(
            [
                mg.AppendLabels(3),
                mg.Conv2d(5, 3, 1, 1, bias=False),
                mg.BatchNorm(),
                mg.LeakyReLU(0.2),
            ]
        ),
        mg.Flatten(),
        mg.AppendLabels(3),
        mg.Linear(6),
        mg.BatchNorm(gain=False, bias=False),
        mg.Tanh(),
        mg.AppendLabels(3),
        mg.Linear(1),
        in_shape=(6, 5, 2),
    )


def test_gradients_of_a_conditional_net(make_backend):
    net = conditional(make_backend())
    x = net.backend.asarray(np.random.default_rng(1).standard_normal((7, 6, 5, 2)))
    report = mg.check_gradients(net, x, labels=one_hot(net.backend, [0, 1, 2, 2, 1, 0, 1], 3))
    assert report and max(report.errors.values()) < 1e-6


def test_the_label_changes_the_verdict_and_reaches_every_appending_layer():
    net = conditional(mg.get_backend("numpy", dtype="float64"))
    x = np.random.default_rng(1).standard_normal((4, 6, 5, 2))
    told = [
        net.forward(x, labels=one_hot(net.backend, [k, 0, 1, 2], 3)) for k in range(3)
    ]  # (one for all: BatchNorm would remove it)
    assert not np.allclose(told[0], told[1]) and not np.allclose(told[1], told[2])
    for i in (
        0,
        5,
        9,
    ):  # with the weights of the other labels at 0, this one alone tells the classes apart
        quiet = conditional(mg.get_backend("numpy", dtype="float64"))
        for at, name in ((0, "1.W"), (5, "6.W"), (9, "10.W")):
            if at != i:
                quiet.params[name][..., -3:, :] = 0
        quiet.params["3.1.W"][..., -3:, :] = 0
        a, b = (quiet.forward(x, labels=one_hot(quiet.backend, [k, 0, 1, 2], 3)) for k in (0, 1))
        assert not np.allclose(a, b)


@pytest.mark.parametrize("player", ("generator", "discriminator"))
def test_gradients_of_the_published_conditional_net(player):
    preset = get_preset("radford-mnist-conditional")
    shape = (8, 8, 1)
    backend = mg.get_backend("numpy", dtype="float64")
    if player == "generator":
        net = network(backend, *preset.generator(2, 5, shape), in_shape=(5,), name="G")
    else:
        net = network(backend, *preset.discriminator(2, shape), in_shape=shape)
    for i, array in enumerate(net.params.values()):
        array[...] = np.random.default_rng([6, i]).normal(0, 0.3, array.shape)
    x = np.random.default_rng(1).standard_normal((6, *net.in_shape))
    assert mg.check_gradients(net, x, labels=one_hot(backend, [0, 3, 9, 1, 3, 7], 10))


MISTAKES = {
    "no labels": (
        lambda net, x: net.forward(x),
        mg.ConfigError,
        "D: expected labels (n, 3), got none: call forward(x, labels=one-hot array)",
    ),
    "numbers for one-hot": (
        lambda net, x: net.forward(x, labels=np.zeros(4)),
        mg.ShapeError,
        "D: expected labels (n, 3), got (4,)",
    ),
    "too few": (
        lambda net, x: net.forward(x, labels=np.eye(3)),
        mg.ShapeError,
        "D: expected labels of the 4 samples of x, got 3",
    ),
    "another dtype": (
        lambda net, x: net.forward(x, labels=np.zeros((4, 3), np.float32)),
        mg.ArrayTypeError,
        "D: expected labels of dtype float64, got float32: call backend.asarray(labels) first",
    ),
    "two sets of labels": (
        lambda net, x: network(net.backend, mg.AppendLabels(3), mg.AppendLabels(4), in_shape=(2,)),
        mg.ShapeError,
        "D.1 (AppendLabels 4): another layer of D has 3 classes: a network has one set of labels",
    ),
    "labels for a net that takes none": (
        lambda net, x: network(net.backend, mg.Tanh(), in_shape=(2,)).forward(
            np.zeros((4, 2)), labels=np.zeros((4, 3))
        ),
        mg.ConfigError,
        "D: got labels, but has no AppendLabels layer to take them",
    ),
    "no classes": (
        lambda net, x: mg.AppendLabels(0),
        mg.ConfigError,
        "AppendLabels: classes must be a whole number of at least 1, got 0",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(mistake):
    make, error, message = MISTAKES[mistake]
    net = conditional(mg.get_backend("numpy", dtype="float64"))
    with pytest.raises(error) as caught:
        make(net, np.zeros((4, 6, 5, 2)))
    assert message in str(caught.value) and "\n" not in str(caught.value)
