"""The transpose of a narrow layer's convolution: each pixel gathers its sum.

By definition, x = convᵀ(y, W) spreads each pixel of y over k·k pixels of x and adds them up
(arrays/im2col.py). In a narrow layer these additions take as long as the matrix product. Here each
pixel of x gathers the pixels of y that reach it, and the additions become part of the product.
Along one axis, with pixels of padded x counted as s·q + a, and with r = ⌈k/s⌉:

    x[s·q + a] = Σ_t y[q - t]·W[s·t + a]        t = 0..r-1

The s pixels with the same q, a cell, read the same r pixels of y. A row of x is a row of cells. The
cells' windows of y are as high as y, with one row after another in memory: each row of x multiplies
the rows of y that reach it, and no others.

Where W is wide, additions take little time, and reading W for each row of x takes more: im2col.py.
Shown by: benchmarks/layers.py
"""

from minigan.arrays import Array, Padding, Pair, Shape
from minigan.backends.cpu.backend import CpuBackend
from minigan.backends.cpu.chunks import ThreadWorkspace
from minigan.backends.cpu.im2col import Im2col


class Gathering(Im2col):
    """One geometry, and the three products as in im2col.py."""

    def __init__(
        self, x_shape: Shape, W_shape: Shape, y_shape: Shape, stride: Pair, padding: Padding
    ):
        super().__init__(x_shape, W_shape, y_shape, stride, padding)
        (h_out, w_out, c_out), s, left = y_shape, stride[1], padding[1][0]
        first, last = left // s, (left + x_shape[1] - 1) // s  # cells of a row
        beside = ((0, 0), (self.taps[1] - 1 - first, last + 1 - w_out))
        window, cells = (h_out, self.taps[1], c_out, 1), (1, last + 1 - first, 1)
        self.windows = Im2col(y_shape, window, cells, (1, 1), beside)

    def prepare(self, W: Array, backend: CpuBackend, transposed: bool) -> Array:
        """W -> the operand of forward and gradient, or of transpose.

        That is (s_h, r_h, r_w·c_out, s_w·c_in): a filter for each row of a cell, in the order of y.
        """
        if not transposed:
            return super().prepare(W, backend, transposed)
        (_, k_w, c_in, c_out), (s_h, s_w), (r_h, r_w) = self.W_shape, self.stride, self.taps
        filters = backend.scratch("filters", (s_h, r_h, r_w, c_out, s_w, c_in))
        if k_w % s_w:  # some pixels of a cell have one tap fewer than others
            backend.xp.copyto(filters, 0)
        flipped = filters[:, ::-1, ::-1].transpose(0, 1, 2, 4, 5, 3)
        for a in range(s_h):
            for b in range(s_w):
                taps = W[a::s_h, b::s_w]
                backend.xp.copyto(flipped[a, : taps.shape[0], : taps.shape[1], b], taps)
        return filters.reshape(s_h, r_h, r_w * c_out, s_w * c_in)

    def transpose(self, y: Array, W: Array, x: Array, workspace: ThreadWorkspace) -> None:
        (h, w, c_in), (s_h, s_w), (r_h, r_w) = self.x_shape, self.stride, self.taps
        xp, (top, _), (left, _) = workspace.backend.xp, *self.padding
        cols, run = self.windows.read_x(y, workspace, None), r_w * self.y_shape[2]
        rows = workspace.get("rows", (h, len(x), self.windows.pixels * s_w, c_in), x.dtype)
        for i in range(h):
            q, a = divmod(i + top, s_h)
            taps = -(-(self.W_shape[0] - a) // s_h)
            start, stop = max(0, q + 1 - taps), min(self.y_shape[0], q + 1)  # rows of y
            filters = W[a, start - q + r_h - 1 : stop - q + r_h - 1].reshape(-1, s_w * c_in)
            out = rows[i].reshape(len(cols), s_w * c_in)
            xp.matmul(cols[:, start * run : stop * run], filters, out=out)
        xp.copyto(x, rows[:, :, left % s_w :][:, :, :w].transpose(1, 0, 2, 3))
