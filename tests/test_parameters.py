"""The flat arrays of a network and its state."""

import numpy as np
import pytest

import minigan as mg
from minigan.parameters import ALIGNMENT
from tests.support.networks import CHAINS, LAYERS, assert_same_arrays, network, to_host


def make(backend, name="discriminator", seed=0):
    layers, in_shape = {**LAYERS, **CHAINS}[name]
    net = mg.Sequential(layers(), name="D")
    net.setup(in_shape, backend=backend, rng=np.random.default_rng(seed))
    return net


def address(array):
    return array.data.ptr if hasattr(array.data, "ptr") else array.__array_interface__["data"][0]


def test_parameters_are_views_into_flat_arrays_in_order(make_backend):
    net = make(make_backend("float32"))
    for views, flat in ((net.params, net.store.flat_params), (net.grads, net.store.flat_grads)):
        assert list(views) == ["0.W", "0.b", "2.W", "3.gain", "3.bias", "6.W", "6.b"]
        offsets = [address(view) - address(flat) for view in views.values()]
        assert offsets == sorted(offsets) and not any(at % (4 * ALIGNMENT) for at in offsets)
        flat.fill(7.0)
        assert all(np.all(array == 7.0) for array in to_host(net, views).values())
    layer = net.layers[0]
    assert np.all(net.backend.to_host(layer.W) == 7.0) and layer.dW.shape == layer.W.shape


def test_every_backend_starts_from_the_same_weights(make_backend):
    for dtype in ("float32", "float64"):
        plain, other = make(mg.get_backend("plain", dtype=dtype)), make(make_backend(dtype))
        assert_same_arrays(to_host(other, other.params), plain.params)


def test_state_comes_back(make_backend):
    backend = make_backend("float32")
    net, other = make(backend), make(backend, seed=1)
    net.forward(backend.asarray(np.ones((2, 6, 5, 3))))
    state = {name: array.copy() for name, array in net.store.state().items()}
    assert list(state) == [*net.params, *net.buffers]
    version = other.store.version
    other.store.load_state(state, "file.npz")
    assert other.store.version > version  # what layers saved belongs to other parameters
    assert_same_arrays(other.store.state(), state)
    arrays = [backend.to_host(array) for array in other.store.state_arrays()]
    assert sum(map(np.size, arrays)) >= 2 * sum(p.size for p in net.params.values())


@pytest.mark.parametrize(
    "change, message",
    (
        (lambda state: state.pop("6.b"), "D has 6.b only here"),
        (lambda state: state.update(extra=np.zeros(2)), "D has extra only in the file"),
        (lambda state: state.update({"0.b": np.zeros(9, "f4")}), r"D.0.b is float32 \(9,\) in the"),
        (lambda state: state.update({"0.b": state["0.b"].astype(float)}), "D.0.b is float64"),
    ),
)
def test_the_state_of_another_network_is_refused_and_changes_nothing(change, message):
    net = make(mg.get_backend("plain"))
    state = {name: array.copy() + 1 for name, array in net.store.state().items()}
    change(state)
    before = to_host(net, {**net.params, **net.buffers})
    with pytest.raises(mg.RunError, match=f"^file.npz: {message}.*it is from another architecture"):
        net.store.load_state(state, "file.npz")
    assert_same_arrays({**net.params, **net.buffers}, before)


def test_layers_that_draw_have_generators_of_their_own():
    net = network([mg.Dropout(0.5), mg.Linear(3), mg.Dropout(0.5)], (4,))
    assert list(net.store.generators) == ["0.generator", "2.generator"]
    a, b = (generator.random() for generator in net.store.generators.values())
    assert a != b
