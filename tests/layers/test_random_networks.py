"""Layers and options drawn at random: the right answer, or one of minigan's errors in one line."""

from functools import partial

import numpy as np
import pytest

import minigan as mg
from tests.support import reference
from tests.support.long_form import long_form

hypothesis = pytest.importorskip("hypothesis", reason="hypothesis is not installed")
st = hypothesis.strategies


def check_at_random(examples, strategy, check):
    """Run check(value) on this many values of a strategy. At least a third have an answer."""
    compared = []

    def compare(value):
        compared.append(check(value))

    settings = hypothesis.settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    settings(hypothesis.given(strategy)(compare))()
    assert sum(compared) >= examples // 3


# -- one convolution, against naive loops --------------------------------------------------------

small = st.integers(-1, 6)
size = st.one_of(st.integers(1, 7), small, st.sampled_from((0, 2.5, None, "3", True, 10**20)))
pair = st.one_of(size, st.tuples(size, size), st.lists(size, max_size=3))
padding = st.one_of(
    st.sampled_from(("valid", "same", "full")),
    small,
    st.tuples(small, small),
    st.tuples(st.tuples(small, small), st.tuples(small, small)),
)
ANYTHING = dict(  # an error, often
    channels=size,
    kernel_size=pair,
    stride=pair,
    padding=padding,
    output_padding=st.one_of(small, st.tuples(small, small)),
)


def within(low, high):
    """A number, or one for each axis."""
    number = st.integers(low, high)
    return st.one_of(number, st.tuples(number, number))


@st.composite
def convolution(draw):
    """Mostly one that exists; one in four has something at random in it."""
    case = dict(
        transposed=draw(st.booleans()),
        channels=draw(st.integers(1, 5)),
        kernel_size=draw(within(1, 4)),
        stride=draw(within(1, 3)),
        bias=draw(st.booleans()),
        image=draw(st.tuples(st.integers(4, 7), st.integers(4, 7), st.integers(1, 3))),
        n=draw(st.integers(1, 3)),
        output_padding=0,
    )
    least = int(np.min(case["kernel_size"]))
    case["padding"] = draw(st.one_of(st.sampled_from(("valid", "same")), within(0, least - 1)))
    if draw(st.integers(0, 3)) == 0:
        name = draw(st.sampled_from(sorted(ANYTHING)))
        case[name] = draw(ANYTHING[name])
    return case


def check_convolution(case):
    """-> was there an answer, not an error?"""
    case = dict(case)
    transposed, n, image = (case.pop(name) for name in ("transposed", "n", "image"))
    if not transposed:
        case.pop("output_padding")
    try:
        layer = (mg.ConvTranspose2d if transposed else mg.Conv2d)(**case)
        net = mg.Sequential([layer])
        backend = mg.get_backend("numpy", dtype="float64")
        net.setup(image, backend=backend, rng=np.random.default_rng(0))
    except mg.MiniganError as error:
        assert isinstance(error, (mg.ConfigError, mg.ShapeError)) and "\n" not in str(error)
        return False
    rng = np.random.default_rng(1)
    for p in net.params.values():
        p[...] = rng.standard_normal(p.shape)
    x = rng.standard_normal((n, *image))
    y = net.forward(x)
    dy = rng.standard_normal(y.shape)
    dx = net.backward(dy)
    options = (layer.stride, layer.padding, *((layer.output_padding,) if transposed else ()))
    name = "conv_transpose2d" if transposed else "conv2d"
    W, b = net.params["0.W"], net.params.get("0.b")
    expected = {"y": getattr(reference, f"{name}_forward")(x, W, b, *options)}
    gradients = getattr(reference, f"{name}_backward")(dy, x, W, *options)
    expected |= dict(zip(("dx", "0.W", "0.b"), gradients, strict=True))
    for key, found in {"y": y, "dx": dx, **net.grads}.items():
        np.testing.assert_allclose(found, expected[key], rtol=1e-9, atol=1e-11, err_msg=key)
    return True


# -- stacks of layers, against the same stack on the plain backend -------------------------------

# BatchNorm of a constant channel multiplies rounding errors by 1/√eps, and a stack may hold several
EPS = 0.1

