"""The gradient check: it has teeth, names the culprit, and leaves no trace."""

import numpy as np
import pytest

import minigan as mg
from minigan.initializers import normal
from minigan.layers import Layer
from tests.support.mutant_layers import (
    IMAGE,
    MUTANTS,
    SOUND,
    Altered,
    BatchNormByHand,
    conv,
    kernel_flipped_in_dW,
    linear,
    nothing,
)


def network(layers, in_shape, dtype="float64"):
    net = mg.Sequential(layers, name="N")
    backend = mg.get_backend("plain", dtype=dtype)
    net.setup(in_shape, backend=backend, rng=np.random.default_rng(0))
    return net


def draw(in_shape, n=5):
    """Random x with |x| between 0.1 and 1, away from kinks."""
    rng = np.random.default_rng(1)
    return rng.uniform(0.1, 1, (n, *in_shape)) * rng.choice([-1, 1], (n, *in_shape))


def blamed(report):
    """The arrays that a report calls wrong; NaN is wrong."""
    return {name for name, error in report.errors.items() if not error <= report.rtol}


# -- teeth: a check that nothing fails proves nothing ------------------------------------------


@pytest.mark.parametrize("name", SOUND)
def test_sound_layers_pass(name):
    make, in_shape = SOUND[name]
    assert mg.check_gradients(network([make()], in_shape), draw(in_shape))


@pytest.mark.parametrize("name", MUTANTS)
def test_mutants_are_caught_and_the_right_array_is_blamed(name):
    make, in_shape, wrong = MUTANTS[name]
    net = network([make()], in_shape)
    with pytest.raises(mg.GradientError, match=rf"N: .*DISAGREE: worst is {wrong}, .*") as caught:
        mg.check_gradients(net, draw(in_shape))
    assert isinstance(caught.value, AssertionError)
    report = mg.check_gradients(net, draw(in_shape), raise_on_failure=False, directions=1)
    assert not report and blamed(report) == {wrong} == {report.worst}
    assert str(report).count("<-- wrong") == 1


@pytest.mark.parametrize("name", [name for name, (_, _, wrong) in MUTANTS.items() if wrong == "x"])
def test_mutants_are_caught_between_other_layers(name):
    """A wrong dx makes the gradients before it wrong, and leaves those after it right."""
    make, in_shape, _ = MUTANTS[name]
    before = [mg.Linear(5), mg.Tanh(), mg.Linear(int(np.prod(in_shape))), mg.Reshape(in_shape)]
    net = network([*before, make(), mg.Flatten(), mg.Linear(2)], (6,))
    for bias in ("0.b", "2.b"):
        net.params[bias][...] = np.random.default_rng(2).standard_normal(net.params[bias].shape)
    wrong = blamed(mg.check_gradients(net, draw((6,)), raise_on_failure=False))
    assert {"0.W", "2.W"} <= wrong and not {"6.W", "6.b"} & wrong


@pytest.mark.parametrize("one", range(3))
def test_one_wrong_number_among_many_is_caught(one):
    """A single entry of dW that is off by a thousandth: the random directions see it."""

    def nudge(layer, dy, dx, before):
        layer.dW.reshape(-1)[one * 70] *= 1.001
        return dx

    net = network([Altered(mg.Conv2d(8, 3), nudge)], IMAGE)
    assert net.params["0.W"].size == 216
    with pytest.raises(mg.GradientError, match=r"worst is 0[.]W"):
        mg.check_gradients(net, draw(IMAGE))


@pytest.mark.parametrize("mistake", ({"x_hat_term": False}, {"any_dx": False}), ids=str)
@pytest.mark.parametrize("in_shape", (IMAGE, (4,)), ids=str)
def test_why_dy_must_be_random(mistake, in_shape):
    """The sum of BatchNorm's output does not depend on x: with dy = 1 the true dx is 0.

    And so is the mutant's: the check passes what it refuses with a random dy.
    """
    net, x = network([BatchNormByHand(**mistake)], in_shape), draw(in_shape)
    assert mg.check_gradients(net, x, dy=np.ones_like(x))
    for dy in (None, np.random.default_rng(3).standard_normal(x.shape)):
        with pytest.raises(mg.GradientError, match="worst is x"):
            mg.check_gradients(net, x, dy=dy)


def test_nan_is_a_mistake():
    def poison(layer, dy, dx, before):
        layer.db[0] = np.nan
        return dx

    with pytest.raises(mg.GradientError, match=r"worst is 0[.]b"):
        mg.check_gradients(network([linear(poison)], (4,)), draw((4,)))
    net = network([linear(lambda layer, dy, dx, before: dx * np.nan)], (4,))
    with pytest.raises(mg.GradientError, match="worst is x"):
        mg.check_gradients(net, draw((4,)))
    net = network([linear(lambda layer, dy, dx, before: layer.dW.fill(np.nan) or dx)], (4,))
    report = mg.check_gradients(net, draw((4,)), raise_on_failure=False)
    assert "need_dw=False" not in report.errors  # it did not change them


