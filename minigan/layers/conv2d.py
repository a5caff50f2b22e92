"""2-D convolution as one matrix product: im2col, then GEMM.

    y[n, p, q, o] = Σ_{i, j, c} x[n, p·s + i - top, q·s + j - left, c] · W[i, j, c, o] + b[o]

(Cross-correlation, strictly: the field calls it convolution.) The window under an
output pixel, laid out as one row of k·k·c_in numbers, turns the sum over i, j, c
into a product of matrices:

    cols = im2col(x)        (n·h_out·w_out, k·k·c_in)    each output pixel's window, a row
    y    = cols·W + b       W seen as (k·k·c_in, c_out)

which is a Linear layer on the rows of cols. So its backward pass is Linear's,

    dW    = colsᵀ·dy        db = column sums of dy
    dcols = dy·Wᵀ

and one more step: a pixel of x was copied into every window that covers it, so its
gradient is the sum over these copies: dx = col2im(dcols), the transpose of im2col.

In NHWC layout the rows of y come out as pixels: no array is ever transposed.

x (n, h, w, c_in)   W (k_h, k_w, c_in, c_out)   b (c_out,)   y (n, h_out, w_out, c_out)
Source: Dumoulin & Visin 2016, arXiv:1603.07285; im2col: Chellapilla et al. 2006
"""

from collections.abc import Callable

from minigan.arrays.backend import Padding, Pair, Workspace
from minigan.checks import expect_size
from minigan.initializers import Initializer, glorot_uniform, zeros
from minigan.layers.base import Array, Backend, Generator, Layer, Shape, Store
from minigan.layers.geometry import conv_sizes, expect_image, expect_padding, expect_pair
from minigan.layers.linear import add_column_sums


def conv2d_forward(
    x: Array,
    W: Array,
    b: Array | None,
    y: Array,
    stride: Pair,
    padding: Padding,
    backend: Backend,
    memory: Workspace,
) -> None:
    """Forward pass of 2-D convolution.
    x        (n, h, w, c_in)            read only
    W        (k_h, k_w, c_in, c_out)    read only
    b        (c_out,) or None
    y        (n, h_out, w_out, c_out)   written
    padding  ((top, bottom), (left, right))
    memory   Workspace                  keeps cols for conv2d_backward
    """
    c_out = W.shape[3]
    cols = columns(memory, y, W)
    backend.im2col(x, cols, stride, padding)
    backend.gemm(as_matrix(cols, y), W.reshape(-1, c_out), out=y.reshape(-1, c_out))
    if b is not None:
        backend.xp.add(y, b, out=y)


def conv2d_backward(
    dy: Array,
    x: Array,
    W: Array,
    dW: Array | None,
    db: Array | None,
    dx: Array | None,
    stride: Pair,
    padding: Padding,
    backend: Backend,
    memory: Workspace,
) -> None:
    """Backward pass of 2-D convolution.
    dy      (n, h_out, w_out, c_out)   d(mean loss)/dy; 1/n already inside
    x       (n, h, w, c_in)            as in forward
    W       (k_h, k_w, c_in, c_out)    read only
    dW, db  as W, b                    added to; None: not wanted
    dx      (n, h, w, c_in)            written; None: not wanted
    memory  Workspace                  with cols from conv2d_forward
    Why: dW = colsᵀ·dy;  dx = col2im(dy·Wᵀ)
    """
    c_out = W.shape[3]
    dy_rows = dy.reshape(-1, c_out)
    if dW is not None:
        cols = columns(memory, dy, W)
        backend.gemm(as_matrix(cols, dy).T, dy_rows, out=dW.reshape(-1, c_out), accumulate=True)
    if db is not None:
        add_column_sums(dy_rows, db, backend)
    if dx is not None:
        dcols = columns(backend.workspace, dy, W)
        backend.gemm(dy_rows, W.reshape(-1, c_out).T, out=as_matrix(dcols, dy))
        backend.col2im(dcols, dx, stride, padding)


