"""The library against the naive loops of reference.py, and the promises of the layer protocol.

Small random shapes in float64 with a random dy. Errors are max|a - b| / max|b|.
"""

import numpy as np
import pytest

import minigan as mg
from tests import reference

TOLERANCE = 1e-10


def network(layers, in_shape, dtype="float64", seed=0):
    """A Sequential that is set up, with every parameter drawn anew so that none is 0 or 1."""
    net = mg.Sequential(layers, name="N")
    net.setup(
        in_shape, backend=mg.get_backend("numpy", dtype=dtype), rng=np.random.default_rng(seed)
    )
    rng = np.random.default_rng(seed + 1)
    for name in sorted(net.params):
        shape = net.params[name].shape
        net.params[name][...] = rng.uniform(0.5, 1.5, shape) * rng.choice([-1, 1], shape)
    net.zero_grads()
    return net


def assert_close(got, wanted, what):
    """Same shape, and equal to TOLERANCE relative to the largest number wanted."""
    got, wanted = np.asarray(got), np.asarray(wanted)
    assert got.shape == wanted.shape, f"{what}: shape {got.shape}, wanted {wanted.shape}"
    error = np.abs(got - wanted).max()
    assert error <= TOLERANCE * np.abs(wanted).max(), (
        f"{what}: off by {error:.3g} of {np.abs(wanted).max():.3g}"
    )


def snapshot(arrays):
    """The bits of a dict of arrays."""
    return {name: array.tobytes() for name, array in arrays.items()}


# ---- convolutions -----------------------------------------------------------------------------------------------


def random_padding(rng, kernel):
    """Any of the four forms, smaller than the kernel in each direction."""
    k_h, k_w = kernel
    return [
        "valid",
        "same",
        int(rng.integers(0, min(kernel))),
        (
            (int(rng.integers(0, k_h)), int(rng.integers(0, k_h))),
            (int(rng.integers(0, k_w)), int(rng.integers(0, k_w))),
        ),
    ][rng.integers(4)]


def random_geometry(rng):
    image, kernel, stride = (tuple(int(v) for v in rng.integers(1, top, 2)) for top in (8, 6, 4))
    return image, kernel, stride, random_padding(rng, kernel)


def conv_fits(image, kernel, stride, padding):
    pads, _ = reference.conv2d_geometry(image, kernel, stride, padding)
    return all(size + sum(pad) >= k for size, pad, k in zip(image, pads, kernel, strict=True))


def conv_cases():
    """(image, kernel, stride, padding, n, c_in, c_out, bias): the corners by hand, then 60 at random."""
    cases = [
        ((7, 7), 5, 2, "same", 2, 1, 3, True),
        ((8, 6), 5, 2, "same", 2, 2, 3, False),
        ((5, 7), 3, 1, 1, 2, 2, 2, True),
        ((4, 4), 4, 1, "valid", 3, 3, 1, False),
        ((8, 8), 4, 2, 1, 1, 1, 1, True),
        ((7, 5), 1, (2, 3), "valid", 2, 2, 3, True),  # k < s: pixels that no window reads
        ((5, 8), 2, 3, "same", 2, 1, 2, True),  # k < s
        ((2, 3), 5, 2, 2, 2, 2, 2, True),  # k > h
        ((1, 1), 3, 1, 1, 2, 1, 2, False),  # k > h
        ((3, 3), 5, 2, "same", 2, 2, 1, True),  # k > h
        ((1, 4), (5, 2), (3, 1), ((4, 3), (1, 0)), 2, 1, 1, True),
        ((6, 5), (2, 4), (1, 2), ((0, 1), (2, 0)), 2, 3, 2, False),
        ((9, 4), (3, 3), (2, 1), "same", 2, 1, 4, True),
        ((8, 8), 3, 2, ((0, 1), (0, 1)), 1, 2, 2, False),
        ((6, 6), 3, 2, "valid", 2, 2, 2, True),  # the last row and column are never read
    ]
    rng = np.random.default_rng(20)
    while len(cases) < 75:
        geometry = random_geometry(rng)
        n, c_in, c_out = (int(v) for v in rng.integers(1, 4, 3))
        if conv_fits(*geometry):
            cases.append((*geometry, n, c_in, c_out, bool(rng.integers(2))))
    return cases


