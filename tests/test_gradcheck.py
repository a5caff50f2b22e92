"""The gradient check itself: what it reports, what it restores, and the composed loss of a GAN."""

import numpy as np
import pytest

import minigan as mg
from minigan.initializers import normal
from minigan.layers import Layer


class Scale(Layer):
    """A user's own layer: y = a·x, with a mistake on demand."""

    def __init__(self, wrong=""):
        self.wrong = wrong

    def setup(self, in_shape, *, backend, rng, store):
        super().setup(in_shape, backend=backend, rng=rng, store=store)
        store.parameter(self, "a", self.in_shape, normal(1.0))
        return self.in_shape

    def forward(self, x, train=True):
        self.x = x
        return x * self.a

    def backward(self, dy, need_dx=True, need_dw=True):
        if need_dw:
            self.da += (dy * self.x).sum(axis=0) * (1.001 if self.wrong == "a" else 1)
        return dy * self.a * (1.001 if self.wrong == "x" else 1) if need_dx else None


def network(*layers, in_shape=(5,), dtype="float64"):
    net = mg.Sequential(layers, name="mine")
    net.setup(in_shape, backend=mg.get_backend("numpy", dtype=dtype), rng=np.random.default_rng(0))
    return net


def test_report_of_a_right_layer():
    x = np.random.default_rng(1).standard_normal((4, 5))
    report = mg.check_gradients(network(Scale(), mg.Linear(2)), x)
    assert report and set(report.errors) == {"x", "0.a", "1.W", "1.b"}
    assert str(report).startswith("gradients agree: worst is ")
    assert report.errors[report.worst] == max(report.errors.values()) < 1e-6


@pytest.mark.parametrize("wrong, name", (("a", "0.a"), ("x", "x")))
def test_a_mistake_is_named(wrong, name):
    x = np.random.default_rng(1).standard_normal((4, 5))
    with pytest.raises(
        mg.GradientError, match=f"(?s)DISAGREE: worst is {name}, relative error 1.0e-03.*<-- wrong"
    ):
        mg.check_gradients(network(Scale(wrong)), x)
    report = mg.check_gradients(network(Scale(wrong)), x, raise_on_failure=False)
    assert not report and report.worst == name
    assert [key for key, error in report.errors.items() if error > report.rtol] == [name]


def test_nan_is_a_mistake():
    class Nan(Scale):
        def backward(self, dy, need_dx=True, need_dw=True):
            return super().backward(dy, need_dx, need_dw) * np.nan

    with pytest.raises(mg.GradientError, match="worst is x"):
        mg.check_gradients(network(Nan()), np.ones((2, 5)))


def test_a_layer_that_ignores_need_dw_is_caught():
    class Eager(Scale):
        def backward(self, dy, need_dx=True, need_dw=True):
            return super().backward(dy, need_dx, need_dw=True)

    with pytest.raises(mg.GradientError, match="worst is need_dw=False"):
        mg.check_gradients(network(Eager()), np.random.default_rng(0).standard_normal((2, 5)))


def test_a_small_error_in_a_large_network_is_seen():
    class Off(mg.Layer):
        def forward(self, x, train=True):
            return 1.0 * x

        def backward(self, dy, need_dx=True, need_dw=True):
            return dy * 1.0001 if need_dx else None

    for features in (10, 1_000_000):
        net = network(Off(), in_shape=(features,))
        assert not mg.check_gradients(
            net, np.random.default_rng(0).standard_normal((2, features)), raise_on_failure=False
        )


def test_an_error_on_the_way_leaves_everything_as_it_was():
    net = network(mg.Linear(2))
    net.store.flat_grads.fill(3.0)
    with pytest.raises(mg.ShapeError):
        mg.check_gradients(net, np.ones((2, 5)), np.ones((2, 7)))
    assert np.all(net.store.flat_grads == 3.0)
    with pytest.raises(mg.StateError, match="backward before forward"):
        net.backward(np.ones((2, 2)))


