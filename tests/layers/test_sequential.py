"""Sequential: order and names, nesting, what is not computed, and calls in the wrong order."""

import numpy as np
import pytest

import minigan as mg
from minigan.layers import Layer
from tests.support.networks import (
    CHAINS,
    assert_close,
    draw_dy,
    draw_x,
    forward,
    named_network,
    network,
    to_host,
)


def test_names_are_places_in_order():
    inner = [mg.Linear(3), mg.Sequential([mg.Tanh(), mg.Linear(2)])]
    net = network([mg.Flatten(), mg.Sequential(inner), mg.BatchNorm()], (2, 2, 1))
    assert list(net.params) == ["1.0.W", "1.0.b", "1.1.1.W", "1.1.1.b", "2.gain", "2.bias"]
    assert list(net.grads) == list(net.params)
    assert list(net.buffers) == ["2.running_mean", "2.running_var"]
    assert net.layers[1].layers[1].layers[1].label == "N.1.1.1 (Linear 3->2)"


@pytest.mark.parametrize("name", CHAINS)
def test_a_sequential_in_a_sequential_is_the_same_network(name, make_backend):
    """Split anywhere into two inner containers: the same y, dx and gradients."""
    backend = make_backend()
    flat = named_network(name, backend)
    x, dy = draw_x(flat, 3), draw_dy(flat, 3)
    y, dx = backend.to_host(forward(flat, x)), backend.to_host(flat.backward(dy))
    gradients = to_host(flat, flat.grads)
    make, in_shape = CHAINS[name]
    for cut in range(1, len(flat.layers)):
        layers = make()
        nested = network(
            [mg.Sequential(layers[:cut]), mg.Sequential(layers[cut:])], in_shape, backend
        )
        assert_close(backend.to_host(forward(nested, x)), y, "y")
        assert_close(backend.to_host(nested.backward(dy)), dx, "dx")
        for need_dx in (True, False):
            nested.zero_grads()
            forward(nested, x)
            assert (nested.backward(dy, need_dx=need_dx) is None) != need_dx
            found = to_host(nested, nested.grads)
            for got, (key, wanted) in zip(found.values(), gradients.items(), strict=True):
                assert_close(got, wanted, key)


class Witness(Layer):
    """Passes everything through and records what it is asked for."""

    def forward(self, x, train=True):
        self.asked = []
        return x

    def backward(self, dy, need_dx=True, need_dw=True):
        self.asked.append((need_dx, need_dw))
        return dy if need_dx else None


class WitnessWithWeight(Witness):
    def setup(self, in_shape, *, backend, rng, store):
        store.parameter(self, "W", (1,), lambda rng, shape, fan_in, fan_out: np.ones(shape))
        return super().setup(in_shape, backend=backend, rng=rng, store=store)


def test_no_gradient_is_computed_that_nobody_needs(make_backend):
    """Without need_dx the first layer with weights gives no dx, and those before it do not run."""
    layers = [Witness(), WitnessWithWeight(), Witness(), WitnessWithWeight()]
    net = network(layers, (3,), make_backend())
    x = draw_x(net, 2)
    for need_dx, need_dw, wanted in (
        (True, True, [[(True, True)]] * 4),
        (True, False, [[(True, False)]] * 4),
        (False, True, [[], [(False, True)], [(True, True)], [(True, True)]]),
        (False, False, [[], [], [], []]),
    ):
        net.forward(x)
        net.backward(x, need_dx=need_dx, need_dw=need_dw)
        assert [layer.asked for layer in layers] == wanted


@pytest.mark.parametrize("name", CHAINS)
def test_calls_in_the_wrong_order_are_refused(name, make_backend):
    net = named_network(name, make_backend())
    x, dy = draw_x(net, 3), draw_dy(net, 3)
    with pytest.raises(mg.StateError, match="N: backward before forward: call forward"):
        net.backward(dy)
    forward(net, x)
    with pytest.raises(mg.ShapeError, match=f"N.*: expected x .*, got .*{net.in_shape[-1] + 1}"):
        net.forward(net.backend.asarray(np.ones((3, *net.in_shape[:-1], net.in_shape[-1] + 1))))
    forward(net, x)
    with pytest.raises(mg.ShapeError, match=r"N: expected dy for the 3 samples .*, got 2"):
        net.backward(dy[:2])
    with pytest.raises(mg.ShapeError, match="N: expected dy "):
        net.backward(dy.reshape(*dy.shape, 1))
    assert net.backward(dy) is not None  # a mistake leaves the network usable


