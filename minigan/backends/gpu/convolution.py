"""Convolution on the GPU: columns and cuBLAS, a chunk of images at a time; straight from the image where it has few channels.

As in numpy_columns.py, three things are asked of a convolution y = conv(x, W), x being the larger image:

    forward     y = conv(x, W)        Conv2d's forward, ConvTranspose2d's dx
    transpose   x = convᵀ(y, W)       Conv2d's dx, ConvTranspose2d's forward
    gradient    dW from x and y

The column matrix is up to 25 times as large as the image, so it is made for a part of a batch at a time. A Conv2d in a block
(cupy_fused.py) keeps it for dW where it is not too large; otherwise it is made anew. Parts that fit into the L2 cache are too small: on an
H200 a step with parts of 24 MiB takes 1.2 times as long as one with 128, and 512 gain one or two percent more (TF32).

Transpose: each pixel of x gathers its copies from the columns of y·Wᵀ, at every stride-th tap, those of its phase, and nothing is
scattered. (One product for each phase, over columns of y, would need no gathering afterwards. But these columns are
c_out/c_in times as large, and DCGANs double the channels where they halve the image: twice the traffic.)

With 1 to 4 channels in x, forward goes straight from the image; on an H200 that is as fast as columns. Gradient and transpose do not:
there the columns have fewer numbers than y, and are best left to cuBLAS.
"""

from math import prod

from minigan.arrays.backend import Array, Padding, Pair, Shape, Workspace
from minigan.backends.cpu.chunks import chunks
from minigan.backends.gpu.backend import CupyBackend
from minigan.backends.gpu.kernels import find_geometry
from minigan.backends.gpu.reductions import add_row_sums

COLUMNS = 128 * 2**20  # bytes of columns at a time
KEPT = 256 * 2**20  # bytes of columns that one layer keeps, at most
FEW_CHANNELS = 4
TILE = 4  # FEW of kernels.cu: pixels that a thread takes there
Activation = tuple[str, float]  # a name in kernels.cu, and its constant
IDENTITY: Activation = ("Identity", 0.0)


