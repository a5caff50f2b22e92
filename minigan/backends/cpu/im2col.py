"""Convolution of one chunk of images by columns: im2col and GEMM, all of it in cache.

Three things are ever asked of a convolution y = conv(x, W), and a transposed
convolution is the same three with the roles of x and y exchanged:

    forward     y = cols(x)·W             Conv2d's forward, ConvTranspose2d's dx
    transpose   x = fold(y·Wᵀ)            Conv2d's dx, ConvTranspose2d's forward
    gradient    dW = cols(x)ᵀ·y

Two ideas make the definition (layers/conv2d.py) quicker. The column matrix is never
whole: the caller hands over a few images, whose columns fit in a core's own cache. And
nothing is copied in pieces of c numbers: in a padded copy of x the window's row (k_w, c)
is one run of memory, so im2col is a single strided copy. Fold adds whole patches: those
of every ⌈k/s⌉-th output pixel lie side by side without overlap, so a few large additions
take the place of k·k small ones.
Shown by: benchmarks/layers.py
"""

import numpy as np

from minigan.arrays.backend import Array, Padding, Pair, Shape, Workspace
from minigan.backends.cpu.backend import NumpyBackend
from minigan.backends.cpu.chunks import CACHE, Desk

ROWS = 256  # of a matrix product, at least: below, BLAS loses to its own preparations


