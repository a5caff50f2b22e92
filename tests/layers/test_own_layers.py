"""Layers of a user's own: what they return is checked, and they may hold networks."""

import copy

import numpy as np
import pytest

import minigan as mg
from minigan.backends import fusion
from minigan.export.onnx import onnx_file
from tests.support.refusals import refusal


class Own(mg.Layer):
    """Everything passes through."""

    def setup(self, in_shape, *, backend, rng, store):
        self.xp = backend.xp
        return super().setup(in_shape, backend=backend, rng=rng, store=store)

    def forward(self, x, train=True):
        return x

    def backward(self, dy, need_dx=True, need_dw=True):
        return dy if need_dx else None


class Doubled(Own):
    def forward(self, x, train=True):
        return x * np.sqrt(np.array([4.0]))  # float64


class Deep(Own):
    """Space to depth, without a setup that says so."""

    def forward(self, x, train=True):
        n, h, w, c = x.shape
        x = x.reshape(n, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5)
        return x.reshape(n, h // 2, w // 2, 4 * c)


class Nothing(Own):
    def forward(self, x, train=True):
        pass


class DoubledBack(Own):
    def backward(self, dy, need_dx=True, need_dw=True):
        return dy.astype(np.float64)


class NothingBack(Own):
    def backward(self, dy, need_dx=True, need_dw=True):
        pass


def network(layers, in_shape=(8, 8, 1), backend="numpy", dtype="float32"):
    net = mg.Sequential(layers, name="N")
    backend = mg.get_backend(backend, dtype=dtype)
    net.setup(in_shape, backend=backend, rng=np.random.default_rng(0))
    return net


def images(n=3):
    return np.random.default_rng(1).standard_normal((n, 8, 8, 1)).astype(np.float32)


@pytest.mark.parametrize("backend", ("plain", "numpy"))
@pytest.mark.parametrize(
    "layer, words",
    (
        (Doubled, "N.1 (Doubled): expected the y of forward of dtype float32, got float64"),
        (Deep, "N.1 (Deep): expected the y of forward (n, 8, 8, 2), got (3, 4, 4, 8)"),
        (Nothing, "N.1 (Nothing): got builtins.NoneType as the y of forward"),
        (DoubledBack, "N.1 (DoubledBack): expected the dx of backward of dtype float32"),
        (NothingBack, "N.1 (NothingBack): got builtins.NoneType as the dx of backward"),
    ),
)
def test_what_a_layer_returns_is_checked(layer, words, backend):
    """A convolution behind it would read another shape or dtype out of the same memory."""
    wide = mg.Conv2d(64, kernel_size=5, stride=2, padding="same")
    net = network([mg.Conv2d(2, kernel_size=3, padding=1), layer(), wide], backend=backend)
    with pytest.raises((mg.ArrayTypeError, mg.ShapeError)) as caught:
        net.backward(np.ones_like(net.forward(images())))
    assert str(caught.value).startswith(words) and "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", (None, (4.0,), (), 5))
def test_what_setup_returns_is_checked(shape):
    class Strange(Own):
        def setup(self, in_shape, **options):
            super().setup(in_shape, **options)
            return shape

    line = refusal(network, [Strange(), mg.Linear(2)], (4,), kind=mg.ShapeError)
    assert line.startswith("N.0 (Strange): expected a shape ") and line.endswith(f"got {shape}")


def test_a_setup_that_forgets_the_one_it_derives_from():
    class Forgetful(Own):
        def setup(self, in_shape, *, backend, rng, store):
            return in_shape

    net = network([Forgetful(), mg.Flatten(), mg.Linear(2)])
    assert net.backward(np.ones_like(net.forward(images()))).shape == (3, 8, 8, 1)


class Residual(Own):
    """y = x + f(x), where f is a network."""

    def __init__(self, layers):
        self.inner = mg.Sequential(layers)

    def setup(self, in_shape, *, backend, rng, store):
        super().setup(in_shape, backend=backend, rng=rng, store=store)
        return self.inner.setup(in_shape, backend=backend, rng=rng, store=store)

    def forward(self, x, train=True):
        return x + self.inner.forward(x, train)

    def backward(self, dy, need_dx=True, need_dw=True):
        dx = self.inner.backward(dy, need_dx, need_dw)
        return dy + dx if need_dx else None


