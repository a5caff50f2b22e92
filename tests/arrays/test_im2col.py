"""im2col copies windows; col2im is its transpose."""

import numpy as np
import pytest

from minigan.arrays.im2col import col2im, im2col
from minigan.layers.geometry import conv_sizes

GEOMETRIES = [  # x (h, w, c), kernel, stride, padding, windows (h, w)
    ((5, 6, 2), (3, 3), (1, 1), ((0, 0), (0, 0)), (3, 4)),
    ((5, 6, 2), (3, 2), (2, 1), ((1, 1), (0, 1)), (3, 6)),
    ((4, 3, 1), (5, 5), (2, 2), ((2, 2), (2, 2)), (2, 2)),  # kernel larger than the image
    ((7, 7, 3), (2, 2), (3, 3), ((0, 0), (0, 0)), (2, 2)),  # stride larger than the kernel
    ((2, 2, 1), (4, 4), (2, 2), ((3, 3), (3, 3)), (3, 3)),
]


def random_geometry(rng):
    """-> x (h, w, c), kernel, stride, padding: whatever fits."""
    while True:
        size, kernel, stride = (tuple(map(int, rng.integers(1, top, 2))) for top in (9, 6, 4))
        padding = tuple(tuple(map(int, rng.integers(0, k, 2))) for k in kernel)
        if all(s + sum(p) >= k for s, p, k in zip(size, padding, kernel, strict=True)):
            return (*size, int(rng.integers(1, 4))), kernel, stride, padding


@pytest.mark.parametrize("x_shape, kernel, stride, padding, windows", GEOMETRIES)
def test_each_row_is_a_window(x_shape, kernel, stride, padding, windows, make_backend):
    backend = make_backend()
    x = np.random.default_rng(0).standard_normal((3, *x_shape))
    cols = backend.to_host(im2col(backend.asarray(x), kernel, stride, padding, backend.xp))
    assert cols.shape == (3, *windows, *kernel, x_shape[2])
    assert conv_sizes("", x_shape[:2], kernel, stride, padding) == (windows, padding)
    padded = np.pad(x, ((0, 0), *padding, (0, 0)))
    for p, q in np.ndindex(*windows):
        top, left = p * stride[0], q * stride[1]
        window = padded[:, top : top + kernel[0], left : left + kernel[1]]
        np.testing.assert_array_equal(cols[:, p, q], window)


def test_col2im_is_the_adjoint_of_im2col(make_backend):
    """<im2col(x), c> == <x, col2im(c)> in float64, for any geometry."""
    backend, rng = make_backend(), np.random.default_rng(1)
    asarray, host = backend.asarray, backend.to_host
    for _ in range(200):
        x_shape, kernel, stride, padding = geometry = random_geometry(rng)
        x = rng.standard_normal((int(rng.integers(1, 4)), *x_shape))
        cols = host(im2col(asarray(x), kernel, stride, padding, backend.xp))
        c = rng.standard_normal(cols.shape)
        folded = host(col2im(asarray(c), x.shape, stride, padding, backend.xp))
        assert folded.shape == x.shape
        size = np.linalg.norm(cols) * np.linalg.norm(c)
        assert np.sum(cols * c) == pytest.approx(np.sum(x * folded), abs=1e-14 * size), geometry


def test_col2im_counts_how_often_windows_cover_a_pixel():
    ones = np.ones((1, 4, 4, 1))
    padding = ((0, 0), (0, 0))
    cols = im2col(ones, (3, 3), (1, 1), padding, np)
    counts = col2im(cols, ones.shape, (1, 1), padding, np)[0, :, :, 0]
    once = np.array([1, 2, 2, 1])
    np.testing.assert_array_equal(counts, np.outer(once, once))


def test_the_dtype_stays(make_backend):
    backend = make_backend("float32")
    x = backend.asarray(np.ones((1, 3, 3, 1)))
    cols = im2col(x, (2, 2), (1, 1), ((0, 0), (0, 0)), backend.xp)
    folded = col2im(cols, x.shape, (1, 1), ((0, 0), (0, 0)), backend.xp)
    assert cols.dtype == folded.dtype == np.float32
