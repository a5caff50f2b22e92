"""Guided backpropagation: which pixels excite a unit.

The gradient of a unit by the image says how each pixel moves it. But the plain gradient is a mixture of what excites the
unit and of what would hold others back, and looks like noise. Guided backpropagation lets only those ways through on
which everything excites: at each kink the gradient passes where the output was on (y > 0), as ever, and where it is
positive itself,

    ReLU, LeakyReLU   dx = dy·f'(x)      guided   dx = dy where y > 0 and dy > 0, else 0

LeakyReLU's small slope for x < 0 is left out on the way back. This needs no net of its own: every layer's backward pass is
a function, and in the kinks this one takes its place for a while.
Source: Springenberg et al. 2015, arXiv:1412.6806, section 3.4
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from minigan.inspection.partial_passes import backward_from, forward_to
from minigan.layers import LeakyReLU, ReLU, Sequential
from minigan.layers.base import Array

KINKS = (ReLU, LeakyReLU)


def guided_backward(dy: Array, y: Array, *rest: Any) -> None:
    """dy, y any shape, and whatever else a kink's backward pass takes -> dx written: dy where both are positive, else 0."""
    *_, dx, backend = rest
    xp = backend.xp
    xp.greater(y, 0, out=dx)  # 1 or 0
    xp.multiply(dx, dy, out=dx)
    xp.maximum(dx, 0, out=dx)


@contextmanager
def guided(net: Sequential) -> Iterator[None]:
    """While it lasts, the kinks of the net go backward by guided_backward."""
    kinks = [layer for layer in net.layers if isinstance(layer, KINKS)]
    plain = [kink.backward_op for kink in kinks]
    try:
        for kink in kinks:
            kink.backward_op = guided_backward
        yield
    finally:
        for kink, operation in zip(kinks, plain, strict=True):
            kink.backward_op = operation


def guided_gradient(
    net: Sequential, index: int, x: Array, dy: Array, labels: Array | None = None
) -> Array:
    """Gradient of sum(dy · what layer `index` gives) by x, guided; in the first layer's memory.

    x       (n, *in_shape);  labels (n, classes) of a conditional net
    dy      (n, *out_shape of the layer): 1 at the unit and place that is asked for, else 0
    -> dx   (n, *in_shape).  The net's gradients stay as they are, and its next backward is the plain one
    """
    forward_to(net, index, x, labels)
    with guided(net):
        return backward_from(net, index, dy)
