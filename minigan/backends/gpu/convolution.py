"""Convolution on the GPU: im2col and cuBLAS, a part of the batch at a time.

As in backends/cpu/im2col.py, a convolution y = conv(x, W) is used in three ways, x being the larger
image:

    convolve    y = conv(x, W)        Conv2d's forward, ConvTranspose2d's dx
    transpose   x = convᵀ(y, W)       Conv2d's dx, ConvTranspose2d's forward
    gradient    dW from x and y

The column matrix is up to 25 times as large as the image, so it is made for a part of a batch at a
time. A Conv2d keeps it for dW if it is not too large; otherwise it is made again. Parts that fit
into the L2 cache are too small: on an H200 a step with parts of 24 MiB takes 1.2 times as long as
with 128 MiB, and 512 MiB gain one or two percent more (TF32; benchmarks/gpu.py).

Transpose: each pixel of x gathers its copies from the columns of y·Wᵀ, at every stride-th tap,
those of its phase; nothing is scattered. (One product for each phase, over columns of y, would need
no gathering afterwards. But these columns are c_out/c_in times as large, and DCGANs double the
channels where they halve the image: twice the traffic.)

With 1 to 4 channels in x, `convolve` reads the image directly; on an H200 that is as fast as
columns. Gradient and transpose do not: there the columns have fewer numbers than y, and cuBLAS does
best.
"""

from math import prod

from minigan.arrays import Array, Shape
from minigan.backends.cpu.chunks import chunks
from minigan.backends.fusion import Core
from minigan.backends.gpu.backend import GpuBackend
from minigan.backends.gpu.kernels import Geometry
from minigan.backends.gpu.reductions import sum_rows
from minigan.backends.workspace import Workspace
from minigan.layers import ConvTranspose2d, Linear

COLUMNS = 128 * 2**20  # bytes of columns at a time
KEPT = 256 * 2**20  # bytes of columns that one layer keeps, at most
FEW_CHANNELS = 4
TILE = 4  # FEW of kernels.cu: pixels that a thread takes there
Activation = tuple[str, float]  # a name in kernels.cu, and its constant
IDENTITY: Activation = ("Identity", 0.0)