class Columns:
    """One geometry: x (h, w, c_in), W (k_h, k_w, c_in, c_out), y (h_out, w_out, c_out), without the batch axis."""

    def __init__(
        self, x_shape: Shape, W_shape: Shape, y_shape: Shape, stride: Pair, padding: Padding
    ):
        self.x_shape, self.W_shape, self.y_shape, self.stride, self.padding = (
            x_shape,
            W_shape,
            y_shape,
            stride,
            padding,
        )
        (h, w, c_in), (k_h, k_w, _, _) = x_shape, W_shape
        (top, bottom), (left, right) = padding
        self.padded = (h + top + bottom, w + left + right, c_in)
        # output pixels so far apart share no pixel of x; and room for whole patches, a multiple of their distance,
        # or NumPy takes them for overlapping and adds by way of a copy
        self.apart = tuple(-(-k // s) for k, s in zip(W_shape[:2], stride, strict=True))
        self.folded = tuple(
            -(-max(size, -(-out // apart) * apart * s) // (apart * s)) * apart * s
            for size, out, apart, s in zip(
                self.padded[:2], y_shape[:2], self.apart, stride, strict=True
            )
        )
        self.pixels, self.window = y_shape[0] * y_shape[1], k_h * k_w * c_in
        self.is_linear = self.pixels == 1 and self.padded == x_shape == (
            k_h,
            k_w,
            c_in,
        )  # one window, the whole image

    def images(self, itemsize: int) -> int:
        """-> how many images to take at a time."""
        if self.is_linear:
            return 2**30  # W is the large operand: read it once
        cached = CACHE // (self.pixels * self.window * itemsize)
        return max(1, cached, -(-ROWS // self.pixels))

    def prepare(self, W: Array, backend: NumpyBackend, transposed: bool) -> Array:
        """W -> the operand that the three products take."""
        return W.reshape(self.window, -1)

    def read_x(self, x: Array, desk: Desk, out: Array | None) -> Array:
        """-> columns of x, (n·h_out·w_out, k_h·k_w·c_in)"""
        if self.is_linear:
            return x.reshape(len(x), self.window)
        n, (h, w, _), (h_pad, w_pad, c_in) = len(x), self.x_shape, self.padded
        if self.padded != self.x_shape:
            (top, _), (left, _) = self.padding
            padded = desk.frame(f"padded by {self.padding}", (n, *self.padded), x.dtype)
            padded[:, top : top + h, left : left + w] = x
            x = padded
        (k_h, k_w, _, _), (h_out, w_out, _), (s_h, s_w) = self.W_shape, self.y_shape, self.stride
        pixel, row, image = c_in, w_pad * c_in, h_pad * w_pad * c_in
        windows = view(
            x, 0, (n, h_out, w_out, k_h, k_w * c_in), (image, s_h * row, s_w * pixel, row, 1)
        )
        cols = desk.get("columns", windows.shape, x.dtype)
        np.copyto(cols, windows)
        return cols.reshape(n * self.pixels, self.window)

    def forward(self, cols: Array, W: Array, y: Array, desk: Desk) -> None:
        np.matmul(cols, W, out=y.reshape(len(cols), -1))

    def transpose(self, y: Array, W: Array, x: Array, desk: Desk) -> None:
        rows = y.reshape(len(y) * self.pixels, -1)
        if self.is_linear:
            product = (
                np.multiply if rows.shape[1] == 1 else np.matmul
            )  # the same where c_out is 1, but BLAS is slow there
            product(rows, W.T, out=x.reshape(len(x), self.window))
            return
        n, (h, w, c_in), (k_h, k_w, _, _) = len(x), self.x_shape, self.W_shape
        (h_out, w_out, _), (s_h, s_w) = self.y_shape, self.stride
        cols = desk.get("columns", (n, h_out, w_out, k_h, k_w * c_in), x.dtype)
        np.matmul(rows, W.T, out=cols.reshape(len(rows), self.window))
        folded = desk.get("folded", (n, *self.folded, c_in), x.dtype)
        folded.fill(0)
        pixel, row, image = c_in, self.folded[1] * c_in, self.folded[0] * self.folded[1] * c_in
        apart_h, apart_w = self.apart
        for i in range(min(apart_h, h_out)):
            for j in range(min(apart_w, w_out)):
                patches = cols[:, i::apart_h, j::apart_w].transpose(0, 1, 3, 2, 4)
                places = view(
                    folded,
                    i * s_h * row + j * s_w * pixel,
                    patches.shape,
                    (image, apart_h * s_h * row, row, apart_w * s_w * pixel, 1),
                )
                np.add(places, patches, out=places)
        (top, _), (left, _) = self.padding
        x[...] = folded[:, top : top + h, left : left + w]

    def gradient_part(self, cols: Array, y: Array, out: Array, desk: Desk) -> None:
        """out (k_h·k_w·c_in, c_out) = this chunk's part of dW"""
        np.matmul(cols.T, y.reshape(len(cols), -1), out=out)

    def gradient(self, backend: NumpyBackend, memory: Workspace, n: int) -> "Gradient":
        return Gradient(self, backend)


class Gradient:
    """dW of a batch: each worker adds up the parts of its own chunks, and at the end these sums are added."""

    def __init__(self, kernel: Columns, backend: NumpyBackend):
        self.kernel, self.backend = kernel, backend
        self.sums: list[Array | None] = [None] * backend.team.size

    def place(self, part: slice) -> None:
        """-> None: columns are not kept. To make them anew takes less time than to write and read them."""

    def kept(self, x: Array, part: slice, worker: int) -> Array:
        return self.kernel.read_x(x, self.backend.desks[worker], None)

    def add(self, cols: Array, y: Array, part: slice, worker: int) -> None:
        desk, shape, total = (
            self.backend.desks[worker],
            (self.kernel.window, y.shape[3]),
            self.sums[worker],
        )
        if total is None:
            total = self.sums[worker] = desk.get("sum of dW", shape)
            self.kernel.gradient_part(cols, y, total, desk)
        else:
            product = desk.get("part of dW", shape)
            self.kernel.gradient_part(cols, y, product, desk)
            np.add(total, product, out=total)

    def finish(self, dW: Array) -> None:
        """dW += the sums"""
        first, *others = [one.reshape(dW.shape) for one in self.sums if one is not None]
        for one in others:
            np.add(first, one, out=first)
        np.add(dW, first, out=dW)


def view(array: Array, offset: int, shape: Shape, strides: Shape) -> Array:
    """-> view of a contiguous array, offset and strides counted in numbers. (as_strided takes five times as long.)"""
    size = array.itemsize
    return type(array)(
        shape, array.dtype, array, offset * size, tuple(stride * size for stride in strides)
    )