@pytest.mark.parametrize(
    "make, message",
    (
        (lambda: mg.check_gradients(mg.Linear(3), np.ones((2, 5))), "wrap a layer as Sequential"),
        (
            lambda: mg.check_gradients(network(Scale()), np.ones((2, 5)), directions=0),
            "directions must be a whole number of at least 1",
        ),
    ),
)
def test_mistakes(make, message):
    with pytest.raises(mg.ConfigError, match=message):
        make()


def test_everything_is_left_as_it_was():
    net = network(mg.Linear(6), mg.BatchNorm(), mg.Dropout(0.5), mg.LeakyReLU(0.2))
    net.store.flat_grads.fill(3.0)
    x = np.random.default_rng(1).standard_normal((4, 5))

    def state():
        arrays = {"x": x, "grads": net.store.flat_grads, **net.params, **net.buffers}
        generators = [g.bit_generator.state for g in net.store.generators.values()]
        return {name: array.copy() for name, array in arrays.items()}, generators

    arrays, generators = state()
    assert mg.check_gradients(net, x)
    after, generators_after = state()
    assert generators == generators_after
    for name in arrays:
        np.testing.assert_array_equal(after[name], arrays[name])


def test_kinks_do_not_disturb_it():
    """Many ReLU inputs in a deep net: some lie within h of 0 whatever the seed, and are no mistake."""
    for seed in range(5):
        net = network(mg.Linear(200), mg.ReLU(), mg.Linear(200), mg.LeakyReLU(0.1), mg.Linear(1))
        x = np.random.default_rng(seed).standard_normal((30, 5))
        assert mg.check_gradients(net, x, seed=seed)


@pytest.mark.parametrize("target", (1.0, 0.9))
def test_composed_loss_of_the_gan(target):
    """L_G(z, G) = mean BCE(D(G(z)), target), backward through loss, D and G, against its definition."""
    backend, rng = mg.get_backend("numpy", dtype="float64"), np.random.default_rng(0)
    big = normal(0.5)
    G = [
        mg.Linear(4 * 4 * 3, initializer=big),
        mg.Reshape((4, 4, 3)),
        mg.BatchNorm(),
        mg.ReLU(),
        mg.ConvTranspose2d(2, 5, stride=2, padding="same", initializer=big),
        mg.BatchNorm(),
        mg.LeakyReLU(0.2),
        mg.ConvTranspose2d(1, 4, stride=2, padding=1, initializer=big),
        mg.Tanh(),
    ]
    D = [
        mg.Conv2d(3, 4, stride=2, padding=1, initializer=big),
        mg.LeakyReLU(0.2),
        mg.Conv2d(4, 5, stride=2, padding="same", initializer=big),
        mg.BatchNorm(),
        mg.LeakyReLU(0.2),
        mg.Flatten(),
        mg.Linear(1, initializer=big),
    ]
    net = mg.Sequential(G + D, name="D(G(z))")
    net.setup((6,), backend=backend, rng=rng)
    z = rng.standard_normal((5, 6))
    assert mg.check_gradients(net, z)

    _, dlogits = mg.bce_with_logits(net.forward(z), target)
    net.zero_grads()
    net.backward(dlogits)
    gradient = net.store.flat_grads.copy()
    start = net.store.flat_params.copy()
    for _ in range(5):
        u = rng.standard_normal(start.shape)
        u /= np.linalg.norm(u)
        errors = []
        for h in (1e-5, 1e-6):
            losses = []
            for sign in (1, -1):
                net.store.flat_params[...] = start + sign * h * u
                losses.append(float(mg.bce_with_logits(net.forward(z), target)[0]))
            found = (losses[0] - losses[1]) / (2 * h)
            errors.append(abs(found - gradient @ u) / abs(found))
        assert min(errors) < 1e-6


def test_float32_is_refused():
    with pytest.raises(mg.ConfigError, match='dtype="float64"'):
        mg.check_gradients(network(Scale(), dtype="float32"), np.ones((2, 5), np.float32))
