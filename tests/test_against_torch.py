"""The library against PyTorch: 200 random configurations of each big layer, the optimizers, a whole DCGAN.

Errors are max|a - b| / max|b| in float64, below 1e-10. PyTorch is channels-first, and what it has no option for
(uneven padding, "same" with a stride) is made of F.pad: padding before a convolution, and for a transposed one the
full map, cropped or extended.
"""

import numpy as np
import pytest

import minigan as mg
from tests import reference

torch = pytest.importorskip("torch")
F = torch.nn.functional
torch.set_num_threads(1)

TOLERANCE = 1e-10
CONFIGURATIONS = 200


def network(layers, in_shape, rng, dtype="float64"):
    """A Sequential that is set up, its parameters drawn from N(0, 1)."""
    net = mg.Sequential(layers, name="N")
    net.setup(in_shape, backend=mg.get_backend("numpy", dtype=dtype), rng=np.random.default_rng(0))
    for name in sorted(net.params):
        net.params[name][...] = rng.standard_normal(net.params[name].shape)
    net.zero_grads()
    return net


def leaf(array):
    """-> a tensor of its own that collects a gradient."""
    return torch.tensor(np.ascontiguousarray(array), requires_grad=True)


def channels_first(x):
    return x.transpose(0, 3, 1, 2) if x.ndim == 4 else x


def channels_last(tensor):
    x = tensor.detach().numpy()
    return x.transpose(0, 2, 3, 1) if x.ndim == 4 else x


def relative_error(got, wanted):
    got, wanted = np.asarray(got), np.asarray(wanted)
    assert got.shape == wanted.shape, f"shape {got.shape}, wanted {wanted.shape}"
    return np.abs(got - wanted).max() / np.abs(wanted).max()


def assert_all_close(pairs, tolerance=TOLERANCE):
    """pairs: {what: (got, wanted)}; every error is reported, not only the first."""
    errors = {what: relative_error(got, wanted) for what, (got, wanted) in pairs.items()}
    assert all(error <= tolerance for error in errors.values()), errors  # <= is False for NaN


# ---- convolutions -----------------------------------------------------------------------------------------------


def random_geometry(rng, image_top):
    """-> image, kernel, stride, padding of any form; a random one in three has the same numbers in both directions."""
    image = tuple(int(v) for v in rng.integers(1, image_top, 2))
    kernel, stride = (tuple(int(v) for v in rng.integers(1, top, 2)) for top in (6, 4))
    if rng.integers(3) == 0:
        kernel, stride = kernel[0], stride[0]
    k_h, k_w = reference.pair(kernel)
    form = rng.integers(4)
    if form < 2:
        return image, kernel, stride, ("valid", "same")[form]
    if form == 2:
        return image, kernel, stride, int(rng.integers(0, min(k_h, k_w)))
    return (
        image,
        kernel,
        stride,
        (
            (int(rng.integers(0, k_h)), int(rng.integers(0, k_h))),
            (int(rng.integers(0, k_w)), int(rng.integers(0, k_w))),
        ),
    )


def conv_configurations():
    """(index, image, kernel, stride, padding, n, c_in, c_out, bias)"""
    rng, found = np.random.default_rng(100), []
    while len(found) < CONFIGURATIONS:
        image, kernel, stride, padding = random_geometry(rng, image_top=12)
        n, c_in, c_out = (int(v) for v in rng.integers(1, 6, 3))
        pads, _ = reference.conv2d_geometry(
            image, reference.pair(kernel), reference.pair(stride), padding
        )
        if all(
            size + sum(pad) >= k
            for size, pad, k in zip(image, pads, reference.pair(kernel), strict=True)
        ):
            found.append(
                (len(found), image, kernel, stride, padding, n, c_in, c_out, bool(rng.integers(4)))
            )
    return found


def conv_transpose_configurations():
    """(index, image, kernel, stride, padding, output_padding, n, c_in, c_out, bias)"""
    rng, found = np.random.default_rng(101), []
    while len(found) < CONFIGURATIONS:
        image, kernel, stride, padding = random_geometry(rng, image_top=8)
        extra = (
            0
            if padding == "same"
            else tuple(int(rng.integers(0, s)) for s in reference.pair(stride))
        )
        if extra and rng.integers(2):
            extra = min(extra)
        n, c_in, c_out = (int(v) for v in rng.integers(1, 6, 3))
        _, out = reference.conv_transpose2d_geometry(
            image, reference.pair(kernel), reference.pair(stride), padding, extra
        )
        if min(out) >= 1:
            found.append(
                (
                    len(found),
                    image,
                    kernel,
                    stride,
                    padding,
                    extra,
                    n,
                    c_in,
                    c_out,
                    bool(rng.integers(4)),
                )
            )
    return found


