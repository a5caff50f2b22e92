"""SpectralNorm: sigma, gradients, PyTorch's numbers, and every backend's."""

import numpy as np
import pytest

import minigan as mg
from minigan.layers import spectral_norm
from tests.support.networks import assert_close, draw_dy, draw_x
from tests.support.torch_or_skip import import_torch

IMAGE = (6, 7, 3)


def layers():
    return [
        mg.SpectralNorm(mg.Conv2d(4, 4, 2, 1)), mg.LeakyReLU(0.2),
        mg.SpectralNorm(mg.ConvTranspose2d(5, 4, 2, 1, bias=False)), mg.BatchNorm(), mg.Tanh(),
        mg.Flatten(), mg.SpectralNorm(mg.Linear(2)),
    ]  # fmt: skip


def build(backend, made=None, in_shape=IMAGE):
    net = mg.Sequential(made or layers(), name="N")
    net.setup(in_shape, backend=backend, rng=np.random.default_rng(0))
    return net


def converge(net):
    for _ in range(300):
        net.forward(draw_x(net, 3))


def largest_singular_value(W):
    return np.linalg.svd(W.reshape(-1, W.shape[-1]), compute_uv=False)[0]


def test_weights_are_divided_by_their_largest_singular_value(make_backend):
    net = build(make_backend())
    converge(net)
    for i in (0, 2, 6):
        host, wrapper = net.backend.to_host, net.layers[i]
        assert largest_singular_value(host(wrapper.layer.W)) == pytest.approx(1, rel=1e-9)
        sigma = largest_singular_value(host(net.params[f"{i}.W"]))
        expected = host(net.params[f"{i}.W"]) / sigma
        assert_close(host(wrapper.layer.W), expected, "W", 1e-9)


@pytest.mark.parametrize("train", (True, False))
def test_gradients(train, make_backend):
    net = build(make_backend())
    converge(net)
    report = mg.check_gradients(net, draw_x(net, 4), train=train, raise_on_failure=False)
    assert set(report.errors) == {"x", *net.params}
    assert report, report


def without_projection(dW_bar, W_bar, saved):
    return dW_bar / saved[2]


def projection_of_the_wrong_sign(dW_bar, W_bar, saved):
    u, v, sigma = saved
    along = (dW_bar * W_bar).sum()
    return (dW_bar + along * (v[:, None] * u).reshape(W_bar.shape)) / sigma


def not_divided(dW_bar, W_bar, saved):
    u, v, _ = saved
    return dW_bar - (dW_bar * W_bar).sum() * (v[:, None] * u).reshape(W_bar.shape)


@pytest.mark.parametrize("mutant", (without_projection, projection_of_the_wrong_sign, not_divided))
def test_a_wrong_formula_is_caught(mutant, monkeypatch):
    net = build(mg.get_backend("plain", "float64"))
    converge(net)
    monkeypatch.setattr(spectral_norm, "spectral_norm_backward", mutant)
    assert not mg.check_gradients(net, draw_x(net, 4), raise_on_failure=False)


def test_fast_backends_have_the_definitions_numbers(make_backend):
    found = []
    for backend in (mg.get_backend("plain", "float64"), make_backend()):
        net, host = build(backend), backend.to_host
        for seed in range(3):
            x, dy = draw_x(net, 5, seed), draw_dy(net, 5, seed + 9)
            y = host(net.forward(x)).copy()
            dx = host(net.backward(dy)).copy()
            host_only = host(net.backward(dy, need_dw=False)).copy()
            np.testing.assert_array_equal(host_only, dx)
        sampled = host(net.forward(draw_x(net, 1), train=False)).copy()
        arrays = {**net.params, **net.grads, **net.buffers}
        found.append([y, dx, sampled, *(host(array).copy() for array in arrays.values())])
    for expected, got in zip(*found, strict=True):
        assert_close(got, expected, "array", 1e-10)


