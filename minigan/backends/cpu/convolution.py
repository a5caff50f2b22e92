"""A layer's convolution: the batch in chunks, the chunks on threads, the parts of dW summed.

Shape and dtype decide which kernel multiplies a chunk: gathering.py for narrow layers, winograd.py
where its savings are worth it, im2col.py everywhere else. With numba, compiled/direct.py replaces
the first and the last, where its tiles fit the channels, unless W is very large. A Linear layer is
the convolution of an image of one pixel.

The operations around a convolution can run chunk by chunk too, while the chunk is in cache: `after`
the forward pass (bias, activation), and `before` the backward pass (the gradients of activation and
BatchNorm); see blocks.py.
Shown by: benchmarks/layers.py
"""

from collections.abc import Callable
from math import prod
from typing import Any

from minigan.arrays import Array, Shape
from minigan.backends.cpu.backend import CpuBackend
from minigan.backends.cpu.chunks import CACHE, ThreadWorkspace, chunks, column_sums, tile_row
from minigan.backends.cpu.gathering import Gathering
from minigan.backends.cpu.im2col import Im2col
from minigan.backends.cpu.winograd import Winograd
from minigan.backends.fusion import Core, CoreConvolution
from minigan.backends.workspace import Workspace

# numbers in W, at least; then Winograd's savings outweigh its transforms. A stride of 1 needs fewer
# transforms, and a quarter of the numbers is enough
WIDE = 50_000
WIDEST = 2**18  # numbers in W, at most, for compiled/direct.py: in float32 they fit in an L2 cache

# Called around each chunk, if not None, with its place in the batch, a thread's scratch memory, and
# its number
BeforeForward = Callable[[slice, ThreadWorkspace], None] | None
BeforeBackward = Callable[[slice, ThreadWorkspace, int], Array] | None  # -> dy of the chunk
After = Callable[[slice, Array, ThreadWorkspace, int], None] | None  # with y or dx of the chunk


class Convolution(CoreConvolution):
    """The convolution of one layer, for batches of any size."""

    def __init__(self, layer: Core, backend: CpuBackend, memory: Workspace):
        super().__init__(layer)
        self.backend, self.memory = backend, memory
        self.kernel = choose_kernel(self, backend)

    def parts(self, n: int) -> list[slice]:
        return chunks(n, self.kernel.images(self.backend.dtype.itemsize), self.backend.team.size)

    def forward(
        self, x: Array, y: Array | None, before: BeforeForward = None, after: After = None
    ) -> Any:
        """Compute y, chunk by chunk -> the values that backward needs besides x.

        before(part, workspace)       is called before a chunk of x is read
        after(part, y, workspace, i)  gets each chunk of y as soon as it is ready; y may be None
        """
        kernel, backend, parts, b = self.kernel, self.backend, self.parts(len(x)), self.layer.b
        W = kernel.prepare(self.layer.W.reshape(self.W_shape), backend, self.transposed)
        pixels = self.out_shape[0] * self.out_shape[1]
        b_row = None if b is None else tile_row(b, "b row", pixels, self.memory)
        gradient = None if self.transposed else kernel.gradient(backend, self.memory, len(x))

        def chunk(i: int, workspace: ThreadWorkspace, worker: int) -> None:
            part = parts[i]
            if before is not None:
                before(part, workspace)
            shape = (part.stop - part.start, *self.out_shape)
            y_part = workspace.get("y", shape) if y is None else y[part]
            if gradient is None:
                kernel.transpose(x[part], W, y_part, workspace)
            else:
                columns = kernel.read_x(x[part], workspace, gradient.place(part))
                kernel.forward(columns, W, y_part, workspace)
            if b_row is not None:
                rows = y_part.reshape(len(y_part), -1)
                backend.xp.add(rows, b_row, out=rows)
            if after is not None:
                after(part, y_part, workspace, i)

        backend.run(chunk, len(parts))
        return gradient

    def backward(
        self,
        dy: Array,
        x: Array,
        gradient: Any,
        need_dw: bool,
        dx: Array | None,
        before: BeforeBackward = None,
        after: After = None,
    ) -> None:
        """Add to dW and db if need_dw; compute dx, chunk by chunk.

        gradient                       from forward
        before(part, workspace, i)     -> dy of the chunk; without it, dy[part]
        after(part, dx, workspace, i)  gets each chunk of dx as soon as it is ready; dx may be None
        """
        kernel, backend, layer, parts = self.kernel, self.backend, self.layer, self.parts(len(x))
        need_dx = dx is not None or after is not None
        W = layer.W.reshape(self.W_shape)
        if need_dx:
            W = kernel.prepare(W, backend, not self.transposed)
        if self.transposed:
            gradient = kernel.gradient(backend, backend.workspace, len(x))
        gradient.begin()
        db = layer.db if need_dw else None
        sum_dy = None
        if db is not None:
            sum_dy = self.memory.get("sums of dy", (len(parts), len(db)), "float64")

        def chunk(i: int, workspace: ThreadWorkspace, worker: int) -> None:
            part = parts[i]
            dy_part = dy[part] if before is None else before(part, workspace, i)
            if sum_dy is not None:
                column_sums(dy_part.reshape(-1, sum_dy.shape[1]), sum_dy[i], workspace)
            if need_dx:
                dx_part = workspace.get("dx", x[part].shape) if dx is None else dx[part]
            if self.transposed:
                dy_read = kernel.read_x(dy_part, workspace, gradient.place(part))
                if need_dw:
                    gradient.add(dy_read, x[part], part, workspace, worker)
                if need_dx:
                    kernel.forward(dy_read, W, dx_part, workspace)
            else:
                if need_dw:
                    x_read = gradient.kept(x[part], part, workspace)
                    gradient.add(x_read, dy_part, part, workspace, worker)
                if need_dx:
                    kernel.transpose(dy_part, W, dx_part, workspace)
            if after is not None:
                after(part, dx_part, workspace, i)

        backend.run(chunk, len(parts))
        if need_dw:
            gradient.finish(layer.dW.reshape(self.W_shape))
        if db is not None:
            total = self.memory.get("sum of chunks", db.shape, "float64")
            backend.xp.add.reduce(sum_dy, axis=0, out=total)
            backend.xp.add(db, total, out=db)