def torch_conv2d(x, W, b, stride, padding):
    """Channels-first; where PyTorch has the option (an int), it is used, elsewhere F.pad."""
    if isinstance(padding, int):
        return F.conv2d(x, W, b, stride=stride, padding=padding)
    ((top, bottom), (left, right)), _ = reference.conv2d_geometry(
        tuple(x.shape[2:]), tuple(W.shape[2:]), reference.pair(stride), padding
    )
    return F.conv2d(F.pad(x, (left, right, top, bottom)), W, b, stride=stride)


def torch_conv_transpose2d(x, W, b, stride, padding, extra):
    """Channels-first; where PyTorch has the options (an int), they are used, elsewhere the full map is cropped."""
    if isinstance(padding, int):
        return F.conv_transpose2d(x, W, b, stride=stride, padding=padding, output_padding=extra)
    ((top, _), (left, _)), (h, w) = reference.conv_transpose2d_geometry(
        tuple(x.shape[2:]), tuple(W.shape[2:]), reference.pair(stride), padding, extra
    )
    full = F.conv_transpose2d(x, W, stride=stride)
    y = F.pad(full, (-left, w + left - full.shape[3], -top, h + top - full.shape[2]))
    return y if b is None else y + b[:, None, None]


def compare_convolution(layer, torch_function, image, n, c_in, bias, rng):
    net = network([layer], (*image, c_in), rng)
    x = rng.standard_normal((n, *image, c_in))
    W = leaf(net.params["0.W"].transpose(3, 2, 0, 1))
    b = leaf(net.params["0.b"]) if bias else None
    torch_x = leaf(channels_first(x))
    torch_y = torch_function(torch_x, W, b)
    y = net.forward(x, train=True)
    pairs = {"y": (y, channels_last(torch_y))}

    dy = rng.standard_normal(y.shape)
    torch_y.backward(torch.tensor(channels_first(dy)))
    pairs["dx"] = net.backward(dy), channels_last(torch_x.grad)
    pairs["dW"] = net.grads["0.W"], W.grad.numpy().transpose(2, 3, 1, 0)
    if bias:
        pairs["db"] = net.grads["0.b"], b.grad.numpy()
    assert_all_close(pairs)


@pytest.mark.parametrize("configuration", conv_configurations(), ids=str)
def test_conv2d(configuration):
    index, image, kernel, stride, padding, n, c_in, c_out, bias = configuration
    compare_convolution(
        mg.Conv2d(c_out, kernel_size=kernel, stride=stride, padding=padding, bias=bias),
        lambda x, W, b: torch_conv2d(x, W, b, stride, padding),
        image,
        n,
        c_in,
        bias,
        np.random.default_rng([1, index]),
    )


@pytest.mark.parametrize("configuration", conv_transpose_configurations(), ids=str)
def test_conv_transpose2d(configuration):
    index, image, kernel, stride, padding, extra, n, c_in, c_out, bias = configuration
    compare_convolution(
        mg.ConvTranspose2d(
            c_out,
            kernel_size=kernel,
            stride=stride,
            padding=padding,
            output_padding=extra,
            bias=bias,
        ),
        lambda x, W, b: torch_conv_transpose2d(x, W, b, stride, padding, extra),
        image,
        n,
        c_in,
        bias,
        np.random.default_rng([2, index]),
    )


def test_the_configurations_reach_the_corners():
    """The random draws are only worth their number if they hold what is easy to get wrong."""
    convolutions, transposed = conv_configurations(), conv_transpose_configurations()
    for found in (convolutions, transposed):
        geometry = [
            (image, reference.pair(kernel), reference.pair(stride), padding)
            for _, image, kernel, stride, padding, *_ in found
        ]
        for corner in (
            lambda i, k, s, p: i[0] != i[1],
            lambda i, k, s, p: min(i) == 1,
            lambda i, k, s, p: k[0] < s[0],
            lambda i, k, s, p: k[0] > i[0],
            lambda i, k, s, p: k[0] != k[1],
            lambda i, k, s, p: s[0] != s[1],
            lambda i, k, s, p: p == "same" and k[0] < s[0],
            lambda i, k, s, p: p == "same" and k[0] > s[0] > 1,
            lambda i, k, s, p: p == "valid",
            lambda i, k, s, p: isinstance(p, int) and p > 0,
            lambda i, k, s, p: isinstance(p, tuple) and p[0][0] != p[0][1],
        ):
            assert sum(corner(*one) for one in geometry) >= 5
        assert {c for *_, c, _, _ in found} >= {1, 2, 5} and {bias for *_, bias in found} == {
            True,
            False,
        }
    assert sum(extra not in (0, (0, 0)) for _, _, _, _, _, extra, *_ in transposed) >= 20