def conv_transpose_cases():
    """(image, kernel, stride, padding, output_padding, n, c_in, c_out, bias)."""
    cases = [
        ((7, 7), 5, 2, "same", 0, 2, 2, 1, True),
        ((4, 4), 4, 2, 1, 0, 2, 3, 2, False),
        ((1, 1), 7, 1, "valid", 0, 2, 3, 2, False),
        ((3, 2), 2, 3, "same", 0, 2, 1, 2, True),  # k < s: pixels that no kernel reaches
        ((3, 2), 1, (2, 3), "valid", 0, 1, 2, 1, True),  # k < s
        ((2, 3), 5, 2, 2, 1, 2, 2, 2, True),
        ((3, 3), 3, 2, ((1, 0), (0, 2)), 0, 2, 1, 1, False),
        ((2, 2), 2, 3, "valid", 2, 2, 2, 2, True),  # k < s, and rows after the full map
        ((2, 3), (3, 2), (2, 3), "valid", 1, 1, 2, 3, True),
        ((3, 3), 3, 1, 2, 0, 2, 2, 2, True),  # down to one pixel
        ((3, 5), 3, 1, "same", 0, 2, 2, 2, False),
        ((1, 2), 5, (2, 1), "same", 0, 2, 2, 2, True),
        ((4, 1), (3, 4), (3, 2), ((2, 1), (0, 3)), 1, 2, 2, 1, True),
    ]
    rng = np.random.default_rng(21)
    while len(cases) < 75:
        image, kernel, stride, padding = random_geometry(rng)
        extra = 0 if padding == "same" else int(rng.integers(0, min(stride)))
        n, c_in, c_out = (int(v) for v in rng.integers(1, 4, 3))
        _, out = reference.conv_transpose2d_geometry(image, kernel, stride, padding, extra)
        if min(out) >= 1:
            cases.append(
                (image, kernel, stride, padding, extra, n, c_in, c_out, bool(rng.integers(2)))
            )
    return cases


@pytest.mark.parametrize("case", conv_cases(), ids=str)
def test_conv2d(case):
    image, kernel, stride, padding, n, c_in, c_out, bias = case
    rng = np.random.default_rng(1)
    net = network(
        [mg.Conv2d(c_out, kernel_size=kernel, stride=stride, padding=padding, bias=bias)],
        (*image, c_in),
    )
    W, b = net.params["0.W"], net.params.get("0.b")
    assert W.shape == (*reference.pair(kernel), c_in, c_out) and (b is not None) == bias

    x = rng.standard_normal((n, *image, c_in))
    y = net.forward(x.copy(), train=True)
    assert_close(y, reference.conv2d_forward(x, W, b, stride, padding), "y")

    dy = rng.standard_normal(y.shape)
    dx = net.backward(dy.copy())
    wanted_dx, wanted_dW, wanted_db = reference.conv2d_backward(
        dy, x, W, reference.pair(stride), padding
    )
    assert_close(dx, wanted_dx, "dx")
    assert_close(net.grads["0.W"], wanted_dW, "dW")
    if bias:
        assert_close(net.grads["0.b"], wanted_db, "db")


@pytest.mark.parametrize("case", conv_transpose_cases(), ids=str)
def test_conv_transpose2d(case):
    image, kernel, stride, padding, extra, n, c_in, c_out, bias = case
    rng = np.random.default_rng(2)
    layer = mg.ConvTranspose2d(
        c_out, kernel_size=kernel, stride=stride, padding=padding, output_padding=extra, bias=bias
    )
    net = network([layer], (*image, c_in))
    W, b = net.params["0.W"], net.params.get("0.b")
    assert W.shape == (*reference.pair(kernel), c_out, c_in) and (b is not None) == bias

    x = rng.standard_normal((n, *image, c_in))
    y = net.forward(x.copy(), train=True)
    assert_close(y, reference.conv_transpose2d_forward(x, W, b, stride, padding, extra), "y")

    dy = rng.standard_normal(y.shape)
    dx = net.backward(dy.copy())
    wanted_dx, wanted_dW, wanted_db = reference.conv_transpose2d_backward(
        dy, x, W, stride, padding, extra
    )
    assert_close(dx, wanted_dx, "dx")
    assert_close(net.grads["0.W"], wanted_dW, "dW")
    if bias:
        assert_close(net.grads["0.b"], wanted_db, "db")


@pytest.mark.parametrize(
    "make, in_shape, out_shape",
    [
        (lambda: mg.Conv2d(3, kernel_size=5, stride=2, padding="same"), (28, 28, 1), (14, 14, 3)),
        (lambda: mg.Conv2d(3, kernel_size=5, stride=2, padding="same"), (7, 9, 2), (4, 5, 3)),
        (
            lambda: mg.Conv2d(3, kernel_size=(4, 2), stride=(1, 2), padding="valid"),
            (4, 5, 2),
            (1, 2, 3),
        ),
        (lambda: mg.Conv2d(3, kernel_size=4, stride=2, padding=1), (64, 32, 1), (32, 16, 3)),
        (
            lambda: mg.ConvTranspose2d(3, kernel_size=5, stride=2, padding="same"),
            (7, 9, 2),
            (14, 18, 3),
        ),
        (lambda: mg.ConvTranspose2d(3, kernel_size=4, stride=2, padding=1), (7, 9, 2), (14, 18, 3)),
        (
            lambda: mg.ConvTranspose2d(3, kernel_size=5, stride=2, padding=2, output_padding=1),
            (7, 9, 2),
            (14, 18, 3),
        ),
        (
            lambda: mg.ConvTranspose2d(3, kernel_size=7, stride=1, padding="valid"),
            (1, 1, 9),
            (7, 7, 3),
        ),
        (
            lambda: mg.ConvTranspose2d(3, kernel_size=2, stride=3, padding="same"),
            (2, 2, 9),
            (6, 6, 3),
        ),
        (lambda: mg.Flatten(), (2, 3, 4), (24,)),
        (lambda: mg.Reshape((3, 4, 2)), (24,), (3, 4, 2)),
        (lambda: mg.Linear(5), (7,), (5,)),
    ],
)
def test_setup_returns_the_shape_that_forward_gives(make, in_shape, out_shape):
    net = mg.Sequential([make()], name="N")
    got = net.setup(
        in_shape, backend=mg.get_backend("numpy", dtype="float64"), rng=np.random.default_rng(0)
    )
    assert tuple(got) == out_shape
    assert net.forward(np.ones((2, *in_shape)), train=True).shape == (2, *out_shape)


