"""Blocks: a convolution, its BatchNorm and its activation as one step, chunk by chunk.

Layer by layer, each operation reads a whole activation from memory and writes another one. At 32
channels that takes longer than the matrix products. A block hands the next operation a chunk that
is still in the core's cache:

    forward    1  y = conv(x) + b, and the chunk's sums for mean and variance
               2  c = y - mean, out = activation(gain/σ·c + bias)
    backward   1  g = dy·activation', and its sums Σ g and Σ g·c
               2  BatchNorm's dx of the chunk, and at once the convolution's backward pass of it

Round 2 starts after all chunks are through round 1, because BatchNorm's statistics are the batch's;
without BatchNorm there is only one round. In a run of blocks, the next block does round 2 of the
forward pass just before it reads a chunk. It also does round 1 of the backward pass as soon as it
has a chunk of dx. Then dx as a whole is not kept, and the blocks' g alternate between two buffers.

The chain of layers remains the definition of all this: see `plan` in layers/sequential.py.
Shown by: benchmarks/step.py
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np

from minigan.arrays import Array
from minigan.backends.cpu.activations import functions_of
from minigan.backends.cpu.backend import CpuBackend
from minigan.backends.cpu.chunks import ThreadWorkspace, column_sums, contiguous, tile_row
from minigan.backends.cpu.convolution import BeforeBackward, BeforeForward, Convolution, Identity
from minigan.backends.fusion import Core, fuse
from minigan.backends.steps import StepAround
from minigan.backends.workspace import Workspace
from minigan.layers import BatchNorm, Layer
from minigan.layers.activation import Activation
from minigan.layers.sequential import Step

SAMPLE = 64  # rows of a chunk, evenly spaced, whose mean is near the chunk's


def plan(layers: Sequence[Layer], backend: CpuBackend) -> list[Step]:
    """-> the layers, with a Block for each run of them; see fusion.py."""

    def make_block(part: Sequence[Layer], **roles: Any) -> Block:
        kind = backend.operation_for(NormBlock if "norm" in roles else Block)
        return kind(part, backend, **roles)

    steps = fuse(layers, backend, make_block)
    inner = [step.steps[0] if isinstance(step, StepAround) else step for step in steps]
    for step, following in pairwise(inner):
        if isinstance(step, Block) and isinstance(following, Block):
            following.previous, step.is_followed = step, True
            following.parity = 1 - step.parity
    return steps


class Saved:
    """Values that a block's forward pass leaves for its backward pass and for the next block."""

    x: Array  # as the core reads it
    out: Array
    gradient: Any = None  # from the core's forward, for dW
    normalize_later: BeforeForward = None  # called by the next block before it reads `out`
    # of a NormBlock
    c: Array  # y - mean, the mean rounded to float32
    rest: Array  # (c,), what rounding left of the mean
    is_batch: bool  # were the statistics the batch's own?
    m: int  # values per channel in the batch, over all processes
    inv_std: Array
    A: Array  # gain/σ
    A_row: Array
    mean_row: Array
    bias_row: Array  # bias - A·rest
    # of its backward pass
    g: Array  # dy·activation'
    sums: Array  # (chunks, 2, c), float64: Σ g, Σ g·c
    measured = False  # has the next block computed g and the sums?


