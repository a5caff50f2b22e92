"""Each layer on each backend: gradients, contracts of the protocol, memory."""

import numpy as np
import pytest

import minigan as mg
from minigan.layers.sequential import Sequential

LAYERS = {
    "Linear": (lambda: mg.Linear(4), (5,)),
    "Linear without bias": (lambda: mg.Linear(4, bias=False), (5,)),
    "Conv2d k3": (lambda: mg.Conv2d(3, 3), (5, 6, 2)),
    "Conv2d k5 s2 same": (lambda: mg.Conv2d(3, 5, stride=2, padding="same", bias=False), (6, 7, 2)),
    "Conv2d k2 s3": (lambda: mg.Conv2d(2, 2, stride=3), (7, 8, 1)),
    "Conv2d uneven": (
        lambda: mg.Conv2d(2, (2, 3), stride=(1, 2), padding=((1, 0), (2, 1))),
        (4, 6, 3),
    ),
    "ConvTranspose2d k4 s2 p1": (lambda: mg.ConvTranspose2d(3, 4, stride=2, padding=1), (3, 4, 2)),
    "ConvTranspose2d k5 s2 same": (
        lambda: mg.ConvTranspose2d(2, 5, stride=2, padding="same", bias=False),
        (3, 2, 2),
    ),
    "ConvTranspose2d k2 s3 same": (
        lambda: mg.ConvTranspose2d(2, 2, stride=3, padding="same"),
        (2, 3, 2),
    ),
    "ConvTranspose2d uneven": (
        lambda: mg.ConvTranspose2d(
            2, (3, 2), stride=(2, 3), padding=((1, 0), (0, 1)), output_padding=(1, 2)
        ),
        (2, 3, 3),
    ),
    "BatchNorm of vectors": (lambda: mg.BatchNorm(), (6,)),
    "BatchNorm of images": (lambda: mg.BatchNorm(eps=1e-3), (3, 2, 4)),
    "BatchNorm without gain": (lambda: mg.BatchNorm(gain=False), (4,)),
    "BatchNorm without bias": (lambda: mg.BatchNorm(bias=False), (4,)),
    "BatchNorm bare": (lambda: mg.BatchNorm(gain=False, bias=False), (2, 2, 3)),
    "LeakyReLU": (lambda: mg.LeakyReLU(0.2), (3, 4, 2)),
    "ReLU": (lambda: mg.ReLU(), (7,)),
    "Tanh": (lambda: mg.Tanh(), (3, 4, 2)),
    "Sigmoid": (lambda: mg.Sigmoid(), (7,)),
    "Dropout": (lambda: mg.Dropout(0.4), (9,)),
    "AppendLabels to vectors": (lambda: mg.AppendLabels(3), (4,)),
    "AppendLabels to images": (lambda: mg.AppendLabels(2), (3, 2, 4)),
    "Flatten": (lambda: mg.Flatten(), (2, 3, 2)),
    "Reshape": (lambda: mg.Reshape((3, 2, 2)), (12,)),
    "Sequential": (lambda: mg.Sequential([mg.Linear(3), mg.Tanh()]), (4,)),
}


def network(name, backend):
    make, in_shape = LAYERS[name]
    net = mg.Sequential([make()], name="net")
    net.setup(in_shape, backend=backend, rng=np.random.default_rng(5))
    for i, array in enumerate(net.params.values()):  # biases and gains too at values that matter
        array[...] = backend.asarray(np.random.default_rng([6, i]).normal(0.3, 1.0, array.shape))
    return net


def draw(net, n, seed=1):
    """-> x (n, *in_shape), nowhere near the kink of a ReLU at 0"""
    x = np.random.default_rng(seed).standard_normal((n, *net.in_shape))
    return net.backend.asarray(np.sign(x) * (np.abs(x) + 0.01))


def labels(net, n, seed=7):
    """-> what a conditional network wants besides: one-hot, a class for each of n samples; None for all others"""
    classes = net.store.classes
    return (
        net.backend.asarray(np.eye(classes)[np.random.default_rng(seed).integers(0, classes, n)])
        if classes
        else None
    )


def draw_dy(net, n, seed=2):
    return net.backend.asarray(np.random.default_rng(seed).standard_normal((n, *net.out_shape)))


@pytest.mark.parametrize("train", (True, False))
@pytest.mark.parametrize("name", LAYERS)
def test_gradients(name, train, make_backend):
    net = network(name, make_backend())
    report = mg.check_gradients(net, draw(net, 4), labels=labels(net, 4), train=train)
    assert report and max(report.errors.values()) < 1e-6
    assert set(report.errors) == {"x", *net.params}


