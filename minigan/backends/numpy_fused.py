"""Blocks: a convolution, its BatchNorm and its activation as one step, chunk by chunk.

Layer by layer, each operation reads a whole activation from memory and writes another one.
At 32 channels that takes longer than the products do. A block hands the next operation
a chunk that still lies in the core's cache:

    forward    1  y = conv(x) + b, and the chunk's sums for mean and variance
               2  c = y - mean, out = activation(gain/σ·c + bias)
    backward   1  g = dy·activation', and its sums Σ g and Σ g·c
               2  BatchNorm's dx of the chunk, and at once the convolution's backward pass of it

Between 1 and 2 all chunks must have been seen, for BatchNorm's statistics are the batch's;
without BatchNorm there is but one round. With c = σ·x̂ kept from the forward pass, the
formula of layers/batchnorm.py reads

    dx = A·g - B·c - C        A = gain/σ    B = A/(m·σ²)·Σ g·c    C = A/m·Σ g

The chain of layers stays the definition of all this: see `plan` in layers/sequential.py.
Shown by: benchmarks/step.py
"""

import numpy as np

from minigan.backends.base import Workspace
from minigan.backends.numpy_chunks import CACHE, add_sums, chunks, column_sums, contiguous, spread
from minigan.backends.numpy_convolution import find_convolution
from minigan.layers import BatchNorm, Conv2d, ConvTranspose2d, Flatten, LeakyReLU, Linear, ReLU, Reshape, Sigmoid, Tanh

PIECE = 2**18  # numbers to take through a sequence of operations at a time, where chunks are larger
ROLES = (
    ("core", (Conv2d, ConvTranspose2d, Linear)),
    ("norm", (BatchNorm,)),
    ("activation", (LeakyReLU, ReLU, Sigmoid, Tanh)),
)


def fused_plan(layers, backend):
    """-> the layers, with a Block in the place of each run of [convolution or Linear] [BatchNorm] [activation].

    Reshape and Flatten in the midst of a run only give the axes other names. A layer of a class
    derived from these stays alone: it may mean something else.
    """
    steps, i = [], 0
    while i < len(layers):
        run, end = {}, i
        for role, kinds in ROLES:
            j = end
            while run and j < len(layers) and type(layers[j]) in (Reshape, Flatten):
                j += 1
            if j < len(layers) and type(layers[j]) in kinds:
                run[role], end = layers[j], j + 1
        steps.append(Block(layers[i:end], backend, **run) if run else layers[i])
        i = max(end, i + 1)
    return steps


