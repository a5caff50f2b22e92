"""Layers and options drawn at random: the right answer, or one of minigan's errors in one line."""

import numpy as np
import pytest

import minigan as mg
from tests.support import reference
from tests.support.long_form import long_form

hypothesis = pytest.importorskip("hypothesis", reason="hypothesis is not installed")
st = hypothesis.strategies


def check_at_random(examples, strategy, check):
    """Run check(value) on this many values of a strategy."""
    settings = hypothesis.settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    settings(hypothesis.given(strategy)(check))()


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
convolution = st.fixed_dictionaries(
    dict(
        transposed=st.booleans(),
        channels=size,
        kernel_size=pair,
        stride=st.one_of(st.integers(1, 3), pair),
        padding=padding,
        output_padding=st.one_of(st.just(0), small, st.tuples(small, small)),
        bias=st.booleans(),
        image=st.tuples(st.integers(1, 7), st.integers(1, 7), st.integers(1, 3)),
        n=st.integers(1, 3),
    )
)


def check_convolution(case):
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
        return
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


# -- stacks of layers, against the same stack on the plain backend -------------------------------

# BatchNorm of a constant channel multiplies rounding errors by 1/√eps, and a stack may hold several
EPS = 0.1

layer = st.one_of(
    st.builds(
        lambda kind, c, k, s, p: lambda: kind(c, k, s, p),
        st.sampled_from((mg.Conv2d, mg.ConvTranspose2d)),
        st.integers(1, 5),
        st.integers(1, 4),
        st.integers(1, 3),
        padding,
    ),
    st.builds(lambda out: lambda: mg.Linear(out), st.integers(1, 9)),
    st.builds(
        lambda gain, bias: lambda: mg.BatchNorm(gain=gain, bias=bias, eps=EPS),
        st.booleans(),
        st.booleans(),
    ),
    st.builds(
        lambda slope: lambda: mg.LeakyReLU(slope),
        st.sampled_from((0, 0.2, 0.99, 1, -0.1, float("nan"))),
    ),
    st.sampled_from((mg.ReLU, mg.Tanh, mg.Sigmoid, mg.Flatten)),
    st.builds(lambda shape: lambda: mg.Reshape(shape), st.tuples(*[st.integers(1, 6)] * 3)),
    st.builds(lambda classes: lambda: mg.AppendLabels(classes), st.sampled_from((3, 3, 3, 2))),
    st.builds(
        lambda inner: lambda: mg.Sequential([make() for make in inner]),
        st.lists(st.sampled_from((mg.Tanh, lambda: mg.BatchNorm(eps=EPS))), max_size=2),
    ),
)
in_shape = st.sampled_from(((5,), (4, 4, 2), (7, 5, 3), (1, 1, 6), (12,)))
stack = st.tuples(st.lists(layer, min_size=1, max_size=7), in_shape, st.integers(1, 4))


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
    plain, fast = (
        run_stack(case, mg.get_backend(name, dtype="float64")) for name in ("plain", "numpy")
    )
    if not isinstance(plain, list):
        assert plain == fast
        return
    for expected, found in zip(plain, fast, strict=True):
        atol = 1e-9 * max(1, np.abs(expected).max(initial=0))
        np.testing.assert_allclose(found, expected, rtol=1e-7, atol=atol)


@pytest.mark.parametrize("count", (100, long_form("examples")))
@pytest.mark.parametrize(
    "strategy, check",
    ((convolution, check_convolution), (stack, check_stack)),
    ids=("a convolution", "a stack of layers"),
)
def test_at_random(strategy, check, count, many):
    check_at_random(many(count), strategy, check)
