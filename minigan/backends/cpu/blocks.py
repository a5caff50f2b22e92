"""Blocks: a convolution, its BatchNorm and its activation as one step, chunk by chunk.

Layer by layer, each operation reads a whole activation from memory and writes another one.
At 32 channels that takes longer than the products do. A block hands the next operation
a chunk that still lies in the core's cache:

    forward    1  y = conv(x) + b, and the chunk's sums for mean and variance
               2  c = y - mean, out = activation(gain/σ·c + bias)
    backward   1  g = dy·activation', and its sums Σ g and Σ g·c
               2  BatchNorm's dx of the chunk, and at once the convolution's backward pass of it

Between 1 and 2 all chunks must have been seen, for BatchNorm's statistics are the batch's;
without BatchNorm there is but one round. Where blocks follow one another, round 2 of the forward
pass is left to the next block, which does it just before it reads a chunk, and round 1 of the
backward pass too, as soon as it has a chunk of dx: the rest of dx need not be kept then, and g of all blocks lies in two
places in turn.

The chain of layers stays the definition of all this: see `plan` in layers/sequential.py.
Shown by: benchmarks/step.py
"""

from collections.abc import Callable
from itertools import pairwise
from math import prod

import numpy as np

from minigan.arrays.backend import Array, Workspace
from minigan.backends.cpu.backend import NumpyBackend
from minigan.backends.cpu.chunks import Desk, add_sums, chunks, column_sums, contiguous, spread
from minigan.backends.cpu.convolution import (
    After,
    BeforeBackward,
    BeforeForward,
    Convolution,
    Nothing,
    find_convolution,
)
from minigan.backends.fusion import Core, find_runs
from minigan.layers import BatchNorm, ConvTranspose2d, Layer, Linear
from minigan.layers.activation import Activation
from minigan.layers.sequential import Step

PIECE = 2**18  # numbers to take through a sequence of operations at a time, where chunks are larger


def fused_plan(layers: list[Layer], backend: NumpyBackend) -> list[Step]:
    """-> the layers, with a Block in the place of each run of [convolution or Linear] [BatchNorm] [activation].

    See fused_runs.py.
    """
    steps: list[Step] = []
    for part, run in find_runs(layers):
        if run:
            kind = NormBlock if "norm" in run else Block
            steps.append(kind(part, backend, **run))
        else:
            steps += part
    for step, following in pairwise(steps):
        if isinstance(step, Block) and isinstance(following, Block):
            following.previous, step.is_followed = step, True
            following.turn = 1 - step.turn
    return steps


