"""Convolution on the GPU: im2col and cuBLAS, a part of the batch at a time.

As in backends/cpu/im2col.py, a convolution y = conv(x, W) is used in three ways (x is the
larger image):

    convolve    y = conv(x, W)        Conv2d's forward, ConvTranspose2d's dx
    transpose   x = convᵀ(y, W)       Conv2d's dx, ConvTranspose2d's forward
    gradient    dW from x and y

The column matrix is up to 25 times as large as the image, so it is made for a part of a batch at a
time. A Conv2d keeps it for dW if it is not too large; otherwise it is recomputed. Parts that fit
into the L2 cache are too small: on an H200 a step with parts of 24 MiB takes 1.2 times as long as
with 128 MiB, and 512 MiB gain one or two percent more (TF32; benchmarks/gpu.py).

Transpose: each pixel of x gathers its copies from the columns of y·Wᵀ, at every stride-th tap,
those of its phase; nothing is scattered. (One product for each phase, over columns of y, would need
no gathering afterwards. But these columns are c_out/c_in times as large, and DCGANs double the
channels where they halve the image: twice the traffic.)

With 1 to 4 channels in x, `convolve` reads the image directly; on an H200 that is as fast as
columns. Gradient and transpose do not: there the columns have fewer numbers than y, and cuBLAS is
faster. implicit.py needs no columns at all.
"""

from math import prod

from minigan.arrays import Array
from minigan.backends.cpu.chunks import chunks
from minigan.backends.fusion import Core, CoreConvolution
from minigan.backends.gpu.backend import GpuBackend
from minigan.backends.gpu.kernels import IDENTITY, Activation, Geometry, Kernel
from minigan.backends.workspace import Workspace

COLUMNS = 128 * 2**20  # bytes of columns at a time
KEPT = 256 * 2**20  # bytes of columns that one layer keeps, at most
FEW_CHANNELS = 4
TILE = 4  # FEW of kernels.cu: pixels that a thread takes there