@pytest.mark.parametrize("name", LAYERS)
def test_protocol(name, make_backend):
    backend = make_backend("float32")
    net, host = network(name, backend), backend.to_host
    x, dy = draw(net, 3), draw_dy(net, 3)
    x_before, dy_before = host(x).copy(), host(dy).copy()
    y = net.forward(x, labels=labels(net, 3))
    assert y.shape == (3, *net.out_shape)
    dx = net.backward(dy)
    assert dx.shape == x.shape
    np.testing.assert_array_equal(host(x), x_before)
    np.testing.assert_array_equal(host(dy), dy_before)

    once = {name: host(g).copy() for name, g in net.grads.items()}
    again = net.backward(dy)
    np.testing.assert_array_equal(host(again), host(dx))
    for key, g in net.grads.items():  # gradients add up
        np.testing.assert_array_equal(host(g), 2 * once[key])
        assert np.any(once[key])

    twice = {name: host(g).copy() for name, g in net.grads.items()}
    np.testing.assert_array_equal(host(net.backward(dy, need_dw=False)), host(dx))
    for key, g in net.grads.items():
        np.testing.assert_array_equal(host(g), twice[key])
    assert net.backward(dy, need_dx=False) is None
    for key, g in net.grads.items():
        np.testing.assert_allclose(host(g), 3 * once[key], rtol=1e-6)
    net.zero_grads()
    assert not any(np.any(host(g)) for g in net.grads.values())

    for array in (y, dx, *net.params.values(), *net.grads.values(), *net.buffers.values()):
        assert array.dtype == np.float32


@pytest.mark.parametrize("name", LAYERS)
def test_smaller_batch_in_the_same_memory(name, make_backend):
    """A last batch that is smaller, then a large one again: as if each were the first."""
    if name == "Dropout":
        pytest.skip("draws another mask at every forward")
    backend = make_backend()
    used, host = network(name, backend), backend.to_host
    for n in (5, 2, 4, 7):
        fresh = network(name, backend)
        x, dy = draw(fresh, n, seed=n), draw_dy(fresh, n, seed=n + 50)
        used.zero_grads()
        told = labels(fresh, n)
        np.testing.assert_array_equal(
            host(used.forward(x, labels=told)), host(fresh.forward(x, labels=told))
        )
        np.testing.assert_array_equal(host(used.backward(dy)), host(fresh.backward(dy)))
        for key in fresh.grads:
            np.testing.assert_array_equal(host(used.grads[key]), host(fresh.grads[key]))


def test_results_belong_to_the_caller(make_backend):
    """Whatever is kept, whole or as a view of a view, no later call writes over it."""
    net = network("Conv2d k3", make_backend())
    host = net.backend.to_host
    dy, kept = draw_dy(net, 2), []
    for seed in range(5):
        y = net.forward(draw(net, 2, seed))
        dx = net.backward(dy)
        for array in (y[:1].reshape(-1)[3:], dx):
            kept.append((array, host(array).copy()))
        logits = y.reshape(-1, 1)
        _, dlogits = mg.bce_with_logits(logits, 1.0, backend=net.backend)
        kept.append((dlogits, host(dlogits).copy()))
    for array, then in kept:
        np.testing.assert_array_equal(host(array), then)


def test_results_that_nobody_keeps_are_recycled():
    net = network("Conv2d k3", mg.get_backend("numpy"))
    x, places = draw(net, 4), set()
    for _ in range(6):
        y = net.forward(x)
        places.add(y.__array_interface__["data"][0])
    assert len(places) == 2  # the old y is still held while the next one is made
    assert np.shares_memory(net.forward(x[:2]), net.forward(x[:2])) is False


def test_dropout_keeps_the_mean_and_is_the_identity_in_sampling():
    net = mg.Sequential([mg.Dropout(0.3)])
    net.setup(
        (1000,), backend=mg.get_backend("numpy", dtype="float64"), rng=np.random.default_rng(0)
    )
    x = np.ones((100, 1000))
    y = net.forward(x)
    assert set(np.unique(y)) == {0.0, 1 / 0.7}
    assert abs(y.mean() - 1) < 0.01
    assert not np.array_equal(net.forward(x), y)
    np.testing.assert_array_equal(net.forward(x, train=False), x)


def test_batchnorm_running_statistics_and_sampling_modes():
    rng = np.random.default_rng(0)
    x = rng.normal(3, 2, (50, 2, 3, 4))
    m, axes = 50 * 2 * 3, (0, 1, 2)
    for unbiased, factor in ((True, m / (m - 1)), (False, 1.0)):
        net = mg.Sequential([mg.BatchNorm(running_rate=0.25, eps=1e-3, unbiased=unbiased)])
        net.setup((2, 3, 4), backend=mg.get_backend("numpy", dtype="float64"), rng=rng)
        net.forward(x)
        np.testing.assert_allclose(net.buffers["0.running_mean"], 0.25 * x.mean(axes), rtol=1e-12)
        np.testing.assert_allclose(
            net.buffers["0.running_var"], 0.75 + 0.25 * factor * x.var(axes), rtol=1e-12
        )
        frozen = {name: b.copy() for name, b in net.buffers.items()}
        y = net.forward(x[:1], train=False)
        wanted = (x[:1] - frozen["0.running_mean"]) / np.sqrt(frozen["0.running_var"] + 1e-3)
        np.testing.assert_allclose(y, wanted, rtol=1e-12)
        for name, buffer in net.buffers.items():
            np.testing.assert_array_equal(buffer, frozen[name])

    net = mg.Sequential([mg.BatchNorm(sampling="batch", eps=1e-12)])
    net.setup((2, 3, 4), backend=mg.get_backend("numpy", dtype="float64"), rng=rng)
    y = net.forward(x, train=False)
    np.testing.assert_allclose(y.mean(axes), 0, atol=1e-12)
    np.testing.assert_allclose(y.std(axes), 1, rtol=1e-9)
    np.testing.assert_array_equal(net.buffers["0.running_mean"], np.zeros(4))