def test_transposed_convolution_is_the_transpose_of_the_convolution():
    """<conv(x), y> = <x, conv_transpose(y)> with one and the same W, for "same" padding on even sizes."""
    rng = np.random.default_rng(3)
    down = network([mg.Conv2d(4, kernel_size=5, stride=2, padding="same", bias=False)], (8, 6, 3))
    up = network(
        [mg.ConvTranspose2d(3, kernel_size=5, stride=2, padding="same", bias=False)], (4, 3, 4)
    )
    up.params["0.W"][...] = down.params["0.W"]
    x, y = rng.standard_normal((2, 8, 6, 3)), rng.standard_normal((2, 4, 3, 4))
    left, right = np.sum(down.forward(x) * y), np.sum(x * up.forward(y))
    assert left == pytest.approx(right, rel=1e-12)


# ---- the other layers and the loss ------------------------------------------------------------------------------


@pytest.mark.parametrize("n, c_in, c_out", [(1, 1, 1), (3, 5, 2), (4, 2, 7)])
def test_linear(n, c_in, c_out):
    rng = np.random.default_rng(4)
    net = network([mg.Linear(c_out)], (c_in,))
    W, b = net.params["0.W"], net.params["0.b"]
    x, dy = rng.standard_normal((n, c_in)), rng.standard_normal((n, c_out))
    assert_close(net.forward(x.copy()), reference.linear_forward(x, W, b), "y")
    dx = net.backward(dy.copy())
    for got, wanted, what in zip(
        (dx, net.grads["0.W"], net.grads["0.b"]),
        reference.linear_backward(dy, x, W),
        ("dx", "dW", "db"),
        strict=True,
    ):
        assert_close(got, wanted, what)


@pytest.mark.parametrize(
    "shape", [(4, 3), (5, 1), (3, 2, 5, 2), (2, 1, 3, 4), (2, 3, 3, 1)], ids=str
)
@pytest.mark.parametrize("gain, bias", [(True, True), (True, False), (False, True), (False, False)])
def test_batchnorm(shape, gain, bias):
    rng = np.random.default_rng(5)
    eps, rate = 1e-3, 0.25
    net = network([mg.BatchNorm(gain=gain, bias=bias, running_rate=rate, eps=eps)], shape[1:])
    assert sorted(net.params) == [name for name, on in (("0.bias", bias), ("0.gain", gain)) if on]
    assert sorted(net.buffers) == ["0.running_mean", "0.running_var"]
    parameters = net.params.get("0.gain"), net.params.get("0.bias")
    x = rng.standard_normal(shape) * 2 + 3
    dy = rng.standard_normal(shape)

    wanted_y, mean, var = reference.batchnorm_forward(x, *parameters, eps)
    assert_close(net.forward(x.copy(), train=True), wanted_y, "y")
    dx = net.backward(dy.copy())
    wanted_dx, wanted_dgain, wanted_dbias = reference.batchnorm_backward(dy, x, parameters[0], eps)
    assert_close(dx, wanted_dx, "dx")
    if gain:
        assert_close(net.grads["0.gain"], wanted_dgain, "dgain")
    if bias:
        assert_close(net.grads["0.bias"], wanted_dbias, "dbias")

    m = x.size // shape[-1]
    running_mean = reference.batchnorm_running(np.zeros(shape[-1]), mean, rate)
    running_var = reference.batchnorm_running(np.ones(shape[-1]), var * m / (m - 1), rate)
    assert_close(net.buffers["0.running_mean"], running_mean, "running mean")
    assert_close(net.buffers["0.running_var"], running_var, "running variance")
    wanted = reference.batchnorm_inference(x, *parameters, running_mean, running_var, eps)
    assert_close(net.forward(x.copy(), train=False), wanted, "y in inference")
    assert_close(
        net.forward(x[:1].copy(), train=False), wanted[:1], "y of one picture in inference"
    )
    assert_close(net.buffers["0.running_mean"], running_mean, "running mean after inference")


