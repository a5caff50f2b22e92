"""AppendLabels, Dropout, Upsample and SpectralNorm for both fast backends, with kept arrays."""

from typing import Any

from minigan.arrays import Array
from minigan.backends.workspace import FastBackend, Workspace
from minigan.layers import Layer, SpectralNorm
from minigan.layers.sequential import Step
from minigan.layers.spectral_norm import TINY
from minigan.r1 import SHARE


class LayerStep:
    """A layer that is a step by itself, with the memory of its arrays."""

    takes_labels, has_parameters = False, False
    saved: Any = None

    def __init__(self, layer: Layer, backend: FastBackend):
        self.layers: list[Any] = [layer]
        self.backend, self.memory = backend, Workspace(backend)


class AppendLabelsStep(LayerStep):
    """As layers/append_labels.py."""

    takes_labels = True

    def forward(self, x: Array, train: bool, labels: Array) -> Array:
        (layer,), xp = self.layers, self.backend.xp
        c = x.shape[-1]
        y = self.memory.get("y", (len(x), *layer.out_shape))
        xp.copyto(y[..., :c], x)
        planes = labels.reshape(len(x), *[1] * (x.ndim - 2), -1)
        xp.copyto(y[..., c:], planes)  # broadcast to all pixels
        return y

    def backward(self, dy: Array, need_dx: bool, need_dw: bool) -> Array | None:
        if not need_dx:
            return None
        (layer,), xp = self.layers, self.backend.xp
        dx = self.memory.get("dx", (len(dy), *layer.in_shape))
        xp.copyto(dx, dy[..., : dx.shape[-1]])
        return dx


class DropoutStep(LayerStep):
    """As layers/dropout.py."""

    saved: Array | None  # the mask

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


class UpsampleStep(LayerStep):
    """As layers/upsample.py."""

    def squares(self, y: Array) -> Array:
        """y -> the same memory as (n, h, scale, w, scale, c)"""
        (layer,) = self.layers
        h, w, c = layer.in_shape
        return y.reshape(len(y), h, layer.scale, w, layer.scale, c)

    def forward(self, x: Array, train: bool) -> Array:
        (layer,), xp = self.layers, self.backend.xp
        y = self.memory.get("y", (len(x), *layer.out_shape))
        xp.copyto(self.squares(y), x[:, :, None, :, None])
        return y

    def backward(self, dy: Array, need_dx: bool, need_dw: bool) -> Array | None:
        if not need_dx:
            return None
        (layer,), xp, squares = self.layers, self.backend.xp, self.squares(dy)
        dx = self.memory.get("dx", (len(dy), *layer.in_shape))
        xp.copyto(dx, squares[:, :, 0, :, 0])
        for place in range(1, layer.scale**2):
            i, j = divmod(place, layer.scale)
            xp.add(dx, squares[:, :, i, :, j], out=dx)
        return dx


class StepAround:
    """A step that changes the weights of a block, its only inner step, before it runs."""

    takes_labels, has_parameters = False, True

    def __init__(self, layer: Any, block: Step, backend: FastBackend):
        self.layer, self.steps, self.xp = layer, [block], backend.xp


class SpectralStep(StepAround):
    """As layers/spectral_norm.py, around the block that contains the layer."""

    def __init__(self, layer: SpectralNorm, block: Step, backend: FastBackend):
        super().__init__(layer, block, backend)
        memory, (rows, columns) = Workspace(backend), self.matrix(layer.layer.W).shape
        self.v, self.outer = memory.get("v", (rows,)), memory.get("outer", (rows, columns))
        self.sigma, self.along = memory.get("sigma", (1,)), memory.get("along", (1,))

    def matrix(self, W: Array) -> Array:
        """-> M, a view of W"""
        return W.reshape(-1, W.shape[-1])

    def forward(self, x: Array, train: bool) -> Array:
        xp, M, u, v = self.xp, self.matrix(self.layer.W), self.layer.u, self.v
        if train:
            xp.matmul(M, u, out=v)
            self.scale(v)
            xp.matmul(v, M, out=u)
            self.scale(u)
        xp.matmul(M, u, out=v)
        self.scale(v)
        xp.divide(M, self.sigma, out=self.matrix(self.layer.layer.W))
        return self.steps[0].forward(x, train)

    def scale(self, vector: Array) -> None:
        """sigma = |vector|;  vector = vector/sigma"""
        xp, squares = self.xp, self.outer.reshape(-1)[: len(vector)]
        xp.multiply(vector, vector, out=squares)
        xp.sum(squares, keepdims=True, out=self.sigma)
        xp.sqrt(self.sigma, out=self.sigma)
        xp.maximum(self.sigma, TINY, out=self.sigma)
        xp.divide(vector, self.sigma, out=vector)

    def backward(self, dy: Array, need_dx: bool, need_dw: bool) -> Array | None:
        xp, layer, outer = self.xp, self.layer, self.outer
        M_bar, dM_bar = self.matrix(layer.layer.W), self.matrix(layer.layer.dW)
        xp.copyto(dM_bar, 0)
        dx = self.steps[0].backward(dy, need_dx, need_dw)
        if need_dw:
            xp.multiply(dM_bar, M_bar, out=outer)
            xp.sum(outer.reshape(-1), keepdims=True, out=self.along)
            xp.multiply(self.v[:, None], layer.u, out=outer)
            xp.multiply(outer, self.along, out=outer)
            xp.subtract(dM_bar, outer, out=outer)
            xp.divide(outer, self.sigma, out=outer)
            dM = self.matrix(layer.dW)
            xp.add(dM, outer, out=dM)
        return dx


def chosen_rows(n: int, backend: FastBackend) -> tuple[int, float]:
    """As in r1.py, by the rows of all processes. One that has none takes a row, with weight 0."""
    group = backend.group
    total = group.total(n)
    first = -(group.rank * total // group.size) % SHARE  # Group.shard begins there
    return (first, 1.0 / -(-total // SHARE)) if first < n else (0, 0.0)