def test_nested_sequential_names_and_values():
    backend, rng = mg.get_backend("numpy", dtype="float64"), np.random.default_rng
    inner = [mg.Linear(3), mg.Sequential([mg.Tanh(), mg.Linear(2)])]
    nested = mg.Sequential([mg.Flatten(), mg.Sequential(inner), mg.BatchNorm()], name="net")
    flat = mg.Sequential([mg.Flatten(), mg.Linear(3), mg.Tanh(), mg.Linear(2), mg.BatchNorm()])
    for net in (nested, flat):
        net.setup((2, 2, 1), backend=backend, rng=rng(0))
    assert list(nested.params) == ["1.0.W", "1.0.b", "1.1.1.W", "1.1.1.b", "2.gain", "2.bias"]
    x = rng(1).standard_normal((4, 2, 2, 1))
    np.testing.assert_array_equal(nested.forward(x), flat.forward(x))
    assert mg.check_gradients(nested, x)
    nested.forward(x)
    assert (
        nested.backward(rng(2).standard_normal((4, 2)), need_dx=False) is None
    )  # past Flatten, through both containers
    assert np.any(nested.grads["1.0.W"])


def test_backward_without_dx_stops_at_the_first_layer_that_learns():
    class Trap(mg.Layer):
        def forward(self, x, train=True):
            return x

        def backward(self, dy, need_dx=True, need_dw=True):
            raise AssertionError("nobody wants this layer's gradient")

    net = Sequential([Trap(), mg.Linear(2)])
    net.setup((3,), backend=mg.get_backend("numpy", dtype="float64"), rng=np.random.default_rng(0))
    net.forward(np.ones((2, 3)))
    net.backward(np.ones((2, 2)), need_dx=False)
    assert np.any(net.grads["1.W"])


def test_parameters_are_views_into_flat_arrays_in_order():
    net = network("Conv2d k3", mg.get_backend("numpy"))
    for views, flat in ((net.params, net.store.flat_params), (net.grads, net.store.flat_grads)):
        assert list(views) == ["0.W", "0.b"]
        starts = [view.__array_interface__["data"][0] for view in views.values()]
        assert starts == sorted(starts) and all(
            np.shares_memory(view, flat) for view in views.values()
        )
    net.params["0.W"][...] = 7.0
    assert np.all(net.layers[0].W == 7.0)


def test_fans_reach_the_initializers():
    def spy(seen):
        def initialize(rng, shape, fan_in, fan_out):
            seen.append((shape, fan_in, fan_out))
            return np.zeros(shape)

        return initialize

    seen = []
    net = mg.Sequential(
        [
            mg.ConvTranspose2d(4, (3, 2), initializer=spy(seen)),
            mg.Conv2d(5, 3, initializer=spy(seen)),
            mg.Flatten(),
            mg.Linear(7, initializer=spy(seen)),
        ]
    )
    net.setup((3, 3, 2), backend=mg.get_backend("numpy"), rng=np.random.default_rng(0))
    assert seen == [((3, 2, 4, 2), 12, 24), ((3, 3, 4, 5), 36, 45), ((30, 7), 30, 7)]


def test_initializers():
    from minigan.initializers import glorot_uniform, he, normal, ones, zeros

    rng, shape = np.random.default_rng(0), (300, 200)
    values = normal(0.02, mean=1.0)(rng, shape, 300, 200)
    assert abs(values.mean() - 1) < 1e-3 and abs(values.std() - 0.02) < 1e-3
    values = glorot_uniform()(rng, shape, 300, 200)
    assert np.abs(values).max() <= (6 / 500) ** 0.5 and abs(values.std() - (2 / 500) ** 0.5) < 1e-3
    assert abs(he()(rng, shape, 300, 200).std() - (2 / 300) ** 0.5) < 1e-3
    assert np.all(zeros()(rng, shape, 1, 1) == 0) and np.all(ones()(rng, shape, 1, 1) == 1)


def test_summary_counts_what_is_trained():
    net = network("Conv2d k3", mg.get_backend("numpy"))
    assert "Conv2d 2->3, k3 s1 valid" in net.summary() and "57" in net.summary()