def compare_reference_convolution(forward, backward, torch_function, image, W, n, rng):
    """forward(x, W, b), backward(dy, x, W) of reference.py against torch_function(x, W, b); W has 2 channels for x."""
    c_in = 2
    x, b = rng.standard_normal((n, *image, c_in)), rng.standard_normal(3)
    torch_x, torch_W, torch_b = leaf(channels_first(x)), leaf(W.transpose(3, 2, 0, 1)), leaf(b)
    torch_y = torch_function(torch_x, torch_W, torch_b)
    y = forward(x, W, b)
    dy = rng.standard_normal(y.shape)
    torch_y.backward(torch.tensor(channels_first(dy)))
    dx, dW, db = backward(dy, x, W)
    assert_all_close(
        {
            "y": (y, channels_last(torch_y)),
            "dx": (dx, channels_last(torch_x.grad)),
            "dW": (dW, torch_W.grad.numpy().transpose(2, 3, 1, 0)),
            "db": (db, torch_b.grad.numpy()),
        },
        1e-12,
    )


def test_reference_convolutions_agree_with_torch():
    """reference.py itself, which the other tests lean on."""
    rng = np.random.default_rng(102)
    for _, image, kernel, stride, padding, n, _, _, _ in conv_configurations()[:40]:
        compare_reference_convolution(
            lambda x, W, b: reference.conv2d_forward(x, W, b, stride, padding),
            lambda dy, x, W: reference.conv2d_backward(dy, x, W, stride, padding),
            lambda x, W, b: torch_conv2d(x, W, b, stride, padding),
            image,
            rng.standard_normal((*reference.pair(kernel), 2, 3)),
            n,
            rng,
        )
    for _, image, kernel, stride, padding, extra, n, _, _, _ in conv_transpose_configurations()[
        :40
    ]:
        compare_reference_convolution(
            lambda x, W, b: reference.conv_transpose2d_forward(x, W, b, stride, padding, extra),
            lambda dy, x, W: reference.conv_transpose2d_backward(dy, x, W, stride, padding, extra),
            lambda x, W, b: torch_conv_transpose2d(x, W, b, stride, padding, extra),
            image,
            rng.standard_normal((*reference.pair(kernel), 3, 2)),
            n,
            rng,
        )


def test_reference_batchnorm_agrees_with_torch():
    rng = np.random.default_rng(112)
    x, dy = rng.standard_normal((2, 3, 4, 5, 2))
    gain, bias = rng.standard_normal((2, 2))
    torch_x, torch_gain, torch_bias = leaf(channels_first(x)), leaf(gain), leaf(bias)
    torch_y = F.batch_norm(torch_x, None, None, torch_gain, torch_bias, training=True, eps=1e-3)
    torch_y.backward(torch.tensor(channels_first(dy)))
    dx, dgain, dbias = reference.batchnorm_backward(dy, x, gain, 1e-3)
    assert_all_close(
        {
            "y": (reference.batchnorm_forward(x, gain, bias, 1e-3)[0], channels_last(torch_y)),
            "dx": (dx, channels_last(torch_x.grad)),
            "dgain": (dgain, torch_gain.grad.numpy()),
            "dbias": (dbias, torch_bias.grad.numpy()),
        },
        1e-12,
    )


# ---- BatchNorm --------------------------------------------------------------------------------------------------


