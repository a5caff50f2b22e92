"""Statistics frozen at a batch: they are the batch's, they stay, and the original is unaware."""

import numpy as np
import pytest

import minigan as mg
from minigan.frozen_statistics import freeze_statistics, samples_by_batch, with_own_statistics
from tests.support.networks import assert_close, assert_same_arrays, draw_x, network, to_host


def layers(sampling="batch"):
    """A generator as published ones are, but for a network within it."""
    inner = [mg.ConvTranspose2d(3, 4, 2, 1), mg.BatchNorm(sampling=sampling), mg.LeakyReLU(0.2)]
    outer = [
        mg.AppendLabels(3),
        mg.Linear(16),
        mg.BatchNorm(eps=1e-3, running_rate=0.01),
        mg.ReLU(),
    ]
    return [*outer, mg.Reshape((2, 2, 4)), mg.Sequential(inner), mg.ConvTranspose2d(1, 4, 2, 1)]


def labels_of(net, numbers):
    return net.backend.asarray(np.eye(3)[numbers])


def test_which_networks_sample_by_the_batch():
    assert samples_by_batch(network(layers(), (5,)))  # by the network within alone
    assert not samples_by_batch(network(layers("running"), (5,)))


def test_each_row_is_that_of_the_batch_whatever_is_with_it(make_backend):
    net = network(layers(), (5,), make_backend())
    x, numbers, host = draw_x(net, 7), np.arange(7) % 3, net.backend.to_host
    with_batch = host(net.forward(x, labels=labels_of(net, numbers)))
    frozen = with_own_statistics(net)
    freeze_statistics(frozen, x, labels_of(net, numbers))
    for rows in ([0, 1, 2, 3, 4, 5, 6], [4, 4], [6, 0, 3]):
        y = frozen.forward(x[rows], train=False, labels=labels_of(net, numbers[rows]))
        assert_close(host(y), with_batch[rows], str(rows))
    alone = frozen.forward(x[2:3], train=False, labels=labels_of(net, numbers[2:3]))
    assert_close(host(alone), with_batch[2:3], "a row alone")


def test_the_original_stays_as_it_is(make_backend):
    """Its statistics, what it computes, and the backward pass of its last forward."""
    passes = []
    for freezes in (False, True):
        net = network(layers(), (5,), make_backend())
        x, labels = draw_x(net, 6), labels_of(net, [0, 1, 2, 2, 1, 0])
        twin = with_own_statistics(net)
        y = net.forward(x, labels=labels)
        if freezes:
            freeze_statistics(twin, draw_x(net, 4, seed=9), labels[:4])
            twin.forward(draw_x(net, 2, seed=8), train=False, labels=labels[:2])
        found = {"dx": net.backward(y), "y": y, **net.grads, **net.buffers}
        found["sampled"] = net.forward(x, train=False, labels=labels)
        passes.append(to_host(net, found))
    assert_same_arrays(*passes)


def test_what_a_spectral_norm_saves_is_its_own(make_backend):
    """Otherwise backward would be that of the other network's last forward, in silence."""
    nets = [network([mg.SpectralNorm(mg.Linear(7))], (5,), make_backend()) for _ in range(2)]
    x, dy = draw_x(nets[0], 6), draw_x(network([mg.Tanh()], (7,), make_backend()), 6)
    for net in nets:
        net.forward(x, train=False)
    with_own_statistics(nets[0]).forward(x * 2.0, train=False)
    for net in nets:
        net.backward(dy)
    assert_same_arrays(*(to_host(net, net.grads) for net in nets))


def test_parameters_are_shared_and_each_freezing_forgets_the_last(make_backend):
    """Also one that NaN went through."""
    net = network(layers(), (5,), make_backend())
    x, labels, host = draw_x(net, 6), labels_of(net, [0, 1, 2, 0, 1, 2]), net.backend.to_host
    twin = with_own_statistics(net)
    with np.errstate(all="ignore"):
        freeze_statistics(twin, x * np.nan, labels)
    net.store.flat_params[...] = net.store.flat_params * 0.5
    freeze_statistics(twin, x, labels)
    once = with_own_statistics(net)
    freeze_statistics(once, x, labels)
    y, expected = (host(each.forward(x, train=False, labels=labels)) for each in (twin, once))
    np.testing.assert_array_equal(y, expected)
    assert np.isfinite(y).all()


@pytest.mark.parametrize("nested", (False, True))
def test_all_else_is_in_sampling_mode(make_backend, nested):
    """Dropout neither acts nor draws, and spectral norms stay."""
    within = [mg.Dropout(0.5), mg.SpectralNorm(mg.Linear(6)), mg.BatchNorm(sampling="batch")]
    net = network([mg.Sequential(within)] if nested else within, (4,), make_backend())
    (generator,) = net.store.generators.values()
    before, x, u = generator.bit_generator.state, draw_x(net, 8), to_host(net, net.buffers)
    frozen = with_own_statistics(net)
    freeze_statistics(frozen, x)
    assert generator.bit_generator.state == before
    assert_same_arrays(to_host(net, net.buffers), u)
    wanted = net.forward(x, train=False)  # by the batch, and without Dropout
    host = net.backend.to_host
    assert_close(host(frozen.forward(x, train=False)), host(wanted), "without Dropout")


def test_what_freezing_changes_for_a_moment_is_as_before():
    """So that a network that trains on keeps its running statistics."""
    net = network(layers(), (5,))
    norms = [layer for layer in net.leaves() if isinstance(layer, mg.BatchNorm)]
    before = [(layer.running_rate, layer.unbiased) for layer in norms]
    running, x = norms[0].running_mean.copy(), draw_x(net, 4)
    with pytest.raises(mg.ShapeError, match="a batch of 1 has no statistics"):
        freeze_statistics(net, x[:1], labels_of(net, [0]))
    for mistake in (dict(x=x[:, :3]), dict(labels=None), dict(x=x.astype("float32"))):
        with pytest.raises((mg.ShapeError, mg.ConfigError, mg.ArrayTypeError)):
            freeze_statistics(net, **{"x": x, "labels": labels_of(net, [0, 1, 2, 0])} | mistake)
    np.testing.assert_array_equal(norms[0].running_mean, running)
    assert norms[0].sampling == "running" and norms[1].sampling == "batch"
    freeze_statistics(net, x, labels_of(net, [0, 1, 2, 0]))
    assert [(layer.running_rate, layer.unbiased) for layer in norms] == before


class Failing(mg.Layer):
    fails = False

    def forward(self, x, train=True):
        if self.fails:
            raise RuntimeError("on purpose")
        return x


def test_after_an_error_of_a_layer_all_is_as_before():
    norms, failing = [mg.BatchNorm(), mg.BatchNorm(sampling="batch")], Failing()
    net = network([*norms, failing], (5,))
    x = draw_x(net, 4)
    net.forward(x)
    before = to_host(net, net.buffers)
    failing.fails = True
    with pytest.raises(RuntimeError, match="on purpose"):
        freeze_statistics(net, 3 * x)
    assert_same_arrays(to_host(net, net.buffers), before)
    found = [(each.sampling, each.running_rate, each.unbiased) for each in norms]
    wanted = [mg.BatchNorm(), mg.BatchNorm(sampling="batch")]
    assert found == [(each.sampling, each.running_rate, each.unbiased) for each in wanted]
