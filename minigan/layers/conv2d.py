"""2-D convolution as one matrix product: im2col, then GEMM.

    y[n, p, q, o] = Σ_{i, j, c} x[n, p·s + i - top, q·s + j - left, c] · W[i, j, c, o] + b[o]

(Strictly this is cross-correlation; the field calls it convolution.) im2col (arrays/im2col.py) lays
out the window under each output pixel as one row of k·k·c_in numbers. The sum over i, j, c becomes
a product of matrices:

    cols = im2col(x)        (n·h_out·w_out, k·k·c_in)    one row per output pixel: its window
    y    = cols·W + b       W seen as (k·k·c_in, c_out)

This is a Linear layer on the rows of cols. So its backward pass is Linear's,

    dW    = colsᵀ·dy        db = column sums of dy
    dcols = dy·Wᵀ

and one more step back, from the windows to the image: dx = col2im(dcols), the transpose of im2col.

In NHWC layout the rows of y come out as pixels: no array is ever transposed.

x (n, h, w, c_in)   W (k_h, k_w, c_in, c_out)   b (c_out,)   y (n, h_out, w_out, c_out)
Source: Dumoulin & Visin 2016, arXiv:1603.07285; im2col: Chellapilla et al. 2006
Fast versions: backends/cpu/convolution.py, backends/gpu/convolution.py
"""

from typing import Any

from minigan.arrays import Padding, Pair
from minigan.arrays.im2col import col2im, im2col
from minigan.checks import expect_size
from minigan.initializers import Initializer, glorot_uniform, zeros
from minigan.layers.base import Array, Backend, Generator, Layer, Shape, Store
from minigan.layers.geometry import conv_sizes, expect_image, expect_padding, expect_pair


def conv2d_forward(
    x: Array, W: Array, b: Array | None, stride: Pair, padding: Padding, xp: Any
) -> tuple[Array, tuple[Array, Shape]]:
    """Forward pass of 2-D convolution.

    x        (n, h, w, c_in)            read only
    W        (k_h, k_w, c_in, c_out)    read only
    b        (c_out,) or None
    padding  ((top, bottom), (left, right))
    -> y     (n, h_out, w_out, c_out); saved: the columns, and the shape of x
    """
    cols = im2col(x, W.shape[:2], stride, padding, xp)
    n, h_out, w_out = cols.shape[:3]
    y = cols.reshape(n * h_out * w_out, -1) @ W.reshape(-1, W.shape[3])
    if b is not None:
        y += b
    return y.reshape(n, h_out, w_out, -1), (cols, x.shape)


def conv2d_backward(
    dy: Array,
    saved: tuple[Array, Shape],
    W: Array,
    dW: Array | None,
    db: Array | None,
    need_dx: bool,
    stride: Pair,
    padding: Padding,
    xp: Any,
) -> Array | None:
    """Backward pass of 2-D convolution.

    dy      (n, h_out, w_out, c_out)   d(mean loss)/dy; 1/n already included
    saved                              from conv2d_forward: the columns, and the shape of x
    W       (k_h, k_w, c_in, c_out)    read only
    dW, db  as W, b                    added to, unless None
    -> dx   (n, h, w, c_in), or None
    Why: dW = colsᵀ·dy;  dx = col2im(dy·Wᵀ)
    """
    cols, x_shape = saved
    dy_rows = dy.reshape(-1, W.shape[3])
    if dW is not None:
        dW += (cols.reshape(len(dy_rows), -1).T @ dy_rows).reshape(W.shape)
    if db is not None:
        db += dy_rows.sum(axis=0, dtype="float64")  # many rows: float32 would lose digits
    if not need_dx:
        return None
    dcols = dy_rows @ W.reshape(-1, W.shape[3]).T
    return col2im(dcols.reshape(cols.shape), x_shape, stride, padding, xp)


class Convolution(Layer):
    """The base of Conv2d and ConvTranspose2d, which differ in sizes and in two definitions."""

    pads: Padding  # `padding` in numbers, once the image is known: see geometry.py
    W: Array
    dW: Array
    b: Array | None
    db: Array | None

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
        kind = type(self).__name__
        self.channels = expect_size(f"{kind}: channels", channels)
        self.kernel_size = expect_pair(kind, "kernel_size", kernel_size)
        self.stride = expect_pair(kind, "stride", stride)
        self.padding = expect_padding(kind, padding, self.kernel_size)
        self.use_bias = bias
        self.initializer = glorot_uniform() if initializer is None else initializer

    def declare(self, store: Store, W_shape: Shape, c_in: int) -> None:
        """Declare W and b. The fans count a whole window, k_h·k_w·channels, whatever the stride.

        So do frameworks for a convolution. For a transposed one PyTorch and Keras exchange the two,
        which he() alone notices. There, with stride s, a pixel of y gets only 1/s² of these inputs.
        """
        window = self.kernel_size[0] * self.kernel_size[1]
        fans = (window * c_in, window * self.channels)
        self.b, self.db = None, None
        store.parameter(self, "W", W_shape, self.initializer, *fans)
        if self.use_bias:
            store.parameter(self, "b", (self.channels,), zeros())

    def describe(self) -> str:
        def short(pair: Pair) -> str:
            return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]}x{pair[1]}"

        in_shape: Shape = getattr(self, "in_shape", ())
        c_in = in_shape[2] if len(in_shape) == 3 else "?"
        padding = self.padding
        if not isinstance(padding, str):
            even = len({*padding[0], *padding[1]}) == 1
            padding = f"p{padding[0][0] if even else padding}"
        sizes = f"k{short(self.kernel_size)} s{short(self.stride)} {padding}"
        return f"{type(self).__name__} {c_in}->{self.channels}, {sizes}"


class Conv2d(Convolution):
    """Conv2d(channels, kernel_size): images (n, h, w, c_in) -> (n, h_out, w_out, channels).

    kernel_size, stride  a number, or (vertical, horizontal)
    padding              "valid", "same", a number or ((top, bottom), (left, right)): geometry.py
    bias                 add b or not: leave it out before BatchNorm, which would subtract it again
    initializer          of W; see initializers.py
    """

    def setup(self, in_shape: Shape, *, backend: Backend, rng: Generator, store: Store) -> Shape:
        super().setup(in_shape, backend=backend, rng=rng, store=store)
        h, w, c_in = expect_image(self.label, in_shape)
        sizes, self.pads = conv_sizes(
            self.label, (h, w), self.kernel_size, self.stride, self.padding
        )
        self.declare(store, (*self.kernel_size, c_in, self.channels), c_in)
        return (*sizes, self.channels)

    def forward(self, x: Array, train: bool = True) -> Array:
        y, self.saved = conv2d_forward(x, self.W, self.b, self.stride, self.pads, self.backend.xp)
        return y

    def backward(self, dy: Array, need_dx: bool = True, need_dw: bool = True) -> Array | None:
        dW, db = (self.dW, self.db) if need_dw else (None, None)
        return conv2d_backward(
            dy, self.saved, self.W, dW, db, need_dx, self.stride, self.pads, self.backend.xp
        )