class Block:
    """[convolution or Linear] [activation]. Parameters and buffers are the layers' own.

    The activations are their definitions, called on chunks.
    """

    x: Array  # of the last forward, as the operation takes it
    out: Array
    before_forward: BeforeForward | None
    forward_op: Callable[..., None]  # of the activation, where there is one
    backward_op: Callable[..., None]

    def __init__(
        self,
        layers: list[Layer],
        backend: NumpyBackend,
        core: Core | None = None,
        norm: BatchNorm | None = None,
        activation: Activation | None = None,
    ):
        self.layers, self.core, self.norm, self.activation, self.backend = (
            layers,
            core,
            norm,
            activation,
            backend,
        )
        self.in_shape, self.out_shape = layers[0].in_shape, layers[-1].out_shape
        self.has_parameters = any(layer.has_parameters for layer in layers)
        self.memory = Workspace(backend)
        self.previous: Block | None = None  # this one and the next are set by fused_plan
        self.is_followed = False  # by a block
        self.turn = 0  # neighbours have 0 and 1
        self.normalise_later: BeforeForward | None = (
            None  # what the following block must do before it reads a part of `out`
        )
        first = next(layer for layer in (core, norm, activation) if layer is not None)
        self.operation = (
            Nothing(backend, first.in_shape) if core is None else find_operation(core, backend)
        )
        if activation is not None:
            self.forward_op, self.backward_op = activation.forward_op, activation.backward_op
            self.constants = activation.constants

    def forward(self, x: Array, train: bool = True) -> Array:
        W, _, b, _ = self.start_forward(x)
        if self.activation is None:
            self.operation.forward(self.x, W, b, self.out, self.memory, self.before_forward)
        else:
            self.operation.forward(
                self.x, W, b, None, self.memory, self.before_forward, self.activate
            )
        return self.out.reshape(len(x), *self.out_shape)

    def backward(self, dy: Array, need_dx: bool = True, need_dw: bool = True) -> Array | None:
        dy = contiguous(dy, "dy", self.memory).reshape(self.out.shape)

        def before(part: slice, desk: Desk, i: int) -> Array:
            return self.activation_backward(dy[part], part, desk.get("dy", dy[part].shape))

        return self.operation_backward(
            dy, None if self.activation is None else before, need_dx, need_dw
        )

    # -- parts of both, also for NormBlock ------------------------------------------------

    def start_forward(self, x: Array) -> tuple[Array | None, ...]:
        """Take x in, and make room for the output -> the parameters"""
        n, previous = len(x), self.previous
        self.x = contiguous(x, "x", self.memory).reshape(n, *self.operation.in_shape)
        self.out = self.memory.get("out", (n, *self.operation.out_shape))
        self.before_forward = None if previous is None else previous.normalise_later
        return self.parameters(need_dw=False)

    def operation_backward(
        self, dy: Array, before: BeforeBackward | None, need_dx: bool, need_dw: bool
    ) -> Array | None:
        """Backward pass of the core -> dx or None. The block before may take its g and its sums from each chunk of dx at once; where it
        has an activation, dx as a whole is not needed then, and its g is what it is given."""
        n = len(self.x)
        normed = self.previous if need_dx and isinstance(self.previous, NormBlock) else None
        W, dW, _, db = self.parameters(need_dw)
        after = (
            None if normed is None else normed.prepare_to_measure(n, len(self.operation.parts(n)))
        )
        taken = normed is not None and normed.activation is not None
        dx = self.memory.get("dx", self.x.shape) if need_dx and not taken else None
        if self.core is not None or need_dx:
            self.operation.backward(dy, self.x, W, dW, db, dx, self.memory, before, after)
        if normed is not None:
            normed.measured = True
            dx = normed.g if taken else dx
        return None if dx is None else dx.reshape(n, *self.in_shape)

    def parameters(self, need_dw: bool) -> tuple[Array | None, ...]:
        """-> W, dW, b, db of the core, as its convolution takes them; None for each that it has not."""
        core = self.core
        if core is None or isinstance(self.operation, Nothing):
            return None, None, None, None
        W, dW = core.W.reshape(self.operation.W_shape), core.dW.reshape(self.operation.W_shape)
        return (W, dW, core.b, core.db) if need_dw else (W, None, core.b, None)

    def activate(
        self, part: slice, y: Array, desk: Desk | None = None, i: int | None = None
    ) -> None:
        self.forward_op(y, *self.constants, self.out[part], self.backend)

    def activation_backward(self, dy: Array, part: slice, g: Array) -> Array:
        self.backward_op(dy, self.out[part], *self.constants, g, self.backend)
        return g


