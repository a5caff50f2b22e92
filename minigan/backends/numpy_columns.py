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

CACHE = 2**20  # bytes that the arrays of one chunk may fill: half of a current core's second-level cache
ROWS = 256  # of a matrix product, at least: below, BLAS loses to its own preparations


class Columns:
    """One geometry: x (h, w, c_in), W (k_h, k_w, c_in, c_out), y (h_out, w_out, c_out), without the batch axis."""

    def __init__(self, x_shape, W_shape, y_shape, stride, padding):
        self.x_shape, self.W_shape, self.y_shape, self.stride, self.padding = x_shape, W_shape, y_shape, stride, padding
        (h, w, c_in), (k_h, k_w, _, c_out) = x_shape, W_shape
        (top, bottom), (left, right) = padding
        self.padded = (h + top + bottom, w + left + right, c_in)
        self.pixels, self.window = y_shape[0] * y_shape[1], k_h * k_w * c_in
        self.is_linear = self.pixels == 1 and self.padded == x_shape == (k_h, k_w, c_in)  # one window, the whole image

    def images(self, itemsize):
        """-> how many images to take at a time."""
        if self.is_linear:
            return 2**30  # W is the large operand: read it once
        cached = CACHE // (self.pixels * self.window * itemsize)
        return max(1, cached, -(-ROWS // self.pixels))

    def prepare(self, W, memory, team):
        """W -> the operand that the three products take."""
        return W.reshape(self.window, -1)

    def read_x(self, x, desk):
        """-> columns of x, (n·h_out·w_out, k_h·k_w·c_in)"""
        if self.is_linear:
            return x.reshape(len(x), self.window)
        n, (h, w, _), (h_pad, w_pad, c_in) = len(x), self.x_shape, self.padded
        if self.padded != self.x_shape:
            (top, _), (left, _) = self.padding
            padded = desk.get("padded", (n, *self.padded), x.dtype)
            padded[:, :top] = padded[:, top + h :] = 0
            padded[:, top : top + h, :left] = padded[:, top : top + h, left + w :] = 0
            padded[:, top : top + h, left : left + w] = x
            x = padded
        (k_h, k_w, _, _), (h_out, w_out, _), (s_h, s_w) = self.W_shape, self.y_shape, self.stride
        pixel, row, image = c_in, w_pad * c_in, h_pad * w_pad * c_in
        windows = view(x, 0, (n, h_out, w_out, k_h, k_w * c_in), (image, s_h * row, s_w * pixel, row, 1))
        cols = desk.get("columns", windows.shape, x.dtype)
        np.copyto(cols, windows)
        return cols.reshape(n * self.pixels, self.window)

    def read_y(self, y, desk):
        """-> y as a matrix, (n·h_out·w_out, c_out)"""
        return y.reshape(len(y) * self.pixels, -1)

    def forward(self, cols, W, y, desk):
        np.matmul(cols, W, out=y.reshape(len(cols), -1))

    def transpose(self, rows, W, x, desk):
        if self.is_linear:
            np.matmul(rows, W.T, out=x.reshape(len(x), self.window))
            return
        n, (h, w, _), (h_pad, w_pad, c_in) = len(x), self.x_shape, self.padded
        (k_h, k_w, _, _), (h_out, w_out, _), (s_h, s_w) = self.W_shape, self.y_shape, self.stride
        cols = desk.get("columns", (n, h_out, w_out, k_h, k_w * c_in), x.dtype)
        np.matmul(rows, W.T, out=cols.reshape(len(rows), self.window))
        folded = x if self.padded == self.x_shape else desk.get("padded", (n, *self.padded), x.dtype)
        folded.fill(0)
        pixel, row, image = c_in, w_pad * c_in, h_pad * w_pad * c_in
        apart_h, apart_w = -(-k_h // s_h), -(-k_w // s_w)  # output pixels so far apart share no pixel of x
        for i in range(min(apart_h, h_out)):
            for j in range(min(apart_w, w_out)):
                patches = cols[:, i::apart_h, j::apart_w].transpose(0, 1, 3, 2, 4)
                places = view(
                    folded, i * s_h * row + j * s_w * pixel, patches.shape,
                    (image, apart_h * s_h * row, row, apart_w * s_w * pixel, 1),
                )  # fmt: skip
                np.add(places, patches, out=places)
        if folded is not x:
            (top, _), (left, _) = self.padding
            x[...] = folded[:, top : top + h, left : left + w]

    def gradient(self, cols, rows, out):
        """out (k_h·k_w·c_in, c_out) = this chunk's part of dW"""
        np.matmul(cols.T, rows, out=out)


def view(array, offset, shape, strides):
    """-> view of a contiguous array, offset and strides counted in numbers. (as_strided takes five times as long.)"""
    size = array.itemsize
    return np.ndarray(shape, array.dtype, array, offset * size, tuple(stride * size for stride in strides))