def columns(memory: Workspace, y: Array, W: Array) -> Array:
    """-> the memory of the column array (n, h_out, w_out, k_h, k_w, c_in), as it was last written."""
    return memory.get("columns", (*y.shape[:3], *W.shape[:3]))


def as_matrix(cols: Array, y: Array) -> Array:
    """The column array as a matrix, (n·h_out·w_out, k_h·k_w·c_in)."""
    return cols.reshape(y.shape[0] * y.shape[1] * y.shape[2], -1)


class Convolution(Layer):
    """What Conv2d and ConvTranspose2d share: they differ in their sizes and in the two operations."""

    channels: int
    kernel_size: Pair
    stride: Pair
    padding: (
        str | Padding
    )  # as it was asked for: "same" comes to numbers, `pads`, when the image is known
    pads: Padding
    W: Array
    dW: Array
    b: Array | None
    db: Array | None
    forward_op: Callable[..., None]
    backward_op: Callable[..., None]

    def forward(self, x: Array, train: bool = True) -> Array:
        self.x = x
        y = self.memory.get("y", (len(x), *self.out_shape))
        self.forward_op(x, self.W, self.b, y, self.stride, self.pads, self.backend, self.memory)
        return y

    def backward(self, dy: Array, need_dx: bool = True, need_dw: bool = True) -> Array | None:
        dx = self.memory.get("dx", self.x.shape) if need_dx else None
        dW, db = (self.dW, self.db) if need_dw else (None, None)
        self.backward_op(
            dy, self.x, self.W, dW, db, dx, self.stride, self.pads, self.backend, self.memory
        )
        return dx

    def describe(self) -> str:
        def short(pair: Pair) -> str:
            return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]}x{pair[1]}"

        in_shape: Shape = getattr(self, "in_shape", ())
        c_in = in_shape[2] if len(in_shape) == 3 else "?"
        padding = self.padding
        if not isinstance(padding, str):
            same_all_round = len({*padding[0], *padding[1]}) == 1
            padding = f"p{padding[0][0]}" if same_all_round else f"p{padding}"
        sizes = f"k{short(self.kernel_size)} s{short(self.stride)} {padding}"
        return f"{type(self).__name__} {c_in}->{self.channels}, {sizes}"


class Conv2d(Convolution):
    """Conv2d(channels, kernel_size): images (n, h, w, c_in) -> (n, h_out, w_out, channels).

    kernel_size, stride  a number, or (vertical, horizontal)
    padding              "valid", "same", a number or ((top, bottom), (left, right)); see geometry.py
    bias                 add b or not: leave it out where BatchNorm follows, which would subtract it again
    initializer          of W; see initializers.py
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int | Pair,
        stride: int | Pair = 1,
        padding: str | int | Padding = "valid",
        *,
        bias: bool = True,
        initializer: Initializer | None = None,
    ):
        self.channels = expect_size("Conv2d: channels", channels)
        self.kernel_size = expect_pair("Conv2d", "kernel_size", kernel_size)
        self.stride = expect_pair("Conv2d", "stride", stride)
        self.padding = expect_padding("Conv2d", padding, self.kernel_size)
        self.use_bias = bias
        self.initializer = initializer or glorot_uniform()

    def setup(self, in_shape: Shape, *, backend: Backend, rng: Generator, store: Store) -> Shape:
        super().setup(in_shape, backend=backend, rng=rng, store=store)
        h, w, c_in = expect_image(self.label, in_shape)
        (h_out, w_out), self.pads = conv_sizes(
            self.label, (h, w), self.kernel_size, self.stride, self.padding
        )
        self.out_shape = (h_out, w_out, self.channels)
        k_h, k_w = self.kernel_size
        self.b, self.db = None, None
        store.parameter(
            self,
            "W",
            (k_h, k_w, c_in, self.channels),
            self.initializer,
            fan_in=k_h * k_w * c_in,
            fan_out=k_h * k_w * self.channels,
        )
        if self.use_bias:
            store.parameter(self, "b", (self.channels,), zeros())
        self.forward_op = backend.implementation(conv2d_forward)
        self.backward_op = backend.implementation(conv2d_backward)
        return self.out_shape