def test_a_layer_that_ignores_need_dw_is_caught():
    class Eager(mg.Linear):
        def backward(self, dy, need_dx=True, need_dw=True):
            return super().backward(dy, need_dx, need_dw=True)

    with pytest.raises(mg.GradientError, match=r"worst is need_dw=False"):
        mg.check_gradients(network([Eager(2)], (4,)), draw((4,)))


def test_a_small_error_in_a_large_network_is_seen():
    class Off(mg.Layer):
        def forward(self, x, train=True):
            return 1.0 * x

        def backward(self, dy, need_dx=True, need_dw=True):
            return dy * 1.0001 if need_dx else None

    for features in (10, 200_000):
        net, x = network([Off()], (features,)), draw((features,), n=2)
        assert not mg.check_gradients(net, x, raise_on_failure=False)


def test_kinks_do_not_disturb_it():
    """Among many inputs of ReLUs some lie within h of 0, and are no mistake."""
    for seed in range(2):
        layers = [mg.Linear(200), mg.ReLU(), mg.Linear(200), mg.LeakyReLU(0.1), mg.Linear(1)]
        x = np.random.default_rng(seed).standard_normal((30, 5))
        assert mg.check_gradients(network(layers, (5,)), x, seed=seed)


def test_black_pixels_lie_on_no_kink():
    """Where x and the bias are 0, a rectifier's input is 0 at every h."""
    x = draw((6, 6, 1)) * (np.arange(36).reshape(6, 6, 1) % 2)
    for layers in ([mg.Conv2d(2, 1), mg.LeakyReLU(0.2)], [mg.ConvTranspose2d(2, 2, 3), mg.ReLU()]):
        assert mg.check_gradients(network(layers, (6, 6, 1)), x)


# -- the report, the traces, the refusals ------------------------------------------------------


class Scale(Layer):
    """A user's own layer: y = a·x."""

    initializer = staticmethod(normal(1.0))

    def setup(self, in_shape, *, backend, rng, store):
        super().setup(in_shape, backend=backend, rng=rng, store=store)
        store.parameter(self, "a", self.in_shape, self.initializer)
        return self.in_shape

    def forward(self, x, train=True):
        self.saved = x
        return x * self.a

    def backward(self, dy, need_dx=True, need_dw=True):
        if need_dw:
            self.da += (dy * self.saved).sum(axis=0)
        return dy * self.a if need_dx else None


def test_the_report_of_a_layer_of_ones_own():
    report = mg.check_gradients(network([Scale(), mg.Linear(2)], (5,)), draw((5,)))
    assert report and set(report.errors) == {"x", "0.a", "1.W", "1.b"}
    assert str(report).startswith("gradients agree: worst is ")
    assert report.errors[report.worst] == max(report.errors.values()) <= 1e-6


def test_a_network_whose_output_is_0():
    class Zero(Scale):
        initializer = staticmethod(mg.initializers.zeros())

    assert mg.check_gradients(network([Zero()], (5,)), draw((5,)))


@pytest.mark.parametrize("change", (nothing, kernel_flipped_in_dW))
def test_it_leaves_no_trace(change):
    """Whether it passes or fails, all is bit for bit as before."""
    net, x = network([conv(change), mg.BatchNorm(), mg.Dropout(0.5)], IMAGE), draw(IMAGE)
    net.store.flat_grads[...] = np.random.default_rng(4).standard_normal(net.store.flat_grads.shape)

    def state():
        arrays = {"x": x, "grads": net.store.flat_grads, **net.params, **net.buffers}
        generators = [g.bit_generator.state for g in net.store.generators.values()]
        return {name: array.tobytes() for name, array in arrays.items()}, generators

    before = state()
    assert bool(mg.check_gradients(net, x, raise_on_failure=False)) == (change is nothing)
    assert state() == before
    with pytest.raises(mg.StateError, match="backward before forward"):
        net.backward(np.ones((5, *net.out_shape)))


def test_an_error_on_the_way_leaves_everything_as_it_was():
    net = network([mg.Linear(2)], (5,))
    net.store.flat_grads.fill(3.0)
    with pytest.raises(mg.ShapeError):
        mg.check_gradients(net, draw((5,)), np.ones((2, 7)))
    assert np.all(net.store.flat_grads == 3.0)


@pytest.mark.parametrize(
    "call, message",
    (
        (lambda: mg.check_gradients(mg.Linear(3), draw((5,))), "wrap a layer as Sequential"),
        (
            lambda: mg.check_gradients(network([Scale()], (5,)), draw((5,)), directions=0),
            "directions must be a whole number of at least 1",
        ),
        (
            lambda: mg.check_gradients(network([Scale()], (5,), dtype="float32"), draw((5,))),
            r'N is float32; set it up with get_backend\("plain", dtype="float64"\)',
        ),
    ),
)
def test_mistakes(call, message):
    with pytest.raises(mg.ConfigError, match=message):
        call()