class Convolution:
    """One geometry, for batches of any size. Shapes without the batch axis."""

    def __init__(
        self,
        backend: CupyBackend,
        x_shape: Shape,
        W_shape: Shape,
        y_shape: Shape,
        stride: Pair,
        padding: Padding,
    ):
        self.backend, self.x_shape, self.W_shape, self.y_shape = backend, x_shape, W_shape, y_shape
        (k_h, k_w, c, d), kernels = W_shape, backend.kernels
        self.pixels, self.window = prod(y_shape[:2]), k_h * k_w * c
        no_padding = padding == ((0, 0), (0, 0))
        whole_image = self.pixels == 1 and x_shape[:2] == (k_h, k_w)
        self.is_linear = no_padding and (
            whole_image or (k_h, k_w, *stride) == (1, 1, 1, 1)
        )  # the columns are x itself
        self.is_few = c <= FEW_CHANNELS and not self.is_linear
        self.geometry = find_geometry(x_shape, W_shape, y_shape, stride, padding)
        self.V, self.V_row, self.V_few = (
            kernels.width(c),
            kernels.width_of_rows(self.geometry),
            kernels.width(d, packs=2),
        )

    def chunks(self, n: int) -> list[slice]:
        """-> the batch in equal parts, whose columns take COLUMNS at most."""
        return chunks(
            n, max(1, COLUMNS // (self.pixels * self.window * self.backend.dtype.itemsize)), 1
        )

    def ask_for(
        self, activation: Activation, forward: bool, transpose: bool, gradient: bool
    ) -> None:
        """Name the kernels that will be needed, so that they are compiled together with all others."""
        get, kind = self.backend.kernels.get, activation[0]
        if self.is_few and forward:
            get("few_forward", self.geometry, kind, self.V_few)
        if not self.is_linear and ((forward and not self.is_few) or gradient):
            get("im2col", self.geometry, width=self.V_row)
        if not self.is_linear and transpose:
            get("col2im", self.geometry, kind, self.V)

    def place(self, n: int, memory: Workspace) -> Array | None:
        """-> memory for the columns of n images, to keep them from forward to gradient; None where there is nothing to keep, or too much"""
        size = n * self.pixels * self.window
        if self.is_linear or self.is_few or size * self.backend.dtype.itemsize > KEPT:
            return None
        return memory.get("columns", (n, self.pixels, self.window))

    def columns(self, x: Array, kept: Array | None = None) -> Array:
        """x (n, h, w, c_in) -> (n·h_out·w_out, k_h·k_w·c_in), in `kept` or in scratch memory"""
        n = len(x)
        shape = (n * self.pixels, self.window)
        if self.is_linear:
            return x.reshape(shape)
        cols = self.backend.scratch("columns", shape) if kept is None else kept.reshape(shape)
        self.backend.kernels.get("im2col", self.geometry, width=self.V_row)(
            cols.size // self.V_row, x, cols, n
        )
        return cols

    def forward(
        self,
        x: Array,
        W: Array,
        b: Array | None,
        y: Array,
        activation: Activation = IDENTITY,
        kept: Array | None = None,
    ) -> None:
        """y (n, *y_shape) = activation(conv(x, W) + b); the columns of x are left in `kept`, unless None: from place()"""
        n, d, (kind, a) = len(x), self.W_shape[3], activation
        if self.is_few:
            threads = -(-n * self.pixels // TILE) * (d // self.V_few)
            self.backend.kernels.get("few_forward", self.geometry, kind, self.V_few)(
                threads, x, W, b, y, n, a
            )
            return
        for part in self.chunks(n):
            cols = self.columns(x[part], None if kept is None else kept[part])
            self.backend.gemm(cols, W.reshape(self.window, d), out=y[part].reshape(-1, d))
        finish(y, b, activation, self.backend)

    def transpose(
        self, y: Array, W: Array, b: Array | None, x: Array, activation: Activation = IDENTITY
    ) -> None:
        """x (n, *x_shape) = activation(convᵀ(y, W) + b)"""
        n, d, (kind, a) = len(y), self.W_shape[3], activation
        W_T = W.reshape(self.window, d).T
        if self.is_linear:
            self.backend.gemm(y.reshape(-1, d), W_T, out=x.reshape(n * self.pixels, self.window))
            finish(x, b, activation, self.backend)
            return
        col2im = self.backend.kernels.get("col2im", self.geometry, kind, self.V)
        for part in self.chunks(n):
            rows, image = y[part].reshape(-1, d), x[part]
            cols = self.backend.scratch("columns", (len(rows), self.window))
            self.backend.gemm(rows, W_T, out=cols)
            col2im(image.size // self.V, cols, b, image, len(image), a)

    def gradient(self, x: Array, y: Array, dW: Array, kept: Array | None = None) -> None:
        """dW += the gradient of W, where y is that of conv(x, W)

        kept  the columns of x, where forward has left them
        """
        d = self.W_shape[3]
        for part in self.chunks(len(x)):
            cols = self.columns(x[part]) if kept is None else kept[part].reshape(-1, self.window)
            self.backend.gemm(
                cols.T, y[part].reshape(-1, d), out=dW.reshape(self.window, d), accumulate=True
            )

    def backward(
        self,
        dy: Array,
        x: Array,
        W: Array,
        dW: Array | None,
        dx: Array | None,
        kept: Array | None = None,
    ) -> None:
        """dW += and dx =, each unless None, of Conv2d; kept as of gradient"""
        if dW is not None:
            self.gradient(x, dy, dW, kept)
        if dx is not None:
            self.transpose(dy, W, None, dx)

    def transposed_backward(
        self, dy: Array, x: Array, W: Array, dW: Array | None, dx: Array | None
    ) -> None:
        """The same of ConvTranspose2d, for which the two images change places: both are products of the columns of dy."""
        if dW is None and dx is None:
            return
        d, gemm = self.W_shape[3], self.backend.gemm
        for part in self.chunks(len(dy)):
            cols = self.columns(dy[part])
            if dW is not None:
                gemm(
                    cols.T, x[part].reshape(-1, d), out=dW.reshape(self.window, d), accumulate=True
                )
            if dx is not None:
                gemm(cols, W.reshape(self.window, d), out=dx[part].reshape(-1, d))


def finish(y: Array, b: Array | None, activation: Activation, backend: CupyBackend) -> None:
    """y (..., c) = activation(y + b), in place"""
    if b is not None or activation != IDENTITY:
        activate(y, b, y, activation, backend)


def activate(
    x: Array, b: Array | None, y: Array, activation: Activation, backend: CupyBackend
) -> None:
    """y (..., c) = activation(x + b)"""
    c, (kind, a) = x.shape[-1], activation
    width = backend.kernels.width(c)
    backend.kernels.get("activate", activation=kind, width=width)(
        x.size // width, x, b, y, x.size // c, c, a
    )


def contiguous(array: Array, name: str, memory: Workspace) -> Array:
    """-> array, or a copy of it where it does not lie as kernels read it."""
    if array.flags.c_contiguous and array.data.ptr % 16 == 0:
        return array
    copy = memory.get(f"contiguous {name}", array.shape)
    copy[...] = array
    return copy


def find_convolution(
    backend: CupyBackend,
    x_shape: Shape,
    W_shape: Shape,
    y_shape: Shape,
    stride: Pair,
    padding: Padding,
) -> Convolution:
    """-> the Convolution of this geometry, made once for each backend."""
    key = (tuple(x_shape), tuple(W_shape), tuple(y_shape), stride, padding)
    if key not in backend.convolutions:
        backend.convolutions[key] = Convolution(backend, *key)
    return backend.convolutions[key]


# -- in the place of the definitions in layers/conv2d.py, conv_transpose2d.py and linear.py --------------


def conv2d_forward(
    x: Array,
    W: Array,
    b: Array | None,
    y: Array,
    stride: Pair,
    padding: Padding,
    backend: CupyBackend,
    memory: Workspace,
) -> None:
    """As conv2d_forward in layers/conv2d.py."""
    convolution = find_convolution(backend, x.shape[1:], W.shape, y.shape[1:], stride, padding)
    convolution.forward(contiguous(x, "x", memory), W, b, y)


def conv2d_backward(
    dy: Array,
    x: Array,
    W: Array,
    dW: Array | None,
    db: Array | None,
    dx: Array | None,
    stride: Pair,
    padding: Padding,
    backend: CupyBackend,
    memory: Workspace,
    transposed: bool = False,
) -> None:
    """As conv2d_backward in layers/conv2d.py."""
    large, small = (dy, x) if transposed else (x, dy)
    convolution = find_convolution(
        backend, large.shape[1:], W.shape, small.shape[1:], stride, padding
    )
    dy = contiguous(dy, "dy", memory)
    backward = convolution.transposed_backward if transposed else convolution.backward
    backward(dy, x if dW is None else contiguous(x, "x", memory), W, dW, dx)
    if db is not None:
        add_row_sums(dy.reshape(-1, dy.shape[3]), db, backend)


def conv_transpose2d_forward(
    x: Array,
    W: Array,
    b: Array | None,
    y: Array,
    stride: Pair,
    padding: Padding,
    backend: CupyBackend,
    memory: Workspace,
) -> None:
    """As conv_transpose2d_forward in layers/conv_transpose2d.py."""
    convolution = find_convolution(backend, y.shape[1:], W.shape, x.shape[1:], stride, padding)
    convolution.transpose(contiguous(x, "x", memory), W, b, y)


def conv_transpose2d_backward(
    dy: Array,
    x: Array,
    W: Array,
    dW: Array | None,
    db: Array | None,
    dx: Array | None,
    stride: Pair,
    padding: Padding,
    backend: CupyBackend,
    memory: Workspace,
) -> None:
    """As conv_transpose2d_backward in layers/conv_transpose2d.py."""
    conv2d_backward(dy, x, W, dW, db, dx, stride, padding, backend, memory, transposed=True)


def linear_forward(x: Array, W: Array, b: Array | None, y: Array, backend: CupyBackend) -> None:
    """As linear_forward in layers/linear.py."""
    backend.gemm(contiguous(x, "x", backend.workspace), W, out=y)
    finish(y, b, IDENTITY, backend)


def linear_backward(
    dy: Array,
    x: Array,
    W: Array,
    dW: Array | None,
    db: Array | None,
    dx: Array | None,
    backend: CupyBackend,
) -> None:
    """As linear_backward in layers/linear.py."""
    dy = contiguous(dy, "dy", backend.workspace)
    if dW is not None:
        backend.gemm(contiguous(x, "x", backend.workspace).T, dy, out=dW, accumulate=True)
    if db is not None:
        add_row_sums(dy, db, backend)
    if dx is not None:
        backend.gemm(dy, W.T, out=dx)
