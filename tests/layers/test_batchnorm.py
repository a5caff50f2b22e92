"""BatchNorm against naive loops and PyTorch; running statistics and sampling modes."""

import numpy as np
import pytest

import minigan as mg
from tests.support import far_from_zero, reference
from tests.support.long_form import slow
from tests.support.networks import assert_close, network
from tests.support.torch_or_skip import import_torch

SHAPES = ((4, 3), (5, 1), (3, 2, 5, 2), (2, 1, 3, 4), (2, 3, 3, 1))


def host_results(net, x, dy, train=True):
    """-> {"y", "dx", "gain", "bias", "running_mean", "running_var"}, gradients from 0."""
    backend = net.backend
    net.zero_grads()
    found = {"y": net.forward(backend.asarray(x), train=train)}
    found["dx"] = net.backward(backend.asarray(dy))
    found |= {name[2:]: array for name, array in {**net.grads, **net.buffers}.items()}
    return {name: backend.to_host(array).copy() for name, array in found.items()}


@pytest.mark.parametrize("gain, bias", ((True, True), (True, False), (False, True), (False, False)))
def test_naive_loops(gain, bias, make_backend):
    backend, rng, eps, rate = make_backend(), np.random.default_rng(5), 1e-3, 0.25
    for shape in SHAPES:
        layer = mg.BatchNorm(gain=gain, bias=bias, running_rate=rate, eps=eps)
        net = network([layer], shape[1:], backend)
        assert set(net.params) == {name for name, on in (("0.gain", gain), ("0.bias", bias)) if on}
        g, b = (
            backend.to_host(net.params[name]) if name in net.params else None
            for name in ("0.gain", "0.bias")
        )
        x, dy = rng.standard_normal(shape) * 2 + 3, rng.standard_normal(shape)
        y, mean, var = reference.batchnorm_forward(x, g, b, eps)
        dx, dgain, dbias = reference.batchnorm_backward(dy, x, g, eps)
        m, c = x.size // shape[-1], shape[-1]
        running_mean = reference.batchnorm_running(np.zeros(c), mean, rate)
        running_var = reference.batchnorm_running(np.ones(c), var * m / (m - 1), rate)
        expected = {"y": y, "dx": dx, "gain": dgain, "bias": dbias}
        expected |= {"running_mean": running_mean, "running_var": running_var}
        for name, array in host_results(net, x, dy).items():
            assert_close(array, expected[name], f"{name}, {shape}")

        wanted = reference.batchnorm_inference(x, g, b, running_mean, running_var, eps)
        for images in (x, x[:1]):  # in sampling mode each by itself
            y = backend.to_host(net.forward(backend.asarray(images), train=False))
            assert_close(y, wanted[: len(images)], f"sampling, {shape}")
        assert_close(backend.to_host(net.buffers["0.running_mean"]), running_mean, "unchanged")


@pytest.mark.parametrize("count", (30, slow(300)))
def test_pytorch(count, make_backend):
    """Two training passes, so that the running statistics have a past, then sampling."""
    torch = import_torch()
    backend, rng = make_backend(), np.random.default_rng(103)

    def leaf(values):
        return torch.tensor(values, requires_grad=True)

    for _ in range(count):
        shape = (int(rng.integers(4, 20)), int(rng.integers(1, 6)))
        if rng.integers(3):
            shape = (int(rng.integers(2, 6)), 2, int(rng.integers(1, 6)), shape[-1])
        gain, bias, unbiased = (bool(v) for v in rng.integers(0, 4, 3))
        rate, eps = float(rng.choice([0.01, 0.2, 1.0])), float(rng.choice([1e-8, 1e-5, 1e-3]))
        scale, offset = float(rng.choice([0.1, 1, 10])), float(rng.choice([0, 1, -5]))
        layer = mg.BatchNorm(gain=gain, bias=bias, running_rate=rate, eps=eps, unbiased=unbiased)
        net = network([layer], shape[1:], backend)
        c, m = shape[-1], int(np.prod(shape[:-1]))
        weight = leaf(backend.to_host(net.params["0.gain"]) if gain else np.ones(c))
        shift = leaf(backend.to_host(net.params["0.bias"]) if bias else np.zeros(c))
        mean, var = torch.zeros(c, dtype=torch.float64), torch.ones(c, dtype=torch.float64)
        running_var = np.ones(c)
        for training in (True, True, False):
            x, dy = rng.standard_normal(shape) * scale + offset, rng.standard_normal(shape)
            their_x = leaf(np.moveaxis(x, -1, 1).copy())
            before = var.numpy().copy()
            seen = var if training else torch.tensor(running_var)
            y = torch.nn.functional.batch_norm(
                their_x, mean, seen, weight, shift, training, rate, eps
            )
            if training:  # PyTorch's is always unbiased
                batch_var = (var.numpy() - (1 - rate) * before) / rate
                factor = 1 if unbiased else (m - 1) / m
                running_var = (1 - rate) * running_var + rate * batch_var * factor
            weight.grad = shift.grad = None
            y.backward(torch.tensor(np.moveaxis(dy, -1, 1).copy()))
            expected = {"gain": weight.grad, "bias": shift.grad, "running_mean": mean}
            expected |= {
                name: np.moveaxis(tensor.detach().numpy(), 1, -1)
                for name, tensor in (("y", y), ("dx", their_x.grad))
            }
            expected["running_var"] = running_var
            for name, array in host_results(net, x, dy, training).items():
                assert_close(array, expected[name], f"{name}, {shape}, {training=}")


