"""Every layer on every backend: its gradients, and what the layer protocol promises."""

import numpy as np
import pytest

import minigan as mg
from tests.support.networks import (
    LAYERS,
    LAYERS_AND_CHAINS,
    assert_close,
    assert_same_arrays,
    draw_dy,
    draw_labels,
    draw_x,
    forward,
    named_network,
    network,
    to_host,
)

every_layer = pytest.mark.parametrize("name", LAYERS_AND_CHAINS)


def check(name, backend, train):
    net = named_network(name, backend)
    report = mg.check_gradients(net, draw_x(net, 4), labels=draw_labels(net, 4), train=train)
    assert set(report.errors) == {"x", *net.params}
    assert max(report.errors.values()) <= 1e-6


@every_layer
def test_gradients(name, make_backend):
    check(name, make_backend(), train=True)


@pytest.mark.parametrize(
    "name",
    ("BatchNorm of vectors", "BatchNorm of images", "BatchNorm bare", "Dropout", "discriminator"),
)
def test_gradients_in_sampling_mode(name, make_backend):
    check(name, make_backend(), train=False)


@every_layer
def test_protocol(name, make_backend):
    net = named_network(name, make_backend("float32"))
    host = net.backend.to_host
    x, dy = draw_x(net, 3), draw_dy(net, 3)
    given = to_host(net, {"x": x, "dy": dy, **net.params})

    y = forward(net, x)
    assert y.shape == (3, *net.out_shape)
    dx = net.backward(dy)
    assert dx.shape == x.shape
    once = to_host(net, net.grads)
    assert all(np.any(gradient) for gradient in once.values())

    np.testing.assert_array_equal(host(net.backward(dy)), host(dx))
    twice = {key: 2 * gradient for key, gradient in once.items()}
    assert_same_arrays(to_host(net, net.grads), twice)  # gradients add up

    np.testing.assert_array_equal(host(net.backward(dy, need_dw=False)), host(dx))
    assert_same_arrays(to_host(net, net.grads), twice)  # bit for bit as they were

    assert net.backward(dy, need_dx=False) is None
    for key, gradient in to_host(net, net.grads).items():
        np.testing.assert_allclose(gradient, 3 * once[key], rtol=1e-6)
    assert net.backward(dy, need_dx=False, need_dw=False) is None

    assert_same_arrays(to_host(net, {"x": x, "dy": dy, **net.params}), given)
    arrays = (y, dx, *net.params.values(), *net.grads.values(), *net.buffers.values())
    assert {array.dtype.name for array in arrays} == {"float32"}

    net.store.flat_grads.fill(np.nan)
    net.zero_grads()
    assert not np.any(host(net.store.flat_grads))


@every_layer
def test_results_belong_to_the_caller(name, make_backend):
    """The caller may keep them, whole or as views of views, and may write over them."""
    net = named_network(name, make_backend())
    host, dy, kept = net.backend.to_host, draw_dy(net, 2), []
    for seed in range(3):
        y = forward(net, draw_x(net, 2, seed))
        dx = net.backward(dy)
        _, dlogits = mg.bce_with_logits(y.reshape(-1, 1), 1.0, backend=net.backend)
        for array in (y[:1].reshape(-1)[1:], dx, dlogits):
            kept.append((array, host(array).copy()))
    for array, before in kept:
        np.testing.assert_array_equal(host(array), before)

    forward(net, draw_x(net, 2))
    net.zero_grads()
    expected, gradients = host(net.backward(dy)).copy(), to_host(net, net.grads)
    forward(net, draw_x(net, 2)).fill(7.0)
    for _ in range(2):
        net.zero_grads()
        dx = net.backward(dy)
        np.testing.assert_array_equal(host(dx), expected)
        assert_same_arrays(to_host(net, net.grads), gradients)
        dx.fill(7.0)


@every_layer
def test_each_forward_starts_afresh(name, make_backend):
    """Batches of other sizes, and a forward without a backward, leave no trace in the next one."""
    backend = make_backend()
    used, host = named_network(name, backend), backend.to_host
    for n in (5, 2, 4, 7):
        new = named_network(name, backend)
        x, dy = draw_x(new, n, seed=n), draw_dy(new, n, seed=n + 50)
        used.zero_grads()
        forward(used, draw_x(used, 3, seed=99))
        np.testing.assert_array_equal(host(forward(used, x)), host(forward(new, x)))
        np.testing.assert_array_equal(host(used.backward(dy)), host(new.backward(dy)))
        assert_same_arrays(to_host(used, used.grads), to_host(new, new.grads))