anywhere = st.one_of(  # they take any shape
    st.builds(
        lambda gain, bias: lambda: mg.BatchNorm(gain=gain, bias=bias, eps=EPS),
        st.booleans(),
        st.booleans(),
    ),
    st.builds(lambda slope: lambda: mg.LeakyReLU(slope), st.sampled_from((0, 0.2, 0.99, 1))),
    st.sampled_from((mg.ReLU, mg.Tanh, mg.Sigmoid)),
    st.builds(lambda classes: lambda: mg.AppendLabels(classes), st.sampled_from((3, 3, 3, 3, 2))),
    st.builds(
        lambda inner: lambda: mg.Sequential([make() for make in inner]),
        st.lists(st.sampled_from((mg.Tanh, lambda: mg.BatchNorm(eps=EPS))), min_size=1, max_size=2),
    ),
)
on_images = st.one_of(
    st.builds(
        lambda kind, c, k, s, p: lambda: kind(c, k, s, p),
        st.sampled_from((mg.Conv2d, mg.ConvTranspose2d)),
        st.integers(1, 5),
        st.integers(1, 4),
        st.integers(1, 2),
        st.one_of(st.just("same"), padding),
    ),
    st.just(lambda: mg.Upsample(2)),
)
broken = st.one_of(
    st.builds(lambda slope: lambda: mg.LeakyReLU(slope), st.sampled_from((-0.1, float("nan")))),
    st.builds(lambda shape: lambda: mg.Reshape(shape), st.tuples(*[st.integers(1, 6)] * 3)),
    st.just(lambda: mg.Sequential([])),
)
linear = st.builds(lambda out: lambda: mg.Linear(out), st.integers(1, 9))


@st.composite
def stack(draw):
    """Layers that mostly follow each other; the shape of the input; images in a batch."""
    in_shape = draw(st.sampled_from(((5,), (4, 4, 2), (7, 5, 3), (1, 1, 6), (12,))))
    layers, is_image = [], len(in_shape) == 3
    for _ in range(draw(st.integers(1, 7))):
        kind = draw(st.integers(0, 9))
        if kind < 5:
            layers.append(draw(anywhere))
        elif kind < 8:
            layers.append(draw(on_images if is_image else linear))
        elif is_image:
            layers.append(mg.Flatten)
            is_image = False
        else:
            h, w, c = draw(st.tuples(*[st.integers(1, 5)] * 3))
            layers += [partial(mg.Linear, h * w * c), partial(mg.Reshape, (h, w, c))]
            is_image = True
    if draw(st.integers(0, 4)) == 0:
        layers.append(draw(st.one_of(linear, on_images, broken)))
    return layers, in_shape, draw(st.integers(1, 4))


def run_stack(case, backend):
    """-> everything that a training pass computes, or the error's message; None: too large."""
    layers, shape, n = case
    rng = np.random.default_rng(0)
    try:
        net = mg.Sequential([make() for make in layers])
        net.setup(shape, backend=backend, rng=rng)
        if max(np.prod(each.out_shape) for each in net.layers) > 5000:
            return None
        labels = np.eye(net.classes)[np.arange(n) % net.classes] if net.classes else None
        y = net.forward(rng.standard_normal((n, *shape)), labels=labels)
        dx = net.backward(rng.standard_normal(y.shape))
        return [y, dx, *net.grads.values(), *net.buffers.values()]
    except mg.MiniganError as error:
        assert isinstance(error, (mg.ConfigError, mg.ShapeError)) and "\n" not in str(error)
        return str(error)


def check_stack(case):
    """-> was there an answer, not an error?"""
    plain, fast = (
        run_stack(case, mg.get_backend(name, dtype="float64")) for name in ("plain", "numpy")
    )
    if not isinstance(plain, list):
        assert plain == fast
        return False
    for expected, found in zip(plain, fast, strict=True):
        atol = 1e-9 * max(1, np.abs(expected).max(initial=0))
        np.testing.assert_allclose(found, expected, rtol=1e-7, atol=atol)
    return True


@pytest.mark.parametrize("count", (100, long_form("examples")))
@pytest.mark.parametrize(
    "strategy, check",
    ((convolution(), check_convolution), (stack(), check_stack)),
    ids=("a convolution", "a stack of layers"),
)
def test_at_random(strategy, check, count, many):
    check_at_random(many(count), strategy, check)
