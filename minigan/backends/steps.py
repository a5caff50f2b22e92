"""AppendLabels and Dropout without new memory, for both fast backends."""

from typing import Any

from minigan.arrays import Array
from minigan.backends.workspace import FastBackend, Workspace
from minigan.layers import AppendLabels, Dropout


class AppendLabelsStep:
    """As layers/append_labels.py."""

    takes_labels, has_parameters = True, False
    saved: Any = None

    def __init__(self, layer: AppendLabels, backend: FastBackend):
        self.layers = [layer]
        self.memory = Workspace(backend)

    def forward(self, x: Array, train: bool, labels: Array) -> Array:
        (layer,), xp = self.layers, self.memory.backend.xp
        c = x.shape[-1]
        y = self.memory.get("y", (len(x), *layer.out_shape))
        xp.copyto(y[..., :c], x)
        planes = labels.reshape(len(x), *[1] * (x.ndim - 2), -1)
        xp.copyto(y[..., c:], planes)  # broadcast to all pixels
        return y

    def backward(self, dy: Array, need_dx: bool, need_dw: bool) -> Array | None:
        if not need_dx:
            return None
        (layer,), xp = self.layers, self.memory.backend.xp
        dx = self.memory.get("dx", (len(dy), *layer.in_shape))
        xp.copyto(dx, dy[..., : dx.shape[-1]])
        return dx


class DropoutStep:
    """As layers/dropout.py."""

    takes_labels, has_parameters = False, False
    saved: Array | None = None  # the mask

    def __init__(self, layer: Dropout, backend: FastBackend):
        self.layers, self.backend = [layer], backend
        self.memory = Workspace(backend)

    def forward(self, x: Array, train: bool) -> Array:
        (layer,), backend = self.layers, self.backend
        self.saved = None
        if not train:
            return x
        xp, mask = backend.xp, self.memory.get("mask", x.shape)
        y = self.memory.get("y", x.shape)
        backend.draw_uniform(layer.generator, mask)
        xp.greater_equal(mask, layer.p, out=mask)  # 1 or 0
        xp.multiply(mask, 1.0 / (1.0 - layer.p), out=mask)
        xp.multiply(x, mask, out=y)
        self.saved = mask
        return y

    def backward(self, dy: Array, need_dx: bool, need_dw: bool) -> Array | None:
        if not need_dx or self.saved is None:
            return dy if need_dx else None
        dx = self.memory.get("dx", dy.shape)
        self.backend.xp.multiply(dy, self.saved, out=dx)
        return dx
