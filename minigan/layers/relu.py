"""ReLU: negative values become 0.

    y  = max(x, 0)
    dx = dy where y > 0, else 0        y > 0 just where x > 0: the backward pass needs y alone

Source: Nair & Hinton 2010
"""

from minigan.layers.base import Array, Backend, Generator, Layer, Shape, Store


def relu_forward(x, y, backend):
    """x any shape -> y written."""
    backend.xp.maximum(x, 0, out=y)


def relu_backward(dy, y, dx, backend):
    """dy, y any shape -> dx written."""
    xp = backend.xp
    xp.greater(y, 0, out=dx)  # 1 or 0
    xp.multiply(dx, dy, out=dx)


class ReLU(Layer):
    """ReLU(): any shape."""

    def setup(self, in_shape: Shape, *, backend: Backend, rng: Generator, store: Store) -> Shape:
        super().setup(in_shape, backend=backend, rng=rng, store=store)
        self.forward_op = backend.implementation(relu_forward)
        self.backward_op = backend.implementation(relu_backward)
        return self.in_shape

    def forward(self, x: Array, train: bool = True) -> Array:
        self.y = self.memory.get("y", x.shape)
        self.forward_op(x, self.y, self.backend)
        return self.y

    def backward(self, dy: Array, need_dx: bool = True, need_dw: bool = True) -> Array | None:
        if not need_dx:
            return None
        dx = self.memory.get("dx", dy.shape)
        self.backward_op(dy, self.y, dx, self.backend)
        return dx