def batchnorm_configurations():
    """(index, shape, gain, bias, running_rate, eps, unbiased, scale and offset of x)"""
    rng, found = np.random.default_rng(103), []
    while len(found) < CONFIGURATIONS:
        shape = tuple(int(v) for v in rng.integers(1, 6, 4))
        if rng.integers(3) == 0:
            shape = (int(rng.integers(4, 20)), shape[-1])
        if shape[0] >= 2 and np.prod(shape[:-1]) >= 4:
            gain, bias, unbiased = (bool(v) for v in rng.integers(0, 4, 3))
            rate, eps = (
                float(rng.choice([0.01, 0.1, 0.2, 1.0])),
                float(rng.choice([1e-8, 1e-5, 1e-3])),
            )
            scale, offset = float(rng.choice([0.1, 1, 10])), float(rng.choice([0, 1, -5]))
            found.append((len(found), shape, gain, bias, rate, eps, unbiased, scale, offset))
    return found


@pytest.mark.parametrize("configuration", batchnorm_configurations(), ids=str)
def test_batchnorm(configuration):
    """Two training passes, so that the running statistics have a past, then inference with its own backward."""
    index, shape, gain, bias, rate, eps, unbiased, scale, offset = configuration
    rng, c = np.random.default_rng([3, index]), shape[-1]
    net = network(
        [mg.BatchNorm(gain=gain, bias=bias, running_rate=rate, eps=eps, unbiased=unbiased)],
        shape[1:],
        rng,
    )
    torch_gain = (
        leaf(net.params["0.gain"])
        if gain
        else torch.ones(c, dtype=torch.float64, requires_grad=True)
    )
    torch_bias = (
        leaf(net.params["0.bias"])
        if bias
        else torch.zeros(c, dtype=torch.float64, requires_grad=True)
    )
    mean, var = torch.zeros(c, dtype=torch.float64), torch.ones(c, dtype=torch.float64)
    wanted_var, m = np.ones(c), int(np.prod(shape[:-1]))

    for training in (True, True, False):
        x = rng.standard_normal(shape) * scale + offset
        dy = rng.standard_normal(shape)
        torch_x = leaf(channels_first(x))
        seen_var = var if unbiased or training else torch.tensor(wanted_var)
        old_var = var.numpy().copy()
        torch_y = F.batch_norm(torch_x, mean, seen_var, torch_gain, torch_bias, training, rate, eps)
        batch_var = (var.numpy() - (1 - rate) * old_var) / rate  # PyTorch's is always unbiased
        if training:
            wanted_var = (1 - rate) * wanted_var + rate * batch_var * (
                1 if unbiased else (m - 1) / m
            )
        torch_gain.grad = torch_bias.grad = None
        torch_y.backward(torch.tensor(channels_first(dy)))

        net.zero_grads()
        pairs = {
            "y": (net.forward(x, train=training), channels_last(torch_y)),
            "dx": (net.backward(dy), channels_last(torch_x.grad)),
            "running mean": (net.buffers["0.running_mean"], mean.numpy()),
            "running variance": (net.buffers["0.running_var"], wanted_var),
        }
        if gain:
            pairs["dgain"] = net.grads["0.gain"], torch_gain.grad.numpy()
        if bias:
            pairs["dbias"] = net.grads["0.bias"], torch_bias.grad.numpy()
        assert_all_close(pairs)


# ---- the small layers and the loss ------------------------------------------------------------------------------


@pytest.mark.parametrize("index", range(20))
def test_linear(index):
    rng = np.random.default_rng([4, index])
    n, c_in, c_out = (int(v) for v in rng.integers(1, 9, 3))
    net = network([mg.Linear(c_out)], (c_in,), rng)
    x, dy = rng.standard_normal((n, c_in)), rng.standard_normal((n, c_out))
    torch_x, W, b = leaf(x), leaf(net.params["0.W"]), leaf(net.params["0.b"])
    torch_y = F.linear(torch_x, W.T, b)
    torch_y.backward(torch.tensor(dy))
    assert_all_close(
        {
            "y": (net.forward(x), channels_last(torch_y)),
            "dx": (net.backward(dy), torch_x.grad.numpy()),
            "dW": (net.grads["0.W"], W.grad.numpy()),
            "db": (net.grads["0.b"], b.grad.numpy()),
        }
    )


