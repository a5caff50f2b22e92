"""A layer's convolution: the batch in chunks, the chunks on threads, the parts of dW summed.

Which kernel multiplies a chunk is chosen by shape alone: by thin columns (numpy_thin.py) for
images of few channels, Winograd (numpy_winograd.py) where its fewer multiplications win,
by columns (numpy_columns.py) everywhere else. A Linear layer is the convolution of an image
of one pixel.

What surrounds a convolution can be done chunk by chunk too, while the chunk is in cache:
`after` the forward pass (bias, activation), and `before` the backward pass (the parts of
it that belong to activation and BatchNorm); see numpy_fused.py.
Shown by: benchmarks/layers.py
"""

from collections.abc import Callable
from math import prod

import numpy as np

from minigan.arrays.backend import Array, Padding, Pair, Shape, Workspace
from minigan.backends.cpu.backend import NumpyBackend
from minigan.backends.cpu.chunks import (
    CACHE,
    Desk,
    add_sums,
    chunks,
    column_sums,
    contiguous,
    spread,
)
from minigan.backends.cpu.few_channels import Thin
from minigan.backends.cpu.im2col import Columns
from minigan.backends.cpu.winograd import Winograd

FEW_CHANNELS = 4  # at most so many make thin columns
WIDE = 50_000  # numbers in W from which on Winograd's savings outweigh its transforms

Geometry = tuple[
    Shape, Shape, Shape, Pair, Padding
]  # x, W and y without the batch axis, stride, padding
# What is called around each chunk, with its place in the batch, the thread's scratch memory and the chunk's number
BeforeForward = Callable[[slice, Desk], None]
BeforeBackward = Callable[[slice, Desk, int], Array]  # -> dy of the chunk
After = Callable[[slice, Array, Desk, int], None]  # with y or dx of the chunk


class Convolution:
    """One geometry, for layers of any batch size; shapes without the batch axis.

    transposed  as in ConvTranspose2d: the kernel's x is y here, and the reverse
    """

    def __init__(
        self,
        backend: NumpyBackend,
        x_shape: Shape,
        W_shape: Shape,
        y_shape: Shape,
        stride: Pair,
        padding: Padding,
        transposed: bool,
    ):
        self.backend, self.in_shape, self.out_shape, self.W_shape = (
            backend,
            x_shape,
            y_shape,
            W_shape,
        )
        big, small = (y_shape, x_shape) if transposed else (x_shape, y_shape)
        self.kernel, self.transposed = (
            choose_kernel((big, W_shape, small, stride, padding), backend),
            transposed,
        )

    def parts(self, n: int) -> list[slice]:
        return chunks(n, self.kernel.images(self.backend.dtype.itemsize), self.backend.team.size)

    def forward(
        self,
        x: Array,
        W: Array,
        b: Array | None,
        y: Array | None,
        memory: Workspace,
        before: BeforeForward | None = None,
        after: After | None = None,
    ) -> None:
        """As conv2d_forward and conv_transpose2d_forward.

        before(part, desk)       is called before a chunk of x is read; part: its place in the batch, desk: scratch memory
        after(part, y, desk, i)  is given each chunk of y as soon as it is ready, i its number. y may then be None
        """
        kernel, parts = self.kernel, self.parts(len(x))
        W = kernel.prepare(W, self.backend, self.transposed)
        b_row = (
            None if b is None else spread(b, "b row", self.out_shape[0] * self.out_shape[1], memory)
        )
        gradient = None if self.transposed else kernel.gradient(self.backend, memory, len(x))

        def chunk(i: int, worker: int) -> None:
            part, desk = parts[i], self.backend.desks[worker]
            if before is not None:
                before(part, desk)
            y_part = (
                desk.get("y", (part.stop - part.start, *self.out_shape)) if y is None else y[part]
            )
            if gradient is None:
                kernel.transpose(x[part], W, y_part, desk)
            else:
                kernel.forward(kernel.read_x(x[part], desk, gradient.place(part)), W, y_part, desk)
            if b_row is not None:
                rows = y_part.reshape(len(y_part), -1)
                np.add(rows, b_row, out=rows)
            if after is not None:
                after(part, y_part, desk, i)

        self.backend.team.run(chunk, len(parts))

    def backward(
        self,
        dy: Array,
        x: Array,
        W: Array,
        dW: Array | None,
        db: Array | None,
        dx: Array | None,
        memory: Workspace,
        before: BeforeBackward | None = None,
        after: After | None = None,
    ) -> None:
        """As conv2d_backward and conv_transpose2d_backward.

        before(part, desk, i)     gives dy of each chunk; without it, it is dy[part]
        after(part, dx, desk, i)  is given each chunk of dx as soon as it is ready. dx may then be None
        """
        kernel, parts = self.kernel, self.parts(len(x))
        need_dx = dx is not None or after is not None
        if need_dx:
            W = kernel.prepare(W, self.backend, not self.transposed)
        gradient = kernel.gradient(
            self.backend, self.backend.workspace if self.transposed else memory, len(x)
        )
        sum_dy = None if db is None else memory.get("sums of dy", (len(parts), len(db)))

        def chunk(i: int, worker: int) -> None:
            part, desk = parts[i], self.backend.desks[worker]
            dy_part = dy[part] if before is None else before(part, desk, i)
            if sum_dy is not None:
                column_sums(dy_part.reshape(-1, sum_dy.shape[1]), sum_dy[i], desk)
            if need_dx:
                dx_part = desk.get("dx", x[part].shape) if dx is None else dx[part]
            if self.transposed:
                dy_read = kernel.read_x(dy_part, desk, gradient.place(part))
                if dW is not None:
                    gradient.add(dy_read, x[part], part, worker)
                if need_dx:
                    kernel.forward(dy_read, W, dx_part, desk)
            else:
                if dW is not None:
                    gradient.add(gradient.kept(x[part], part, worker), dy_part, part, worker)
                if need_dx:
                    kernel.transpose(dy_part, W, dx_part, desk)
            if after is not None:
                after(part, dx_part, desk, i)

        self.backend.team.run(chunk, len(parts))
        if dW is not None:
            gradient.finish(dW)
        if db is not None:
            add_sums(sum_dy, db, memory)