def test_the_loops_agree_with_pytorch():
    torch = import_torch()
    rng = np.random.default_rng(112)
    x, dy = rng.standard_normal((2, 3, 4, 5, 2))
    gain, bias = rng.standard_normal((2, 2))
    leaves = [
        torch.tensor(a, requires_grad=True) for a in (np.moveaxis(x, -1, 1).copy(), gain, bias)
    ]
    y = torch.nn.functional.batch_norm(leaves[0], None, None, *leaves[1:], training=True, eps=1e-3)
    y.backward(torch.tensor(np.moveaxis(dy, -1, 1).copy()))
    dx, dgain, dbias = reference.batchnorm_backward(dy, x, gain, 1e-3)
    ours = reference.batchnorm_forward(x, gain, bias, 1e-3)[0]
    assert_close(ours, np.moveaxis(y.detach().numpy(), 1, -1), "y", 1e-12)
    assert_close(dx, np.moveaxis(leaves[0].grad.numpy(), 1, -1), "dx", 1e-12)
    assert_close(dgain, leaves[1].grad, "dgain", 1e-12)
    assert_close(dbias, leaves[2].grad, "dbias", 1e-12)


@pytest.mark.parametrize("kind", far_from_zero.KINDS)
def test_numbers_far_from_zero(kind, make_backend):
    """Float32 gives what float64 does, but for some roundings: results, statistics, gradients."""
    for shape, options in (
        ((40, 14, 14, 1), {}),
        ((30, 14, 14, 3), dict(fused=True)),
        ((20, 7, 7, 8), dict(fused=True, gain=False, bias=False)),
        ((5000, 5), {}),
    ):
        far_from_zero.check(kind, shape, make_backend("float32"), **options)


def test_gradients_far_from_zero(make_backend):
    """In float64: right at a mean of 100.3, and the same wherever the mean is."""
    backend, rng = make_backend(), np.random.default_rng(0)
    net = network([mg.BatchNorm(), mg.Tanh()], (3, 3, 2), backend)
    x, dy = rng.standard_normal((2, 6, 3, 3, 2))
    mg.check_gradients(net, backend.asarray(100.3 + x))
    x = np.round(x * 2**20) / 2**20  # so that float64 holds x + 2**20 exactly
    near, far = (host_results(net, x + mean, dy) for mean in (0.0, 2.0**20))
    for name in ("y", "dx", "gain", "bias"):
        assert_close(far[name], near[name], name, 1e-8)


def test_two_values_a_channel(make_backend):
    """The true dx is almost 0 (x_hat is ±1 whatever x is): compare on the scale of its terms."""
    backend, rng = make_backend(), np.random.default_rng(8)
    x, dy = rng.standard_normal((2, 3)), rng.standard_normal((2, 3))
    net = network([mg.BatchNorm()], (3,), backend)
    gain = backend.to_host(net.params["0.gain"])
    wanted, _, _ = reference.batchnorm_backward(dy, x, gain, 1e-5)
    terms = np.abs(gain * dy) / x.std(axis=0)
    assert np.abs(host_results(net, x, dy)["dx"] - wanted).max() <= 1e-12 * terms.max()


def test_sampling_from_the_batch(make_backend):
    """sampling="batch" normalizes by the batch and leaves the running statistics alone."""
    backend, x = make_backend(), np.random.default_rng(7).standard_normal((4, 3, 2, 2)) + 5
    net = network([mg.BatchNorm(sampling="batch")], x.shape[1:], backend)
    gain, bias = map(backend.to_host, net.params.values())
    wanted, _, _ = reference.batchnorm_forward(x, gain, bias, 1e-5)
    y = backend.to_host(net.forward(backend.asarray(x), train=False))
    assert_close(y, wanted, "y")
    np.testing.assert_array_equal(backend.to_host(net.buffers["0.running_mean"]), np.zeros(2))
    np.testing.assert_array_equal(backend.to_host(net.buffers["0.running_var"]), np.ones(2))


def test_a_batch_of_one_has_no_statistics(make_backend):
    backend = make_backend()
    net = network([mg.BatchNorm()], (3,), backend)
    x = backend.asarray(np.ones((1, 3)))
    with pytest.raises(mg.ShapeError, match=r"N.0 \(BatchNorm 3\): a batch of 1 has no batch sta"):
        net.forward(x)
    assert net.forward(x, train=False).shape == (1, 3)
    by_batch = network([mg.BatchNorm(sampling="batch")], (3,), backend)
    with pytest.raises(mg.ShapeError, match=r"a batch of 1 .*, or freeze statistics before"):
        by_batch.forward(x, train=False)


@pytest.mark.parametrize(
    "options, message",
    (
        (dict(running_rate=0), "running_rate must be above 0 and at most 1, got 0"),
        (dict(running_rate=1.5), "running_rate must be above 0 and at most 1, got 1.5"),
        (dict(eps=0), "eps must be above 0 and below 1, got 0"),
        (dict(sampling="both"), "sampling must be one of running, batch, got 'both'"),
    ),
)
def test_impossible_options(options, message):
    with pytest.raises(mg.ConfigError) as caught:
        mg.BatchNorm(**options)
    assert str(caught.value) == f"BatchNorm: {message}"


def test_other_shapes_are_refused():
    with pytest.raises(mg.ShapeError, match=r"N.0 .*expected vectors \(c,\) or images \(h, w, c\)"):
        network([mg.BatchNorm()], (3, 4))
