"""Transposed 2-D convolution: Conv2d run backward, which is how an image grows.

A convolution is linear, so it is a (huge, sparse) matrix M: y = M·x, and its dx is Mᵀ·dy. The
transposed convolution is the layer whose *forward* is that dx:

    this forward  = Conv2d's dx          x -> cols = x·Wᵀ -> y = col2im(cols)
    this dx       = Conv2d's forward     dy -> dcols = im2col(dy) -> dx = dcols·W
    this dW       = Conv2d's dW with the roles of x and dy exchanged

    y[n, p·s + i - top, q·s + j - left, o] += x[n, p, q, c] · W[i, j, o, c]   for all i, j

Each input pixel adds a k x k patch to the output; the patches are s pixels apart. ("Deconvolution"
is a misnomer: nothing is inverted.)

W is the weight of the convolution that this layer transposes, so it maps from this layer's
*outputs* to its inputs: (k_h, k_w, c_out, c_in).

x (n, h, w, c_in)   W (k_h, k_w, c_out, c_in)   b (c_out,)   y (n, h_out, w_out, c_out)
Source: Dumoulin & Visin 2016, arXiv:1603.07285, section 4
Fast versions: backends/cpu/convolution.py, backends/gpu/convolution.py
"""

from typing import Any

from minigan.arrays import Padding, Pair
from minigan.arrays.im2col import col2im, im2col
from minigan.errors import ConfigError
from minigan.initializers import Initializer
from minigan.layers.base import Array, Backend, Generator, Shape, Store
from minigan.layers.conv2d import Convolution
from minigan.layers.geometry import conv_transpose_sizes, expect_image, expect_pair


def conv_transpose2d_forward(
    x: Array, W: Array, b: Array | None, y_shape: Shape, stride: Pair, padding: Padding, xp: Any
) -> tuple[Array, Array]:
    """Forward pass of transposed 2-D convolution.

    x        (n, h, w, c_in)            read only
    W        (k_h, k_w, c_out, c_in)    read only
    b        (c_out,) or None
    y_shape  (h_out, w_out, c_out)      several sizes of y convolve to one size of x
    padding  ((top, bottom), (left, right)) of the convolution that this transposes: cropped from y
    -> y     (n, h_out, w_out, c_out); saved: x
    """
    n, h, w, c_in = x.shape
    cols = x.reshape(-1, c_in) @ W.reshape(-1, c_in).T
    y = col2im(cols.reshape(n, h, w, *W.shape[:3]), (n, *y_shape), stride, padding, xp)
    if b is not None:
        y += b
    return y, x


def conv_transpose2d_backward(
    dy: Array,
    saved: Array,
    W: Array,
    dW: Array | None,
    db: Array | None,
    need_dx: bool,
    stride: Pair,
    padding: Padding,
    xp: Any,
) -> Array | None:
    """Backward pass of transposed 2-D convolution.

    dy      (n, h_out, w_out, c_out)   d(mean loss)/dy; 1/n already included
    saved   x (n, h, w, c_in)          from conv_transpose2d_forward
    W       (k_h, k_w, c_out, c_in)    read only
    dW, db  as W, b                    added to, unless None
    -> dx   (n, h, w, c_in), or None
    Why: dcols = im2col(dy);  dW = dcolsᵀ·x;  dx = dcols·W
    """
    x, c_in = saved, W.shape[3]
    if db is not None:
        db += dy.sum(axis=(0, 1, 2), dtype="float64")  # many rows: float32 would lose digits
    if dW is None and not need_dx:
        return None
    dcols = im2col(dy, W.shape[:2], stride, padding, xp).reshape(-1, W[..., 0].size)
    if dW is not None:
        dW += (dcols.T @ x.reshape(-1, c_in)).reshape(W.shape)
    return (dcols @ W.reshape(-1, c_in)).reshape(x.shape) if need_dx else None


class ConvTranspose2d(Convolution):
    """ConvTranspose2d(channels, kernel_size): (n, h, w, c_in) -> (n, h_out, w_out, channels).

    kernel_size, stride  a number, or (vertical, horizontal)
    padding              as Conv2d's, but cropped from the output: "same" gives h·s,
                         other forms (h - 1)·s + k - top - bottom + output_padding
    output_padding       extra rows and columns at the end; smaller than the stride
    bias, initializer    as Conv2d's
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int | Pair,
        stride: int | Pair = 1,
        padding: str | int | Padding = "valid",
        output_padding: int | Pair = 0,
        *,
        bias: bool = True,
        initializer: Initializer | None = None,
    ):
        super().__init__(channels, kernel_size, stride, padding, bias=bias, initializer=initializer)
        label = type(self).__name__
        self.output_padding = expect_pair(label, "output_padding", output_padding, least=0)
        for extra, s in zip(self.output_padding, self.stride, strict=True):
            if extra >= s:
                raise ConfigError(
                    f"{label}: output_padding must be smaller than the stride {s}, got {extra}"
                )
        if self.padding == "same" and self.output_padding != (0, 0):
            raise ConfigError(
                f'{label}: padding "same" fixes the output at size * stride: '
                "leave output_padding at 0"
            )

    def setup(self, in_shape: Shape, *, backend: Backend, rng: Generator, store: Store) -> Shape:
        super().setup(in_shape, backend=backend, rng=rng, store=store)
        h, w, c_in = expect_image(self.label, in_shape)
        sizes, self.pads = conv_transpose_sizes(
            self.label, (h, w), self.kernel_size, self.stride, self.padding, self.output_padding
        )
        self.declare(store, (*self.kernel_size, self.channels, c_in), c_in)
        return (*sizes, self.channels)

    def forward(self, x: Array, train: bool = True) -> Array:
        y, self.saved = conv_transpose2d_forward(
            x, self.W, self.b, self.out_shape, self.stride, self.pads, self.backend.xp
        )
        return y

    def backward(self, dy: Array, need_dx: bool = True, need_dw: bool = True) -> Array | None:
        dW, db = (self.dW, self.db) if need_dw else (None, None)
        return conv_transpose2d_backward(
            dy, self.saved, self.W, dW, db, need_dx, self.stride, self.pads, self.backend.xp
        )