def test_batchnorm_biased_running_variance():
    x = np.random.default_rng(6).standard_normal((3, 2, 2, 2))
    net = network([mg.BatchNorm(running_rate=1.0, unbiased=False)], x.shape[1:])
    net.forward(x)
    assert_close(net.buffers["0.running_mean"], x.mean(axis=(0, 1, 2)), "running mean")
    assert_close(net.buffers["0.running_var"], x.var(axis=(0, 1, 2)), "running variance")


def test_batchnorm_sampling_from_the_batch():
    """sampling="batch": inference normalises with its own batch and leaves the running statistics alone."""
    x = np.random.default_rng(7).standard_normal((4, 3, 2, 2)) + 5
    net = network([mg.BatchNorm(sampling="batch")], x.shape[1:])
    before = snapshot(net.buffers)
    wanted, _, _ = reference.batchnorm_forward(x, net.params["0.gain"], net.params["0.bias"], 1e-5)
    assert_close(net.forward(x, train=False), wanted, "y")
    assert snapshot(net.buffers) == before


def test_batchnorm_of_two_values():
    """With m = 2 the true dx is almost 0 (x_hat is ±1 whatever x is): compared on the scale of its three terms."""
    rng = np.random.default_rng(8)
    x, dy = rng.standard_normal((2, 3)), rng.standard_normal((2, 3))
    net = network([mg.BatchNorm()], (3,))
    net.forward(x.copy())
    dx = net.backward(dy.copy())
    wanted, _, _ = reference.batchnorm_backward(dy, x, net.params["0.gain"], 1e-5)
    terms = np.abs(net.params["0.gain"] * dy) / x.std(axis=0)
    assert np.abs(dx - wanted).max() <= 1e-12 * terms.max()


@pytest.mark.parametrize(
    "name, make",
    [
        ("relu", mg.ReLU),
        ("leaky 0.2", lambda: mg.LeakyReLU(0.2)),
        ("tanh", mg.Tanh),
        ("sigmoid", mg.Sigmoid),
    ],
)
@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 5, 2)], ids=str)
def test_activation(name, make, shape):
    rng = np.random.default_rng(9)
    x, dy = rng.standard_normal(shape) * 3, rng.standard_normal(shape)
    net = network([make()], shape[1:])
    y, dx = reference.activation(name, x, dy)
    assert_close(net.forward(x.copy()), y, "y")
    assert_close(net.backward(dy.copy()), dx, "dx")


def test_dropout():
    """Inverted dropout: what stays is divided by 1 - p; dx goes through the same holes; inference changes nothing."""
    rng = np.random.default_rng(10)
    p, x = 0.3, rng.uniform(1, 2, (100, 200))
    net = network([mg.Dropout(p)], (200,))
    y = net.forward(x.copy(), train=True)
    stays = y != 0
    assert_close(y, np.where(stays, x / (1 - p), 0), "y")
    assert abs(stays.mean() - (1 - p)) < 5 * np.sqrt(p * (1 - p) / x.size)
    dy = rng.standard_normal(x.shape)
    assert_close(net.backward(dy.copy()), np.where(stays, dy / (1 - p), 0), "dx")
    assert not np.array_equal(net.forward(x.copy(), train=True) != 0, stays)
    assert np.array_equal(net.forward(x.copy(), train=False), x)
    x32 = x.astype("float32")
    kept = x32.copy()
    net = network([mg.Dropout(p)], (200,), dtype="float32")
    assert net.forward(x32).dtype == np.float32 and net.backward(x32).dtype == np.float32
    assert x32.tobytes() == kept.tobytes()


@pytest.mark.parametrize(
    "make, in_shape, out_shape",
    [(mg.Flatten, (2, 3, 4), (24,)), (lambda: mg.Reshape((3, 4, 2)), (24,), (3, 4, 2))],
)
def test_reshaping(make, in_shape, out_shape):
    rng = np.random.default_rng(11)
    net = network([make()], in_shape)
    x, dy = rng.standard_normal((3, *in_shape)), rng.standard_normal((3, *out_shape))
    assert np.array_equal(net.forward(x), x.reshape(3, *out_shape))
    assert np.array_equal(net.backward(dy), dy.reshape(3, *in_shape))


@pytest.mark.parametrize("shape", [(1, 1), (7, 1), (2, 3)], ids=str)
@pytest.mark.parametrize("target", [0, 1, 0.9, "array"])
def test_bce_with_logits(shape, target):
    rng = np.random.default_rng(12)
    logits = rng.standard_normal(shape) * 3
    target = rng.uniform(0, 1, shape) if isinstance(target, str) else target
    loss, dlogits = mg.bce_with_logits(logits.copy(), target)
    wanted_loss, wanted_dlogits = reference.bce_with_logits(logits, target)
    assert float(loss) == pytest.approx(wanted_loss, rel=TOLERANCE)
    assert_close(dlogits, wanted_dlogits, "dlogits")


