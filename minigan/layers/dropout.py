"""Dropout: in training each value is set to 0 with probability p, the others grow.

    mask = 1/(1-p) with probability 1-p, else 0        drawn anew at every forward
    y    = x·mask
    dx   = dy·mask

The factor 1/(1-p) keeps the expected value of y at x, so that sampling needs no
correction: forward(train=False) is the identity.
Source: Srivastava et al. 2014, in the "inverted" form
"""

from minigan.checks import expect_number
from minigan.layers.base import Array, Backend, Generator, Layer, Shape, Store


class Dropout(Layer):
    """Dropout(p): any shape; 0 <= p < 1 is the probability of a zero."""

    generator: Generator
    mask: Array | None  # of the last forward; None: it left x as it was

    def __init__(self, p: float):
        self.p = expect_number("Dropout: p", p, "[0, 1)")

    def setup(self, in_shape: Shape, *, backend: Backend, rng: Generator, store: Store) -> Shape:
        super().setup(in_shape, backend=backend, rng=rng, store=store)
        store.generator(self, "generator")
        return self.in_shape

    def forward(self, x: Array, train: bool = True) -> Array:
        xp = self.backend.xp
        y = self.memory.get("y", x.shape)
        self.mask = self.memory.get("mask", x.shape) if train else None
        if not train:
            y[...] = x
            return y
        self.backend.fill_uniform(self.generator, self.mask)
        xp.greater_equal(self.mask, self.p, out=self.mask)
        xp.multiply(self.mask, 1.0 / (1.0 - self.p), out=self.mask)
        xp.multiply(x, self.mask, out=y)
        return y

    def backward(self, dy: Array, need_dx: bool = True, need_dw: bool = True) -> Array | None:
        if not need_dx:
            return None
        dx = self.memory.get("dx", dy.shape)
        if self.mask is None:
            dx[...] = dy
        else:
            self.backend.xp.multiply(dy, self.mask, out=dx)
        return dx

    def describe(self) -> str:
        return f"Dropout {self.p:g}"
