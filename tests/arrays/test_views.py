"""Assignments to the arrays of networks and optimizers: they copy into place, or raise."""

import operator

import numpy as np
import pytest

import minigan as mg
from tests.support.noise_games import assert_near, make_batches, make_game, play


def make(backend):
    layers = [mg.Linear(3), mg.BatchNorm(), mg.Sequential([mg.Dropout(0.5), mg.Linear(1)])]
    net = mg.Sequential(layers, name="D")
    net.setup((2,), backend=backend, rng=np.random.default_rng(0))
    return net, mg.Adam(net, 0.1)


ASSIGNMENTS = {
    "params": ("0.W", lambda net, opt, w: net.params.__setitem__("0.W", w)),
    "update": ("0.W", lambda net, opt, w: net.params.update({"0.W": w})),
    "layer.W": ("0.W", lambda net, opt, w: setattr(net.layers[0], "W", w)),
    "inner": ("2.1.W", lambda net, opt, w: setattr(net.layers[2].layers[1], "W", w)),
    "gain": ("1.gain", lambda net, opt, w: setattr(net.layers[1], "gain", w)),
    "grads": ("grad 0.W", lambda net, opt, w: net.grads.__setitem__("0.W", w)),
    "dW": ("grad 0.W", lambda net, opt, w: setattr(net.layers[0], "dW", w)),
    "buffers": ("1.running_var", lambda net, opt, w: net.buffers.update({"1.running_var": w})),
    "running": ("1.running_mean", lambda net, opt, w: setattr(net.layers[1], "running_mean", w)),
    "flat_params": ("flat", lambda net, opt, w: setattr(net.store, "flat_params", w)),
    "m": ("m", lambda net, opt, w: setattr(opt, "m", w)),
}


def arrays_of(net, opt):
    return {
        **net.params,
        **net.buffers,
        **{f"grad {name}": array for name, array in net.grads.items()},
        "flat": net.store.flat_params,
        "m": opt.m,
        "v": opt.v,
    }


@pytest.mark.parametrize("name, assign", ASSIGNMENTS.values(), ids=ASSIGNMENTS)
def test_an_assignment_copies_into_place(make_backend, name, assign):
    net, opt = make(make_backend("float32"))
    before, (x, dy) = arrays_of(net, opt), map(net.backend.asarray, (np.eye(2), np.ones((2, 1))))
    values = np.arange(1.0, 1.0 + before[name].size).reshape(before[name].shape)
    assign(net, opt, values)
    assert all(array is before[key] for key, array in arrays_of(net, opt).items())
    assert np.array_equal(net.backend.to_host(before[name]), values)
    assign(net, opt, net.backend.asarray(values + 1)[::-1])  # of the backend, and a view
    assert np.array_equal(net.backend.to_host(before[name]), (values + 1)[::-1])
    assign(net, opt, values.astype(int).tolist())
    net.forward(x)
    net.backward(dy)
    opt.step()  # and it is the array that the optimizer uses
    if name in net.params:
        moved = net.backend.to_host(net.params[name] - net.backend.asarray(values))
        assert 0 < np.abs(moved).max() < 0.11


WRONG = {
    "shape": (lambda w: np.zeros((*w.shape, 2)), mg.ShapeError),
    "number": (lambda w: 0.0, mg.ShapeError),
    "transposed": (lambda w: np.zeros((1, *w.shape)), mg.ShapeError),
    "none": (lambda w: None, mg.ArrayTypeError),
    "text": (lambda w: np.full(w.shape, "a"), mg.ArrayTypeError),
    "complex": (lambda w: np.ones(w.shape) * 1j, mg.ArrayTypeError),
    "bool": (lambda w: np.ones(w.shape, bool), mg.ArrayTypeError),
    "too large": (lambda w: np.full(w.shape, 1e300), mg.ArrayTypeError),
    "ragged": (lambda w: [[1], [1, 2]], mg.ArrayTypeError),
}