@pytest.mark.parametrize("backend", ("plain", "numpy"))
def test_a_layer_may_hold_a_network(backend):
    """Its parameters are those of the network around it."""
    inner = [mg.Conv2d(3, kernel_size=3, padding=1), mg.BatchNorm(), mg.Tanh()]
    layers = [mg.Conv2d(3, kernel_size=3), Residual(inner), mg.Flatten(), mg.Linear(1)]
    net = network(layers, backend=backend, dtype="float64")
    assert {"0.W", "1.0.W", "1.1.gain", "3.b"} <= set(net.params)
    assert mg.check_gradients(net, images().astype(np.float64))
    before = net.params["1.0.W"].copy()
    net.backward(np.ones_like(net.forward(images().astype(np.float64))))
    mg.Adam(net).step()
    assert (net.params["1.0.W"] != before).any()
    other = copy.deepcopy(net)  # self.xp is a module
    np.testing.assert_array_equal(
        other.forward(images().astype(float)), net.forward(images().astype(float))
    )


def test_a_network_with_passes_of_its_own_is_not_written_as_onnx():
    pytest.importorskip("onnx")

    class Skip(mg.Sequential):
        def forward(self, x, train=True):
            return x + super().forward(x, train)

    net = network([mg.Flatten(), Skip([mg.Linear(64)])])
    with pytest.raises(mg.ConfigError, match=r"N\.1 .*cannot be written as ONNX"):
        onnx_file(net, "x", "y", {})


class Softsign(mg.Tanh):
    """y = x / (1 + |x|)"""

    forward_definition = staticmethod(lambda x, xp: x / (1 + xp.abs(x)))
    backward_definition = staticmethod(lambda dy, y: dy * (1 - abs(y)) ** 2)


def test_definitions_of_ones_own_run_on_every_backend():
    assert not fusion.is_exactly(Softsign(), mg.Tanh) and fusion.is_exactly(mg.Tanh(), mg.Tanh)
    x = images().astype(np.float64)
    fast, plain = (
        network([Softsign()], backend=name, dtype="float64") for name in ("numpy", "plain")
    )
    np.testing.assert_allclose(fast.forward(x), x / (1 + np.abs(x)), rtol=1e-12)
    np.testing.assert_allclose(fast.forward(x), plain.forward(x), rtol=1e-12)
    assert mg.check_gradients(fast, x)


@pytest.mark.parametrize(
    "arguments",
    (((3,), mg.initializers.he()), (3, mg.initializers.ones()), ((3,), mg.initializers.he(), 3)),
)
def test_mistakes_in_a_parameter(arguments):
    class Wrong(Own):
        def setup(self, in_shape, *, backend, rng, store):
            super().setup(in_shape, backend=backend, rng=rng, store=store)
            store.parameter(self, "a", *arguments)
            return in_shape

    line = refusal(network, [Wrong()], kind=mg.ConfigError)
    assert line.startswith("0.a: the initializer fails (")
    assert "Is the shape a tuple? Are fan_in and fan_out both given?" in line


def test_a_second_setup_and_calls_before_the_first():
    layers = [mg.Flatten(), mg.SpectralNorm(mg.Linear(3))]
    net = network(layers, dtype="float64")
    backend = mg.get_backend("numpy")
    net.setup((8, 8, 1), backend=backend, rng=np.random.default_rng(0))
    assert net.forward(images()).dtype == np.float32
    with pytest.raises(mg.StateError, match="call setup"):
        mg.Sequential([mg.Linear(3)]).summary()
    with pytest.raises(mg.ConfigError, match="Adam: N has no parameters to train"):
        mg.Adam(network([mg.Tanh()]))


@pytest.mark.parametrize("backend", ("plain", "numpy"))
def test_a_pass_of_one_object_runs(backend):
    """As one watches a layer: its forward is wrapped before setup."""
    layer, calls = mg.Linear(3), []
    forward = layer.forward
    layer.forward = lambda x, train=True: calls.append(len(x)) or forward(x, train)
    net = mg.Sequential([layer])
    net.setup((2,), backend=mg.get_backend(backend), rng=np.random.default_rng(0))
    net.forward(np.ones((5, 2), np.float32))
    assert calls == [5]
