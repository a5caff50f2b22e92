"""Tanh: squashes into (-1, 1), the range of the images. The generator's last layer.

y  = tanh(x)
dx = dy·(1 - y²)        since tanh' = 1 - tanh²: the backward pass needs y alone
"""

from minigan.layers.activation import Activation
from minigan.layers.base import Array, Backend


def tanh_forward(x: Array, y: Array, backend: Backend) -> None:
    """x any shape -> y written."""
    backend.xp.tanh(x, out=y)


def tanh_backward(dy: Array, y: Array, dx: Array, backend: Backend) -> None:
    """dy, y any shape -> dx written."""
    xp = backend.xp
    xp.multiply(y, y, out=dx)
    xp.subtract(1.0, dx, out=dx)
    xp.multiply(dy, dx, out=dx)


class Tanh(Activation):
    """Tanh(): any shape."""

    forward_definition = staticmethod(tanh_forward)
    backward_definition = staticmethod(tanh_backward)
