"""ReLU: negative values become 0.

    y  = max(x, 0)
    dx = dy where y > 0, else 0

That is LeakyReLU with slope 0.
Source: Nair & Hinton 2010
"""

from minigan.layers.leaky_relu import LeakyReLU


class ReLU(LeakyReLU):
    """ReLU(): any shape."""

    def __init__(self):
        super().__init__(0.0)

    def describe(self):
        return "ReLU"