@pytest.mark.parametrize("wrong, error", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("name, assign", ASSIGNMENTS.values(), ids=ASSIGNMENTS)
def test_what_does_not_fit_is_refused_and_changes_nothing(name, assign, wrong, error):
    net, opt = make(mg.get_backend("numpy"))
    before = {key: array.copy() for key, array in arrays_of(net, opt).items()}
    with pytest.raises(error, match=f"^(D|Adam).{name.split()[-1][:4]}.*expected") as caught:
        assign(net, opt, wrong(before[name]))
    assert "\n" not in str(caught.value)
    for key, array in arrays_of(net, opt).items():
        assert np.array_equal(array, before[key])


def test_names_are_fixed():
    net, opt = make(mg.get_backend("numpy"))
    w = np.zeros((2, 3))
    for change in (
        lambda: net.params.pop("0.W"),
        lambda: net.params.popitem(),
        lambda: net.params.clear(),
        lambda: operator.ior(net.params, {"0.W": w}),
        lambda: net.buffers.pop("1.running_var"),
        lambda: net.params.update(other=w),
        lambda: net.params.setdefault("other", w),
        lambda: setattr(net.layers[2].layers[0], "generator", np.random.default_rng(0)),
        lambda: setattr(opt, "beta1", 0.9),
        lambda: setattr(opt, "eps", 1e-3),
        lambda: setattr(opt, "lr", "a"),
        lambda: setattr(opt, "lr", float("nan")),
    ):
        with pytest.raises(mg.MiniganError):
            change()
    with pytest.raises(mg.ConfigError, match=r"D.1.runing_var .* did you mean 1.running_var\?"):
        net.buffers["1.runing_var"] = np.zeros(3)
    for attribute, value in (("params", {}), ("layers", [])):
        with pytest.raises(AttributeError):
            setattr(net, attribute, value)
    assert list(net.params) == ["0.W", "0.b", "1.gain", "1.bias", "2.1.W", "2.1.b"]
    assert net.params.setdefault("0.W", w) is net.layers[0].W


@pytest.mark.parametrize("change", ("params", "layer.W", "flat_params", "+="))
def test_a_change_of_weights_makes_the_last_forward_stale(change):
    net, opt = make(mg.get_backend("numpy"))
    y = net.forward(np.eye(2, dtype="f4"))
    net.layers[0].dW *= 0.5  # such as clipping
    net.backward(y)
    if change == "+=":
        net.layers[0].W += 1
    else:
        name, assign = ASSIGNMENTS[change]
        assign(net, opt, np.ones(arrays_of(net, opt)[name].shape))
    with pytest.raises(mg.StateError, match="the parameters were updated since the last forward"):
        net.backward(y)


def test_after_another_setup_arrays_are_new_and_connected():
    net, _ = make(mg.get_backend("numpy"))
    net.setup((2,), backend=net.backend, rng=np.random.default_rng(1))
    net.layers[0].W = np.full((2, 3), 5.0)
    assert net.params["0.W"] is net.layers[0].W and np.all(net.params["0.W"] == 5)
    assert np.shares_memory(net.layers[0].W, net.store.flat_params)


def test_two_arrays_of_one_name_are_refused():
    class Twice(mg.Layer):
        def setup(self, in_shape, *, backend, rng, store):
            store.parameter(self, "W", (2,), mg.initializers.ones())
            store.buffer(self, "dW", (2,), 0.0)
            return in_shape

    net = mg.Sequential([Twice()], name="D")
    with pytest.raises(mg.ConfigError, match=r"D.0.W is declared twice: choose another name"):
        net.setup((2,), backend=mg.get_backend(), rng=np.random.default_rng(0))


def test_processes_of_a_captured_step_see_the_change():
    games = [make_game("mnist", dtype="float64", threads=threads) for threads in (1, 2)]
    played = []
    for game in games:
        batches = make_batches(game)
        play(game, 1, batches)
        game.G.params["0.W"] = np.full(game.G.params["0.W"].shape, 0.01)
        played.append(play(game, 1, batches))
        game.optimizers["D"].m = np.ones(game.D.ready().flat_params.shape)
        played.append(play(game, 1, batches))
    assert_near(played[0], played[2])
    assert_near(played[1], played[3])