class Convolution(CoreConvolution):
    """The convolution of one layer and the activation f after it, for batches of any size."""

    def __init__(self, layer: Core, f: Activation, backend: GpuBackend, memory: Workspace):
        super().__init__(layer)
        self.f, self.backend, self.memory = f, backend, memory
        (*_, c, self.d), kernel_size, stride = self.W_shape, self.kernel_size, self.stride
        self.pixels, self.window = prod(self.y_shape[:2]), prod(kernel_size) * c
        self.is_linear = is_linear(self)
        self.is_few = c <= FEW_CHANNELS and not self.is_linear
        corner = (before for before, _ in self.pads)
        sizes = (*self.x_shape, *self.y_shape, *kernel_size, *stride, *corner)
        self.geometry = Geometry._make(sizes)
        kernels = backend.kernels
        self.V, self.V_row = kernels.width(c), kernels.width_of_rows(self.geometry)
        self.V_few = kernels.width(self.d, packs=2)
        self.name_kernels()

    def name_kernels(self) -> None:
        """Name every kernel that will be launched; col2im with what follows it."""
        kernels, f = self.backend.kernels, self.f
        if not self.is_linear:
            self.im2col = kernels.get("im2col", self.geometry, width=self.V_row)
            self.col2im(f if self.transposed else IDENTITY)
        if self.is_few and not self.transposed:
            self.few_forward = kernels.get("few_forward", self.geometry, f[0], self.V_few)

    def col2im(self, f: Activation) -> Kernel:
        """-> the kernel that gathers columns into an image, with f applied."""
        return self.backend.kernels.get("col2im", self.geometry, f[0], self.V)

    # -- a layer's passes ---------------------------------------------------------------

    def forward(self, x: Array, y: Array, train: bool) -> Array | None:
        """y = f(core(x) + b) -> the columns of x, if they are kept for backward."""
        x, y = x.reshape(-1, *self.in_shape), y.reshape(-1, *self.out_shape)
        if self.transposed:
            self.transpose(x, self.layer.b, y, self.f)
            return None
        columns = self.room_for_columns(len(x)) if train else None
        self.convolve(x, y, columns)
        return columns

    def backward(
        self, dy: Array, x: Array, columns: Array | None, need_dw: bool, dx: Array | None
    ) -> None:
        """dW += if need_dw, and dx = unless None; db is the caller's."""
        dW = self.layer.dW.reshape(self.window, self.d)
        dy, x = dy.reshape(-1, *self.out_shape), x.reshape(-1, *self.in_shape)
        if not self.transposed:
            if need_dw:
                self.gradient(x, dy, dW, columns)
            if dx is not None:
                self.transpose(dy, None, dx, IDENTITY)
        elif need_dw or dx is not None:
            self.backward_transposed(dy, x, dW if need_dw else None, dx)

    def backward_transposed(self, dy: Array, x: Array, dW: Array | None, dx: Array | None) -> None:
        """dW += unless None, and dx = unless None: both are products of the columns of dy."""
        gemm, d = self.backend.gemm, self.d
        for part in self.chunks(len(dy)):
            cols, x_rows = self.columns(dy[part]), x[part].reshape(-1, d)
            if dW is not None:
                gemm(cols.T, x_rows, dW, accumulate=True)
            if dx is not None:
                gemm(cols, self.W(), dx[part].reshape(-1, d))

    def W(self) -> Array:
        """-> the weights as a matrix (window, d)."""
        return self.layer.W.reshape(self.window, self.d)

    # -- the three uses -----------------------------------------------------------------

    def convolve(self, x: Array, y: Array, kept: Array | None) -> None:
        """y (n, *y_shape) = f(conv(x, W) + b); the columns of x are left in `kept`."""
        n, W, b, backend = len(x), self.W(), self.layer.b, self.backend
        if self.is_few:
            threads = -(-n * self.pixels // TILE) * (self.d // self.V_few)
            self.few_forward(threads, x, W, b, y, n, self.f[1])
            return
        for part in self.chunks(n):
            cols = self.columns(x[part], None if kept is None else kept[part])
            backend.gemm(cols, W, y[part].reshape(-1, self.d))
        activate(y, b, y, self.f, backend)

    def transpose(self, y: Array, b: Array | None, x: Array, f: Activation) -> None:
        """x (n, *x_shape) = f(convᵀ(y, W) + b)"""
        n, W_T, backend = len(y), self.W().T, self.backend
        if self.is_linear:
            backend.gemm(y.reshape(-1, self.d), W_T, x.reshape(n * self.pixels, self.window))
            activate(x, b, x, f, backend)
            return
        for part in self.chunks(n):
            rows, image = y[part].reshape(-1, self.d), x[part]
            cols = backend.scratch("columns", (len(rows), self.window))
            backend.gemm(rows, W_T, cols)
            self.col2im(f)(image.size // self.V, cols, b, image, len(image), f[1])

    def gradient(self, x: Array, y: Array, dW: Array, kept: Array | None) -> None:
        """dW (window, d) += the gradient, where y is that of conv(x, W); kept: the columns of x."""
        for part in self.chunks(len(x)):
            cols = self.columns(x[part]) if kept is None else kept[part].reshape(-1, self.window)
            self.backend.gemm(cols.T, y[part].reshape(-1, self.d), dW, accumulate=True)

    # -- columns ------------------------------------------------------------------------

    def chunks(self, n: int) -> list[slice]:
        """-> the batch in equal parts, whose columns take COLUMNS at most."""
        size = self.pixels * self.window * self.backend.dtype.itemsize
        return chunks(n, max(1, COLUMNS // size), 1)

    def room_for_columns(self, n: int) -> Array | None:
        """-> memory for the columns of n images; None if there are none to keep, or too many"""
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
        self.im2col(cols.size // self.V_row, x, cols, n)
        return cols


def is_linear(core: CoreConvolution) -> bool:
    """Are the columns of x the same numbers as x?"""
    whole_image = core.y_shape[:2] == (1, 1) and core.x_shape[:2] == core.kernel_size
    pointwise = core.kernel_size == core.stride == (1, 1)
    return core.pads == ((0, 0), (0, 0)) and (whole_image or pointwise)


def activate(x: Array, b: Array | None, y: Array, f: Activation, backend: GpuBackend) -> None:
    """y (..., c) = f(x + b); y may be x."""
    if y is x and b is None and f == IDENTITY:
        return
    c, width = x.shape[-1], backend.kernels.width(x.shape[-1])
    kernel = backend.kernels.get("activate", kind=f[0], width=width)
    kernel(x.size // width, x, b, y, x.size // c, c, f[1])


def contiguous(array: Array, name: str, memory: Workspace) -> Array:
    """-> array, or a contiguous copy of it if kernels need one."""
    if array.flags.c_contiguous and array.data.ptr % 16 == 0:
        return array
    copy = memory.get(f"contiguous {name}", array.shape)
    copy[...] = array
    return copy
