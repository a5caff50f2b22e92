"""Upsample: every pixel becomes a square of equal pixels.

    y[n, p, q, c] = x[n, p // s, q // s, c]
    dx[n, i, j, c] = Σ dy[n, p, q, c]  over the square of (i, j): all paths from x to L add up

Followed by a convolution of stride 1, it is the other way to let an image grow. A transposed
convolution of stride s lays k x k patches s pixels apart. Where k is not a multiple of s, some
pixels get more patches than others, which shows as a checkerboard; and neighboring pixels come from
different weights, which nothing but training makes agree. Here every output pixel is computed by
the same weights. As the two layers define it, the convolution runs on the large image, and costs
more; the fast backends first add up the taps that read the same pixel.

x (n, h, w, c)   y (n, h·s, w·s, c)
Source: Odena et al. 2016, "Deconvolution and Checkerboard Artifacts", distill.pub
Fast versions: backends/upsampled.py, before a convolution; backends/steps.py
"""

from typing import Any

from minigan.checks import expect_size
from minigan.layers.base import Array, Backend, Generator, Layer, Shape, Store
from minigan.layers.geometry import expect_image


def upsample_forward(x: Array, scale: int, xp: Any) -> Array:
    """x (n, h, w, c) -> y (n, h·scale, w·scale, c); nothing is saved."""
    return xp.repeat(xp.repeat(x, scale, axis=1), scale, axis=2)


def upsample_backward(dy: Array, scale: int) -> Array:
    """dy (n, h·scale, w·scale, c) -> dx (n, h, w, c)."""
    n, h, w, c = dy.shape
    return dy.reshape(n, h // scale, scale, w // scale, scale, c).sum(axis=(2, 4))


class Upsample(Layer):
    """Upsample(2): images (n, h, w, c) -> (n, 2·h, 2·w, c), by repeating pixels."""

    def __init__(self, scale: int):
        self.scale = expect_size("Upsample: scale", scale)

    def setup(self, in_shape: Shape, *, backend: Backend, rng: Generator, store: Store) -> Shape:
        super().setup(in_shape, backend=backend, rng=rng, store=store)
        h, w, c = expect_image(self.label, in_shape)
        return (h * self.scale, w * self.scale, c)

    def forward(self, x: Array, train: bool = True) -> Array:
        return upsample_forward(x, self.scale, self.backend.xp)

    def backward(self, dy: Array, need_dx: bool = True, need_dw: bool = True) -> Array | None:
        return upsample_backward(dy, self.scale) if need_dx else None

    def describe(self) -> str:
        return f"Upsample x{self.scale}"