@pytest.mark.parametrize("name", LAYERS)
def test_saved_is_all_that_connects_forward_and_backward(name):
    """Run another batch in between, then go back with what the first forward saved."""
    net = named_network(name, mg.get_backend("plain", dtype="float64"))
    (layer,) = net.layers
    dy = draw_dy(net, 4)
    forward(net, draw_x(net, 4))
    saved = layer.saved
    expected = net.backward(dy)
    gradients = to_host(net, net.grads)
    net.zero_grads()

    forward(net, draw_x(net, 3, seed=9))
    layer.saved = saved
    np.testing.assert_array_equal(layer.backward(dy), expected)
    assert_same_arrays(to_host(net, net.grads), gradients)


@every_layer
def test_arrays_need_not_be_contiguous(name, make_backend):
    net, other = (named_network(name, make_backend()) for _ in range(2))
    host, asarray = net.backend.to_host, net.backend.asarray

    def channels_first(array):  # as x.transpose(0, 2, 3, 1) of such images is
        values = np.ascontiguousarray(np.moveaxis(host(array), -1, 0))
        return asarray(values).transpose(*range(1, values.ndim), 0)

    def every_other(array):
        return asarray(np.repeat(host(array), 2, axis=0))[::2]

    def backward(array):
        return asarray(host(array)[::-1].copy())[::-1]

    x, dy = draw_x(net, 3), draw_dy(net, 3)
    y, dx, gradients = forward(net, x), net.backward(dy), to_host(net, net.grads)
    for view in (channels_first, every_other, backward):
        other.zero_grads()
        assert_close(host(forward(other, view(x))), host(y), "y")
        assert_close(host(other.backward(view(dy))), host(dx), "dx")
        for key, gradient in gradients.items():
            assert_close(host(other.grads[key]), gradient, key)


@pytest.mark.parametrize("name", ("discriminator", "generator", "BatchNorm of images", "Dropout"))
@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_training_keeps_the_dtype_of_the_backend(name, dtype, make_backend):
    """x, y, dx, parameters, gradients, buffers, moments: through three steps of Adam."""
    net = named_network(name, make_backend(dtype))
    optimizer = mg.Adam(net, lr=1e-3) if net.params else None
    x, dy = draw_x(net, 3), draw_dy(net, 3)
    for _ in range(3):
        net.zero_grads()
        found = {"y": net.forward(x), "dx": net.backward(dy)}
        if optimizer:
            optimizer.step()
            found |= {"m": optimizer.m, "v": optimizer.v}
        found |= {"y in sampling": net.forward(x, train=False)}
        for kind in ("params", "grads", "buffers"):
            found |= {f"{kind} {key}": array for key, array in getattr(net, kind).items()}
        assert {key: array.dtype.name for key, array in found.items()} == dict.fromkeys(
            found, dtype
        )


BIASED = {  # name -> layer, in_shape: with many rows
    "Linear": (lambda: mg.Linear(2), (1,)),
    "Conv2d": (lambda: mg.Conv2d(2, 1), (64, 64, 1)),
    "ConvTranspose2d": (lambda: mg.ConvTranspose2d(2, 2, 2), (32, 32, 1)),
}


@pytest.mark.parametrize("name", BIASED)
def test_the_gradient_of_a_bias_over_many_rows(name, make_backend):
    """262,144 equal numbers: a float32 sum, row after row, is off by up to 1%."""
    make, in_shape = BIASED[name]
    net = network([make()], in_shape, make_backend("float32"))
    backend, n = net.backend, 2**18 // int(np.prod(net.out_shape[:-1]))
    net.forward(backend.asarray(np.zeros((n, *in_shape))))
    net.zero_grads()
    net.backward(backend.asarray(np.full((n, *net.out_shape), 0.1)), need_dx=False)
    expected = 2**18 * float(np.float32(0.1))
    eps = np.finfo(np.float32).eps
    np.testing.assert_allclose(backend.to_host(net.grads["0.b"]), expected, rtol=32 * eps)