@pytest.mark.parametrize(
    "make, torch_function",
    [
        (lambda: mg.LeakyReLU(0.2), lambda x: F.leaky_relu(x, 0.2)),
        (lambda: mg.LeakyReLU(0.01), lambda x: F.leaky_relu(x, 0.01)),
        (mg.ReLU, torch.relu),
        (mg.Tanh, torch.tanh),
        (mg.Sigmoid, torch.sigmoid),
    ],
    ids=["leaky-0.2", "leaky-0.01", "relu", "tanh", "sigmoid"],
)
@pytest.mark.parametrize("shape", [(5, 7), (2, 3, 4, 5)], ids=str)
@pytest.mark.parametrize("scale", [1, 30])
def test_activation(make, torch_function, shape, scale):
    """scale 30: far into saturation, where a naive exp overflows; nothing may warn."""
    rng = np.random.default_rng(105)
    x, dy = rng.standard_normal(shape) * scale, rng.standard_normal(shape)
    net = network([make()], shape[1:], rng)
    torch_x = leaf(x)
    torch_y = torch_function(torch_x)
    torch_y.backward(torch.tensor(dy))
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        y, dx = net.forward(x), net.backward(dy)
    assert_all_close({"y": (y, torch_y.detach().numpy()), "dx": (dx, torch_x.grad.numpy())})


