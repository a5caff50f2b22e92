"""LeakyReLU: negative values are scaled down, not cut off, so a gradient remains.

    y  = x for x > 0,  slope·x otherwise
    dx = dy for x > 0, slope·dy otherwise

With 0 < slope the sign of y is that of x: the backward pass needs y alone.
Source: Maas et al. 2013
"""

from typing import Any

from minigan.checks import expect_number
from minigan.layers.activation import Activation
from minigan.layers.base import Array


def leaky_relu_forward(x: Array, slope: float, xp: Any) -> Array:
    """x, any shape -> y = max(x, slope·x), because 0 <= slope < 1; saved: y."""
    return xp.maximum(x, slope * x)


def leaky_relu_backward(dy: Array, y: Array, slope: float) -> Array:
    """dy, y -> dx."""
    positive = (y > 0).astype(y.dtype)  # 1 or 0
    return dy * (slope + (1.0 - slope) * positive)


class LeakyReLU(Activation):
    """LeakyReLU(slope): any shape. DCGAN's discriminator has slope 0.2.

    slope  0 <= slope < 1; for 0, ReLU() is faster. Frameworks disagree on a default
           (PyTorch 0.01, Keras 0.3), so there is none here.
    """

    forward_definition = staticmethod(leaky_relu_forward)
    backward_definition = staticmethod(leaky_relu_backward)

    def __init__(self, slope: float):
        self.constants = (expect_number("LeakyReLU: slope", slope, "[0, 1)"),)

    @property
    def slope(self) -> float:
        """It cannot be changed: a network's steps contain it."""
        return float(self.constants[0])

    def describe(self) -> str:
        return f"LeakyReLU {self.slope:g}"
