"""ConvTranspose2d against naive loops, PyTorch and Conv2d; its sizes, and what it refuses."""

import numpy as np
import pytest

import minigan as mg
from tests.support.convolutions import (
    Case,
    assert_agree,
    by_loops,
    by_minigan,
    by_torch,
    random_cases,
)
from tests.support.long_form import slow
from tests.support.networks import network


def up(image, kernel, stride, padding, extra=0, **sizes):
    return Case(image, kernel, stride, padding, extra, transposed=True, **sizes)


CORNERS = [
    up((7, 7), 5, 2, "same", c_out=1),
    up((4, 4), 4, 2, 1, c_in=3, bias=False),
    up((1, 1), 7, 1, "valid", c_in=3, bias=False),
    up((3, 2), 2, 3, "same", c_in=1),  # pixels that no kernel reaches
    up((3, 2), 1, (2, 3), "valid", n=1, c_out=1),
    up((2, 3), 5, 2, 2, 1),
    up((3, 3), 3, 2, ((1, 0), (0, 2)), c_in=1, c_out=1, bias=False),
    up((2, 2), 2, 3, "valid", 2),  # and rows after the full map
    up((2, 3), (3, 2), (2, 3), "valid", 1, n=1, c_out=3),
    up((3, 3), 3, 1, 2),  # down to one pixel
    up((3, 5), 3, 1, "same", bias=False),
    up((1, 2), 5, (2, 1), "same"),
    up((4, 1), (3, 4), (3, 2), ((2, 1), (0, 3)), 1, c_out=1),
]


@pytest.fixture(scope="module")
def loops():
    """The answers of the naive loops, computed once for all backends."""
    return [(case, by_loops(case)) for case in CORNERS + random_cases(60, True, seed=21)]


def test_naive_loops(loops, make_backend):
    backend = make_backend()
    for case, expected in loops:
        assert_agree(by_minigan(case, backend), expected, case)


@pytest.mark.parametrize("count", (30, slow(400)))
def test_pytorch(count, make_backend):
    backend = make_backend()
    for case in random_cases(count, True, seed=101, image_top=8, channels_top=6):
        assert_agree(by_minigan(case, backend), by_torch(case), case)


def test_the_loops_agree_with_pytorch(loops):
    for case, expected in loops:
        assert_agree(expected, by_torch(case), case, rtol=1e-12)


def test_it_is_the_transpose_of_the_convolution(make_backend):
    """<conv(x), y> == <x, conv_transpose(y)> with the same W."""
    backend, rng = make_backend(), np.random.default_rng(3)
    down = network([mg.Conv2d(4, 5, 2, "same", bias=False)], (8, 6, 3), backend)
    up = network([mg.ConvTranspose2d(3, 5, 2, "same", bias=False)], (4, 3, 4), backend)
    up.params["0.W"][...] = down.params["0.W"]
    x, y = rng.standard_normal((2, 8, 6, 3)), rng.standard_normal((2, 4, 3, 4))
    left = np.sum(backend.to_host(down.forward(backend.asarray(x))) * y)
    right = np.sum(x * backend.to_host(up.forward(backend.asarray(y))))
    assert left == pytest.approx(right, rel=1e-12)


@pytest.mark.parametrize(
    "layer, in_shape, out_shape",
    (
        (mg.ConvTranspose2d(3, 5, 2, "same"), (7, 9, 2), (14, 18, 3)),
        (mg.ConvTranspose2d(3, 4, 2, 1), (7, 9, 2), (14, 18, 3)),
        (mg.ConvTranspose2d(3, 5, 2, 2, output_padding=1), (7, 9, 2), (14, 18, 3)),
        (mg.ConvTranspose2d(3, 7), (1, 1, 9), (7, 7, 3)),
        (mg.ConvTranspose2d(3, 2, 3, "same"), (2, 2, 9), (6, 6, 3)),
    ),
    ids=lambda value: value.describe() if isinstance(value, mg.Layer) else None,
)
def test_out_shape(layer, in_shape, out_shape):
    net = network([layer], in_shape)
    assert net.out_shape == out_shape
    assert net.forward(np.ones((2, *in_shape))).shape == (2, *out_shape)


@pytest.mark.parametrize(
    "make, message",
    (
        (lambda: mg.ConvTranspose2d(2, 3, 1, 3), "padding 3 must be smaller than the kernel"),
        (lambda: mg.ConvTranspose2d(2, 3, 2, ((0, 0), (3, 0))), "padding 3 must be smaller"),
        (lambda: mg.ConvTranspose2d(2, 3, 2, "same", 1), '"same" fixes the output at size * str'),
        (lambda: mg.ConvTranspose2d(2, 3, 2, 1, 2), "must be smaller than the stride 2, got 2"),
        (lambda: mg.ConvTranspose2d(2, 3, (2, 1), 1, 1), "must be smaller than the stride 1, got"),
    ),
)
def test_impossible_options(make, message):
    with pytest.raises(mg.ConfigError) as caught:
        make()
    assert str(caught.value).startswith("ConvTranspose2d: ") and message in str(caught.value)


def test_an_image_of_which_nothing_is_left():
    message = r"N.0 \(ConvTranspose2d 1->2, k3 s1 p2\): padding 2\+2 leaves nothing of height 2"
    with pytest.raises(mg.ShapeError, match=message):
        network([mg.ConvTranspose2d(2, 3, 1, 2)], (2, 3, 1))