class Block:
    """A run of layers as one step. Parameters and buffers are the layers' own."""

    def __init__(self, layers, backend, core=None, norm=None, activation=None):
        self.core, self.norm, self.activation, self.backend = core, norm, activation, backend
        self.in_shape, self.out_shape = layers[0].in_shape, layers[-1].out_shape
        self.has_parameters = any(layer.has_parameters for layer in layers)
        self.memory = Workspace(backend)
        if core is None:
            self.operation = Nothing(backend, self.in_shape)
        elif isinstance(core, Linear):
            c_in, c_out = core.in_shape[0], core.out
            self.operation = find_convolution(backend, (1, 1, c_in), (1, 1, c_in, c_out), (1, 1, c_out))
        else:
            transposed = isinstance(core, ConvTranspose2d)
            c_in, c_out = core.in_shape[2], core.channels
            W_shape = (*core.kernel_size, c_out, c_in) if transposed else (*core.kernel_size, c_in, c_out)
            self.operation = find_convolution(
                backend, core.in_shape, W_shape, core.out_shape, core.stride, core.pads, transposed
            )
        if norm is not None:
            self.channels = norm.in_shape[-1]
            self.pixels = int(np.prod(norm.in_shape)) // self.channels

    def forward(self, x, train=True):
        n, memory, norm = len(x), self.memory, self.norm
        self.x = x = contiguous(x, "x", memory).reshape(n, *self.operation.in_shape)
        self.out = memory.get("out", (n, *self.operation.out_shape))
        W, _, b, _ = self.parameters(need_dw=False)
        if norm is None:
            in_place = self.activation is None and self.core is not None
            self.operation.forward(x, W, b, self.out if in_place else None, memory, None if in_place else self.activate)
            return self.out.reshape(n, *self.out_shape)

        self.c = memory.get("c", self.out.shape)
        self.frozen = not (train or norm.sampling == "batch")
        if self.frozen:
            self.set_scale(norm.running_mean, norm.running_var)
            self.operation.forward(x, W, b, None, memory, self.normalise)
            return self.out.reshape(n, *self.out_shape)
        if n == 1:
            norm.forward(self.backend.empty((1, *norm.in_shape)))  # raises: one sample has no statistics
        y = self.c if self.core is not None else x
        mean, var = self.statistics(x, W, b, y)
        self.set_scale(mean, var)
        parts, desks = self.operation.parts(n), self.backend.desks
        self.backend.team.run(lambda i, worker: self.normalise(parts[i], y[parts[i]], desks[worker], i), len(parts))
        if train:
            norm.update_running(mean, var, m=n * self.pixels)
        return self.out.reshape(n, *self.out_shape)

    def backward(self, dy, need_dx=True, need_dw=True):
        n, memory, norm = len(self.x), self.memory, self.norm
        dy = contiguous(dy, "dy", memory).reshape(self.out.shape)
        dx = memory.get("dx", self.x.shape) if need_dx else None
        W, dW, b, db = self.parameters(need_dw)
        if norm is None:

            def before(part, desk, i):
                return self.activation_backward(dy[part], part, desk.get("dy", dy[part].shape))

            if self.activation is None:
                before = None
        else:
            dy = self.norm_sums(dy, need_dw)

            def before(part, desk, i):
                return self.norm_backward(dy[part], part, desk)

        if self.core is not None or need_dx:
            self.operation.backward(dy, self.x, W, dW, db, dx, memory, before)
        return dx.reshape(n, *self.in_shape) if need_dx else None

    def parameters(self, need_dw):
        """-> W, dW, b, db of the core, as its convolution takes them; None for each that it has not."""
        core = self.core
        if core is None:
            return None, None, None, None
        W, dW = core.W.reshape(self.operation.W_shape), core.dW.reshape(self.operation.W_shape)
        return (W, dW, core.b, core.db) if need_dw else (W, None, core.b, None)

    # -- the activation, of one chunk: its own definition ------------------------------

    def activate(self, part, y, desk, i):
        if self.activation is None:
            self.out[part] = y
        else:
            self.activation.forward_op(y, *self.activation.constants, self.out[part], self.backend)

    def activation_backward(self, dy, part, g):
        self.activation.backward_op(dy, self.out[part], *self.activation.constants, g, self.backend)
        return g

    # -- BatchNorm, forward ------------------------------------------------------------

    def statistics(self, x, W, b, y):
        """y = core(x), written; -> mean and biased variance of y's channels.

        Each chunk gives its mean and the squares about its own mean, so that nothing large is subtracted
        from something large; then  m·var = Σ chunk's squares + Σ m_chunk·(chunk's mean - mean)².
        """
        parts, c, memory = self.operation.parts(len(x)), self.channels, self.memory
        means, squares = memory.get("means", (len(parts), c)), memory.get("squares", (len(parts), c))
        shares = memory.get("shares", (len(parts),))
        for i, part in enumerate(parts):
            shares[i] = (part.stop - part.start) / len(x)

        def measure(part, y, desk, i):
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
            np.sum(sums, axis=0, out=squares[i])

        self.operation.forward(x, W, b, y, memory, measure)
        mean, var = memory.get("mean", (c,)), memory.get("var", (c,))
        np.matmul(shares, means, out=mean)
        np.subtract(means, mean, out=means)
        np.multiply(means, means, out=means)
        np.matmul(shares, means, out=var)
        np.multiply(squares, 1.0 / (len(x) * self.pixels), out=squares)
        add_sums(squares, var, memory)
        return mean, var

    def set_scale(self, mean, var):
        """Keep 1/σ, A = gain/σ and what each pixel of a chunk is shifted and scaled by."""
        norm, memory = self.norm, self.memory
        self.inv_std, self.A = memory.get("inv_std", var.shape), memory.get("A", var.shape)
        np.add(var, norm.eps, out=self.inv_std)
        np.sqrt(self.inv_std, out=self.inv_std)
        np.divide(1.0, self.inv_std, out=self.inv_std)
        np.multiply(self.inv_std, 1.0 if norm.gain is None else norm.gain, out=self.A)
        self.mean_row = spread(mean, "mean row", self.pixels, memory)
        self.A_row = spread(self.A, "A row", self.pixels, memory)
        self.bias_row = None if norm.bias is None else spread(norm.bias, "bias row", self.pixels, memory)

    def normalise(self, part, y, desk, i):
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
                self.activate(here, scaled.reshape(y_piece.shape), desk, i)

    def pieces(self, n):
        return chunks(n, max(1, PIECE // (self.pixels * self.channels)), 1)

    # -- BatchNorm, backward -----------------------------------------------------------

    def norm_sums(self, dy, need_dw):
        """-> g = dy·activation';  dgain and dbias are added to, B and C kept for norm_backward."""
        parts, desks, c, memory, norm = self.operation.parts(len(dy)), self.backend.desks, self.channels, self.memory, self.norm
        g = dy if self.activation is None else memory.get("g", dy.shape)
        sums, sums_with_c = memory.get("sums of g", (len(parts), c)), memory.get("sums of g c", (len(parts), c))

        def measure(i, worker):
            desk, few = desks[worker], self.pieces(parts[i].stop - parts[i].start)
            of_pieces = desk.get("sums of pieces", (2, len(few), c))
            for j, piece in enumerate(few):
                part = slice(parts[i].start + piece.start, parts[i].start + piece.stop)
                if self.activation is not None:
                    self.activation_backward(dy[part], part, g[part])
                rows = g[part].reshape(-1, c)
                column_sums(rows, of_pieces[0, j], desk)
                product = desk.get("g c", rows.shape)
                np.multiply(rows, self.c[part].reshape(rows.shape), out=product)
                column_sums(product, of_pieces[1, j], desk)
            np.sum(of_pieces[0], axis=0, out=sums[i])
            np.sum(of_pieces[1], axis=0, out=sums_with_c[i])

        self.backend.team.run(measure, len(parts))
        C, B, dgain = memory.get("C", (c,)), memory.get("B", (c,)), memory.get("sum of g x_hat", (c,))
        np.sum(sums, axis=0, out=C)
        np.sum(sums_with_c, axis=0, out=B)
        np.multiply(B, self.inv_std, out=dgain)
        if need_dw and norm.dgain is not None:
            np.add(norm.dgain, dgain, out=norm.dgain)
        if need_dw and norm.dbias is not None:
            np.add(norm.dbias, C, out=norm.dbias)
        m = len(dy) * self.pixels
        for factor, with_what in ((C, self.A), (B, self.A), (B, self.inv_std), (B, self.inv_std)):
            np.multiply(factor, with_what, out=factor)
        self.B_row = spread(np.multiply(B, 1.0 / m, out=B), "B row", self.pixels, memory)
        self.C_row = spread(np.multiply(C, 1.0 / m, out=C), "C row", self.pixels, memory)
        return g

    def norm_backward(self, g, part, desk):
        """-> dx of BatchNorm for one chunk, A·g - B·c - C, in scratch memory; A·g alone where the statistics were given."""
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


class Nothing:
    """The core of a block that begins with BatchNorm or an activation: y is x."""

    W_shape = None

    def __init__(self, backend, shape):
        self.backend, self.in_shape, self.out_shape = backend, shape, shape

    def parts(self, n):
        images = CACHE // (4 * int(np.prod(self.in_shape)) * self.backend.dtype.itemsize)
        return chunks(n, max(1, images), self.backend.team.size)

    def forward(self, x, W, b, y, memory, after):
        parts, desks = self.parts(len(x)), self.backend.desks
        self.backend.team.run(lambda i, worker: after(parts[i], x[parts[i]], desks[worker], i), len(parts))

    def backward(self, dy, x, W, dW, db, dx, memory, before):
        parts, desks = self.parts(len(x)), self.backend.desks

        def chunk(i, worker):
            dx[parts[i]] = before(parts[i], desks[worker], i)

        self.backend.team.run(chunk, len(parts))
