"""ReLU: negative values become 0.

    y  = max(x, 0)
    dx = dy where y > 0, else 0        y > 0 exactly where x > 0: the backward pass needs y alone

Source: Nair & Hinton 2010
"""

from typing import Any

from minigan.layers.activation import Activation
from minigan.layers.base import Array


def relu_forward(x: Array, xp: Any) -> Array:
    """x, any shape -> y; saved: y."""
    return xp.maximum(x, 0)


def relu_backward(dy: Array, y: Array) -> Array:
    """dy, y -> dx."""
    return dy * (y > 0)


class ReLU(Activation):
    """ReLU(): any shape."""

    forward_definition = staticmethod(relu_forward)
    backward_definition = staticmethod(relu_backward)
