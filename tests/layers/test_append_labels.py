"""Networks that receive labels: the layer, and whole conditional networks."""

import numpy as np
import pytest

import minigan as mg
from tests.support.networks import network


def one_hot(backend, numbers, classes):
    return backend.asarray(np.eye(classes)[numbers])


def test_a_vector_gets_the_label_after_its_numbers(make_backend):
    backend = make_backend()
    net = network([mg.AppendLabels(3)], (2,), backend)
    x = backend.asarray([[5.0, 6.0], [7.0, 8.0]])
    y = backend.to_host(net.forward(x, labels=one_hot(backend, [2, 0], 3)))
    np.testing.assert_array_equal(y, [[5, 6, 0, 0, 1], [7, 8, 1, 0, 0]])
    dx = backend.to_host(net.backward(backend.asarray([[1.0, 2, 3, 4, 5], [6, 7, 8, 9, 0]])))
    np.testing.assert_array_equal(dx, [[1, 2], [6, 7]])


def test_an_image_gets_it_as_planes(make_backend):
    backend = make_backend()
    net = network([mg.AppendLabels(2)], (2, 3, 1), backend)
    x = np.arange(12.0).reshape(2, 2, 3, 1)
    y = backend.to_host(net.forward(backend.asarray(x), labels=one_hot(backend, [1, 0], 2)))
    assert y.shape == (2, 2, 3, 3)
    np.testing.assert_array_equal(y[..., :1], x)
    for sample, number in ((0, 1), (1, 0)):
        for plane in (0, 1):
            assert np.all(y[sample, :, :, 1 + plane] == (plane == number))


PLACES = {  # where conditional() appends labels -> the weights behind it
    "at the image": "1.W",
    "in a nested Sequential": "3.1.W",
    "after Flatten": "6.W",
    "last": "10.W",
}


def conditional(backend):
    """Labels before, between and after convolutions and dense layers."""
    nested = [mg.AppendLabels(3), mg.Conv2d(5, 3, 1, 1, bias=False), mg.BatchNorm()]
    layers = [
        mg.AppendLabels(3), mg.Conv2d(4, 3, 2, 1), mg.LeakyReLU(0.2),
        mg.Sequential([*nested, mg.LeakyReLU(0.2)]),
        mg.Flatten(), mg.AppendLabels(3), mg.Linear(6), mg.BatchNorm(gain=False), mg.Tanh(),
        mg.AppendLabels(3), mg.Linear(1),
    ]  # fmt: skip
    return network(layers, (6, 5, 2), backend, name="D")


def test_gradients_of_a_conditional_network(make_backend):
    net = conditional(make_backend())
    x = net.backend.asarray(np.random.default_rng(1).standard_normal((7, 6, 5, 2)))
    labels = one_hot(net.backend, [0, 1, 2, 2, 1, 0, 1], 3)
    report = mg.check_gradients(net, x, labels=labels, directions=1)
    assert max(report.errors.values()) <= 1e-6


@pytest.mark.parametrize("place", PLACES)
def test_the_label_matters_at_every_place(place, make_backend):
    """With the weights of the other labels at 0, one place alone tells the classes apart."""
    backend = make_backend()
    net = conditional(backend)
    for other, name in PLACES.items():
        if other != place:
            weights = backend.to_host(net.params[name]).copy()
            weights[..., -3:, :] = 0
            net.params[name][...] = backend.asarray(weights)
    x = backend.asarray(np.random.default_rng(1).standard_normal((4, 6, 5, 2)))
    a, b = (  # not one class for all samples: BatchNorm would remove it
        backend.to_host(net.forward(x, labels=one_hot(backend, [k, 0, 1, 2], 3))) for k in (0, 1)
    )
    assert not np.allclose(a, b)


def plain(*layers, in_shape):
    return network(layers, in_shape, mg.get_backend("plain", dtype="float64"), name="D")


MISTAKES = {
    "no labels": (
        lambda net, x: net.forward(x),
        mg.ConfigError,
        "D: expected labels (n, 3), got none: call forward(x, labels=one-hot array)",
    ),
    "numbers instead of one-hot": (
        lambda net, x: net.forward(x, labels=np.zeros(4)),
        mg.ShapeError,
        "D: expected one-hot labels (n, 3), got (4,): call backend.asarray(numpy.eye(3)[labels])",
    ),
    "too few": (
        lambda net, x: net.forward(x, labels=np.eye(3)),
        mg.ShapeError,
        "D: expected labels for 4 samples, got 3",
    ),
    "another dtype": (
        lambda net, x: net.forward(x, labels=np.zeros((4, 3), np.float32)),
        mg.ArrayTypeError,
        "D: expected labels of dtype float64, got float32: call backend.asarray(labels) first",
    ),
    "two sets of labels": (
        lambda net, x: plain(mg.AppendLabels(3), mg.AppendLabels(4), in_shape=(2,)),
        mg.ShapeError,
        "D: layers expect labels of 3 and 4 classes: a network has one set of labels",
    ),
    "two sets of labels, one of them nested": (
        lambda net, x: plain(
            mg.AppendLabels(3), mg.Sequential([mg.AppendLabels(4)]), in_shape=(2,)
        ),
        mg.ShapeError,
        "D: layers expect labels of 3 and 4 classes: a network has one set of labels",
    ),
    "labels for a network that takes none": (
        lambda net, x: plain(mg.Tanh(), in_shape=(2,)).forward(
            np.zeros((4, 2)), labels=np.zeros((4, 3))
        ),
        mg.ConfigError,
        "D: got labels, but no AppendLabels layer takes them: leave them out",
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
    net = conditional(mg.get_backend("plain", dtype="float64"))
    with pytest.raises(error) as caught:
        make(net, np.zeros((4, 6, 5, 2)))
    assert message in str(caught.value) and "\n" not in str(caught.value)
