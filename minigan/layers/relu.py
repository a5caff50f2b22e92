"""ReLU: negative values become 0.

    y  = max(x, 0)
    dx = dy where y > 0, else 0        y > 0 just where x > 0: the backward pass needs y alone

Source: Nair & Hinton 2010
"""

from minigan.layers.activation import Activation
from minigan.layers.base import Array, Backend


def relu_forward(x: Array, y: Array, backend: Backend) -> None:
    """x any shape -> y written."""
    backend.xp.maximum(x, 0, out=y)


def relu_backward(dy: Array, y: Array, dx: Array, backend: Backend) -> None:
    """dy, y any shape -> dx written."""
    xp = backend.xp
    xp.greater(y, 0, out=dx)  # 1 or 0
    xp.multiply(dx, dy, out=dx)


class ReLU(Activation):
    """ReLU(): any shape."""

    forward_definition = staticmethod(relu_forward)
    backward_definition = staticmethod(relu_backward)
