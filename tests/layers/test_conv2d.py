"""Conv2d against naive loops and PyTorch; its sizes, and what it refuses."""

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

CORNERS = [
    Case((7, 7), 5, 2, "same", c_in=1, c_out=3),
    Case((8, 6), 5, 2, "same", c_out=3, bias=False),
    Case((5, 7), 3, 1, 1),
    Case((4, 4), 4, 1, "valid", n=3, c_in=3, c_out=1, bias=False),
    Case((8, 8), 4, 2, 1, n=1, c_in=1, c_out=1),
    Case((7, 5), 1, (2, 3), "valid", c_out=3),  # pixels that no window reads
    Case((5, 8), 2, 3, "same", c_in=1),
    Case((2, 3), 5, 2, 2),  # kernel larger than the image
    Case((1, 1), 3, 1, 1, c_in=1, bias=False),
    Case((3, 3), 5, 2, "same", c_out=1),
    Case((1, 4), (5, 2), (3, 1), ((4, 3), (1, 0)), c_in=1, c_out=1),
    Case((6, 5), (2, 4), (1, 2), ((0, 1), (2, 0)), c_in=3, bias=False),
    Case((9, 4), 3, (2, 1), "same", c_in=1, c_out=4),
    Case((8, 8), 3, 2, ((0, 1), (0, 1)), n=1, bias=False),
    Case((6, 6), 3, 2, "valid"),  # the last row and column are never read
]


@pytest.fixture(scope="module")
def loops():
    """The answers of the naive loops, computed once for all backends."""
    return [(case, by_loops(case)) for case in CORNERS + random_cases(60, False, seed=20)]


def test_naive_loops(loops, make_backend):
    backend = make_backend()
    for case, expected in loops:
        assert_agree(by_minigan(case, backend), expected, case)


@pytest.mark.parametrize("count", (30, slow(400)))
def test_pytorch(count, make_backend):
    backend = make_backend()
    for case in random_cases(count, False, seed=100, image_top=12, channels_top=6):
        assert_agree(by_minigan(case, backend), by_torch(case), case)


def test_the_loops_agree_with_pytorch(loops):
    for case, expected in loops:
        assert_agree(expected, by_torch(case), case, rtol=1e-12)


def test_the_random_cases_reach_the_corners():
    """Random cases are worth something only if they include what is easy to get wrong."""
    for transposed in (False, True):
        cases = random_cases(400, transposed, seed=100, image_top=12, channels_top=6)
        sizes = [
            (case.image, np.broadcast_to(case.kernel, 2), np.broadcast_to(case.stride, 2), case)
            for case in cases
        ]
        for corner in (
            lambda image, k, s, case: image[0] != image[1],
            lambda image, k, s, case: min(image) == 1,
            lambda image, k, s, case: k[0] < s[0],
            lambda image, k, s, case: k[0] > image[0],
            lambda image, k, s, case: k[0] != k[1],
            lambda image, k, s, case: s[0] != s[1],
            lambda image, k, s, case: case.padding == "same" and k[0] < s[0],
            lambda image, k, s, case: case.padding == "same" and k[0] > s[0] > 1,
            lambda image, k, s, case: case.padding == "valid",
            lambda image, k, s, case: isinstance(case.padding, int) and case.padding > 0,
            lambda image, k, s, case: (
                isinstance(case.padding, tuple) and case.padding[0][0] != case.padding[0][1]
            ),
            lambda image, k, s, case: not case.bias,
            lambda image, k, s, case: not transposed or np.any(case.extra),
        ):
            assert sum(bool(corner(*one)) for one in sizes) >= 5


@pytest.mark.parametrize(
    "layer, in_shape, out_shape",
    (
        (mg.Conv2d(3, 5, 2, "same"), (28, 28, 1), (14, 14, 3)),
        (mg.Conv2d(3, 5, 2, "same"), (7, 9, 2), (4, 5, 3)),
        (mg.Conv2d(3, (4, 2), (1, 2)), (4, 5, 2), (1, 2, 3)),
        (mg.Conv2d(3, 4, 2, 1), (64, 32, 1), (32, 16, 3)),
        (mg.Conv2d(3, 3, 1, ((1, 0), (2, 2))), (8, 8, 1), (7, 10, 3)),
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
        (lambda: mg.Conv2d(2, 3, 1, 3), "padding 3 must be smaller than the kernel, 3 in height"),
        (lambda: mg.Conv2d(2, 3, 1, ((0, 3), (0, 0))), "padding 3 must be smaller"),
        (lambda: mg.Conv2d(2, (3, 2), 1, 2), "padding 2 must be smaller than the kernel, 2 in w"),
        (lambda: mg.Conv2d(2, 3, 1, "full"), 'padding must be "valid", "same", a number or'),
        (lambda: mg.Conv2d(2, 3, 1, ((1, 1), 2)), "padding must be a number or"),
        (lambda: mg.Conv2d(2, 3, 0), "stride must be a whole number of at least 1, got 0"),
        (lambda: mg.Conv2d(2, 3.0), "kernel_size must be a whole number of at least 1, got 3.0"),
        (lambda: mg.Conv2d(2, (3, 3, 3)), "kernel_size must be a number or a pair (vertical, hor"),
        (lambda: mg.Conv2d(0, 3), "channels must be a whole number of at least 1, got 0"),
    ),
)
def test_impossible_options(make, message):
    with pytest.raises(mg.ConfigError) as caught:
        make()
    assert str(caught.value).startswith("Conv2d: ") and message in str(caught.value)


@pytest.mark.parametrize(
    "layer, in_shape, message",
    (
        (mg.Conv2d(2, 5, 1, 1), (2, 8, 1), "kernel 5 does not fit height 2 with padding 1+1"),
        (mg.Conv2d(2, 5), (8, 4, 1), "kernel 5 does not fit width 4 with padding 0+0"),
        (mg.Conv2d(2, 3), (8,), "expected an image (h, w, c), got (8,): put Reshape"),
    ),
)
def test_images_that_do_not_fit(layer, in_shape, message):
    with pytest.raises(mg.ShapeError) as caught:
        network([layer], in_shape)
    assert str(caught.value).startswith("N.0 (Conv2d ") and message in str(caught.value)
