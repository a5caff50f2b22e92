"""Convolution of one chunk of images by im2col and GEMM, all of it in cache.

A convolution y = conv(x, W) is used in three ways. A transposed convolution uses the same three,
with the roles of x and y exchanged:

    forward     y = cols(x)·W             Conv2d's forward, ConvTranspose2d's dx
    transpose   x = fold(y·Wᵀ)            Conv2d's dx, ConvTranspose2d's forward
    gradient    dW = cols(x)ᵀ·y

Two ideas make the definition (arrays/im2col.py, layers/conv2d.py) faster. The column matrix never
exists as a whole: the caller passes a few images, whose columns fit in a core's own cache. And
nothing is copied in pieces of only c numbers: in a padded copy of x the window's row (k_w, c) is
one run of memory, so im2col is a single strided copy. Fold adds whole patches: those of every
⌈k/s⌉-th output pixel lie side by side without overlap, so a few large additions replace k·k small
ones.
Shown by: benchmarks/layers.py
"""

from typing import Any

import numpy as np

from minigan.arrays import Array, Padding, Pair, Shape
from minigan.backends.cpu.backend import CpuBackend
from minigan.backends.cpu.chunks import CACHE, ThreadWorkspace
from minigan.backends.workspace import Workspace

ROWS = 256  # of a matrix product, at least: with fewer, BLAS spends more time on setup