# ---- the promises of the protocol, for every layer --------------------------------------------------------------

IMAGE = (6, 5, 3)
LAYERS = {
    "linear": (lambda: [mg.Linear(4)], (5,)),
    "conv": (lambda: [mg.Conv2d(4, kernel_size=3, stride=2, padding="same")], IMAGE),
    "conv k1": (lambda: [mg.Conv2d(4, kernel_size=1, stride=1, padding="valid")], IMAGE),
    "conv to one pixel": (
        lambda: [mg.Conv2d(4, kernel_size=(6, 5), stride=1, padding="valid")],
        IMAGE,
    ),
    "conv transpose": (
        lambda: [mg.ConvTranspose2d(4, kernel_size=5, stride=2, padding="same")],
        IMAGE,
    ),
    "conv transpose k < s": (
        lambda: [mg.ConvTranspose2d(4, kernel_size=2, stride=3, padding="valid")],
        IMAGE,
    ),
    "batchnorm": (lambda: [mg.BatchNorm()], IMAGE),
    "leaky": (lambda: [mg.LeakyReLU(0.2)], IMAGE),
    "relu": (lambda: [mg.ReLU()], IMAGE),
    "tanh": (lambda: [mg.Tanh()], IMAGE),
    "sigmoid": (lambda: [mg.Sigmoid()], IMAGE),
    "flatten": (lambda: [mg.Flatten()], IMAGE),
    "reshape": (lambda: [mg.Reshape((5, 3, 6))], IMAGE),
    "discriminator": (
        lambda: [
            mg.Conv2d(4, kernel_size=5, stride=2, padding="same"),
            mg.LeakyReLU(0.2),
            mg.Conv2d(5, kernel_size=3, stride=1, padding=1, bias=False),
            mg.BatchNorm(),
            mg.LeakyReLU(0.2),
            mg.Flatten(),
            mg.Linear(1),
        ],
        IMAGE,
    ),
    "generator": (
        lambda: [
            mg.Linear(24),
            mg.Reshape((2, 3, 4)),
            mg.BatchNorm(),
            mg.ReLU(),
            mg.ConvTranspose2d(3, kernel_size=5, stride=2, padding="same", bias=False),
            mg.BatchNorm(),
            mg.ReLU(),
            mg.ConvTranspose2d(2, kernel_size=4, stride=2, padding=1),
            mg.Tanh(),
        ],
        (7,),
    ),
    "activation after activation": (lambda: [mg.Tanh(), mg.LeakyReLU(0.3), mg.Sigmoid()], IMAGE),
    "activation between reshapes": (
        lambda: [mg.Flatten(), mg.ReLU(), mg.Reshape(IMAGE), mg.BatchNorm()],
        IMAGE,
    ),
}


@pytest.fixture(params=LAYERS, ids=lambda name: name.replace(" ", "-"))
def chain(request):
    """-> build, in_shape: each build() is a new network with the same weights; build.layers() its layers alone."""
    make, in_shape = LAYERS[request.param]

    def build(dtype="float64"):
        return network(make(), in_shape, dtype)

    build.layers = make
    return build, in_shape