class Identity:
    """The core of a block that begins with BatchNorm or an activation: y is x."""

    def __init__(self, shape: Shape, backend: CpuBackend):
        self.backend, self.in_shape, self.out_shape = backend, shape, shape

    def parts(self, n: int) -> list[slice]:
        images = CACHE // (4 * prod(self.in_shape) * self.backend.dtype.itemsize)
        return chunks(n, max(1, images), self.backend.team.size)

    def forward(
        self, x: Array, y: Array | None, before: BeforeForward = None, after: After = None
    ) -> None:
        """As Convolution.forward."""
        parts = self.parts(len(x))

        def chunk(i: int, workspace: ThreadWorkspace, worker: int) -> None:
            if before is not None:
                before(parts[i], workspace)
            if after is not None:
                after(parts[i], x[parts[i]], workspace, i)

        self.backend.run(chunk, len(parts))

    def backward(
        self,
        dy: Array,
        x: Array,
        gradient: None,
        need_dw: bool,
        dx: Array | None,
        before: BeforeBackward = None,
        after: After = None,
    ) -> None:
        """As Convolution.backward."""
        parts = self.parts(len(x))

        def chunk(i: int, workspace: ThreadWorkspace, worker: int) -> None:
            part = parts[i]
            dx_part = dy[part] if before is None else before(part, workspace, i)
            if dx is not None:
                self.backend.xp.copyto(dx[part], dx_part)
            if after is not None:
                after(part, dx_part, workspace, i)

        self.backend.run(chunk, len(parts))


def choose_kernel(core: CoreConvolution, backend: CpuBackend) -> Im2col | Winograd:
    """-> the kernel for a geometry."""
    (k_h, k_w, _, _), stride, numbers = core.W_shape, core.stride, prod(core.W_shape)
    geometry = (core.x_shape, core.W_shape, core.y_shape, stride, core.pads)
    columns = Im2col(*geometry)
    if columns.is_linear:
        return columns
    taps = {-(-k // s) for k, s in zip((k_h, k_w), stride, strict=True)}
    fits_winograd = taps <= {2, 3} and stride in ((1, 1), (2, 2))
    if backend.winograd and fits_winograd and numbers >= (WIDE if stride[0] > 1 else WIDE // 4):
        winograd = Winograd(*geometry, backend.dtype)
        if winograd.tiles >= 4:  # with fewer tiles, U is larger than the other factor
            return winograd
    if backend.compiled and numbers <= WIDEST:
        from minigan.backends.cpu.compiled.direct import Direct

        direct = Direct(*geometry, backend)
        if direct.fits:
            return direct
    return Gathering(*geometry) if numbers < WIDE else columns
