"""The average of G's weights, against its formula. In a run: training/test_loop.py."""

import numpy as np
import pytest

import minigan as mg
from minigan.averaging import Average
from tests.support.networks import network, to_host


def two_networks(backend):
    layers = [[mg.Linear(6), mg.BatchNorm(), mg.Tanh()] for _ in range(2)]
    return [network(each, (3,), backend, name="G") for each in layers]


@pytest.mark.parametrize("decay", (0.0, 0.5, 0.9, 0.999))
def test_it_is_the_weighted_mean_of_all_steps(make_backend, decay):
    backend, rng = make_backend(), np.random.default_rng(1)
    net, source = two_networks(backend)
    average, seen = Average(net, source, decay), []
    for t in range(1, 8):
        for array in (source.store.flat_params, *source.buffers.values()):
            array[...] = backend.asarray(rng.standard_normal(array.shape))
        seen.append(to_host(source, {**source.params, **source.buffers}))
        version = net.store.version
        average.update()
        assert average.steps == t and net.store.version > version
        weights = np.array([decay ** (t - 1 - i) for i in range(t)])  # 0⁰ = 1
        weights /= weights.sum()
        for name, array in to_host(net, {**net.params, **net.buffers}).items():
            expected = sum(w * each[name] for w, each in zip(weights, seen, strict=True))
            np.testing.assert_allclose(array, expected, rtol=1e-12, atol=1e-14)
    for name, array in to_host(source, source.params).items():  # the source stays as it is
        np.testing.assert_array_equal(array, seen[-1][name])


def test_u_of_a_spectral_norm_keeps_its_length(make_backend):
    """The mean of vectors of length 1 is shorter, and W̄ would be too large."""
    backend, rng = make_backend(), np.random.default_rng(1)
    layers = [[mg.SpectralNorm(mg.Linear(6))] for _ in range(2)]
    net, source = (network(each, (3,), backend, name="G") for each in layers)
    average, u = Average(net, source, 0.9), source.buffers["0.u"]
    for _ in range(5):
        direction = rng.standard_normal(6)
        u[...] = backend.asarray(direction / np.linalg.norm(direction))
        average.update()
    np.testing.assert_allclose(*map(backend.to_host, (net.buffers["0.u"], u)), atol=1e-12)


def test_a_decay_of_1_has_no_average():
    for decay in (1.0, -0.5, "0.9"):
        with pytest.raises(mg.ConfigError, match="Average: decay must be at least 0 and below 1"):
            Average(*two_networks(mg.get_backend("plain")), decay)


def test_float32_stays_float32(make_backend):
    net, source = two_networks(make_backend("float32"))
    Average(net, source, 0.9).update()
    arrays = (*net.params.values(), *net.buffers.values())
    assert {array.dtype.name for array in arrays} == {"float32"}


def test_a_network_without_parameters(make_backend):
    nets = [network([mg.Tanh()], (3,), make_backend(), name="G") for _ in range(2)]
    Average(*nets, 0.9).update()