class Nothing:
    """The core of a block that begins with BatchNorm or an activation: y is x."""

    def __init__(self, backend: NumpyBackend, shape: Shape):
        self.backend, self.in_shape, self.out_shape = backend, shape, shape

    def parts(self, n: int) -> list[slice]:
        images = CACHE // (4 * prod(self.in_shape) * self.backend.dtype.itemsize)
        return chunks(n, max(1, images), self.backend.team.size)

    def forward(
        self,
        x: Array,
        W: None,
        b: None,
        y: Array | None,
        memory: Workspace,
        before: BeforeForward | None = None,
        after: After | None = None,
    ) -> None:
        parts, desks = self.parts(len(x)), self.backend.desks

        def chunk(i: int, worker: int) -> None:
            part, desk = parts[i], desks[worker]
            if before is not None:
                before(part, desk)
            if after is not None:
                after(part, x[part], desk, i)

        self.backend.team.run(chunk, len(parts))

    def backward(
        self,
        dy: Array,
        x: Array,
        W: None,
        dW: None,
        db: None,
        dx: Array | None,
        memory: Workspace,
        before: BeforeBackward | None = None,
        after: After | None = None,
    ) -> None:
        parts, desks = self.parts(len(x)), self.backend.desks

        def chunk(i: int, worker: int) -> None:
            part, desk = parts[i], desks[worker]
            dx_part = dy[part] if before is None else before(part, desk, i)
            if dx is not None:
                dx[part] = dx_part
            if after is not None:
                after(part, dx_part, desk, i)

        self.backend.team.run(chunk, len(parts))


