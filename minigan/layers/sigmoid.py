"""Sigmoid: squashes into (0, 1).

    y  = 1 / (1 + e^-x)
    dx = dy·y·(1 - y)

e^-x overflows where x is far below 0, so there the exponent stops at the largest that the dtype
can hold: y is then the smallest number that it has, near enough to 0, and no warning is given.

A discriminator here ends in logits, without this layer: the loss takes them as they
are, which is exact where a sigmoid has already rounded to 0 or 1 (see losses.py).
"""

from minigan.layers.activation import Activation
from minigan.layers.base import Array, Backend

LARGEST_EXPONENT = {"float32": 88.0, "float64": 709.0}


def sigmoid_forward(x: Array, y: Array, backend: Backend) -> None:
    """x any shape -> y written."""
    xp = backend.xp
    xp.negative(x, out=y)
    xp.minimum(y, LARGEST_EXPONENT[y.dtype.name], out=y)
    xp.exp(y, out=y)
    xp.add(y, 1.0, out=y)
    xp.divide(1.0, y, out=y)


def sigmoid_backward(dy: Array, y: Array, dx: Array, backend: Backend) -> None:
    """dy, y any shape -> dx written."""
    xp = backend.xp
    xp.subtract(1.0, y, out=dx)
    xp.multiply(dx, y, out=dx)
    xp.multiply(dx, dy, out=dx)


class Sigmoid(Activation):
    """Sigmoid(): any shape."""

    forward_definition = staticmethod(sigmoid_forward)
    backward_definition = staticmethod(sigmoid_backward)