class Block:
    """[convolution or Linear] [activation]. Parameters and buffers are the layers' own."""

    takes_labels = False
    saved: Saved

    def __init__(
        self,
        layers: Sequence[Layer],
        backend: CpuBackend,
        core: Core | None = None,
        norm: BatchNorm | None = None,
        activation: Activation | None = None,
    ):
        self.layers, self.core, self.activation, self.backend = layers, core, activation, backend
        self.in_shape, self.out_shape = layers[0].in_shape, layers[-1].out_shape
        self.has_parameters = any(layer.has_parameters for layer in layers)
        self.memory = Workspace(backend)
        self.previous: Block | None = None  # this one and the next are set by plan
        self.is_followed = False  # by a block
        self.parity = 0  # neighbors have 0 and 1
        self.operation: Convolution | Identity
        if core is not None:
            self.operation = Convolution(core, backend, self.memory)
        else:
            first = next(layer for layer in (norm, activation) if layer is not None)
            self.operation = Identity(first.in_shape, backend)
        if activation is not None:
            self.forward_op, self.backward_op = functions_of(activation)
            self.constants = activation.constants

    def forward(self, x: Array, train: bool = True) -> Array:
        saved, before = self.begin_forward(x)
        y, after = (saved.out, None) if self.activation is None else (None, self.activate)
        saved.gradient = self.operation.forward(saved.x, y, before, after)
        return saved.out.reshape(len(x), *self.out_shape)

    def backward(self, dy: Array, need_dx: bool = True, need_dw: bool = True) -> Array | None:
        dy = contiguous(dy, "dy", self.memory).reshape(self.saved.out.shape)

        def before(part: slice, workspace: ThreadWorkspace, i: int) -> Array:
            return self.activation_backward(dy[part], part, workspace.get("dy", dy[part].shape))

        derive = None if self.activation is None else before
        return self.operation_backward(dy, derive, need_dx, need_dw)

    # -- parts of both, also for NormBlock ------------------------------------------------

    def begin_forward(self, x: Array) -> tuple[Saved, BeforeForward]:
        """-> a new Saved with x and room for the output; what to call before x is read."""
        n, saved = len(x), Saved()
        saved.x = contiguous(x, "x", self.memory).reshape(n, *self.operation.in_shape)
        saved.out = self.memory.get("out", (n, *self.operation.out_shape))
        self.saved = saved
        return saved, None if self.previous is None else self.previous.saved.normalize_later

    def operation_backward(
        self, dy: Array, before: BeforeBackward, need_dx: bool, need_dw: bool
    ) -> Array | None:
        """Backward pass of the core -> dx or None.

        The block before may take its g and its sums from each chunk of dx at once. If it has an
        activation, dx as a whole is not needed, and its g is returned instead.
        """
        saved, n = self.saved, len(self.saved.x)
        normed = self.previous if need_dx and isinstance(self.previous, NormBlock) else None
        after = None if normed is None else normed.begin_backward(n, len(self.operation.parts(n)))
        taken = normed is not None and normed.activation is not None
        dx = self.memory.get("dx", saved.x.shape) if need_dx and not taken else None
        if self.core is not None or need_dx:
            self.operation.backward(dy, saved.x, saved.gradient, need_dw, dx, before, after)
        if normed is not None:
            normed.saved.measured = True
            dx = normed.saved.g if taken else dx
        return None if dx is None else dx.reshape(n, *self.in_shape)

    def activate(
        self, part: slice, y: Array, workspace: ThreadWorkspace | None = None, i: int = 0
    ) -> None:
        self.forward_op(y, *self.constants, self.saved.out[part], self.backend.xp)

    def activation_backward(self, dy: Array, part: slice, g: Array) -> Array:
        self.backward_op(dy, self.saved.out[part], *self.constants, g, self.backend.xp)
        return g


