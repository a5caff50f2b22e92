"""What all activations share: a function of each number alone, which goes backward from its output.

    y = f(x)        dx = dy·f'(x), with f'(x) written in y

so that x need not be kept. Each activation's file has its f, its f' in y, and both as functions. They use no
memory but that of their arguments: a backend may run them on several parts of a batch at the same time.
"""

from collections.abc import Callable
from typing import Any

from minigan.layers.base import Array, Backend, Generator, Layer, Shape, Store


class Activation(Layer):
    """Base of the activations: any shape, no parameters."""

    forward_definition: Callable[..., None]  # (x, *constants, y, backend): y is written
    backward_definition: Callable[..., None]  # (dy, y, *constants, dx, backend): dx is written
    constants: tuple[Any, ...] = ()

    def setup(self, in_shape: Shape, *, backend: Backend, rng: Generator, store: Store) -> Shape:
        super().setup(in_shape, backend=backend, rng=rng, store=store)
        self.forward_op = backend.implementation(type(self).forward_definition)
        self.backward_op = backend.implementation(type(self).backward_definition)
        return self.in_shape

    def forward(self, x: Array, train: bool = True) -> Array:
        self.y = self.memory.get("y", x.shape)
        self.forward_op(x, *self.constants, self.y, self.backend)
        return self.y

    def backward(self, dy: Array, need_dx: bool = True, need_dw: bool = True) -> Array | None:
        if not need_dx:
            return None
        dx = self.memory.get("dx", dy.shape)
        self.backward_op(dy, self.y, *self.constants, dx, self.backend)
        return dx
