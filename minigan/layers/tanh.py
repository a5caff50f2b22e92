"""Tanh: squashes into (-1, 1), the range of the images. The generator's last layer.

    y  = tanh(x)
    dx = dy·(1 - y²)        since tanh' = 1 - tanh²: the backward pass needs y alone
"""

from minigan.layers.base import Array, Backend, Generator, Layer, Shape, Store


def tanh_forward(x, y, backend):
    """x any shape -> y written."""
    backend.xp.tanh(x, out=y)


def tanh_backward(dy, y, dx, backend):
    """dy, y any shape -> dx written."""
    xp = backend.xp
    xp.multiply(y, y, out=dx)
    xp.subtract(1.0, dx, out=dx)
    xp.multiply(dy, dx, out=dx)


class Tanh(Layer):
    """Tanh(): any shape."""

    def setup(self, in_shape: Shape, *, backend: Backend, rng: Generator, store: Store) -> Shape:
        super().setup(in_shape, backend=backend, rng=rng, store=store)
        self.forward_op = backend.implementation(tanh_forward)
        self.backward_op = backend.implementation(tanh_backward)
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