class NormBlock(Block):
    """[convolution or Linear] BatchNorm [activation]

    With c = y - mean = σ·x̂ kept from the forward pass, the formula of layers/batchnorm.py reads

        out = activation(A·c + bias)        A = gain/σ
        dx  = A·g - B·c - C                 B = A/(m·σ²)·Σ g·c    C = A/m·Σ g    g = dy·activation'

    A, B and C have one number per channel; they are tiled to rows as long as an image. If a mean is
    far from 0, rounding it to float32 may leave a rest as large as σ. It is subtracted from the
    sums: c - rest in place of c changes bias, Σ g·c and C only.
    """

    def __init__(
        self, layers: Sequence[Layer], backend: CpuBackend, *, norm: BatchNorm, **roles: Any
    ):
        super().__init__(layers, backend, norm=norm, **roles)
        self.norm, self.channels = norm, norm.in_shape[-1]
        self.pixels = prod(norm.in_shape) // self.channels

    @property
    def tiled(self) -> int:
        """-> pixels in a tiled row, such as A's"""
        return self.pixels

    def forward(self, x: Array, train: bool = True) -> Array:
        n, norm, backend = len(x), self.norm, self.backend
        is_batch = norm.uses_batch_statistics(n, train)
        saved, before = self.begin_forward(x)
        saved.c = self.memory.get("c", saved.out.shape)
        saved.is_batch, saved.m = is_batch, n * self.pixels
        if not is_batch:
            self.set_scale(norm.running_mean, norm.running_var)
            saved.gradient = self.operation.forward(saved.x, None, before, self.normalize)
            return saved.out.reshape(n, *self.out_shape)
        y = saved.c if self.core is not None else saved.x
        mean, var = self.statistics(y, before)
        saved.m = self.pixels * backend.opaque_call(backend.group.sync_batchnorm, mean, var, n)
        self.set_scale(mean, var)
        if norm.updates_running(train):
            backend.opaque_call(norm.update_running, mean, var, saved.m)
        if self.is_followed:
            saved.normalize_later = lambda part, workspace: self.normalize(part, y[part], workspace)
        else:
            self.on_chunks(y, self.normalize)
        return saved.out.reshape(n, *self.out_shape)

    def backward(self, dy: Array, need_dx: bool = True, need_dw: bool = True) -> Array | None:
        saved = self.saved
        dy = contiguous(dy, "dy", self.memory).reshape(saved.out.shape)
        if not saved.measured:
            n = len(dy)
            self.on_chunks(dy, self.begin_backward(n, len(self.operation.parts(n))))
        saved.measured = False
        B_row, C_row = self.add_sums(need_dw)
        g = dy if self.activation is None else saved.g

        def before(part: slice, workspace: ThreadWorkspace, i: int) -> Array:
            return self.norm_backward(g[part], part, B_row, C_row, workspace)

        return self.operation_backward(g, before, need_dx, need_dw)

    def on_chunks(self, y: Array, work: Callable[..., object]) -> None:
        """work(part, y[part], workspace, i) for each chunk."""
        parts = self.operation.parts(len(y))
        self.backend.run(lambda i, memory, _: work(parts[i], y[parts[i]], memory, i), len(parts))

    # -- forward ---------------------------------------------------------------------------

    def statistics(self, y: Array, before: BeforeForward) -> tuple[Array, Array]:
        """y = core(x), written; -> mean and biased variance of y's channels, float64.

        Each chunk gives a number near its mean, and the sums of off = y - this number and of off²:
        no large numbers are added up, and none are subtracted from each other.
        """
        saved, c, memory, xp = self.saved, self.channels, self.memory, self.backend.xp
        parts = self.operation.parts(len(saved.x))
        near = memory.get("near the means", (len(parts), c))
        sums = memory.get("sums of off, off²", (len(parts), 2, c), "float64")

        def measure(part: slice, y: Array, workspace: ThreadWorkspace, i: int) -> None:
            rows = y.reshape(-1, c)
            some = rows[:: max(1, len(rows) // SAMPLE)]
            column_sums(some, sums[i, 0], workspace)
            xp.multiply(sums[i, 0], 1.0 / len(some), out=near[i])
            row = tile_row(near[i], "near", self.tiled, workspace)
            self.sums_of_off(y, row, sums[i], workspace)

        saved.gradient = self.operation.forward(saved.x, y, before, measure)
        mean, var = (memory.get(name, (c,), "float64") for name in ("mean", "var"))
        counts = [(part.stop - part.start) * self.pixels for part in parts]
        self.backend.opaque_call(pool_statistics, counts, near, sums, mean, var)
        return mean, var

    def sums_of_off(self, y: Array, near: Array, sums: Array, workspace: ThreadWorkspace) -> None:
        """sums (2, c) = Σ off, Σ off² of a chunk, with off = y - near, a row"""
        xp, c, shape = self.backend.xp, self.channels, (len(y), self.pixels * self.channels)
        off = workspace.get("off", shape)
        xp.subtract(y.reshape(shape), near, out=off)
        column_sums(off.reshape(-1, c), sums[0], workspace)
        xp.multiply(off, off, out=off)
        column_sums(off.reshape(-1, c), sums[1], workspace)

    def set_scale(self, mean: Array, var: Array) -> None:
        """Keep 1/σ, A = gain/σ, and the rows that shift and scale each pixel of a chunk."""
        saved, norm, memory, xp = self.saved, self.norm, self.memory, self.backend.xp
        saved.inv_std, saved.A, saved.rest, center, bias = (
            memory.get(name, mean.shape) for name in ("inv_std", "A", "rest", "center", "bias")
        )
        xp.copyto(center, mean)
        xp.subtract(mean, center, out=saved.rest)
        xp.add(var, norm.eps, out=saved.inv_std)
        xp.sqrt(saved.inv_std, out=saved.inv_std)
        xp.divide(1.0, saved.inv_std, out=saved.inv_std)
        xp.multiply(saved.inv_std, 1.0 if norm.gain is None else norm.gain, out=saved.A)
        xp.multiply(saved.A, saved.rest, out=bias)
        xp.subtract(0.0 if norm.bias is None else norm.bias, bias, out=bias)
        saved.mean_row = tile_row(center, "mean row", self.tiled, memory)
        saved.A_row = tile_row(saved.A, "A row", self.tiled, memory)
        saved.bias_row = tile_row(bias, "bias row", self.tiled, memory)

    def normalize(self, part: slice, y: Array, workspace: ThreadWorkspace, i: int = 0) -> None:
        """c = y - mean;  out = activation(A·c + bias)"""
        saved, xp, rows = self.saved, self.backend.xp, (len(y), -1)
        c, out = saved.c[part].reshape(rows), saved.out[part].reshape(rows)
        xp.subtract(y.reshape(rows), saved.mean_row, out=c)
        scaled = out if self.activation is None else workspace.get("scaled", c.shape)
        xp.multiply(c, saved.A_row, out=scaled)
        xp.add(scaled, saved.bias_row, out=scaled)
        if self.activation is not None:
            self.activate(part, scaled.reshape(y.shape))

    # -- backward --------------------------------------------------------------------------

    def begin_backward(self, n: int, count: int) -> Callable[..., None]:
        """-> measure(part, dy, workspace, i), for each of `count` chunks: g and its sums."""
        saved, shape = self.saved, self.operation.out_shape
        saved.sums = self.memory.get("sums of g, g c", (count, 2, self.channels), "float64")
        # read until the block before has its own
        saved.g = self.backend.scratch(f"g {self.parity}", (n, *shape))

        def measure(part: slice, dy: Array, workspace: ThreadWorkspace, i: int) -> None:
            self.sums_of_g(dy.reshape(len(dy), *shape), part, saved.sums[i], workspace)

        return measure

    def sums_of_g(self, dy: Array, part: slice, sums: Array, workspace: ThreadWorkspace) -> None:
        """Write g of a chunk, unless it is dy; sums (2, c) = Σ g, Σ g·c"""
        saved, g = self.saved, dy
        if self.activation is not None:
            g = self.activation_backward(dy, part, saved.g[part])
        rows = g.reshape(-1, self.channels)
        column_sums(rows, sums[0], workspace)
        product = workspace.get("g c", rows.shape)
        self.backend.xp.multiply(rows, saved.c[part].reshape(rows.shape), out=product)
        column_sums(product, sums[1], workspace)

    def add_sums(self, need_dw: bool) -> tuple[Array, Array]:
        """Add to dgain and dbias -> B and C, tiled."""
        saved, norm, memory, xp = self.saved, self.norm, self.memory, self.backend.xp
        c = self.channels
        both, dgain = memory.get("C and B", (2, c), "float64"), memory.get("sum of g x_hat", (c,))
        of_rest = memory.get("of rest", (c,), "float64")
        C, B = both
        xp.add.reduce(saved.sums, axis=0, out=both)
        xp.multiply(C, saved.rest, out=of_rest)
        xp.subtract(B, of_rest, out=B)
        xp.multiply(B, saved.inv_std, out=dgain)
        if need_dw and norm.dgain is not None:
            xp.add(norm.dgain, dgain, out=norm.dgain)
        if need_dw and norm.dbias is not None:
            xp.add(norm.dbias, C, out=norm.dbias)
        # dgain and dbias are summed over processes later, with all gradients
        self.backend.opaque_call(self.backend.group.all_reduce, both)
        for factor, other in ((C, saved.A), (B, saved.A), (B, saved.inv_std), (B, saved.inv_std)):
            xp.multiply(factor, other, out=factor)
        xp.multiply(both, 1.0 / saved.m, out=both)
        xp.multiply(B, saved.rest, out=of_rest)
        xp.subtract(C, of_rest, out=C)
        return tile_row(B, "B row", self.tiled, memory), tile_row(C, "C row", self.tiled, memory)

    def norm_backward(
        self, g: Array, part: slice, B_row: Array, C_row: Array, workspace: ThreadWorkspace
    ) -> Array:
        """-> dx of BatchNorm for one chunk, in scratch memory; A·g with running statistics."""
        saved, xp = self.saved, self.backend.xp
        rows = (len(g), self.pixels * self.channels)
        dx = workspace.get("dy", rows)
        xp.multiply(g.reshape(rows), saved.A_row, out=dx)
        if saved.is_batch:
            product = workspace.get("B c", rows)
            xp.multiply(saved.c[part].reshape(rows), B_row, out=product)
            xp.subtract(dx, product, out=dx)
            xp.subtract(dx, C_row, out=dx)
        return dx.reshape(g.shape)


def pool_statistics(counts: list[int], near: Array, sums: Array, mean: Array, var: Array) -> None:
    """mean, var (c,) = those of all rows of k chunks.

    counts (k,)   rows of a chunk
    near (k, c)   a number near each chunk's mean
    sums (k, 2, c), float64, of off = y - near and of off²
    The variance of all is the mean of the chunks' variances, plus the variance of their means.
    """
    rows = np.array(counts, np.float64)
    weights = rows / rows.sum()
    off, square = (sums / rows[:, None, None]).transpose(1, 0, 2)
    means = near + off
    np.matmul(weights, means, out=mean)
    np.matmul(weights, square - off * off + (means - mean) ** 2, out=var)
    np.maximum(var, 0.0, out=var)
