"""What activations share: element-wise functions whose gradient can be computed from the output.

    y = f(x)        dx = dy·f'(x), with f'(x) written in terms of y

so x need not be kept. Each activation's file has f, and f' in terms of y.
Fast versions: backends/cpu/activations.py, backends/gpu/kernels.cu
"""

from collections.abc import Callable
from typing import Any

from minigan.layers.base import Array, Layer


class Activation(Layer):
    """Base of the activations: any shape, no parameters."""

    forward_definition: Callable[..., Array]  # (x, *constants, xp) -> y
    backward_definition: Callable[..., Array]  # (dy, y, *constants) -> dx
    constants: tuple[Any, ...] = ()

    def forward(self, x: Array, train: bool = True) -> Array:
        self.saved = type(self).forward_definition(x, *self.constants, self.backend.xp)
        return self.saved

    def backward(self, dy: Array, need_dx: bool = True, need_dw: bool = True) -> Array | None:
        if not need_dx:
            return None
        return type(self).backward_definition(dy, self.saved, *self.constants)
