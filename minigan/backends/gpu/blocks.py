"""Blocks on the GPU: a convolution, its BatchNorm and its activation as one step, with few trips through memory.

Layer by layer, each operation reads a whole activation from memory and writes another one. A block needs

    without BatchNorm    the convolution; bias and activation at once, in place, or as the convolution writes its output
    with it              the convolution; a pass over its output y for mean and variance; one that reads y again and
                         writes the activation
    backward             with BatchNorm a pass over dy and y for its two sums, one for its dx; without it one pass, which
                         takes the sums for the bias too

What the activation did is made anew from y, and not read from memory.

The chain of layers stays the definition of all this: see `plan` in layers/sequential.py.
"""

from math import prod
from typing import Any

from minigan.arrays.backend import Array, Workspace
from minigan.backends.fusion import Core, find_runs
from minigan.backends.gpu.backend import CupyBackend
from minigan.backends.gpu.batchnorm import Norm
from minigan.backends.gpu.convolution import (
    IDENTITY,
    Activation,
    Convolution,
    activate,
    contiguous,
    find_convolution,
)
from minigan.backends.gpu.reductions import add_row_sums, sum_rows
from minigan.layers import BatchNorm, ConvTranspose2d, Layer, Linear
from minigan.layers.activation import Activation as ActivationLayer
from minigan.layers.sequential import Step


def fused_plan(layers: list[Layer], backend: CupyBackend) -> list[Step]:
    """-> the layers, with a Block in the place of each run of them; see fused_runs.py."""
    steps: list[Step] = []
    for part, run in find_runs(layers):
        steps += [Block(part, backend, **run)] if run else part
    return steps