def test_sigmoid_far_out():
    """At ±800 exp overflows in float64: still 0 and 1, without a warning."""
    net = network([mg.Sigmoid()], (4,), np.random.default_rng(0))
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        y = net.forward(np.array([[-800.0, -40.0, 40.0, 800.0]]))
    wanted = torch.sigmoid(
        torch.tensor([[-800.0, -40.0, 40.0, 800.0]], dtype=torch.float64)
    ).numpy()
    np.testing.assert_allclose(y, wanted, rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("scale", [1, 30, 100])
@pytest.mark.parametrize("target", ["0", "1", "0.9", "array"])
@pytest.mark.parametrize("shape", [(1, 1), (8, 1), (4, 3)], ids=str)
def test_bce_with_logits(scale, target, shape):
    """scale 100: half of the logits are exactly +100 and -100, where log(sigmoid) would be -inf."""
    rng = np.random.default_rng(106)
    logits = (
        rng.standard_normal(shape) * 3 if scale == 1 else rng.choice([-1.0, 1.0], shape) * scale
    )
    target = rng.uniform(0, 1, shape) if target == "array" else float(target)
    torch_logits = leaf(logits)
    torch_loss = F.binary_cross_entropy_with_logits(
        torch_logits, torch.tensor(np.broadcast_to(target, shape).astype("float64"))
    )
    torch_loss.backward()
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        loss, dlogits = mg.bce_with_logits(logits, target)
    assert float(loss) == pytest.approx(torch_loss.item(), rel=TOLERANCE)
    assert dlogits.shape == shape
    np.testing.assert_allclose(dlogits, torch_logits.grad.numpy(), rtol=1e-9, atol=1e-17)


def test_bce_at_100_for_either_target():
    """The exact numbers: right by far costs exp(-100), wrong by far costs 100."""
    for logit, target, wanted in (
        (100.0, 1.0, np.exp(-100)),
        (100.0, 0.0, 100.0),
        (-100.0, 0.0, np.exp(-100)),
        (-100.0, 1.0, 100.0),
        (100.0, 0.9, 10.0),
    ):
        loss, dlogits = mg.bce_with_logits(np.array([[logit]]), target)
        assert float(loss) == pytest.approx(wanted, rel=1e-12)
        assert float(dlogits[0, 0]) == pytest.approx(
            (1.0 if logit > 0 else 0.0) - target, rel=1e-12, abs=1e-40
        )
    logits, target = np.array([[100.0], [-100.0]], "float32"), np.array([[0.9], [1.0]], "float32")
    loss, dlogits = mg.bce_with_logits(logits, target)
    assert float(loss) == pytest.approx((10.0 + 100.0) / 2, rel=1e-6) and np.isfinite(dlogits).all()


# ---- optimizers -------------------------------------------------------------------------------------------------


def optimizer_net(rng):
    return network(
        [
            mg.Conv2d(3, kernel_size=3, stride=1, padding=1),
            mg.BatchNorm(),
            mg.Flatten(),
            mg.Linear(2),
        ],
        (4, 3, 2),
        rng,
    )


def random_gradients(net, rng):
    """Sizes from 1e-6 to 1e2, as they occur, so that eps matters for some; the first bias stays at exactly 0."""
    return {
        name: rng.standard_normal(g.shape) * 10.0 ** rng.uniform(-6, 2, g.shape) * (name != "0.b")
        for name, g in net.grads.items()
    }


OPTIMIZERS = {
    "sgd": (lambda net: mg.SGD(net, 0.1), lambda p: torch.optim.SGD(p, 0.1)),
    "sgd l2": (
        lambda net: mg.SGD(net, 0.1, l2=0.05),
        lambda p: torch.optim.SGD(p, 0.1, weight_decay=0.05),
    ),
    "sgd momentum": (
        lambda net: mg.SGD(net, 0.01, momentum=0.9),
        lambda p: torch.optim.SGD(p, 0.01, momentum=0.9),
    ),
    "sgd nesterov": (
        lambda net: mg.SGD(net, 0.01, momentum=0.5, nesterov=True),
        lambda p: torch.optim.SGD(p, 0.01, momentum=0.5, nesterov=True),
    ),
    "sgd nesterov l2": (
        lambda net: mg.SGD(net, 0.01, momentum=0.9, nesterov=True, l2=0.1),
        lambda p: torch.optim.SGD(p, 0.01, momentum=0.9, nesterov=True, weight_decay=0.1),
    ),
    "rmsprop": (
        lambda net: mg.RMSprop(net, 1e-3),
        lambda p: torch.optim.RMSprop(p, 1e-3, alpha=0.9, eps=1e-8),
    ),
    "rmsprop options": (
        lambda net: mg.RMSprop(net, 1e-2, rho=0.99, eps=1e-3, l2=0.1),
        lambda p: torch.optim.RMSprop(p, 1e-2, alpha=0.99, eps=1e-3, weight_decay=0.1),
    ),
    "adam": (
        lambda net: mg.Adam(net, lr=2e-4),
        lambda p: torch.optim.Adam(p, 2e-4, betas=(0.5, 0.999), eps=1e-8),
    ),
    "adam large eps": (
        lambda net: mg.Adam(net, lr=1e-2, beta1=0.9, beta2=0.99, eps=1e-2),
        lambda p: torch.optim.Adam(p, 1e-2, betas=(0.9, 0.99), eps=1e-2),
    ),
    "adam l2": (
        lambda net: mg.Adam(net, lr=1e-2, beta1=0.0, beta2=0.9, eps=1e-4, l2=0.1),
        lambda p: torch.optim.Adam(p, 1e-2, betas=(0.0, 0.9), eps=1e-4, weight_decay=0.1),
    ),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer(name):
    rng = np.random.default_rng(107)
    net = optimizer_net(rng)
    start = {p: net.params[p].copy() for p in net.params}
    parameters = {p: leaf(net.params[p].copy()) for p in net.params}
    make, make_torch = OPTIMIZERS[name]
    ours, theirs = make(net), make_torch(list(parameters.values()))
    for _ in range(20):
        for p, gradient in random_gradients(net, rng).items():
            net.grads[p][...] = gradient
            parameters[p].grad = torch.tensor(gradient)
        before = {p: g.tobytes() for p, g in net.grads.items()}
        ours.step()
        theirs.step()
        assert {p: g.tobytes() for p, g in net.grads.items()} == before
        for p, value in net.params.items():
            wanted = parameters[p].detach().numpy()
            np.testing.assert_allclose(value, wanted, rtol=TOLERANCE, atol=1e-15)
            # and what the optimizer did, which is small beside where it stands: the distance travelled
            np.testing.assert_allclose(value - start[p], wanted - start[p], rtol=1e-9, atol=1e-13)
    assert all(np.any(net.params[p] != start[p]) for p in net.params if p != "0.b")


@pytest.mark.parametrize("l2", [0.0, 0.1])
def test_adam_eps_hat(l2):
    """Keras' form, written out: eps stands beside the sqrt(v) that is not yet corrected for its start at 0."""
    rng = np.random.default_rng(108)
    net = optimizer_net(rng)
    lr, beta1, beta2, eps = 1e-2, 0.5, 0.999, 1e-3
    optimizer = mg.Adam(net, lr=lr, beta1=beta1, beta2=beta2, eps=eps, eps_hat=True, l2=l2)
    wanted = {p: net.params[p].copy() for p in net.params}
    m = {p: np.zeros_like(value) for p, value in wanted.items()}
    v = {p: np.zeros_like(value) for p, value in wanted.items()}
    for t in range(1, 21):
        for p, gradient in random_gradients(net, rng).items():
            net.grads[p][...] = gradient
            g = gradient + l2 * wanted[p]
            m[p] = beta1 * m[p] + (1 - beta1) * g
            v[p] = beta2 * v[p] + (1 - beta2) * g**2
            lr_t = lr * np.sqrt(1 - beta2**t) / (1 - beta1**t)
            wanted[p] = wanted[p] - lr_t * m[p] / (np.sqrt(v[p]) + eps)
        optimizer.step()
        assert_all_close({f"{p} after step {t}": (net.params[p], wanted[p]) for p in wanted})


def test_adam_forms_differ():
    """With an eps that matters the two forms are different optimizers: the switch is not a decoration."""
    nets = [optimizer_net(np.random.default_rng(109)) for _ in range(2)]
    for net, eps_hat in zip(nets, (False, True), strict=True):
        net.grads["0.W"][...] = 1e-3
        mg.Adam(net, lr=1e-2, eps=1e-3, eps_hat=eps_hat).step()
    assert relative_error(nets[0].params["0.W"], nets[1].params["0.W"]) > 1e-4


# ---- ten steps of a whole DCGAN ---------------------------------------------------------------------------------

Z, BATCH, STEPS, LR, BETA1 = 20, 16, 10, 2e-4, 0.5


def generator(h, w, c):
    return mg.Sequential(
        [
            mg.Linear(h // 4 * (w // 4) * 16),
            mg.Reshape((h // 4, w // 4, 16)),
            mg.BatchNorm(),
            mg.ReLU(),
            mg.ConvTranspose2d(8, kernel_size=5, stride=2, padding="same", bias=False),
            mg.BatchNorm(),
            mg.ReLU(),
            mg.ConvTranspose2d(c, kernel_size=5, stride=2, padding="same"),
            mg.Tanh(),
        ],
        name="G",
    )


def discriminator():
    return mg.Sequential(
        [
            mg.Conv2d(8, kernel_size=5, stride=2, padding="same"),
            mg.LeakyReLU(0.2),
            mg.Conv2d(16, kernel_size=5, stride=2, padding="same", bias=False),
            mg.BatchNorm(),
            mg.LeakyReLU(0.2),
            mg.Flatten(),
            mg.Linear(1),
        ],
        name="D",
    )


def torch_weights(net):
    """The same numbers, in minigan's names and layouts."""
    return (
        {name: leaf(value.copy()) for name, value in net.params.items()},
        {name: torch.tensor(value.copy()) for name, value in net.buffers.items()},
    )


def torch_batchnorm(x, P, B, layer):
    mean, var, gain, bias = (
        group[f"{layer}.{name}"]
        for group, name in ((B, "running_mean"), (B, "running_var"), (P, "gain"), (P, "bias"))
    )
    return F.batch_norm(x, mean, var, gain, bias, training=True, momentum=0.1, eps=1e-5)


def oihw(W):
    return W.permute(3, 2, 0, 1).contiguous()


def torch_generator(z, P, B, h, w):
    """z (n, Z) -> images (n, h, w, c)."""
    x = (z @ P["0.W"] + P["0.b"]).reshape(-1, h // 4, w // 4, 16).permute(0, 3, 1, 2)
    x = torch.relu(torch_batchnorm(x, P, B, 2))
    x = torch_conv_transpose2d(x, oihw(P["4.W"]), None, 2, "same", 0)
    x = torch.relu(torch_batchnorm(x, P, B, 5))
    return torch.tanh(torch_conv_transpose2d(x, oihw(P["7.W"]), P["7.b"], 2, "same", 0)).permute(
        0, 2, 3, 1
    )


def torch_discriminator(x, P, B):
    """images (n, h, w, c) -> logits (n, 1)."""
    x = F.leaky_relu(torch_conv2d(x.permute(0, 3, 1, 2), oihw(P["0.W"]), P["0.b"], 2, "same"), 0.2)
    x = F.leaky_relu(
        torch_batchnorm(torch_conv2d(x, oihw(P["2.W"]), None, 2, "same"), P, B, 3), 0.2
    )
    return x.permute(0, 2, 3, 1).reshape(len(x), -1) @ P["6.W"] + P["6.b"]


def train_minigan(G, D, reals, noises):
    """-> losses (steps, 3): D on real, D on fake, G; and the gradients of the first step."""
    optimizer_G, optimizer_D = (mg.Adam(net, lr=LR, beta1=BETA1) for net in (G, D))
    losses, first = [], {}
    for real, z in zip(reals, noises, strict=True):
        fake = G.forward(z, train=True)
        D.zero_grads()
        loss_real, dlogits = mg.bce_with_logits(D.forward(real, train=True), 1.0)
        assert D.backward(dlogits, need_dx=False) is None
        loss_fake, dlogits = mg.bce_with_logits(D.forward(fake, train=True), 0.0)
        assert D.backward(dlogits, need_dx=False) is None
        first = first or {f"D.{name}": gradient.copy() for name, gradient in D.grads.items()}
        before_G = {name: value.tobytes() for name, value in G.params.items()}
        optimizer_D.step()
        assert {name: value.tobytes() for name, value in G.params.items()} == before_G

        before_D = [
            {name: value.tobytes() for name, value in group.items()}
            for group in (D.params, D.grads)
        ]
        loss_G, dlogits = mg.bce_with_logits(
            D.forward(fake, train=True), 1.0
        )  # anew: D has changed
        dfake = D.backward(dlogits, need_dx=True, need_dw=False)
        G.zero_grads()
        G.backward(dfake, need_dx=False)
        if len(losses) == 0:
            first.update((f"G.{name}", gradient.copy()) for name, gradient in G.grads.items())
        optimizer_G.step()
        assert [
            {name: value.tobytes() for name, value in group.items()}
            for group in (D.params, D.grads)
        ] == before_D
        losses.append([float(loss_real), float(loss_fake), float(loss_G)])
    return np.array(losses), first


def train_torch(G, D, reals, noises, h, w):
    """The same, with autograd; G, D are (parameters, buffers)."""
    optimizer_G, optimizer_D = (
        torch.optim.Adam(list(P.values()), LR, betas=(BETA1, 0.999)) for P, _ in (G, D)
    )
    bce = F.binary_cross_entropy_with_logits
    losses, first = [], {}
    for real, z in zip(reals, noises, strict=True):
        fake = torch_generator(torch.tensor(z), *G, h, w)
        optimizer_D.zero_grad()
        logits = torch_discriminator(torch.tensor(real), *D)
        loss_real = bce(logits, torch.ones_like(logits))
        logits = torch_discriminator(fake.detach(), *D)
        loss_fake = bce(logits, torch.zeros_like(logits))
        (loss_real + loss_fake).backward()
        first = first or {f"D.{name}": p.grad.numpy().copy() for name, p in D[0].items()}
        optimizer_D.step()

        logits = torch_discriminator(fake, *D)
        loss_G = bce(logits, torch.ones_like(logits))
        optimizer_G.zero_grad()
        loss_G.backward()
        if len(losses) == 0:
            first.update((f"G.{name}", p.grad.numpy().copy()) for name, p in G[0].items())
        optimizer_G.step()
        losses.append([loss_real.item(), loss_fake.item(), loss_G.item()])
    return np.array(losses), first


@pytest.mark.parametrize("h, w, c", [(28, 28, 1), (16, 24, 3)])
def test_ten_steps_of_a_dcgan(h, w, c):
    """From the same weights, the same pictures and the same z, in float32."""
    rng = np.random.default_rng(110)
    backend = mg.get_backend("numpy", dtype="float32")
    G, D = generator(h, w, c), discriminator()
    assert tuple(G.setup((Z,), backend=backend, rng=rng)) == (h, w, c)
    assert tuple(D.setup((h, w, c), backend=backend, rng=rng)) == (1,)
    for net in (G, D):
        for name, value in net.params.items():
            value[...] = rng.standard_normal(value.shape) * 0.02 + name.endswith("gain")
    reals = np.tanh(rng.standard_normal((STEPS, BATCH, h, w, c)) + 0.5).astype("float32")
    noises = rng.standard_normal((STEPS, BATCH, Z)).astype("float32")

    torch_G, torch_D = torch_weights(G), torch_weights(D)
    wanted, wanted_first = train_torch(torch_G, torch_D, reals, noises, h, w)
    losses, first = train_minigan(G, D, reals, noises)

    np.testing.assert_allclose(losses[0], wanted[0], rtol=1e-4)
    np.testing.assert_allclose(losses[9], wanted[9], rtol=1e-2)
    np.testing.assert_allclose(losses, wanted, rtol=1e-2)
    assert (
        np.abs(losses[9] - losses[0]).min() > 0.01
    )  # it has learned something, the test is about a walk
    assert first.keys() == wanted_first.keys()
    assert_all_close({name: (first[name], wanted_first[name]) for name in first}, tolerance=1e-3)
    for net, (_, buffers) in ((G, torch_G), (D, torch_D)):
        assert_all_close(
            {name: (net.buffers[name], buffers[name].numpy()) for name in buffers}, tolerance=1e-2
        )
