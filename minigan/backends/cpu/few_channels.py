"""Convolution of images of one to four channels, whose pixels are too short to copy efficiently.

In a gray image each row of a window has k numbers: copying columns in runs of five takes longer
than multiplying them. Here the column matrix is transposed, with a row for each (i, j, c). A run
then goes along the output pixels, and one copy fills all rows:

    cols[i, j, c, n, p, q] = x[n, p·s + i - top, q·s + j - left, c]        y = colsᵀ·W

BLAS reads a transposed matrix just as well, so nothing else changes. The product is made image by
image: for matrices so small OpenBLAS has kernels without setup cost.
Shown by: benchmarks/layers.py
"""

from minigan.arrays import Array
from minigan.backends.cpu.chunks import ThreadWorkspace
from minigan.backends.cpu.im2col import Im2col, view


class FewChannels(Im2col):
    """One geometry, and the three products as in im2col.py."""

    def read_x(self, x: Array, workspace: ThreadWorkspace, out: Array | None) -> Array:
        """-> columns of x, (k_h·k_w·c_in, n, h_out·w_out)"""
        n, (h, w, _), (h_pad, w_pad, c) = len(x), self.x_shape, self.padded
        (k_h, k_w, _, _), (h_out, w_out, _), (s_h, s_w) = self.W_shape, self.y_shape, self.stride
        (top, _), (left, _) = self.padding
        xp = workspace.backend.xp
        padded = workspace.frame(f"padded by {self.padding}", (n, *self.padded), x.dtype)
        xp.copyto(padded[:, top : top + h, left : left + w], x)
        row, image = w_pad * c, h_pad * w_pad * c
        shape = (k_h, k_w, c, n, h_out, w_out)
        cols = workspace.get("columns", shape, x.dtype)
        xp.copyto(cols, view(padded, 0, shape, (row, c, 1, image, s_h * row, s_w * c)))
        return cols.reshape(self.window, n, self.pixels)

    def forward(self, cols: Array, W: Array, y: Array, workspace: ThreadWorkspace) -> None:
        out = y.reshape(len(y), self.pixels, -1)
        workspace.backend.xp.matmul(cols.transpose(1, 2, 0), W, out=out)

    def transpose(self, y: Array, W: Array, x: Array, workspace: ThreadWorkspace) -> None:
        n, (h, w, c), xp = len(x), self.x_shape, workspace.backend.xp
        (k_h, k_w, _, _), (h_out, w_out, _), (s_h, s_w) = self.W_shape, self.y_shape, self.stride
        (top, _), (left, _) = self.padding
        cols = workspace.get("columns", (k_h, k_w, c, n, h_out, w_out), x.dtype)
        xp.matmul(W, y.reshape(n * self.pixels, -1).T, out=cols.reshape(self.window, -1))
        folded = workspace.get("folded", (c, n, *self.padded[:2]), x.dtype)
        xp.copyto(folded, 0)
        for i in range(k_h):
            for j in range(k_w):
                places = folded[:, :, i : i + s_h * h_out : s_h, j : j + s_w * w_out : s_w]
                xp.add(places, cols[i, j], out=places)
        xp.copyto(x, folded[:, :, top : top + h, left : left + w].transpose(1, 2, 3, 0))

    def gradient_part(self, cols: Array, y: Array, out: Array, workspace: ThreadWorkspace) -> None:
        rows = y.reshape(len(y) * self.pixels, -1)
        workspace.backend.xp.matmul(cols.reshape(self.window, -1), rows, out=out)