class Block:
    """[convolution or Linear] [BatchNorm] [activation]. Parameters and buffers are the layers' own."""

    x: Array  # of the last forward
    out: Array
    kept: Array | None  # the columns of x

    def __init__(
        self,
        layers: list[Layer],
        backend: CupyBackend,
        core: Core | None = None,
        norm: BatchNorm | None = None,
        activation: ActivationLayer | None = None,
    ):
        self.layers, self.core, self.backend = layers, core, backend
        self.in_shape, self.out_shape = layers[0].in_shape, layers[-1].out_shape
        self.has_parameters = any(layer.has_parameters for layer in layers)
        self.memory = Workspace(backend)
        self.activation = activation_of(activation)
        self.norm = None if norm is None else Norm(norm, self.activation, backend, self.memory)
        first = next(layer for layer in (core, norm, activation) if layer is not None)
        last = next(layer for layer in (activation, norm, core) if layer is not None)
        self.x_shape, self.y_shape = (
            first.in_shape,
            last.out_shape,
        )  # reshapes before, and none after
        if core is not None:
            self.convolution, self.transposed = (
                convolution_of(core, backend),
                isinstance(core, ConvTranspose2d),
            )
            shapes = self.convolution.x_shape, self.convolution.y_shape
            self.core_in, self.core_out = shapes[::-1] if self.transposed else shapes
        self.ask_for_kernels()

    def ask_for_kernels(self) -> None:
        """Name what forward and backward will launch; see Kernels.compile."""
        kernels, last, core = (
            self.backend.kernels,
            IDENTITY if self.norm else self.activation,
            self.core,
        )
        channels = self.y_shape[-1] if core is None else self.core_out[-1]
        if self.norm is None and self.activation != IDENTITY:
            kernels.get(
                "activate_backward",
                activation=self.activation[0],
                width=kernels.width(self.y_shape[-1]),
            )
        if core is None or last != IDENTITY or core.use_bias:
            kernels.get("activate", activation=last[0], width=kernels.width(channels))
            kernels.get("sum_rows", activation=last[0], width=kernels.width(channels))
        if core is None:
            return
        convolution = self.convolution
        if self.transposed:
            convolution.ask_for(last, forward=False, transpose=True, gradient=True)
        else:
            convolution.ask_for(last, forward=True, transpose=False, gradient=True)
            convolution.ask_for(IDENTITY, forward=False, transpose=True, gradient=False)

    def forward(self, x: Array, train: bool = True) -> Array:
        n, core, norm = len(x), self.core, self.norm
        self.x = contiguous(x, "x", self.memory).reshape(n, *self.x_shape)
        self.out = self.memory.get("out", (n, *self.y_shape))
        if norm is not None:
            y = self.x
            if core is not None:
                y = self.memory.get("y", (n, *self.y_shape))
                self.core_forward(y, IDENTITY, train)
            norm.forward(y, self.out, train)
        elif core is not None:
            self.core_forward(self.out, self.activation, train)
        else:
            activate(self.x, None, self.out, self.activation, self.backend)
        return self.out.reshape(n, *self.out_shape)

    def backward(self, dy: Array, need_dx: bool = True, need_dw: bool = True) -> Array | None:
        n, core = len(dy), self.core
        g = contiguous(dy, "dy", self.memory).reshape(self.out.shape)
        db = core.db if core is not None and need_dw else None
        if self.norm is not None:
            g = self.norm.backward(g, need_dx or core is not None, need_dw)
        elif self.activation != IDENTITY:
            dy, g = g, self.memory.get("g", g.shape)
            self.activation_backward(dy, g, db)
            db = None  # done
        if core is None:
            return g.reshape(n, *self.in_shape) if need_dx else None
        if db is not None:
            add_row_sums(g.reshape(-1, len(db)), db, self.backend)
        dx = self.memory.get("dx", self.x.shape) if need_dx else None
        self.core_backward(g, core.dW if need_dw else None, dx)
        return None if dx is None else dx.reshape(n, *self.in_shape)

    def activation_backward(self, dy: Array, g: Array, db: Array | None) -> None:
        """g = dy·activation', and db += its sums, in the same pass"""
        kind, a = self.activation
        if db is not None:
            shape = (-1, len(db))
            sum_rows(
                kind,
                a,
                dy.reshape(shape),
                self.out.reshape(shape),
                g.reshape(shape),
                db,
                self.backend,
            )
        else:
            kernels = self.backend.kernels
            width = kernels.width(self.y_shape[-1])
            kernels.get("activate_backward", activation=kind, width=width)(
                g.size // width, dy, self.out, g, g.size, a
            )

    def core_forward(self, y: Array, activation: Activation, train: bool) -> None:
        """y = activation(core(x) + bias)"""
        assert self.core is not None
        n, convolution = len(y), self.convolution
        x, W, y = (
            self.x.reshape(n, *self.core_in),
            self.core.W.reshape(convolution.W_shape),
            y.reshape(n, *self.core_out),
        )
        self.kept = None
        if self.transposed:
            convolution.transpose(x, W, self.core.b, y, activation)
        else:
            self.kept = convolution.place(n, self.memory) if train else None
            convolution.forward(x, W, self.core.b, y, activation, self.kept)

    def core_backward(self, dy: Array, dW: Array | None, dx: Array | None) -> None:
        """dW += and dx =, each unless None"""
        assert self.core is not None
        n, convolution = len(dy), self.convolution
        x, dy = self.x.reshape(n, *self.core_in), dy.reshape(n, *self.core_out)
        W, dW = (
            self.core.W.reshape(convolution.W_shape),
            None if dW is None else dW.reshape(convolution.W_shape),
        )
        dx = None if dx is None else dx.reshape(x.shape)
        if self.transposed:
            convolution.transposed_backward(dy, x, W, dW, dx)
        else:
            convolution.backward(dy, x, W, dW, dx, self.kept)


def activation_of(layer: ActivationLayer | None) -> Activation:
    """-> its name and constant in kernels.cu"""
    if layer is None:
        return IDENTITY
    return type(layer).__name__, float(next(iter(layer.constants), 0.0))


def convolution_of(core: Any, backend: CupyBackend) -> Convolution:
    """-> the Convolution that a layer is, or is the transpose of; a Linear layer is one of images of one pixel"""
    if isinstance(core, Linear):
        c_in, c_out = prod(core.in_shape), core.out
        return find_convolution(
            backend, (1, 1, c_in), (1, 1, c_in, c_out), (1, 1, c_out), (1, 1), ((0, 0), (0, 0))
        )
    if isinstance(core, ConvTranspose2d):
        W_shape = (*core.kernel_size, core.channels, core.in_shape[2])
        return find_convolution(
            backend, core.out_shape, W_shape, core.in_shape, core.stride, core.pads
        )
    W_shape = (*core.kernel_size, core.in_shape[2], core.channels)
    return find_convolution(backend, core.in_shape, W_shape, core.out_shape, core.stride, core.pads)