def test_the_numbers_of_pytorch(make_backend):
    """Three training steps' worth of forward and backward passes, then one in eval mode."""
    torch, backend = import_torch(), make_backend()
    net = build(backend, [mg.SpectralNorm(mg.Conv2d(4, 3, 1, 1))])
    host, W = backend.to_host, backend.to_host(net.params["0.W"]).copy()
    theirs = torch.nn.Conv2d(3, 4, 3, 1, 1, dtype=torch.float64)
    with torch.no_grad():
        theirs.weight.copy_(torch.tensor(W.transpose(3, 2, 0, 1)))
        theirs.bias.zero_()
    torch.nn.utils.parametrizations.spectral_norm(theirs)
    norm = theirs.parametrizations.weight[0]
    u = torch.tensor(host(net.buffers["0.u"]).copy())
    rows = theirs.parametrizations.weight.original.detach().flatten(1)
    norm._u, norm._v = u, torch.nn.functional.normalize(rows.T @ u, dim=0)
    for seed in range(3):
        x, dy = draw_x(net, 2, seed), draw_dy(net, 2, seed)
        theirs.zero_grad()
        net.zero_grads()
        y = theirs(torch.tensor(host(x)).permute(0, 3, 1, 2))
        y.backward(torch.tensor(host(dy)).permute(0, 3, 1, 2))
        assert_close(host(net.forward(x)), y.detach().permute(0, 2, 3, 1).numpy(), "y", 1e-11)
        net.backward(dy)
        gradient = theirs.parametrizations.weight.original.grad.permute(2, 3, 1, 0).numpy()
        assert_close(host(net.grads["0.W"]), gradient, "dW", 1e-11)
        assert_close(host(net.buffers["0.u"]), norm._u.numpy(), "u", 1e-11)
    theirs.eval()
    y = theirs(torch.tensor(host(x)).permute(0, 3, 1, 2)).detach().permute(0, 2, 3, 1).numpy()
    assert_close(host(net.forward(x, train=False)), y, "y in eval mode", 1e-11)


def test_sampling_changes_nothing(make_backend):
    net = build(make_backend())
    before = net.backend.to_host(net.buffers["0.u"]).copy()
    net.forward(draw_x(net, 3), train=False)
    np.testing.assert_array_equal(net.backend.to_host(net.buffers["0.u"]), before)


def test_weights_of_zero_stay_finite(make_backend):
    net = build(make_backend(), [mg.SpectralNorm(mg.Conv2d(4, 3))])
    net.params["0.W"][...] = 0
    net.forward(draw_x(net, 2))
    net.backward(draw_dy(net, 2))
    assert np.all(np.isfinite(net.backend.to_host(net.store.flat_grads)))


def test_first_weights_of_zero_are_refused():
    """Its u would stay 0 for ever, and W be divided by almost nothing."""
    layer = mg.Linear(2, initializer=mg.initializers.zeros())
    with pytest.raises(mg.ConfigError, match="W is 0, so it has no norm: initialize it otherwise"):
        build(mg.get_backend("plain"), [mg.Flatten(), mg.SpectralNorm(layer)])


def test_a_layer_belongs_to_one():
    """Else two networks would share W, and each change the other's numbers."""
    backend, used, conv = mg.get_backend("plain"), mg.Conv2d(4, 3, 1, 1), mg.Conv2d(4, 3, 1, 1)
    net = build(backend, [mg.SpectralNorm(used)])
    net.setup(IMAGE, backend=backend, rng=np.random.default_rng(1))  # again
    for made in (
        [mg.SpectralNorm(used), mg.Tanh()],
        [mg.SpectralNorm(conv), mg.SpectralNorm(conv)],
        [used],
    ):
        with pytest.raises(mg.StateError, match=r"belongs to|in two"):
            build(backend, made)


def test_other_layers_are_refused():
    with pytest.raises(mg.ConfigError, match=r"^SpectralNorm wraps Conv2d, ConvTranspose2d"):
        mg.SpectralNorm(mg.BatchNorm())