@pytest.mark.parametrize("make", (mg.Adam, lambda net: mg.SGD(net, 0.1), mg.RMSprop))
def test_backward_through_weights_that_have_changed_is_refused(make, make_backend):
    """After the optimizer's step the activations belong to a network that no longer exists."""
    net = network([mg.Linear(2)], (3,), make_backend())
    optimizer, x, dy = make(net), draw_x(net, 4), draw_dy(net, 4)
    net.forward(x)
    net.backward(dy)
    optimizer.step()
    for need_dw in (True, False):
        with pytest.raises(mg.StateError, match="N: the parameters were updated since the last"):
            net.backward(dy, need_dw=need_dw)
    net.forward(x)
    host = net.backend.to_host
    assert_close(host(net.backward(dy)), host(dy) @ host(net.params["0.W"]).T, "dx")


def test_backward_after_a_step_that_failed_is_refused(monkeypatch):
    """Some parameters may have changed."""
    net = network([mg.Linear(2)], (3,))
    optimizer = mg.Adam(net)
    net.backward(net.forward(draw_x(net, 4)))

    def interrupted(optimizer, backend):
        optimizer.store.flat_params[:3] = 0
        raise KeyboardInterrupt

    monkeypatch.setattr(mg.Adam, "apply", interrupted)
    with pytest.raises(KeyboardInterrupt):
        optimizer.step()
    with pytest.raises(mg.StateError, match="the parameters were updated since the last forward"):
        net.backward(draw_dy(net, 4))


def test_a_part_that_is_called_alone_ends_the_pass_of_the_whole(make_backend):
    """The whole network's backward would mix two passes."""
    part = mg.Sequential([mg.Linear(4), mg.Tanh()], name="part")
    net = network([part, mg.Linear(1)], (3,), make_backend())
    x, dy = draw_x(net, 5), draw_dy(net, 5)
    net.forward(x)
    part.forward(x)
    with pytest.raises(mg.StateError, match="N: backward before forward"):
        net.backward(dy)
    net.forward(x)
    net.backward(dy)
    with pytest.raises(mg.StateError, match="part: is a part of another network: use that one"):
        part.zero_grads()


class Labeled(Layer):
    takes_labels = True

    def forward(self, x, train=True, labels=None):
        return x * labels.sum(axis=1, keepdims=True)


def test_a_layer_that_takes_labels_says_how_many():
    with pytest.raises(mg.ConfigError, match="a layer that takes labels needs their number, class"):
        network([mg.Linear(2), Labeled()], (3,))
    layer = Labeled()
    layer.classes = 3
    net = network([mg.Linear(2), layer], (3,))
    x = draw_x(net, 3)
    assert net.forward(x, labels=np.eye(3)).shape == (3, 2)


class Failing(Layer):
    def forward(self, x, train=True):
        if train:
            raise mg.ShapeError("on purpose")
        return x


def test_a_forward_that_fails_leaves_nothing_to_go_back_through():
    net = network([mg.Linear(2), Failing()], (3,))
    net.forward(np.ones((2, 3)), train=False)
    with pytest.raises(mg.ShapeError):
        net.forward(np.ones((2, 3)))
    with pytest.raises(mg.StateError, match="backward before forward"):
        net.backward(np.ones((2, 2)))