class Im2col:
    """One geometry, without the batch axis: x (h, w, c_in), W (k_h, k_w, c_in, c_out), y."""

    def __init__(
        self, x_shape: Shape, W_shape: Shape, y_shape: Shape, stride: Pair, padding: Padding
    ):
        self.x_shape, self.W_shape, self.y_shape = x_shape, W_shape, y_shape
        self.stride, self.padding = stride, padding
        (h, w, c_in), (k_h, k_w, _, _) = x_shape, W_shape
        (top, bottom), (left, right) = padding
        self.padded = (h + top + bottom, w + left + right, c_in)
        # the most pixels of y that share a pixel of x; those at this distance share none. Room for
        # whole patches is a multiple of it, or NumPy assumes that they overlap: adds through a copy
        self.taps = tuple(-(-k // s) for k, s in zip(W_shape[:2], stride, strict=True))
        steps = [r * s for r, s in zip(self.taps, stride, strict=True)]
        self.folded = [(size // d + 1) * d for size, d in zip(self.padded[:2], steps, strict=True)]
        self.pixels, self.window = y_shape[0] * y_shape[1], k_h * k_w * c_in
        # one window, the whole image: the columns are x itself
        self.is_linear = self.pixels == 1 and self.padded == x_shape == (k_h, k_w, c_in)

    def images(self, itemsize: int) -> int:
        """-> how many images to take at a time."""
        if self.is_linear:
            return 2**30  # W is the large operand: read it once
        cached = CACHE // (self.pixels * self.window * itemsize)
        # a product reads all of W, too: with fewer rows than W has columns, mostly W
        return max(1, cached, -(-max(ROWS, self.W_shape[3]) // self.pixels))

    def prepare(self, W: Array, backend: CpuBackend, transposed: bool) -> Array:
        """W -> the operand of the three products."""
        return W.reshape(self.window, -1)

    def read_x(self, x: Array, workspace: ThreadWorkspace, out: Array | None) -> Array:
        """-> columns of x, (n·h_out·w_out, k_h·k_w·c_in)"""
        if self.is_linear:
            return x.reshape(len(x), self.window)
        xp, n, (h_pad, w_pad, c_in) = workspace.backend.xp, len(x), self.padded
        (k_h, k_w, _, _), (h_out, w_out, _), (s_h, s_w) = self.W_shape, self.y_shape, self.stride
        row, image = w_pad * c_in, h_pad * w_pad * c_in
        shape = (n, h_out, w_out, k_h, k_w * c_in)
        strides = (image, s_h * row, s_w * c_in, row, 1)
        windows = view(pad(x, self.padding, workspace), 0, shape, strides)
        cols = workspace.get("columns", shape, x.dtype)
        xp.copyto(cols, windows)
        return cols.reshape(n * self.pixels, self.window)

    def forward(self, cols: Array, W: Array, y: Array, workspace: ThreadWorkspace) -> None:
        workspace.backend.xp.matmul(cols, W, out=y.reshape(len(cols), -1))

    def transpose(self, y: Array, W: Array, x: Array, workspace: ThreadWorkspace) -> None:
        xp, rows = workspace.backend.xp, y.reshape(len(y) * self.pixels, -1)
        if self.is_linear:
            # the same product if c_out is 1, where BLAS is slow
            product = xp.multiply if rows.shape[1] == 1 else xp.matmul
            product(rows, W.T, out=x.reshape(len(x), self.window))
            return
        n, (h, w, c_in), (k_h, k_w, _, _) = len(x), self.x_shape, self.W_shape
        (h_out, w_out, _), (s_h, s_w) = self.y_shape, self.stride
        cols = workspace.get("columns", (n, h_out, w_out, k_h, k_w * c_in), x.dtype)
        xp.matmul(rows, W.T, out=cols.reshape(len(rows), self.window))
        folded = workspace.get("folded", (n, *self.folded, c_in), x.dtype)
        xp.copyto(folded, 0)
        row, image = self.folded[1] * c_in, self.folded[0] * self.folded[1] * c_in
        r_h, r_w = self.taps
        strides = (image, r_h * s_h * row, row, r_w * s_w * c_in, 1)
        for i, j in np.ndindex(min(r_h, h_out), min(r_w, w_out)):
            patches = cols[:, i::r_h, j::r_w].transpose(0, 1, 3, 2, 4)
            places = view(folded, i * s_h * row + j * s_w * c_in, patches.shape, strides)
            xp.add(places, patches, out=places)
        (top, _), (left, _) = self.padding
        xp.copyto(x, folded[:, top : top + h, left : left + w])

    def gradient_part(self, cols: Array, y: Array, out: Array, workspace: ThreadWorkspace) -> None:
        """out (k_h·k_w·c_in, c_out) = this chunk's part of dW"""
        workspace.backend.xp.matmul(cols.T, y.reshape(len(cols), -1), out=out)

    def gradient(self, backend: CpuBackend, memory: Workspace, n: int) -> "Gradient":
        return Gradient(self, backend)


class Gradient:
    """dW of a batch: each worker adds up the parts of its chunks, then these sums are added."""

    def __init__(self, kernel: Im2col, backend: CpuBackend):
        self.kernel, self.backend = kernel, backend
        self.sums: list[Array | None] = []

    def begin(self) -> None:
        """A backward pass begins."""
        self.sums = [None] * self.backend.team.size

    def place(self, part: slice) -> None:
        """-> None: columns are not kept; recomputing them is faster than storing them."""

    def kept(self, x: Array, part: slice, workspace: ThreadWorkspace) -> Array:
        return self.kernel.read_x(x, workspace, None)

    def add(
        self, cols: Array, y: Array, part: slice, workspace: ThreadWorkspace, worker: int
    ) -> None:
        shape, total = (self.kernel.window, y.shape[3]), self.sums[worker]
        if total is None:
            total = self.sums[worker] = workspace.get("sum of dW", shape)
            self.kernel.gradient_part(cols, y, total, workspace)
        else:
            product = workspace.get("part of dW", shape)
            self.kernel.gradient_part(cols, y, product, workspace)
            self.backend.xp.add(total, product, out=total)

    def finish(self, dW: Array) -> None:
        """dW += the sums"""
        first, *others = [one.reshape(dW.shape) for one in self.sums if one is not None]
        for one in others:
            self.backend.xp.add(first, one, out=first)
        self.backend.xp.add(dW, first, out=dW)


def pad(x: Array, padding: Padding, workspace: ThreadWorkspace) -> Array:
    """-> x with zeros around each image, in scratch memory; x itself without padding"""
    (top, bottom), (left, right) = padding
    n, h, w, c = x.shape
    if top == bottom == left == right == 0:
        return x
    shape = (n, h + top + bottom, w + left + right, c)
    padded = workspace.frame(f"padded by {padding}", shape, x.dtype)
    workspace.backend.xp.copyto(padded[:, top : top + h, left : left + w], x)
    return padded


def view(array: Array, offset: int, shape: Shape, strides: Shape) -> Array:
    """-> view of a contiguous array, offset and strides counted in numbers.

    np.lib.stride_tricks.as_strided takes five times as long.
    """
    size: Any = array.itemsize
    return np.ndarray(shape, array.dtype, array, offset * size, tuple(s * size for s in strides))