class NormBlock(Block):
    """[convolution or Linear] BatchNorm [activation]

    With c = y - mean = σ·x̂ kept from the forward pass, the formula of layers/batchnorm.py reads

        out = activation(A·c + bias)        A = gain/σ
        dx  = A·g - B·c - C                 B = A/(m·σ²)·Σ g·c    C = A/m·Σ g    g = dy·activation'

    A, B and C have one number a channel; they are spread out to rows as long as an image.
    """

    norm: BatchNorm
    frozen: bool  # the running statistics were taken, not the batch's
    m: int  # numbers of a channel in the batch

    def __init__(
        self,
        layers: list[Layer],
        backend: NumpyBackend,
        core: Core | None = None,
        *,
        norm: BatchNorm,
        activation: Activation | None = None,
    ):
        super().__init__(layers, backend, core, norm, activation)
        self.channels = norm.in_shape[-1]
        self.pixels = prod(norm.in_shape) // self.channels
        self.measured = False  # has the following block gone through `measure` with all of dy?

    def forward(self, x: Array, train: bool = True) -> Array:
        n, norm = len(x), self.norm
        W, _, b, _ = self.start_forward(x)
        self.c = self.memory.get("c", self.out.shape)
        self.normalise_later = None
        self.frozen, self.m = not (train or norm.sampling == "batch"), n * self.pixels
        if self.frozen:
            self.set_scale(norm.running_mean, norm.running_var)
            self.operation.forward(
                self.x, W, b, None, self.memory, self.before_forward, self.normalise
            )
            return self.out.reshape(n, *self.out_shape)
        if n == 1:
            norm.forward(
                self.backend.empty((1, *norm.in_shape))
            )  # raises: one sample has no statistics
        y = self.c if self.core is not None else self.x
        mean, var = self.statistics(W, b, y)
        crew = self.backend.crew
        if crew is not None:
            self.m = self.pixels * crew.pool(mean, var, n)
        self.set_scale(mean, var)
        if train:
            if crew is None:
                norm.update_running(mean, var, self.m)
            else:
                crew.update_running(norm, mean, var, self.m)
        if self.is_followed:
            self.normalise_later = lambda part, desk: self.normalise(part, y[part], desk)
        else:
            parts, desks = self.operation.parts(n), self.backend.desks
            self.backend.team.run(
                lambda i, worker: self.normalise(parts[i], y[parts[i]], desks[worker]), len(parts)
            )
        return self.out.reshape(n, *self.out_shape)

    def backward(self, dy: Array, need_dx: bool = True, need_dw: bool = True) -> Array | None:
        dy = contiguous(dy, "dy", self.memory).reshape(self.out.shape)
        if not self.measured:
            parts, desks = self.operation.parts(len(dy)), self.backend.desks
            measure = self.prepare_to_measure(len(dy), len(parts))
            self.backend.team.run(
                lambda i, worker: measure(parts[i], dy[parts[i]], desks[worker], i), len(parts)
            )
        self.measured = False
        self.add_sums(need_dw)
        g = dy if self.activation is None else self.g
        return self.operation_backward(
            g, lambda part, desk, i: self.norm_backward(g[part], part, desk), need_dx, need_dw
        )

    # -- forward ---------------------------------------------------------------------------

    def statistics(self, W: Array | None, b: Array | None, y: Array) -> tuple[Array, Array]:
        """y = core(x), written; -> mean and biased variance of y's channels.

        Each chunk gives its mean and the squares about its own mean, so that nothing large is subtracted
        from something large; then  m·var = Σ chunk's squares + Σ m_chunk·(chunk's mean - mean)².
        """
        x, c, memory = self.x, self.channels, self.memory
        parts = self.operation.parts(len(x))
        means, squares = (
            memory.get("means", (len(parts), c)),
            memory.get("squares", (len(parts), c)),
        )
        shares = memory.get("shares", (len(parts),))
        for i, part in enumerate(parts):
            shares[i] = (part.stop - part.start) / len(x)

        def measure(part: slice, y: Array, desk: Desk, i: int) -> None:
            rows = y.reshape(-1, c)
            column_sums(rows, means[i], desk)
            np.multiply(means[i], 1.0 / len(rows), out=means[i])
            row = spread(means[i], "mean", self.pixels, desk)
            few = self.pieces(len(y))
            sums = desk.get("sums of pieces", (len(few), c))
            for j, piece in enumerate(few):
                centred = desk.get("centred", (piece.stop - piece.start, self.pixels * c))
                np.subtract(y[piece].reshape(centred.shape), row, out=centred)
                np.multiply(centred, centred, out=centred)
                column_sums(centred.reshape(-1, c), sums[j], desk)
            np.add.reduce(sums, axis=0, out=squares[i])

        self.operation.forward(x, W, b, y, memory, self.before_forward, measure)
        mean, var = memory.get("mean", (c,)), memory.get("var", (c,))
        np.matmul(shares, means, out=mean)
        np.subtract(means, mean, out=means)
        np.multiply(means, means, out=means)
        np.matmul(shares, means, out=var)
        np.multiply(squares, 1.0 / (len(x) * self.pixels), out=squares)
        add_sums(squares, var, memory)
        return mean, var

    def set_scale(self, mean: Array, var: Array) -> None:
        """Keep 1/σ, A = gain/σ and what each pixel of a chunk is shifted and scaled by."""
        norm, memory = self.norm, self.memory
        self.inv_std, self.A = memory.get("inv_std", var.shape), memory.get("A", var.shape)
        np.add(var, norm.eps, out=self.inv_std)
        np.sqrt(self.inv_std, out=self.inv_std)
        np.divide(1.0, self.inv_std, out=self.inv_std)
        np.multiply(self.inv_std, 1.0 if norm.gain is None else norm.gain, out=self.A)
        self.mean_row = spread(mean, "mean row", self.pixels, memory)
        self.A_row = spread(self.A, "A row", self.pixels, memory)
        self.bias_row = (
            None if norm.bias is None else spread(norm.bias, "bias row", self.pixels, memory)
        )

    def normalise(self, part: slice, y: Array, desk: Desk, i: int | None = None) -> None:
        """c = y - mean;  out = activation(A·c + bias)"""
        for piece in self.pieces(len(y)):
            here, y_piece = slice(part.start + piece.start, part.start + piece.stop), y[piece]
            rows = (len(y_piece), -1)
            c, out = self.c[here].reshape(rows), self.out[here].reshape(rows)
            np.subtract(y_piece.reshape(rows), self.mean_row, out=c)
            scaled = out if self.activation is None else desk.get("scaled", c.shape)
            np.multiply(c, self.A_row, out=scaled)
            if self.bias_row is not None:
                np.add(scaled, self.bias_row, out=scaled)
            if self.activation is not None:
                self.activate(here, scaled.reshape(y_piece.shape))

    def pieces(self, n: int) -> list[slice]:
        return chunks(n, max(1, PIECE // (self.pixels * self.channels)), 1)

    # -- backward --------------------------------------------------------------------------

    def prepare_to_measure(self, n: int, count: int) -> After:
        """-> measure(part, dy, desk, i), to be called with each of `count` chunks: g = dy·activation', and its sums"""
        c, memory = self.channels, self.memory
        self.sums, self.sums_with_c = (
            memory.get("sums of g", (count, c)),
            memory.get("sums of g c", (count, c)),
        )
        self.g = self.backend.scratch(
            f"g {self.turn}", (n, *self.operation.out_shape)
        )  # read until the block before has its own

        def measure(whole: slice, dy: Array, desk: Desk, i: int) -> None:
            dy = dy.reshape(len(dy), *self.operation.out_shape)
            few = self.pieces(len(dy))
            of_pieces = desk.get("sums of pieces", (2, len(few), c))
            for j, piece in enumerate(few):
                part, g = slice(whole.start + piece.start, whole.start + piece.stop), dy[piece]
                if self.activation is not None:
                    g = self.activation_backward(g, part, self.g[part])
                rows = g.reshape(-1, c)
                column_sums(rows, of_pieces[0, j], desk)
                product = desk.get("g c", rows.shape)
                np.multiply(rows, self.c[part].reshape(rows.shape), out=product)
                column_sums(product, of_pieces[1, j], desk)
            np.add.reduce(of_pieces[0], axis=0, out=self.sums[i])
            np.add.reduce(of_pieces[1], axis=0, out=self.sums_with_c[i])

        return measure

    def add_sums(self, need_dw: bool) -> None:
        """Add to dgain and dbias, and keep B and C for norm_backward."""
        c, memory, norm = self.channels, self.memory, self.norm
        both, dgain = memory.get("C and B", (2, c)), memory.get("sum of g x_hat", (c,))
        C, B = both
        np.add.reduce(self.sums, axis=0, out=C)
        np.add.reduce(self.sums_with_c, axis=0, out=B)
        np.multiply(B, self.inv_std, out=dgain)
        if need_dw and norm.dgain is not None:
            np.add(norm.dgain, dgain, out=norm.dgain)
        if need_dw and norm.dbias is not None:
            np.add(norm.dbias, C, out=norm.dbias)
        if (
            self.backend.crew is not None
        ):  # what goes into dgain and dbias is added up later, with all gradients
            self.backend.crew.add(both)
        for factor, with_what in ((C, self.A), (B, self.A), (B, self.inv_std), (B, self.inv_std)):
            np.multiply(factor, with_what, out=factor)
        np.multiply(both, 1.0 / self.m, out=both)
        self.B_row = spread(B, "B row", self.pixels, memory)
        self.C_row = spread(C, "C row", self.pixels, memory)

    def norm_backward(self, g: Array, part: slice, desk: Desk) -> Array:
        """-> dx of BatchNorm for one chunk, in scratch memory; A·g alone where the statistics were given"""
        rows = (len(g), self.pixels * self.channels)
        dx, g_rows, c_rows = desk.get("dy", rows), g.reshape(rows), self.c[part].reshape(rows)
        for piece in self.pieces(len(g)):
            dx_piece = dx[piece]
            np.multiply(g_rows[piece], self.A_row, out=dx_piece)
            if not self.frozen:
                product = desk.get("B c", dx_piece.shape)
                np.multiply(c_rows[piece], self.B_row, out=product)
                np.subtract(dx_piece, product, out=dx_piece)
                np.subtract(dx_piece, self.C_row, out=dx_piece)
        return dx.reshape(g.shape)


def find_operation(core: Core, backend: NumpyBackend) -> Convolution:
    """-> the Convolution that a layer is; a Linear layer is one of images of one pixel"""
    if isinstance(core, Linear):
        c_in, c_out = core.in_shape[0], core.out
        return find_convolution(backend, (1, 1, c_in), (1, 1, c_in, c_out), (1, 1, c_out))
    transposed = isinstance(core, ConvTranspose2d)
    channels = core.in_shape[2], core.channels
    W_shape = (*core.kernel_size, *(channels[::-1] if transposed else channels))
    return find_convolution(
        backend, core.in_shape, W_shape, core.out_shape, core.stride, core.pads, transposed
    )
