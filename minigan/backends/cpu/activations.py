"""Activations written into the caller's memory: backends/cpu/blocks.py calls them on chunks."""

from collections.abc import Callable
from typing import Any

from minigan.arrays import Array
from minigan.layers import LeakyReLU, ReLU, Sigmoid, Tanh
from minigan.layers.activation import Activation
from minigan.layers.sigmoid import LARGEST_EXPONENT


def tanh_forward(x: Array, y: Array, xp: Any) -> None:
    """As tanh_forward in layers/tanh.py."""
    xp.tanh(x, out=y)


def tanh_backward(dy: Array, y: Array, dx: Array, xp: Any) -> None:
    """As tanh_backward."""
    xp.multiply(y, y, out=dx)
    xp.subtract(1.0, dx, out=dx)
    xp.multiply(dy, dx, out=dx)


def sigmoid_forward(x: Array, y: Array, xp: Any) -> None:
    """As sigmoid_forward in layers/sigmoid.py."""
    xp.negative(x, out=y)
    xp.minimum(y, LARGEST_EXPONENT[y.dtype.name], out=y)
    xp.exp(y, out=y)
    xp.add(y, 1.0, out=y)
    xp.divide(1.0, y, out=y)


def sigmoid_backward(dy: Array, y: Array, dx: Array, xp: Any) -> None:
    """As sigmoid_backward."""
    xp.subtract(1.0, y, out=dx)
    xp.multiply(dx, y, out=dx)
    xp.multiply(dx, dy, out=dx)


def relu_forward(x: Array, y: Array, xp: Any) -> None:
    """As relu_forward in layers/relu.py."""
    xp.maximum(x, 0, out=y)


def relu_backward(dy: Array, y: Array, dx: Array, xp: Any) -> None:
    """As relu_backward."""
    xp.greater(y, 0, out=dx)  # 1 or 0
    xp.multiply(dx, dy, out=dx)


def leaky_relu_forward(x: Array, slope: float, y: Array, xp: Any) -> None:
    """As leaky_relu_forward in layers/leaky_relu.py."""
    xp.multiply(x, slope, out=y)
    xp.maximum(x, y, out=y)


def leaky_relu_backward(dy: Array, y: Array, slope: float, dx: Array, xp: Any) -> None:
    """As leaky_relu_backward."""
    xp.greater(y, 0, out=dx)  # 1 or 0, then 1 or slope: faster than a masked copy
    xp.multiply(dx, 1.0 - slope, out=dx)
    xp.add(dx, slope, out=dx)
    xp.multiply(dx, dy, out=dx)


FUNCTIONS: dict[type[Activation], tuple[Callable[..., None], Callable[..., None]]] = {
    Tanh: (tanh_forward, tanh_backward),
    Sigmoid: (sigmoid_forward, sigmoid_backward),
    ReLU: (relu_forward, relu_backward),
    LeakyReLU: (leaky_relu_forward, leaky_relu_backward),
}


def functions_of(layer: Activation) -> tuple[Callable[..., None], Callable[..., None]]:
    """-> forward(x, *constants, y, xp) and backward(dy, y, *constants, dx, xp) of a layer."""
    return next(pair for kind, pair in FUNCTIONS.items() if isinstance(layer, kind))
