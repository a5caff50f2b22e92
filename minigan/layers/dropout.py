"""Dropout: in training each value becomes 0 with probability p, and the others are scaled up.

    mask = 1/(1-p) with probability 1-p, else 0        drawn at every forward
    y    = x·mask
    dx   = dy·mask

The factor 1/(1-p) keeps the expected value of y at x, so sampling needs no correction:
forward(train=False) is the identity.
Source: Srivastava et al. 2014, in the "inverted" form
Fast version: backends/steps.py
"""

from minigan.checks import expect_number
from minigan.layers.base import Array, Backend, Generator, Layer, Shape, Store


def dropout_forward(
    x: Array, p: float, generator: Generator, backend: Backend
) -> tuple[Array, Array]:
    """x, any shape -> y; saved: the mask. Drawn on the host: every backend has the same mask."""
    drawn = backend.asarray(generator.random(x.shape, dtype=x.dtype))  # from [0, 1)
    mask = (drawn >= p).astype(x.dtype) * (1.0 / (1.0 - p))
    return x * mask, mask


def dropout_backward(dy: Array, saved: Array) -> Array:
    """dy -> dx."""
    mask = saved
    return dy * mask


class Dropout(Layer):
    """Dropout(p): any shape; 0 <= p < 1 is the probability of a zero."""

    generator: Generator

    def __init__(self, p: float):
        self.p = expect_number("Dropout: p", p, "[0, 1)")

    def setup(self, in_shape: Shape, *, backend: Backend, rng: Generator, store: Store) -> Shape:
        super().setup(in_shape, backend=backend, rng=rng, store=store)
        store.generator(self, "generator")
        return self.in_shape

    def forward(self, x: Array, train: bool = True) -> Array:
        self.saved = None
        if not train:
            return x
        y, self.saved = dropout_forward(x, self.p, self.generator, self.backend)
        return y

    def backward(self, dy: Array, need_dx: bool = True, need_dw: bool = True) -> Array | None:
        if not need_dx:
            return None
        return dy if self.saved is None else dropout_backward(dy, self.saved)

    def describe(self) -> str:
        return f"Dropout {self.p:g}"