def choose_kernel(geometry: Geometry, backend: NumpyBackend) -> Columns | Winograd:
    """geometry: x_shape, W_shape, y_shape, stride, padding -> the kernel for it"""
    columns = Columns(*geometry)
    (k_h, k_w, c_in, c_out), stride = geometry[1], geometry[3]
    if columns.is_linear:
        return columns
    if c_in <= FEW_CHANNELS:
        return Thin(*geometry)
    taps = {-(-k // s) for k, s in zip((k_h, k_w), stride, strict=True)}
    if (
        backend.winograd
        and taps <= {2, 3}
        and stride in ((1, 1), (2, 2))
        and k_h * k_w * c_in * c_out >= WIDE
    ):
        winograd = Winograd(*geometry, backend.dtype)
        if winograd.tiles >= 4:  # with fewer tiles, U is larger than what it is multiplied by
            return winograd
    return columns


def find_convolution(
    backend: NumpyBackend,
    x_shape: Shape,
    W_shape: Shape,
    y_shape: Shape,
    stride: Pair = (1, 1),
    padding: Padding = ((0, 0), (0, 0)),
    transposed: bool = False,
) -> Convolution:
    """-> the Convolution of this geometry, made once for each backend."""
    key = (x_shape, W_shape, y_shape, stride, padding, transposed)
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
    backend: NumpyBackend,
    memory: Workspace,
    transposed: bool = False,
) -> None:
    """As conv2d_forward in layers/conv2d.py."""
    convolution = find_convolution(
        backend, x.shape[1:], W.shape, y.shape[1:], stride, padding, transposed
    )
    convolution.forward(contiguous(x, "x", memory), W, b, y, memory)


def conv2d_backward(
    dy: Array,
    x: Array,
    W: Array,
    dW: Array | None,
    db: Array | None,
    dx: Array | None,
    stride: Pair,
    padding: Padding,
    backend: NumpyBackend,
    memory: Workspace,
    transposed: bool = False,
) -> None:
    """As conv2d_backward in layers/conv2d.py."""
    convolution = find_convolution(
        backend, x.shape[1:], W.shape, dy.shape[1:], stride, padding, transposed
    )
    dy, x = contiguous(dy, "dy", memory), contiguous(x, "x", memory)
    convolution.backward(dy, x, W, dW, db, dx, memory)


def conv_transpose2d_forward(
    x: Array,
    W: Array,
    b: Array | None,
    y: Array,
    stride: Pair,
    padding: Padding,
    backend: NumpyBackend,
    memory: Workspace,
) -> None:
    """As conv_transpose2d_forward in layers/conv_transpose2d.py."""
    conv2d_forward(x, W, b, y, stride, padding, backend, memory, transposed=True)


def conv_transpose2d_backward(
    dy: Array,
    x: Array,
    W: Array,
    dW: Array | None,
    db: Array | None,
    dx: Array | None,
    stride: Pair,
    padding: Padding,
    backend: NumpyBackend,
    memory: Workspace,
) -> None:
    """As conv_transpose2d_backward in layers/conv_transpose2d.py."""
    conv2d_backward(dy, x, W, dW, db, dx, stride, padding, backend, memory, transposed=True)


def linear_forward(x: Array, W: Array, b: Array | None, y: Array, backend: NumpyBackend) -> None:
    """As linear_forward in layers/linear.py."""
    no_padding = ((0, 0), (0, 0))
    conv2d_forward(
        pixels(x), W[None, None], b, pixels(y), (1, 1), no_padding, backend, backend.workspace
    )


def linear_backward(
    dy: Array,
    x: Array,
    W: Array,
    dW: Array | None,
    db: Array | None,
    dx: Array | None,
    backend: NumpyBackend,
) -> None:
    """As linear_backward in layers/linear.py."""
    dW, dx = None if dW is None else dW[None, None], None if dx is None else pixels(dx)
    no_padding = ((0, 0), (0, 0))
    conv2d_backward(
        pixels(dy),
        pixels(x),
        W[None, None],
        dW,
        db,
        dx,
        (1, 1),
        no_padding,
        backend,
        backend.workspace,
    )


def pixels(vectors: Array) -> Array:
    """(n, c) -> (n, 1, 1, c)"""
    return vectors[:, None, None]
