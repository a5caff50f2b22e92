"""Transposed 2-D convolution: Conv2d run backwards, which is how an image grows.

A convolution is linear, so it is a (huge, sparse) matrix M: y = M·x, and its dx is
Mᵀ·dy. The transposed convolution is the layer whose *forward* is that dx:

    this forward  = Conv2d's dx          x -> cols = x·Wᵀ -> y = col2im(cols)
    this dx       = Conv2d's forward     dy -> dcols = im2col(dy) -> dx = dcols·W
    this dW       = Conv2d's dW with the roles of x and dy exchanged

    y[n, p·s + i - top, q·s + j - left, o] += x[n, p, q, c] · W[i, j, o, c]   for all i, j

Each input pixel paints its k x k patch into the output, patches s pixels apart.
("Deconvolution" is a misnomer: nothing is inverted.)

W is the weight of the convolution that this transposes, so it leads from this
layer's *outputs* to its inputs: (k_h, k_w, c_out, c_in).

x (n, h, w, c_in)   W (k_h, k_w, c_out, c_in)   b (c_out,)   y (n, h_out, w_out, c_out)
Source: Dumoulin & Visin 2016, arXiv:1603.07285, section 4
"""

from minigan.arrays.backend import Padding, Pair, Workspace
from minigan.checks import expect_size
from minigan.errors import ConfigError
from minigan.initializers import Initializer, glorot_uniform, zeros
from minigan.layers.base import Array, Backend, Generator, Shape, Store
from minigan.layers.conv2d import Convolution, as_matrix, columns
from minigan.layers.geometry import conv_transpose_sizes, expect_image, expect_padding, expect_pair
from minigan.layers.linear import add_column_sums


def conv_transpose2d_forward(
    x: Array,
    W: Array,
    b: Array | None,
    y: Array,
    stride: Pair,
    padding: Padding,
    backend: Backend,
    memory: Workspace,
) -> None:
    """Forward pass of transposed 2-D convolution.
    x        (n, h, w, c_in)            read only
    W        (k_h, k_w, c_out, c_in)    read only
    b        (c_out,) or None
    y        (n, h_out, w_out, c_out)   written
    padding  ((top, bottom), (left, right)) of the convolution that this transposes: cropped from y
    memory   Workspace                  keeps nothing here; fast versions may
    """
    c_in = W.shape[3]
    cols = columns(backend.workspace, x, W)
    backend.gemm(x.reshape(-1, c_in), W.reshape(-1, c_in).T, out=as_matrix(cols, x))
    backend.col2im(cols, y, stride, padding)
    if b is not None:
        backend.xp.add(y, b, out=y)


def conv_transpose2d_backward(
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
    """Backward pass of transposed 2-D convolution.
    dy      (n, h_out, w_out, c_out)   d(mean loss)/dy; 1/n already inside
    x       (n, h, w, c_in)            as in forward
    W       (k_h, k_w, c_out, c_in)    read only
    dW, db  as W, b                    added to; None: not wanted
    dx      (n, h, w, c_in)            written; None: not wanted
    Why: dcols = im2col(dy);  dW = dcolsᵀ·x;  dx = dcols·W
    """
    c_in = W.shape[3]
    if db is not None:
        add_column_sums(dy.reshape(-1, dy.shape[3]), db, backend)
    if dW is None and dx is None:
        return
    dcols = columns(backend.workspace, x, W)
    backend.im2col(dy, dcols, stride, padding)
    if dW is not None:
        backend.gemm(
            as_matrix(dcols, x).T, x.reshape(-1, c_in), out=dW.reshape(-1, c_in), accumulate=True
        )
    if dx is not None:
        backend.gemm(as_matrix(dcols, x), W.reshape(-1, c_in), out=dx.reshape(-1, c_in))


class ConvTranspose2d(Convolution):
    """ConvTranspose2d(channels, kernel_size): images (n, h, w, c_in) -> (n, h_out, w_out, channels).

    kernel_size, stride  a number, or (vertical, horizontal)
    padding              as Conv2d's, but cropped from the output: "same" gives h·s,
                         other forms (h - 1)·s + k - top - bottom + output_padding
    output_padding       rows and columns more, at the end; smaller than the stride
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
        label = "ConvTranspose2d"
        self.channels = expect_size(f"{label}: channels", channels)
        self.kernel_size = expect_pair(label, "kernel_size", kernel_size)
        self.stride = expect_pair(label, "stride", stride)
        self.padding = expect_padding(label, padding, self.kernel_size)
        self.output_padding = expect_pair(label, "output_padding", output_padding, least=0)
        for extra, s in zip(self.output_padding, self.stride, strict=True):
            if extra >= s:
                raise ConfigError(
                    f"{label}: output_padding must be smaller than the stride {s}, got {extra}"
                )
        if self.padding == "same" and self.output_padding != (0, 0):
            raise ConfigError(
                f'{label}: padding "same" fixes the output at size * stride: leave output_padding at 0'
            )
        self.use_bias = bias
        self.initializer = initializer or glorot_uniform()

    def setup(self, in_shape: Shape, *, backend: Backend, rng: Generator, store: Store) -> Shape:
        super().setup(in_shape, backend=backend, rng=rng, store=store)
        h, w, c_in = expect_image(self.label, in_shape)
        (h_out, w_out), self.pads = conv_transpose_sizes(
            self.label, (h, w), self.kernel_size, self.stride, self.padding, self.output_padding
        )
        self.out_shape = (h_out, w_out, self.channels)
        k_h, k_w = self.kernel_size
        self.b, self.db = None, None
        store.parameter(
            self,
            "W",
            (k_h, k_w, self.channels, c_in),
            self.initializer,
            fan_in=k_h * k_w * c_in,
            fan_out=k_h * k_w * self.channels,
        )
        if self.use_bias:
            store.parameter(self, "b", (self.channels,), zeros())
        self.forward_op = backend.implementation(conv_transpose2d_forward)
        self.backward_op = backend.implementation(conv_transpose2d_backward)
        return self.out_shape