def test_on_another_backend_the_parameters_are_shared_and_the_steps_are_not():
    fast, plain = (mg.get_backend(name, dtype="float64") for name in ("numpy", "plain"))
    net = network(CHAINS["discriminator"][0](), CHAINS["discriminator"][1], fast)
    other = net.on(plain)
    assert net.on(fast) is net and other is not net
    assert other.steps == other.layers != net.steps and other.backend is plain
    x, dy = draw_x(net, 3), draw_dy(net, 3)
    other.forward(x)
    other.backward(dy)
    gradients = to_host(net, net.grads)  # one store
    with pytest.raises(mg.StateError, match="backward before forward"):
        net.backward(dy)
    net.zero_grads()
    net.forward(x)
    net.backward(dy)
    for key, gradient in gradients.items():
        assert_close(net.grads[key], gradient, key)


def test_summary_counts_what_is_trained():
    net = network([mg.Conv2d(3, 3), mg.BatchNorm()], (5, 6, 2), name="D")
    assert net.count() == (2 * 9 * 3 + 3 + 6, 6) and net.count(1) == (6, 6)
    lines = net.summary().splitlines()
    assert lines[0].startswith("D: input") and "(5, 6, 2)" in lines[0]
    assert "0 Conv2d 2->3, k3 s1 valid" in lines[1] and lines[1].endswith(" 57")
    assert "1 BatchNorm 3" in lines[2] and lines[2].endswith(" 12")
    assert lines[3].split() == ["parameters", "63", "trained,", "6", "not", "69"]


def sequential(*layers):
    return mg.Sequential(list(layers), name="N")


def set_up(net, in_shape=(3,), backend=None, rng=None):
    backend = backend or mg.get_backend("plain")
    return net.setup(in_shape, backend=backend, rng=rng or np.random.default_rng(0))


def in_two_networks():
    layer = mg.Linear(2)
    set_up(sequential(layer))
    set_up(sequential(layer))


def a_network_in_a_network():
    inner = sequential(mg.Linear(2))
    set_up(inner)
    set_up(mg.Sequential([inner], name="outer"))


def a_part_of_a_network():
    inner = sequential(mg.Linear(2))
    set_up(mg.Sequential([inner], name="outer"))
    set_up(inner)


@pytest.mark.parametrize(
    "make, error, message",
    (
        (lambda: mg.Sequential(mg.Linear(3)), mg.ConfigError, "expected a list of layers, got Lin"),
        (lambda: mg.Sequential([]), mg.ConfigError, "a Sequential needs at least one layer"),
        (lambda: mg.Sequential([mg.Tanh]), mg.ConfigError, "expected layers, got <class"),
        (lambda: mg.Sequential([mg.Tanh()] * 2), mg.ConfigError, "layer instance appears twice"),
        (in_two_networks, mg.StateError, "belongs to another network: make a new one"),
        (a_network_in_a_network, mg.StateError, "is a network already: put new layers"),
        (a_part_of_a_network, mg.StateError, "N: is a part of another network: set up that one"),
        (lambda: set_up(sequential(mg.Tanh()), 3), mg.ShapeError, "expected a shape without"),
        (lambda: set_up(sequential(mg.Tanh()), (3, 0)), mg.ShapeError, "of whole numbers above 0"),
        (
            lambda: set_up(sequential(mg.Tanh()), backend="numpy"),
            mg.ConfigError,
            "expected backend from get_backend(\"numpy\"), got 'numpy'",
        ),
        (lambda: set_up(sequential(mg.Tanh()), rng=7), mg.ConfigError, "expected rng from num"),
        (lambda: sequential(mg.Tanh()).params, mg.StateError, "call setup(in_shape, backend=..."),
        (lambda: sequential(mg.Tanh()).forward(np.ones((2, 3))), mg.StateError, "call setup(in_s"),
    ),
)
def test_mistakes(make, error, message):
    with pytest.raises(error) as caught:
        make()
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_setup_that_fails_leaves_no_network():
    net = sequential(mg.Linear(3), mg.Conv2d(2, 3))
    with pytest.raises(mg.ShapeError, match=r"N.1 .*expected an image \(h, w, c\), got \(3,\)"):
        set_up(net)
    with pytest.raises(mg.StateError, match="call setup"):
        net.forward(np.ones((2, 3), np.float32))
