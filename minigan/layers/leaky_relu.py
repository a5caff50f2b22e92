"""LeakyReLU: negative values are scaled down, not cut off, so that a gradient remains.

    y  = x for x > 0,  slope·x otherwise
    dx = dy for x > 0, slope·dy otherwise

With 0 < slope the sign of y is that of x: the backward pass needs y alone.
Source: Maas et al. 2013
"""

from minigan.checks import expect_number
from minigan.layers.activation import Activation
from minigan.layers.base import Array, Backend


def leaky_relu_forward(x: Array, slope: float, y: Array, backend: Backend) -> None:
    """x any shape -> y written. max(x, slope·x), since 0 <= slope < 1."""
    backend.xp.multiply(x, slope, out=y)
    backend.xp.maximum(x, y, out=y)


def leaky_relu_backward(dy: Array, y: Array, slope: float, dx: Array, backend: Backend) -> None:
    """dy, y any shape -> dx written."""
    xp = backend.xp
    xp.greater(y, 0, out=dx)  # 1 or 0, and from it 1 or slope: quicker than a masked copy
    xp.multiply(dx, 1.0 - slope, out=dx)
    xp.add(dx, slope, out=dx)
    xp.multiply(dx, dy, out=dx)


class LeakyReLU(Activation):
    """LeakyReLU(slope): any shape. DCGAN's discriminator has slope 0.2.

    slope  0 <= slope < 1; ReLU() is the quicker form of 0. (Defaults differ: PyTorch 0.01, Keras 0.3. So there is none here.)
    """

    forward_definition = staticmethod(leaky_relu_forward)
    backward_definition = staticmethod(leaky_relu_backward)

    def __init__(self, slope: float):
        self.slope = expect_number("LeakyReLU: slope", slope, "[0, 1)")
        self.constants = (self.slope,)

    def describe(self) -> str:
        return f"LeakyReLU {self.slope:g}"