class Convolution:
    """The convolution of one layer, for batches of any size. Shapes have no batch axis."""

    def __init__(self, layer: Core, backend: GpuBackend, memory: Workspace):
        self.layer, self.backend, self.memory = layer, backend, memory
        if isinstance(layer, Linear):  # images of one pixel
            in_shape: Shape = (1, 1, *layer.in_shape)
            out_shape: Shape = (1, 1, layer.out)
            kernel_size, stride, pads = (1, 1), (1, 1), ((0, 0), (0, 0))
        else:
            in_shape, out_shape = layer.in_shape, layer.out_shape
            kernel_size, stride, pads = layer.kernel_size, layer.stride, layer.pads
        self.transposed = isinstance(layer, ConvTranspose2d)
        self.in_shape, self.out_shape = x_shape, y_shape = in_shape, out_shape
        if self.transposed:
            x_shape, y_shape = y_shape, x_shape
        self.x_shape, self.y_shape = x_shape, y_shape
        self.W_shape = (*kernel_size, x_shape[2], y_shape[2])
        self.pixels, self.window = prod(y_shape[:2]), prod(kernel_size) * x_shape[2]
        whole_image = self.pixels == 1 and x_shape[:2] == kernel_size
        pointwise = kernel_size == stride == (1, 1)
        # the columns are x itself
        self.is_linear = pads == ((0, 0), (0, 0)) and (whole_image or pointwise)
        self.is_few = x_shape[2] <= FEW_CHANNELS and not self.is_linear
        corner = (pads[0][0], pads[1][0])
        self.geometry = Geometry._make((*x_shape, *y_shape, *kernel_size, *stride, *corner))
        kernels = backend.kernels
        self.V, self.V_row = kernels.width(x_shape[2]), kernels.width_of_rows(self.geometry)
        self.V_few = kernels.width(y_shape[2], packs=2)

    def name_kernels(self, activation: Activation) -> None:
        """Name what will be launched, so that it is compiled together with everything else."""
        get, geometry = self.backend.kernels.get, self.geometry
        if self.is_linear:
            return
        if self.is_few:
            kind = "Identity" if self.transposed else activation[0]
            get("few_forward", geometry, kind, self.V_few)
        get("im2col", geometry, width=self.V_row)
        get("col2im", geometry, activation[0] if self.transposed else "Identity", self.V)

    # -- a layer's passes ---------------------------------------------------------------

    def forward(self, x: Array, y: Array, activation: Activation, train: bool) -> Array | None:
        """y = activation(core(x) + b) -> the columns of x, if they are kept for backward."""
        W, b = self.layer.W.reshape(self.W_shape), self.layer.b
        if self.transposed:
            self.transpose(x, W, b, y, activation)
            return None
        columns = self.room_for_columns(len(x)) if train else None
        self.convolve(x, W, b, y, activation, columns)
        return columns

    def backward(
        self, dy: Array, x: Array, columns: Array | None, need_dw: bool, dx: Array | None
    ) -> None:
        """dW += if need_dw, and dx = unless None; db is the caller's."""
        W, dW = self.layer.W.reshape(self.W_shape), self.layer.dW.reshape(self.W_shape)
        if not self.transposed:
            if need_dw:
                self.gradient(x, dy, dW, columns)
            if dx is not None:
                self.transpose(dy, W, None, dx)
        elif need_dw or dx is not None:  # both are products of the columns of dy
            d, gemm = self.W_shape[3], self.backend.gemm
            for part in self.chunks(len(dy)):
                cols, x_rows = self.columns(dy[part]), x[part].reshape(-1, d)
                if need_dw:
                    gemm(cols.T, x_rows, dW.reshape(self.window, d), accumulate=True)
                if dx is not None:
                    gemm(cols, W.reshape(self.window, d), dx[part].reshape(-1, d))

    # -- the three uses -----------------------------------------------------------------

    def convolve(
        self,
        x: Array,
        W: Array,
        b: Array | None,
        y: Array,
        activation: Activation = IDENTITY,
        kept: Array | None = None,
    ) -> None:
        """y (n, *y_shape) = activation(conv(x, W) + b); the columns of x are left in `kept`."""
        n, d, (kind, a), backend = len(x), self.W_shape[3], activation, self.backend
        if self.is_few:
            threads = -(-n * self.pixels // TILE) * (d // self.V_few)
            kernel = backend.kernels.get("few_forward", self.geometry, kind, self.V_few)
            kernel(threads, x, W, b, y, n, a)
            return
        for part in self.chunks(n):
            cols = self.columns(x[part], None if kept is None else kept[part])
            backend.gemm(cols, W.reshape(self.window, d), y[part].reshape(-1, d))
        finish(y, b, activation, backend)

    def transpose(
        self, y: Array, W: Array, b: Array | None, x: Array, activation: Activation = IDENTITY
    ) -> None:
        """x (n, *x_shape) = activation(convᵀ(y, W) + b)"""
        n, d, (kind, a), backend = len(y), self.W_shape[3], activation, self.backend
        W_T = W.reshape(self.window, d).T
        if self.is_linear:
            backend.gemm(y.reshape(-1, d), W_T, x.reshape(n * self.pixels, self.window))
            finish(x, b, activation, backend)
            return
        col2im = backend.kernels.get("col2im", self.geometry, kind, self.V)
        for part in self.chunks(n):
            rows, image = y[part].reshape(-1, d), x[part]
            cols = backend.scratch("columns", (len(rows), self.window))
            backend.gemm(rows, W_T, cols)
            col2im(image.size // self.V, cols, b, image, len(image), a)

    def gradient(self, x: Array, y: Array, dW: Array, kept: Array | None) -> None:
        """dW += the gradient of W, where y is that of conv(x, W); kept: the columns of x."""
        d = self.W_shape[3]
        for part in self.chunks(len(x)):
            cols = self.columns(x[part]) if kept is None else kept[part].reshape(-1, self.window)
            dW_rows = dW.reshape(self.window, d)
            self.backend.gemm(cols.T, y[part].reshape(-1, d), dW_rows, accumulate=True)

    # -- columns ------------------------------------------------------------------------

    def chunks(self, n: int) -> list[slice]:
        """-> the batch in equal parts, whose columns take COLUMNS at most."""
        size = self.pixels * self.window * self.backend.dtype.itemsize
        return chunks(n, max(1, COLUMNS // size), 1)

    def room_for_columns(self, n: int) -> Array | None:
        """-> memory for the columns of n images; None if there is nothing to keep, or too much"""
        size = n * self.pixels * self.window * self.backend.dtype.itemsize
        if self.is_linear or self.is_few or size > KEPT:
            return None
        return self.memory.get("columns", (n, self.pixels, self.window))

    def columns(self, x: Array, kept: Array | None = None) -> Array:
        """x (n, h, w, c_in) -> (n·h_out·w_out, k_h·k_w·c_in), in `kept` or in scratch memory"""
        n, backend = len(x), self.backend
        shape = (n * self.pixels, self.window)
        if self.is_linear:
            return x.reshape(shape)
        cols = backend.scratch("columns", shape) if kept is None else kept.reshape(shape)
        im2col = backend.kernels.get("im2col", self.geometry, width=self.V_row)
        im2col(cols.size // self.V_row, x, cols, n)
        return cols


def finish(y: Array, b: Array | None, activation: Activation, backend: GpuBackend) -> None:
    """y (..., c) = activation(y + b), in place"""
    if b is not None or activation != IDENTITY:
        activate(y, b, y, activation, backend)


def activate(
    x: Array, b: Array | None, y: Array, activation: Activation, backend: GpuBackend
) -> None:
    """y (..., c) = activation(x + b)"""
    c, (kind, a) = x.shape[-1], activation
    width = backend.kernels.width(c)
    kernel = backend.kernels.get("activate", activation=kind, width=width)
    kernel(x.size // width, x, b, y, x.size // c, c, a)


def add_row_sums(dy: Array, db: Array, backend: GpuBackend) -> None:
    """db (c,) += Σ over the rows of dy (m, c)"""
    sum_rows(IDENTITY, dy, None, None, db, backend)


def contiguous(array: Array, name: str, memory: Workspace) -> Array:
    """-> array, or a copy of it if kernels cannot read it as it lies."""
    if array.flags.c_contiguous and array.data.ptr % 16 == 0:
        return array
    copy = memory.get(f"contiguous {name}", array.shape)
    copy[...] = array
    return copy
