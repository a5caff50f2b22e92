"""Blocks on the GPU: a convolution, its BatchNorm and its activation, with little memory traffic.

Layer by layer, each operation reads a whole activation from memory and writes another one. A block
needs

    without BatchNorm    the convolution; bias and activation at once, in place, or while the
                         convolution writes its output
    with it              the convolution; a pass over its output y for mean and variance; one that
                         reads y again and writes the activation
    backward             with BatchNorm a pass over dy and y for its two sums, one for its dx;
                         without it one pass, which also takes the sums for the bias

What the activation did is recomputed from y, not read from memory.

The chain of layers remains the definition of all this: see `plan` in layers/sequential.py.
"""

from collections.abc import Sequence
from typing import Any

from minigan.arrays import Array
from minigan.backends.fusion import Core, fuse
from minigan.backends.gpu.backend import GpuBackend
from minigan.backends.gpu.batchnorm import Norm
from minigan.backends.gpu.convolution import (
    IDENTITY,
    Activation,
    Convolution,
    activate,
    add_row_sums,
    contiguous,
)
from minigan.backends.gpu.reductions import sum_rows
from minigan.backends.workspace import Workspace
from minigan.layers import BatchNorm, Layer, LeakyReLU, ReLU, Sigmoid, Tanh
from minigan.layers.activation import Activation as ActivationLayer
from minigan.layers.sequential import Step

KINDS = (LeakyReLU, ReLU, Sigmoid, Tanh)  # named alike in kernels.cu


def plan(layers: Sequence[Layer], backend: GpuBackend) -> list[Step]:
    """-> the layers, with a Block for each run of them; see fusion.py."""
    return fuse(layers, backend, lambda part, **roles: Block(part, backend, **roles))


class Block:
    """[convolution or Linear] [BatchNorm] [activation], with the layers' own parameters."""

    takes_labels = False
    saved: tuple[Array, Array, Array | None]  # x, the output, the columns of x

    def __init__(
        self,
        layers: Sequence[Layer],
        backend: GpuBackend,
        core: Core | None = None,
        norm: BatchNorm | None = None,
        activation: ActivationLayer | None = None,
    ):
        self.layers, self.core, self.backend = layers, core, backend
        self.in_shape, self.out_shape = layers[0].in_shape, layers[-1].out_shape
        self.has_parameters = any(layer.has_parameters for layer in layers)
        self.memory = Workspace(backend)
        self.activation = activation_of(activation)
        self.norm = None
        if norm is not None:
            self.norm = Norm(norm, self.activation, backend, self.memory)
        first = next(layer for layer in (core, norm, activation) if layer is not None)
        last = next(layer for layer in (activation, norm, core) if layer is not None)
        self.x_shape, self.y_shape = first.in_shape, last.out_shape  # without the reshapes
        if core is not None:
            self.convolution = Convolution(core, backend, self.memory)
        self.name_kernels()

    def name_kernels(self) -> None:
        """Name what forward and backward will launch; see Kernels.compile."""
        kernels, last = self.backend.kernels, IDENTITY if self.norm else self.activation
        channels = self.y_shape[-1]
        if self.norm is None and self.activation != IDENTITY:
            width = kernels.width(channels)
            kernels.get("activate_backward", activation=self.activation[0], width=width)
        if self.core is not None:
            channels = self.convolution.out_shape[-1]
            self.convolution.name_kernels(last)
        if self.core is None or last != IDENTITY or self.core.use_bias:
            for name in ("activate", "sum_rows"):
                kernels.get(name, activation=last[0], width=kernels.width(channels))

    def forward(self, x: Array, train: bool = True, parts: int = 1) -> Array:
        """parts  equal parts of the batch, each with statistics of its own: joined_update.py"""
        n, norm, columns = len(x), self.norm, None
        x = contiguous(x, "x", self.memory).reshape(n, *self.x_shape)
        out = self.memory.get("out", (n, *self.y_shape))
        if norm is not None:
            y = x
            if self.core is not None:
                y = self.memory.get("y", (n, *self.y_shape))
                columns = self.core_forward(x, y, IDENTITY, train)
            norm.forward(y, out, train, parts)
        elif self.core is not None:
            columns = self.core_forward(x, out, self.activation, train)
        else:
            activate(x, None, out, self.activation, self.backend)
        self.saved = (x, out, columns)
        return out.reshape(n, *self.out_shape)

    def backward(self, dy: Array, need_dx: bool = True, need_dw: bool = True) -> Array | None:
        (x, out, columns), n, core = self.saved, len(dy), self.core
        g = contiguous(dy, "dy", self.memory).reshape(out.shape)
        db = core.db if core is not None and need_dw else None
        if self.norm is not None:
            g = self.norm.backward(g, need_dx or core is not None, need_dw)
        elif self.activation != IDENTITY:
            dy, g = g, self.memory.get("g", g.shape)
            self.activation_backward(dy, out, g, db)
            db = None  # done
        if core is None:
            return g.reshape(n, *self.in_shape) if need_dx else None
        if db is not None:
            add_row_sums(g.reshape(-1, len(db)), db, self.backend)
        convolution = self.convolution
        dx = self.memory.get("dx", (n, *convolution.in_shape)) if need_dx else None
        x, g = x.reshape(n, *convolution.in_shape), g.reshape(n, *convolution.out_shape)
        convolution.backward(g, x, columns, need_dw, dx)
        return None if dx is None else dx.reshape(n, *self.in_shape)

    def core_forward(self, x: Array, y: Array, activation: Activation, train: bool) -> Any:
        """y = activation(core(x) + b) -> what the core keeps"""
        n, convolution = len(x), self.convolution
        x, y = x.reshape(n, *convolution.in_shape), y.reshape(n, *convolution.out_shape)
        return convolution.forward(x, y, activation, train)

    def activation_backward(self, dy: Array, out: Array, g: Array, db: Array | None) -> None:
        """g = dy·activation', and db += its sums, in the same pass"""
        kernels, (kind, a) = self.backend.kernels, self.activation
        if db is not None:
            dy, out, g = (each.reshape(-1, len(db)) for each in (dy, out, g))
            sum_rows(self.activation, dy, out, g, db, self.backend)
            return
        width = kernels.width(self.y_shape[-1])
        kernel = kernels.get("activate_backward", activation=kind, width=width)
        kernel(g.size // width, dy, out, g, g.size, a)


def activation_of(layer: ActivationLayer | None) -> Activation:
    """-> its name and constant in kernels.cu"""
    if layer is None:
        return IDENTITY
    kind = next(kind for kind in KINDS if isinstance(layer, kind))
    return kind.__name__, float(next(iter(layer.constants), 0.0))
