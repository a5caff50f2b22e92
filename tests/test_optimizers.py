"""Optimizers against PyTorch's, over steps whose gradients differ in size by 10^8."""

import numpy as np
import pytest

import minigan as mg
from minigan.optimizers import l2_norm
from tests.support.networks import assert_close, network, to_host
from tests.support.torch_or_skip import import_torch

OPTIMIZERS = {  # name -> ours, PyTorch's
    "SGD": (lambda net: mg.SGD(net, 0.1), ("SGD", dict(lr=0.1))),
    "SGD, l2": (lambda net: mg.SGD(net, 0.1, l2=0.05), ("SGD", dict(lr=0.1, weight_decay=0.05))),
    "SGD, momentum": (
        lambda net: mg.SGD(net, 0.01, momentum=0.9),
        ("SGD", dict(lr=0.01, momentum=0.9)),
    ),
    "SGD, Nesterov": (
        lambda net: mg.SGD(net, 0.01, momentum=0.5, nesterov=True),
        ("SGD", dict(lr=0.01, momentum=0.5, nesterov=True)),
    ),
    "SGD, Nesterov, l2": (
        lambda net: mg.SGD(net, 0.01, momentum=0.9, nesterov=True, l2=0.1),
        ("SGD", dict(lr=0.01, momentum=0.9, nesterov=True, weight_decay=0.1)),
    ),
    "RMSprop": (lambda net: mg.RMSprop(net, 1e-3), ("RMSprop", dict(lr=1e-3, alpha=0.9, eps=1e-8))),
    "RMSprop, options": (
        lambda net: mg.RMSprop(net, 1e-2, rho=0.99, eps=1e-3, l2=0.1),
        ("RMSprop", dict(lr=1e-2, alpha=0.99, eps=1e-3, weight_decay=0.1)),
    ),
    "Adam": (lambda net: mg.Adam(net), ("Adam", dict(lr=2e-4, betas=(0.5, 0.999), eps=1e-8))),
    "Adam, large eps": (
        lambda net: mg.Adam(net, 1e-2, beta1=0.9, beta2=0.99, eps=1e-2),
        ("Adam", dict(lr=1e-2, betas=(0.9, 0.99), eps=1e-2)),
    ),
    "Adam, l2": (
        lambda net: mg.Adam(net, 1e-2, beta1=0.0, beta2=0.9, eps=1e-4, l2=0.1),
        ("Adam", dict(lr=1e-2, betas=(0.0, 0.9), eps=1e-4, weight_decay=0.1)),
    ),
}
EPS_HAT = {
    "Adam, eps_hat": lambda net: mg.Adam(net, 1e-2, eps=1e-3, eps_hat=True),
    "Adam, eps_hat, l2": lambda net: mg.Adam(net, 1e-2, eps=1e-3, eps_hat=True, l2=0.1),
}


def make_net(backend):
    layers = [mg.Conv2d(3, 3, 1, 1), mg.BatchNorm(), mg.Flatten(), mg.Linear(2)]
    return network(layers, (4, 3, 2), backend)


def draw_gradients(net, rng):
    """Sizes from 1e-6 to 1e2, so that eps matters for some; the first bias stays at exactly 0."""
    gradients = {}
    for name, array in net.grads.items():
        size = 10.0 ** rng.uniform(-6, 2, array.shape) * (name != "0.b")
        gradients[name] = rng.standard_normal(array.shape) * size
        array[...] = net.backend.asarray(gradients[name])
    return gradients


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_pytorch(name, make_backend):
    torch, rng, net = import_torch(), np.random.default_rng(107), make_net(make_backend())
    start = to_host(net, net.params)
    theirs = {key: torch.tensor(p.copy(), requires_grad=True) for key, p in start.items()}
    make, (kind, options) = OPTIMIZERS[name]
    ours, other = make(net), getattr(torch.optim, kind)(list(theirs.values()), **options)
    for step in range(1, 21):
        for key, gradient in draw_gradients(net, rng).items():
            theirs[key].grad = torch.tensor(gradient)
        before = to_host(net, net.grads)
        ours.step()
        other.step()
        assert ours.steps == step
        for key, array in to_host(net, net.grads).items():
            np.testing.assert_array_equal(array, before[key])
        for key, value in to_host(net, net.params).items():
            wanted = theirs[key].detach().numpy()
            np.testing.assert_allclose(value, wanted, rtol=1e-10, atol=1e-15)
            # and the distance traveled, which is small compared with the values
            np.testing.assert_allclose(
                value - start[key], wanted - start[key], rtol=1e-9, atol=1e-13
            )
    moved = [key for key, value in to_host(net, net.params).items() if np.any(value != start[key])]
    assert set(moved) >= set(net.params) - {"0.b"}


@pytest.mark.parametrize("l2", (0.0, 0.1))
def test_adam_with_eps_hat(l2, make_backend):
    """Keras' form, written out: eps is added to √v before v is corrected for its start at 0."""
    rng, net = np.random.default_rng(108), make_net(make_backend())
    lr, beta1, beta2, eps = 1e-2, 0.5, 0.999, 1e-3
    optimizer = mg.Adam(net, lr, beta1=beta1, beta2=beta2, eps=eps, eps_hat=True, l2=l2)
    wanted = to_host(net, net.params)
    m, v = ({key: np.zeros_like(p) for key, p in wanted.items()} for _ in range(2))
    for t in range(1, 21):
        for key, gradient in draw_gradients(net, rng).items():
            g = gradient + l2 * wanted[key]
            m[key] = beta1 * m[key] + (1 - beta1) * g
            v[key] = beta2 * v[key] + (1 - beta2) * g**2
            rate = lr * np.sqrt(1 - beta2**t) / (1 - beta1**t)
            wanted[key] = wanted[key] - rate * m[key] / (np.sqrt(v[key]) + eps)
        optimizer.step()
        for key, value in to_host(net, net.params).items():
            assert_close(value, wanted[key], f"{key} after step {t}")


