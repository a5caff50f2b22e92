"""Sigmoid: squashes into (0, 1).

    y  = 1 / (1 + e^-x)
    dx = dy·y·(1 - y)

e^-x overflows where x is far below 0, so there the fraction is expanded by e^x:
    y = e^min(x, 0) / (1 + e^-|x|)        no exponent is ever positive

A discriminator here ends in logits, without this layer: the loss takes them as they
are, which is exact where a sigmoid has already rounded to 0 or 1 (see losses.py).
"""

from minigan.layers.activation import Activation


def sigmoid_forward(x, y, backend):
    """x any shape -> y written."""
    xp = backend.xp
    divisor = backend.scratch("sigmoid divisor", x.shape)
    xp.absolute(x, out=divisor)
    xp.negative(divisor, out=divisor)
    xp.exp(divisor, out=divisor)
    xp.add(divisor, 1.0, out=divisor)
    xp.minimum(x, 0.0, out=y)
    xp.exp(y, out=y)
    xp.divide(y, divisor, out=y)


def sigmoid_backward(dy, y, dx, backend):
    """dy, y any shape -> dx written."""
    xp = backend.xp
    xp.subtract(1.0, y, out=dx)
    xp.multiply(dx, y, out=dx)
    xp.multiply(dx, dy, out=dx)


class Sigmoid(Activation):
    """Sigmoid(): any shape."""

    forward_definition = staticmethod(sigmoid_forward)
    backward_definition = staticmethod(sigmoid_backward)
