"""Tanh: squashes into (-1, 1), the range of the images. The generator's last layer.

y  = tanh(x)
dx = dy·(1 - y²)        because tanh' = 1 - tanh²: the backward pass needs y alone
"""

from typing import Any

from minigan.layers.activation import Activation
from minigan.layers.base import Array


def tanh_forward(x: Array, xp: Any) -> Array:
    """x, any shape -> y; saved: y."""
    return xp.tanh(x)


def tanh_backward(dy: Array, y: Array) -> Array:
    """dy, y -> dx."""
    return dy * (1.0 - y * y)


class Tanh(Activation):
    """Tanh(): any shape."""

    forward_definition = staticmethod(tanh_forward)
    backward_definition = staticmethod(tanh_backward)
