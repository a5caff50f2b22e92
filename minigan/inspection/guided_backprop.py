"""Guided backpropagation: which pixels excite a unit.

The gradient of a unit with respect to the image says how each pixel changes it. But the plain
gradient mixes what excites the unit with what would inhibit others, and looks like noise. Guided
backpropagation keeps only the paths on which everything excites: at each rectifier the gradient
passes if the output was on (y > 0) and if the gradient itself is positive.

    ReLU, LeakyReLU    plain  dx = dy·f'(x)      guided  dx = dy if y > 0 and dy > 0, else 0

LeakyReLU's small slope for x < 0 is ignored on the way back.
Source: Springenberg et al. 2015, arXiv:1412.6806, section 3.4
"""

from minigan.layers import LeakyReLU, ReLU, Sequential
from minigan.layers.base import Array
from minigan.layers.sequential import forward_pass

RECTIFIERS = (ReLU, LeakyReLU)


def guided_gradient(
    net: Sequential, index: int, x: Array, dy: Array, labels: Array | None = None
) -> Array:
    """Guided gradient of sum(dy · output of layer `index`) with respect to x.

    x       (n, *in_shape);  labels (n, classes) of a conditional network
    dy      (n, *out_shape of the layer): 1 at the unit and the place in question, else 0
    -> dx   (n, *in_shape). The gradients of the parameters stay as they are
    """
    forward_pass(net.layers[: index + 1], x, False, labels)
    for layer in reversed(net.layers[: index + 1]):
        if isinstance(layer, RECTIFIERS):
            dy = dy * ((layer.saved > 0) & (dy > 0))  # saved: y
        else:
            dy = layer.backward(dy, need_dw=False)
    return dy
