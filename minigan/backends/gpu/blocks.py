"""Blocks on the GPU: a convolution, its BatchNorm and its activation, with little memory traffic.

Layer by layer, each operation reads a whole activation from memory and writes another one. A block
needs

    without BatchNorm    the convolution; bias and activation at once, in place, or while the
                         convolution writes its output
    with it              the convolution; a pass over its output y for mean and variance; one that
                         reads y again and writes the activation
    backward             with BatchNorm a pass over dy and y for its two sums, one for its dx;
                         without it one pass, which also takes the sums for the bias

The activation is recomputed from y, not read from memory.

The chain of layers remains the definition of all this: see `plan` in layers/sequential.py.
"""

from collections.abc import Sequence

from minigan.arrays import Array
from minigan.backends.fusion import Core, fuse
from minigan.backends.gpu.backend import GpuBackend
from minigan.backends.gpu.batchnorm import Norm
from minigan.backends.gpu.convolution import activate, contiguous
from minigan.backends.gpu.implicit import convolution_of
from minigan.backends.gpu.kernels import IDENTITY, Activation
from minigan.backends.gpu.reductions import sum_rows
from minigan.backends.workspace import Workspace
from minigan.layers import BatchNorm, Layer, LeakyReLU, ReLU, Sigmoid, Tanh
from minigan.layers.activation import Activation as ActivationLayer
from minigan.layers.sequential import Step

KINDS = (LeakyReLU, ReLU, Sigmoid, Tanh)  # with the same names in kernels.cu


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
        roles = [layer for layer in (core, norm, activation) if layer is not None]
        self.x_shape, self.y_shape = roles[0].in_shape, roles[-1].out_shape  # without the reshapes
        f, channels, self.norm = activation_of(activation), self.y_shape[-1], None
        if norm is not None:
            self.norm, f = Norm(norm, f, backend, self.memory), IDENTITY
        self.f = f  # the activation, unless norm applies it
        if core is not None:
            self.convolution = convolution_of(core, f, backend, self.memory)
            channels = self.convolution.out_shape[-1]
        self.V = backend.kernels.width(channels)
        if f != IDENTITY or (core is not None and core.use_bias):
            for name in ("activate", "activate_backward", "sum_rows"):  # see Kernels.compile
                backend.kernels.get(name, kind=f[0], width=self.V)

    def forward(self, x: Array, train: bool = True, parts: int = 1) -> Array:
        """parts  equal parts of the batch, each with its own statistics: joined_update.py"""
        n, columns = len(x), None
        x = contiguous(x, "x", self.memory).reshape(n, *self.x_shape)
        out = self.memory.get("out", (n, *self.y_shape))
        y = x
        if self.core is not None:
            y = out if self.norm is None else self.memory.get("y", out.shape)
            columns = self.convolution.forward(x, y, train)
        if self.norm is not None:
            self.norm.forward(y, out, train, parts)
        elif self.core is None:
            activate(x, None, out, self.f, self.backend)
        self.saved = (x, out, columns)
        return out.reshape(n, *self.out_shape)

    def backward(self, dy: Array, need_dx: bool = True, need_dw: bool = True) -> Array | None:
        (x, out, columns), n, core = self.saved, len(dy), self.core
        g = contiguous(dy, "dy", self.memory).reshape(out.shape)
        db = core.db if core is not None and need_dw else None
        if self.norm is not None:
            g = self.norm.backward(g, need_dx or core is not None, need_dw)
        elif self.f != IDENTITY:
            dy, g = g, self.memory.get("g", g.shape)
            self.activation_backward(dy, out, g, db)
            db = None  # done
        if core is None:
            return g.reshape(n, *self.in_shape) if need_dx else None
        if db is not None:
            sum_rows(IDENTITY, g.reshape(-1, len(db)), None, None, db, self.backend)
        dx = self.memory.get("dx", (n, *self.convolution.in_shape)) if need_dx else None
        self.convolution.backward(g, x, columns, need_dw, dx)
        return None if dx is None else dx.reshape(n, *self.in_shape)

    def activation_backward(self, dy: Array, out: Array, g: Array, db: Array | None) -> None:
        """g = dy·f', and db += its sums, in the same pass"""
        if db is not None:
            dy, out, g = (each.reshape(-1, len(db)) for each in (dy, out, g))
            sum_rows(self.f, dy, out, g, db, self.backend)
            return
        kernel = self.backend.kernels.get("activate_backward", kind=self.f[0], width=self.V)
        kernel(g.size // self.V, dy, out, g, g.size, self.f[1])


def activation_of(layer: ActivationLayer | None) -> Activation:
    """-> its name and constant in kernels.cu"""
    if layer is None:
        return IDENTITY
    kind = next(kind for kind in KINDS if isinstance(layer, kind))
    return kind.__name__, float(next(iter(layer.constants), 0.0))
