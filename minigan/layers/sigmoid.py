"""Sigmoid: squashes into (0, 1).

    y  = 1 / (1 + e^-x)
    dx = dy·y·(1 - y)       because σ' = σ·(1 - σ): the backward pass needs y alone

e^-x overflows if x is far below 0. So the exponent stops at 88, in float64 at 709: y is then 6e-39
or 1e-308, close enough to 0, and no warning is raised.

A discriminator here ends in logits, without this layer: the loss takes them directly, which is
exact where a sigmoid has already rounded to 0 or 1 (see losses.py).
"""

from typing import Any

from minigan.layers.activation import Activation
from minigan.layers.base import Array

LARGEST_EXPONENT = {"float32": 88.0, "float64": 709.0}


def sigmoid_forward(x: Array, xp: Any) -> Array:
    """x, any shape -> y; saved: y."""
    return 1.0 / (1.0 + xp.exp(xp.minimum(-x, LARGEST_EXPONENT[x.dtype.name])))


def sigmoid_backward(dy: Array, y: Array) -> Array:
    """dy, y -> dx."""
    return dy * y * (1.0 - y)


class Sigmoid(Activation):
    """Sigmoid(): any shape."""

    forward_definition = staticmethod(sigmoid_forward)
    backward_definition = staticmethod(sigmoid_backward)
