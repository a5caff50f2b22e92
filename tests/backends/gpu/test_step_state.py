"""State on the device: Adam, and the average of weights."""

import numpy as np
import pytest

import minigan as mg
from minigan.arrays import Backend
from minigan.averaging import ema_update
from minigan.backends.gpu import step_state


def new_net(backend):
    net = mg.Sequential([mg.Linear(7)])
    net.setup((5,), backend=backend, rng=np.random.default_rng(1))
    return net


@pytest.mark.parametrize("eps_hat", (False, True))
@pytest.mark.parametrize("l2", (0.0, 1e-3))
def test_adam_is_the_definition(eps_hat, l2, make_cupy):
    """Ten steps in float64, with a rate that changes; in the middle a checkpoint is loaded."""
    found = []
    for backend in (make_cupy("float64"), Backend("float64")):
        net = new_net(backend)
        optimizer = mg.Adam(net, 1e-2, eps_hat=eps_hat, l2=l2)
        for step in range(10):
            g = np.random.default_rng([0, step]).standard_normal(net.store.flat_grads.shape)
            backend.put(g, net.store.flat_grads)
            optimizer.lr = 1e-2 / (1 + step // 4)
            optimizer.step()
            if step == 5:
                moments = {name: backend.to_host(getattr(optimizer, name)) for name in "mv"}
                optimizer.load_state({**moments, "steps": 2})
        assert optimizer.steps == 6
        arrays = (net.store.flat_params, optimizer.m, optimizer.v)
        found.append([backend.to_host(array) for array in arrays])
    for one, expected in zip(*found, strict=True):
        np.testing.assert_allclose(one, expected, rtol=1e-13, atol=1e-15)


def test_two_optimizers_of_one_net_count_apart(make_cupy):
    backend = make_cupy("float64")
    net = new_net(backend)
    first, second = mg.Adam(net, 1e-2), mg.Adam(net, 1e-3)
    for optimizer in (first, first, second, first):
        backend.put(np.ones(net.store.flat_grads.shape), net.store.flat_grads)
        optimizer.step()
    assert (first.steps, second.steps) == (3, 1)
    steps = [backend.to_host(backend.step_states[each].numbers)[0] for each in (first, second)]
    assert steps == [3, 1]
    del first, optimizer
    assert len(backend.step_states) == 1, "goes with its optimizer"


def test_the_average_is_the_definition(make_cupy):
    backend, rng = make_cupy("float64"), np.random.default_rng(0)
    mean, new = rng.standard_normal((2, 4099))
    on_device = backend.asarray(mean)
    backend.operation_for(ema_update)(on_device, backend.asarray(new), 0.3, backend)
    expected = mean.copy()
    ema_update(expected, new, 0.3, Backend("float64"))
    np.testing.assert_allclose(backend.to_host(on_device), expected, rtol=1e-14, atol=1e-16)


def test_a_number_is_written_only_if_the_device_has_another(stand_in):
    backend = mg.get_backend("cupy")
    state, counts = step_state.StepState(backend, 2, np.float64), stand_in.device.counts
    counts.clear()
    for values in ((1, 0.5), (1, 0.5), (2, 0.5)):
        state.set(*values)
    assert counts["uploads"] == 2
    assert backend.to_host(state.numbers).tolist() == [2, 0.5]
