"""Convolution of images of one to four channels, where a pixel is too short a run to copy.

A window's row of a grey image has k numbers: to copy columns in runs of five takes longer
than to multiply them. Here the column matrix is laid out the other way round, with a row for
each (i, j, c). A run then goes along the output pixels, and all rows come by one copy:

    cols[i, j, c, n, p, q] = x[n, p·s + i - top, q·s + j - left, c]        y = colsᵀ·W

BLAS reads a transposed matrix as willingly as any other, so nothing else changes. The product
is made image by image: a matrix so small goes to kernels of OpenBLAS that need no preparations.
Shown by: benchmarks/layers.py
"""

import numpy as np

from minigan.arrays.backend import Array
from minigan.backends.cpu.chunks import Desk
from minigan.backends.cpu.im2col import Columns, view


class Thin(Columns):
    """One geometry, and the three products as in numpy_columns.py."""

    def read_x(self, x: Array, desk: Desk, out: Array | None) -> Array:
        """-> columns of x, (k_h·k_w·c_in, n, h_out·w_out)"""
        n, (h, w, _), (h_pad, w_pad, c) = len(x), self.x_shape, self.padded
        (k_h, k_w, _, _), (h_out, w_out, _), (s_h, s_w) = self.W_shape, self.y_shape, self.stride
        (top, _), (left, _) = self.padding
        padded = desk.frame(f"padded by {self.padding}", (n, *self.padded), x.dtype)
        padded[:, top : top + h, left : left + w] = x
        row, image = w_pad * c, h_pad * w_pad * c
        windows = view(
            padded, 0, (k_h, k_w, c, n, h_out, w_out), (row, c, 1, image, s_h * row, s_w * c)
        )
        cols = desk.get("columns", windows.shape, x.dtype)
        np.copyto(cols, windows)
        return cols.reshape(self.window, n, self.pixels)

    def forward(self, cols: Array, W: Array, y: Array, desk: Desk) -> None:
        np.matmul(cols.transpose(1, 2, 0), W, out=y.reshape(len(y), self.pixels, -1))

    def transpose(self, y: Array, W: Array, x: Array, desk: Desk) -> None:
        n, (h, w, c) = len(x), self.x_shape
        (k_h, k_w, _, _), (h_out, w_out, _), (s_h, s_w) = self.W_shape, self.y_shape, self.stride
        (top, _), (left, _) = self.padding
        cols = desk.get("columns", (k_h, k_w, c, n, h_out, w_out), x.dtype)
        np.matmul(W, y.reshape(n * self.pixels, -1).T, out=cols.reshape(self.window, -1))
        folded = desk.get("folded", (c, n, *self.padded[:2]), x.dtype)
        folded.fill(0)
        for i in range(k_h):
            for j in range(k_w):
                places = folded[:, :, i : i + s_h * h_out : s_h, j : j + s_w * w_out : s_w]
                np.add(places, cols[i, j], out=places)
        x[...] = folded[:, :, top : top + h, left : left + w].transpose(1, 2, 3, 0)

    def gradient_part(self, cols: Array, y: Array, out: Array, desk: Desk) -> None:
        np.matmul(cols.reshape(self.window, -1), y.reshape(len(y) * self.pixels, -1), out=out)