def test_the_forms_of_adam_differ(make_backend):
    """With an eps that matters they are different optimizers."""
    nets = [make_net(make_backend()) for _ in range(2)]
    for net, eps_hat in zip(nets, (False, True), strict=True):
        net.grads["0.W"].fill(1e-3)
        mg.Adam(net, 1e-2, eps=1e-3, eps_hat=eps_hat).step()
    a, b = (net.backend.to_host(net.params["0.W"]) for net in nets)
    assert np.abs(a - b).max() > 1e-4 * np.abs(b).max()


@pytest.mark.parametrize("name", (*OPTIMIZERS, *EPS_HAT))
def test_float32_stays_float32_and_state_comes_back(name, make_backend):
    """A second optimizer with the first one's state takes the same next step, bit for bit."""
    make, backend = {**OPTIMIZERS, **EPS_HAT}[name], make_backend("float32")
    make = make[0] if isinstance(make, tuple) else make
    nets = [make_net(backend) for _ in range(2)]
    optimizers = [make(net) for net in nets]
    for _ in range(3):
        draw_gradients(nets[0], np.random.default_rng(1))
        optimizers[0].step()
    state = {
        key: value if key == "steps" else backend.to_host(value).copy()
        for key, value in optimizers[0].state().items()
    }
    assert state.keys() == {"steps", *optimizers[0].moments} and state["steps"] == 3
    assert len(optimizers[0].state_arrays()) == len(optimizers[0].moments)
    optimizers[1].load_state(state)
    nets[1].store.flat_params[...] = nets[0].store.flat_params
    for net, optimizer in zip(nets, optimizers, strict=True):
        draw_gradients(net, np.random.default_rng(2))
        optimizer.step()
    a, b = (net.backend.to_host(net.store.flat_params) for net in nets)
    np.testing.assert_array_equal(a, b)
    assert a.dtype == np.float32
    assert {moment.dtype.name for moment in optimizers[1].state_arrays()} <= {"float32"}


def test_the_rate_may_change_at_any_time(make_backend):
    net = make_net(make_backend())
    optimizer, start = mg.SGD(net, 0.1), to_host(net, net.params)
    net.store.flat_grads.fill(1.0)
    optimizer.step()
    optimizer.lr = 0.0
    optimizer.step()
    for key, value in to_host(net, net.params).items():
        np.testing.assert_allclose(value, start[key] - 0.1, rtol=1e-13, atol=1e-15)


def test_l2_norm(make_backend):
    backend, values = make_backend(), np.random.default_rng(0).standard_normal(1000)
    norm = backend.operation_for(l2_norm)(backend.asarray(values), backend)
    assert float(backend.to_host(norm)) == pytest.approx(np.linalg.norm(values), rel=1e-13)


def test_the_norm_of_many_numbers(make_backend):
    """A dot product of two million equal numbers in float32 is off by 1e-4."""
    backend, size = make_backend("float32"), 2_000_003
    norm = backend.operation_for(l2_norm)(backend.asarray(np.full(size, 0.1)), backend)
    assert norm.dtype == np.float32
    expected = float(np.float32(0.1)) * size**0.5
    assert float(backend.to_host(norm)) == pytest.approx(expected, rel=2e-6)


def one_layer(out):
    return network([mg.Linear(out)], (3,), mg.get_backend("plain"))


def set_up_again():
    net = one_layer(2)
    optimizer = mg.Adam(net)
    net.setup((3,), backend=net.backend, rng=np.random.default_rng(0))
    optimizer.step()


@pytest.mark.parametrize(
    "call, error, message",
    (
        (lambda: mg.Adam(mg.Linear(2)), mg.ConfigError, "Adam: expected a Sequential, got Linear"),
        (lambda: mg.Adam(one_layer(2), -1), mg.ConfigError, "Adam: lr must be at least 0, got -1"),
        (lambda: mg.Adam(one_layer(2), beta1=1), mg.ConfigError, "Adam: beta1 must be at least 0"),
        (lambda: mg.SGD(one_layer(2), 1, l2="x"), mg.ConfigError, "SGD: l2 must be at least 0"),
        (lambda: mg.SGD(one_layer(2), 1, nesterov=True), mg.ConfigError, "give one above 0"),
        (lambda: mg.RMSprop(one_layer(2), eps=0), mg.ConfigError, "RMSprop: eps must be above 0"),
        (set_up_again, mg.StateError, "Adam: N was set up again: make a new optimizer"),
        (
            lambda: mg.Adam(one_layer(2)).load_state(mg.RMSprop(one_layer(2)).state()),
            mg.RunError,
            "it is from another optimizer",
        ),
        (
            lambda: mg.Adam(one_layer(2)).load_state(mg.Adam(one_layer(200)).state()),
            mg.RunError,
            "it is from another network",
        ),
    ),
)
def test_mistakes(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name, value", (("l2", 0.1), ("eps", 1e-3), ("eps_hat", True)))
def test_what_is_fixed(name, value, make_backend):
    """Captured steps contain it."""
    adam = mg.Adam(network([mg.Linear(1)], (3,), make_backend()), 1e-3)
    with pytest.raises(mg.StateError, match=f"Adam: {name} is fixed"):
        setattr(adam, name, value)