def batch(net, in_shape, n, seed):
    """A random x, and a random dy of the shape that comes out."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, *in_shape))
    buffers = {name: buffer.copy() for name, buffer in net.buffers.items()}
    shape = net.forward(x.copy(), train=False).shape
    for name, buffer in buffers.items():
        net.buffers[name][...] = buffer
    return x, rng.standard_normal(shape)


def test_forward_and_backward_leave_their_input_alone(chain):
    build, in_shape = chain
    net = build()
    x, dy = batch(net, in_shape, 3, 30)
    given_x, given_dy = x.copy(), dy.copy()
    for train in (True, False):
        net.forward(given_x, train=train)
        assert given_x.tobytes() == x.tobytes()
    net.forward(given_x, train=True)
    net.backward(given_dy)
    assert given_x.tobytes() == x.tobytes()
    assert given_dy.tobytes() == dy.tobytes()


def test_the_result_of_forward_is_the_callers(chain):
    """A later pass does not change it, and changing it does not change the gradient."""
    build, in_shape = chain
    net = build()
    x, dy = batch(net, in_shape, 3, 31)
    y = net.forward(x.copy())
    kept = y.copy()
    dx = net.backward(dy.copy())
    kept_dx = dx.copy()
    net.zero_grads()

    other = net.forward(x + 1.0)
    net.backward(dy.copy())
    assert not np.shares_memory(other, y) and np.array_equal(y, kept)
    net.forward(x.copy())[...] = 7.0
    net.zero_grads()
    assert_close(net.backward(dy.copy()), kept_dx, "dx after y was overwritten by its owner")


def test_need_dw_false_leaves_the_gradients_bit_identical(chain):
    build, in_shape = chain
    net = build()
    x, dy = batch(net, in_shape, 3, 32)
    net.forward(x.copy())
    wanted = net.backward(dy.copy(), need_dx=True, need_dw=True).copy()
    before = snapshot(net.grads)
    net.forward(x.copy())
    dx = net.backward(dy.copy(), need_dx=True, need_dw=False)
    assert snapshot(net.grads) == before
    assert_close(dx, wanted, "dx")


def test_need_dx_false_returns_none_and_the_same_gradients(chain):
    build, in_shape = chain
    net = build()
    x, dy = batch(net, in_shape, 3, 33)
    net.forward(x.copy())
    assert net.backward(dy.copy(), need_dx=True, need_dw=True) is not None
    wanted = {name: gradient.copy() for name, gradient in net.grads.items()}
    net.zero_grads()
    net.forward(x.copy())
    assert net.backward(dy.copy(), need_dx=False, need_dw=True) is None
    for name, gradient in wanted.items():
        assert_close(net.grads[name], gradient, name)


def test_backward_does_not_touch_the_parameters(chain):
    build, in_shape = chain
    net = build()
    x, dy = batch(net, in_shape, 3, 34)
    before = snapshot(net.params)
    net.forward(x)
    net.backward(dy)
    assert snapshot(net.params) == before


def test_gradients_of_two_passes_add_up(chain):
    build, in_shape = chain
    net = build()
    passes = [batch(net, in_shape, n, seed) for n, seed in ((3, 35), (4, 36))]
    alone = []
    for x, dy in passes:
        net.zero_grads()
        net.forward(x.copy())
        net.backward(dy.copy())
        alone.append({name: gradient.copy() for name, gradient in net.grads.items()})
    net.zero_grads()
    for x, dy in passes:
        net.forward(x.copy())
        net.backward(dy.copy())
    for name, gradient in net.grads.items():
        assert_close(gradient, alone[0][name] + alone[1][name], name)


def test_zero_grads_clears_nan(chain):
    net = chain[0]()
    for gradient in net.grads.values():
        gradient[...] = np.nan
    net.zero_grads()
    assert all(not gradient.any() for gradient in net.grads.values())


def test_batch_sizes_may_change(chain):
    """Large, small, large again on one network: each as on a network that never saw another size."""
    build, in_shape = chain
    net = build()
    for n, seed in ((4, 40), (2, 41), (5, 42), (3, 43), (5, 42)):
        fresh = build()
        x, dy = batch(fresh, in_shape, n, seed)
        net.zero_grads()
        assert_close(net.forward(x.copy()), fresh.forward(x.copy()), f"y, n = {n}")
        assert_close(net.backward(dy.copy()), fresh.backward(dy.copy()), f"dx, n = {n}")
        for name in net.grads:
            assert_close(net.grads[name], fresh.grads[name], f"{name}, n = {n}")


def test_a_smaller_convolution_after_a_larger_one_against_the_loops():
    rng = np.random.default_rng(50)
    for layer, forward, backward in (
        (
            mg.Conv2d(2, kernel_size=3, stride=2, padding="same"),
            reference.conv2d_forward,
            reference.conv2d_backward,
        ),
        (
            mg.ConvTranspose2d(2, kernel_size=3, stride=2, padding="same"),
            reference.conv_transpose2d_forward,
            reference.conv_transpose2d_backward,
        ),
    ):
        net = network([layer], (5, 4, 2))
        W, b = net.params["0.W"], net.params["0.b"]
        for n in (3, 1, 2, 4, 1):
            x = rng.standard_normal((n, 5, 4, 2))
            y = net.forward(x.copy())
            assert_close(y, forward(x, W, b, 2, "same"), f"y, n = {n}")
            dy = rng.standard_normal(y.shape)
            net.zero_grads()
            dx = net.backward(dy.copy())
            wanted = backward(dy, x, W, 2, "same")
            for got, value, what in zip(
                (dx, net.grads["0.W"], net.grads["0.b"]), wanted, ("dx", "dW", "db"), strict=True
            ):
                assert_close(got, value, f"{what}, n = {n}")


def test_backward_belongs_to_the_last_forward(chain):
    """forward(a), forward(b), backward: the gradient belongs to b."""
    build, in_shape = chain
    net, fresh = build(), build()
    a, _ = batch(build(), in_shape, 4, 60)
    b, dy = batch(build(), in_shape, 3, 61)
    net.forward(a.copy())
    net.forward(b.copy())
    fresh.forward(b.copy())
    assert_close(net.backward(dy.copy()), fresh.backward(dy.copy()), "dx")
    for name in net.grads:
        assert_close(net.grads[name], fresh.grads[name], name)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_everything_keeps_the_dtype_of_the_backend(chain, dtype):
    """x, y, dx, parameters, gradients, buffers: before, during and after three steps of Adam, and in inference."""
    build, in_shape = chain
    x, dy = (array.astype(dtype) for array in batch(build(), in_shape, 3, 70))
    net = build(dtype)
    optimizer = mg.Adam(net, lr=1e-3, beta1=0.5) if net.params else None
    for _ in range(3):
        net.zero_grads()
        y = net.forward(x, train=True)
        dx = net.backward(dy)
        if optimizer:
            optimizer.step()
        found = {"y": y, "dx": dx, "y in inference": net.forward(x, train=False)}
        for group in ("params", "grads", "buffers"):
            found.update((f"{group} {name}", array) for name, array in getattr(net, group).items())
        assert {name: array.dtype.name for name, array in found.items()} == dict.fromkeys(
            found, dtype
        )


@pytest.mark.parametrize(
    "make",
    [
        lambda net: mg.Adam(net, lr=1e-3, l2=0.01),
        lambda net: mg.Adam(net, lr=1e-3, eps_hat=True),
        lambda net: mg.SGD(net, 1e-3, momentum=0.9, nesterov=True, l2=0.01),
        lambda net: mg.SGD(net, 1e-3),
        lambda net: mg.RMSprop(net, 1e-3, l2=0.01),
    ],
)
def test_optimizers_keep_float32(make):
    net = network([mg.Linear(3), mg.BatchNorm()], (4,), dtype="float32")
    optimizer = make(net)
    x, dy = (
        np.random.default_rng(71).standard_normal((5, size), dtype="float32") for size in (4, 3)
    )
    for _ in range(3):
        net.forward(x)
        net.backward(dy, need_dx=False)
        optimizer.step()
    for group in (net.params, net.grads, net.buffers):
        assert {array.dtype.name for array in group.values()} == {"float32"}


def test_loss_keeps_float32():
    logits = np.random.default_rng(72).standard_normal((5, 1)).astype("float32")
    for target in (1.0, np.float64(0.9), np.full((5, 1), 0.9, "float32")):
        assert mg.bce_with_logits(logits, target)[1].dtype == np.float32


def strided(x):
    """The same numbers, not contiguous: as x.transpose(0, 2, 3, 1) of channels-first pictures is."""
    return np.ascontiguousarray(np.moveaxis(x, -1, 0)).transpose(*range(1, x.ndim), 0)


@pytest.mark.parametrize(
    "view",
    [strided, lambda x: np.repeat(x, 2, axis=0)[::2], lambda x: x[::-1].copy()[::-1]],
    ids=["channels-first", "every-other", "reversed"],
)
def test_arrays_need_not_be_contiguous(chain, view):
    build, in_shape = chain
    net, fresh = build(), build()
    x, dy = batch(build(), in_shape, 3, 90)
    assert np.array_equal(view(x), x)
    assert_close(net.forward(view(x)), fresh.forward(x), "y")
    assert_close(net.backward(view(dy)), fresh.backward(dy), "dx")
    for name in net.grads:
        assert_close(net.grads[name], fresh.grads[name], name)


def test_a_sequential_in_a_sequential_is_the_same_network(chain):
    """Split at any place into two inner containers: the same y, dx and gradients, and None where no dx is wanted."""
    build, in_shape = chain
    flat = build()
    x, dy = batch(build(), in_shape, 3, 91)
    y, dx = flat.forward(x), flat.backward(dy)
    for cut in range(1, len(flat.layers)):
        layers = build.layers()
        nested = network(
            [mg.Sequential(layers[:cut], name="a"), mg.Sequential(layers[cut:], name="b")], in_shape
        )
        for inner, outer in zip(nested.params.values(), flat.params.values(), strict=True):
            inner[...] = outer
        assert_close(nested.forward(x), y, "y")
        assert_close(nested.backward(dy), dx, "dx")
        for (name, inner), outer in zip(nested.grads.items(), flat.grads.values(), strict=True):
            assert_close(inner, outer, name)
        nested.zero_grads()
        nested.forward(x)
        assert nested.backward(dy, need_dx=False) is None
        for (name, inner), outer in zip(nested.grads.items(), flat.grads.values(), strict=True):
            assert_close(inner, outer, name)


class Witness(mg.Layer):
    """Passes everything through and writes down what was asked of it."""

    def forward(self, x, train=True):
        self.asked = []
        return x

    def backward(self, dy, need_dx=True, need_dw=True):
        self.asked.append((need_dx, need_dw))
        return dy if need_dx else None


class WitnessWithWeight(Witness):
    def setup(self, in_shape, *, backend, rng, store):
        store.parameter(self, "W", (1,), lambda rng, shape, fan_in, fan_out: np.ones(shape))
        return super().setup(in_shape, backend=backend, rng=rng, store=store)


def test_nobody_computes_a_gradient_that_nobody_wants():
    """Without need_dx the first layer with weights is not asked for dx, and those before it are not asked at all."""
    layers = [Witness(), WitnessWithWeight(), Witness(), WitnessWithWeight()]
    net, x = network(layers, (3,)), np.ones((2, 3))
    for need_dx, need_dw, wanted in (
        (True, True, [[(True, True)]] * 4),
        (True, False, [[(True, False)]] * 4),
        (False, True, [[], [(False, True)], [(True, True)], [(True, True)]]),
        (False, False, [[], [], [], []]),
    ):
        net.forward(x)
        net.backward(x, need_dx=need_dx, need_dw=need_dw)
        assert [layer.asked for layer in layers] == wanted


# ---- what must be refused ---------------------------------------------------------------------------------------


def set_up(layer, in_shape):
    mg.Sequential([layer], name="N").setup(
        in_shape, backend=mg.get_backend("numpy", dtype="float64"), rng=np.random.default_rng(0)
    )


@pytest.mark.parametrize(
    "make, in_shape",
    [
        (lambda: mg.Conv2d(2, kernel_size=3, stride=1, padding=3), (8, 8, 1)),
        (lambda: mg.Conv2d(2, kernel_size=3, stride=1, padding=((0, 3), (0, 0))), (8, 8, 1)),
        (lambda: mg.Conv2d(2, kernel_size=(3, 2), stride=1, padding=2), (8, 8, 1)),
        (lambda: mg.ConvTranspose2d(2, kernel_size=3, stride=1, padding=3), (8, 8, 1)),
        (
            lambda: mg.ConvTranspose2d(2, kernel_size=3, stride=2, padding=((0, 0), (3, 0))),
            (8, 8, 1),
        ),
        (
            lambda: mg.ConvTranspose2d(
                2, kernel_size=3, stride=2, padding="same", output_padding=1
            ),
            (8, 8, 1),
        ),
        (
            lambda: mg.ConvTranspose2d(2, kernel_size=3, stride=2, padding=1, output_padding=2),
            (8, 8, 1),
        ),
        (
            lambda: mg.ConvTranspose2d(
                2, kernel_size=3, stride=(2, 1), padding=1, output_padding=1
            ),
            (8, 8, 1),
        ),
        (lambda: mg.Conv2d(2, kernel_size=3, stride=1, padding="full"), (8, 8, 1)),
    ],
)
def test_impossible_options_raise_config_error(make, in_shape):
    with pytest.raises(mg.ConfigError):
        set_up(make(), in_shape)


@pytest.mark.parametrize(
    "make, in_shape",
    [
        (lambda: mg.Conv2d(2, kernel_size=5, stride=1, padding=1), (2, 8, 1)),  # no window fits
        (lambda: mg.Conv2d(2, kernel_size=5, stride=1, padding="valid"), (8, 4, 1)),
        (
            lambda: mg.ConvTranspose2d(2, kernel_size=3, stride=1, padding=2),
            (2, 3, 1),
        ),  # 0 pixels high
        (lambda: mg.Reshape((3, 4)), (13,)),
    ],
)
def test_sizes_that_do_not_fit_are_refused_at_setup(make, in_shape):
    with pytest.raises((mg.ShapeError, mg.ConfigError)):
        set_up(make(), in_shape)


def test_a_batch_of_one_in_training_is_refused_by_batchnorm():
    net = network([mg.BatchNorm()], (3,))
    with pytest.raises(mg.MiniganError):
        net.forward(np.ones((1, 3)), train=True)
    assert net.forward(np.ones((1, 3)), train=False).shape == (1, 3)


def test_backward_without_forward_is_refused(chain):
    build, in_shape = chain
    _, dy = batch(build(), in_shape, 3, 80)
    with pytest.raises(mg.StateError):
        build().backward(dy)


@pytest.mark.parametrize("make", [mg.Adam, lambda net: mg.SGD(net, 0.1), mg.RMSprop])
def test_backward_through_weights_that_have_changed_is_refused(make):
    """After the optimizer's step the old activations belong to no network; after a new forward all is well."""
    net = network([mg.Linear(2)], (3,))
    optimizer, x, dy = make(net), np.ones((4, 3)), np.ones((4, 2))
    net.forward(x)
    net.backward(dy)
    optimizer.step()
    for need_dw in (True, False):
        with pytest.raises(mg.StateError):
            net.backward(dy, need_dw=need_dw)
    net.forward(x)
    assert_close(net.backward(dy), dy @ net.params["0.W"].T, "dx")


def test_wrong_shapes_are_refused(chain):
    build, in_shape = chain
    net = build()
    x, dy = batch(net, in_shape, 3, 81)
    with pytest.raises(mg.ShapeError):
        net.forward(np.ones((3, *in_shape[:-1], in_shape[-1] + 1)))
    net.forward(x)
    with pytest.raises(mg.ShapeError):
        net.backward(dy[:2].copy())
    net.forward(x)
    with pytest.raises(mg.ShapeError):
        net.backward(dy[..., None])
