"""Winograd's convolution of one chunk of images: fewer multiplications for the same result.

Take a filter g of three numbers and four outputs y_j = Σ d_{j+i}·g_i: twelve products. Now read g
and d as polynomials: the outputs are coefficients of a product, which is determined by its
values at six points. So six products are enough, plus some additions:

    y = Aᵀ[(G·g) ⊙ (Bᵀ·d)]          tiles d of 6, filters g of 3, outputs y of 4

In two dimensions rows and columns are both treated this way: 36 products for 16 outputs, where the
plain sum takes 144. Over many channels and tiles, each of the 36 is a matrix product:

    V = Bᵀ d B    (36, tiles, c_in)       from x
    U = G g Gᵀ    (36, c_in, c_out)       from W, once a batch
    M = V·U       (36, tiles, c_out)      nearly all of the time
    y = Aᵀ M A                            back to pixels

With stride 2, x is sorted by the parity of its rows and columns into 4 phases, and so is the
filter: a 5x5 or 4x4 convolution of stride 2 is the sum of 4 convolutions of stride 1, with filters
of 3x3 or 2x2. A sum over phases is a sum over channels: the phases make c_in four times as large.
In the other direction, from y to x, each phase of x is a convolution of y by the flipped filter.
With an odd padding, phases that are counted from x's first pixel are shifted against each other
by one pixel of y. Counted from the pixel before it they are not, and share the tiles of y, but then
they have 9 pixels, say, instead of 8. Where that takes more tiles, y is tiled once for each phase.
The gradient is the transpose of the forward pass: dU = Vᵀ·(A dy Aᵀ), dW = Gᵀ dU G.

Exact in real numbers; rounding in float32 causes errors of about 2e-6 of the largest value, where
the plain sum has 5e-7 (the tests hold both to that).
Sources: Lavin & Gray 2015, arXiv:1509.09308; on the points Barabasz et al. 2018, arXiv:1803.10986
Shown by: benchmarks/layers.py
"""

from collections.abc import Sequence
from itertools import groupby, product
from typing import Any, NamedTuple

import numpy as np

from minigan.arrays import Array, Padding, Pair, Shape
from minigan.backends.cpu.backend import CpuBackend
from minigan.backends.cpu.chunks import ThreadWorkspace, chunks
from minigan.backends.cpu.im2col import view
from minigan.backends.workspace import Workspace

POINTS = (0.0, 0.75, -0.75, 1.5, -1.5)  # and infinity. Near 1: powers stay small
TILE = 4  # outputs of a tile, in each direction
SMALL = 10**6  # multiplications: OpenBLAS has kernels without setup cost for smaller products
ROWS = 384  # tiles in a larger product: enough to be worth the setup, and little memory
BLOCK = 2**21  # bytes of tiles to transform at a time, and of filters


class Winograd:
    """One geometry, and the three products as in im2col.py."""

    def __init__(
        self,
        x_shape: Shape,
        W_shape: Shape,
        y_shape: Shape,
        stride: Pair,
        padding: Padding,
        dtype: np.dtype[Any],
    ):
        self.W_shape, self.stride = W_shape, stride
        (k_h, k_w, c_in, _), (s_h, s_w) = W_shape, stride
        self.taps = taps = (-(-k_h // s_h), -(-k_w // s_w))  # of a phase's filter
        one_axis = [toom_cook(TILE, r) for r in taps]
        self.A, self.G, self.B = (
            Transform(*(matrix.astype(dtype) for matrix in (*pair, np.kron(*pair))))
            for pair in zip(*one_axis, strict=True)
        )
        self.products = len(self.B.both)
        self.depth = s_h * s_w * c_in
        tops = [before for before, _ in padding]
        self.x_for_y = Tiles(x_shape, stride, [-top for top in tops], y_shape[:2], taps)
        self.y_out = Tiles(y_shape, (1, 1), (0, 0), y_shape[:2], (1, 1))
        # pixel i of phase p is x[corner + s·i + p]; it gets y[i + shift - r + 1] to y[i + shift]
        corners, extent, shifts = list(map(corner_of, x_shape[:2], stride, tops)), [], []
        for size, s, top, corner in zip(x_shape[:2], stride, tops, corners, strict=True):
            extent.append(-(-(size - corner) // s))
            shifts.append([(p + corner + top) // s for p in range(s)])
        self.x_out = Tiles(x_shape, stride, corners, extent, (1, 1))
        # row and column of W, modulo the stride, by which phase 0 of x begins
        self.first_taps = [corner + top for corner, top in zip(corners, tops, strict=True)]
        self.y_for_x, start = [], 0  # tiles of y, and the part of the depth, or phases, they give
        for shift, phases in groupby(product(*shifts)):
            stop = start + len(list(phases)) * c_in
            first = [each - r + 1 for each, r in zip(shift, taps, strict=True)]
            self.y_for_x.append((Tiles(y_shape, (1, 1), first, extent, taps), slice(start, stop)))
            start = stop
        self.tiles = self.x_for_y.count  # of one image

    def images(self, itemsize: int) -> int:
        """-> how many in a chunk"""
        rows = SMALL // (self.depth * self.W_shape[3])
        if rows >= 32:
            return max(1, rows // self.tiles)
        # of the two directions, the one with more tiles decides: M is large
        return max(1, ROWS // max(self.tiles, self.x_out.count))

    def prepare(self, W: Array, backend: CpuBackend, transposed: bool) -> Array:
        """W -> U (products, depth, c_out) for forward, (products, c_out, depth) for transpose"""
        (k_h, k_w, c_in, c_out), (s_h, s_w), (r_h, r_w) = self.W_shape, self.stride, self.taps
        axes = (c_out, s_h, s_w, c_in) if transposed else (s_h, s_w, c_in, c_out)
        filters = backend.scratch("filters", (r_h, r_w, *axes))
        if k_h % s_h or k_w % s_w:  # some phases have one tap fewer than others
            backend.xp.copyto(filters, 0)
        phases = filters[::-1, ::-1].transpose(0, 1, 3, 4, 5, 2) if transposed else filters
        row, column = self.first_taps if transposed else (0, 0)
        for a, b in np.ndindex(s_h, s_w):
            phase = W[(a + row) % s_h :: s_h, (b + column) % s_w :: s_w]
            backend.xp.copyto(phases[: phase.shape[0], : phase.shape[1], a, b], phase)
        filters = filters.reshape(r_h * r_w, -1)
        U = backend.scratch("U", (self.products, filters.shape[1]))
        transform(self.G.both, filters, U, backend)
        sizes = (c_out, self.depth) if transposed else (self.depth, c_out)
        return U.reshape(self.products, *sizes)

    # -- the three products --------------------------------------------------------------

    def read_x(self, x: Array, workspace: ThreadWorkspace, out: Array | None) -> Array:
        """-> V (products, tiles, s_h·s_w·c_in)"""
        V = out
        if V is None:
            V = workspace.get("V", (self.products, len(x) * self.tiles, self.depth), x.dtype)
        self.x_for_y.read(x, self.B, V, workspace)
        return V

    def forward(self, V: Array, U: Array, y: Array, workspace: ThreadWorkspace) -> None:
        M = workspace.get("M", (self.products, V.shape[1], U.shape[2]), y.dtype)
        workspace.backend.xp.matmul(V, U, out=M)
        self.y_out.write(M, self.A, y, workspace)

    def transpose(self, y: Array, U: Array, x: Array, workspace: ThreadWorkspace) -> None:
        tiles = len(y) * self.x_out.count
        V = workspace.get("V", (self.products, tiles, U.shape[1]), y.dtype)
        M = workspace.get("M", (self.products, tiles, U.shape[2]), y.dtype)
        for tiles_of_y, phases in self.y_for_x:
            tiles_of_y.read(y, self.B, V, workspace)
            workspace.backend.xp.matmul(V, U[:, :, phases], out=M[:, :, phases])
        self.x_out.write(M, self.A, x, workspace)

    def gradient(self, backend: CpuBackend, memory: Workspace, n: int) -> "WinogradGradient":
        return WinogradGradient(self, backend, memory, n)


class WinogradGradient:
    """dW of a batch. All tiles are kept, so that each product sums over all of them at once."""

    def __init__(self, kernel: Winograd, backend: CpuBackend, memory: Workspace, n: int):
        self.kernel, self.backend = kernel, backend
        self.V = memory.get("V of batch", (kernel.products, n * kernel.tiles, kernel.depth))

    def begin(self) -> None:
        """A backward pass begins."""
        products, tiles, _ = self.V.shape
        self.M = self.backend.scratch("M of batch", (products, tiles, self.kernel.W_shape[3]))

    def tiles_of(self, array: Array, part: slice) -> Array:
        return array[:, part.start * self.kernel.tiles : part.stop * self.kernel.tiles]

    def place(self, part: slice) -> Array:
        """-> where read_x writes V of this chunk"""
        return self.tiles_of(self.V, part)

    def kept(self, x: Array, part: slice, workspace: ThreadWorkspace) -> Array:
        """-> V of this chunk, from the forward pass"""
        return self.tiles_of(self.V, part)

    def add(self, V: Array, y: Array, part: slice, workspace: ThreadWorkspace, worker: int) -> None:
        self.kernel.y_out.read(y, self.kernel.A.T, self.tiles_of(self.M, part), workspace)

    def finish(self, dW: Array) -> None:
        """dW += Gᵀ (Vᵀ·M) G"""
        kernel, backend, xp = self.kernel, self.backend, self.backend.xp
        (_, _, c_in, c_out), (s_h, s_w), (r_h, r_w) = kernel.W_shape, kernel.stride, kernel.taps
        dU = backend.scratch("dU", (kernel.products, kernel.depth, c_out))
        backend.team.run(lambda i, _: xp.matmul(self.V[i].T, self.M[i], out=dU[i]), kernel.products)
        filters = backend.scratch("d filters", (r_h * r_w, kernel.depth * c_out))
        transform(kernel.G.both.T, dU.reshape(kernel.products, -1), filters, backend)
        filters = filters.reshape(r_h, r_w, s_h, s_w, c_in, c_out)
        for a, b in np.ndindex(s_h, s_w):
            phase = dW[a::s_h, b::s_w]
            xp.add(phase, filters[: phase.shape[0], : phase.shape[1], a, b], out=phase)


class Transform(NamedTuple):
    """The matrices for a tile's rows, for its columns, and for both at once."""

    rows: Array
    columns: Array
    both: Array

    @property
    def T(self) -> "Transform":
        return Transform(*(matrix.T for matrix in self))


def to_domain(matrix: Transform, tiles: Array, domain: Array, workspace: ThreadWorkspace) -> None:
    """domain (tiles, s_h, products, s_w·c) = matrix · each of Tiles.tiles"""
    xp = workspace.backend.xp
    copy = workspace.get("tiles", tiles.shape, tiles.dtype)
    xp.copyto(copy, tiles)
    xp.matmul(matrix.both, as_matrices(copy), out=domain)


def from_domain(matrix: Transform, domain: Array, tiles: Array, workspace: ThreadWorkspace) -> None:
    """tiles = matrix · each of the domain"""
    xp = workspace.backend.xp
    product = workspace.get("tiles", tiles.shape, tiles.dtype)
    xp.matmul(matrix.both, domain, out=as_matrices(product))
    xp.copyto(tiles, product)


def as_matrices(tiles: Array) -> Array:
    """-> (tiles, s_h, tile_h·tile_w, s_w·c): small matrices, which BLAS multiplies fastest"""
    _, _, _, s_h, h, w, run = tiles.shape
    return tiles.reshape(-1, s_h, h * w, run)


def transform(matrix: Array, columns: Array, out: Array, backend: CpuBackend) -> None:
    """out = matrix · columns, for few rows and very many columns: in blocks, on all threads."""
    size, xp = BLOCK // (columns.itemsize * len(columns)), backend.xp
    workers = 1 if columns.shape[1] <= size else backend.team.size
    parts = chunks(columns.shape[1], size, workers)
    backend.team.run(
        lambda i, _: xp.matmul(matrix, columns[:, parts[i]], out=out[:, parts[i]]), len(parts)
    )


class Tiles:
    """An image (h, w, c) as tiles: how it is read into Winograd's domain, or written from there.

    phases  (s_h, s_w)   the image is s_h·s_w phases, each of which is tiled
    first   (y, x)       pixel where the first tile starts; outside the image there are zeros
    extent  (h, w)       outputs that the tiles must hold, of each phase
    taps    (r_h, r_w)   tiles overlap by one less
    """

    def __init__(
        self, shape: Shape, phases: Pair, first: Sequence[int], extent: Sequence[int], taps: Pair
    ):
        self.shape, self.phases = shape, phases
        self.grid = tuple(-(-size // TILE) for size in extent)
        self.count = self.grid[0] * self.grid[1]
        self.size = tuple(TILE + r - 1 for r in taps)
        self.plane = tuple(
            s * (TILE * t + r - 1) for s, t, r in zip(phases, self.grid, taps, strict=True)
        )
        # by axis: the image's place in the plane, and the part of the image that is there
        self.inside: list[tuple[slice, slice]] = []
        for offset, size, length in zip(first, shape[:2], self.plane, strict=True):
            start, stop = max(0, -offset), min(length, size - offset)
            self.inside.append((slice(start, stop), slice(start + offset, stop + offset)))
        self.name = f"plane with {self.inside}"

    def read(self, image: Array, matrix: Transform, out: Array, workspace: ThreadWorkspace) -> None:
        """out (products, tiles, s_h·s_w·c) = matrix · each tile"""
        (rows, of_rows), (columns, of_columns) = self.inside
        xp = workspace.backend.xp
        for part in self.batches(image):
            shape = (part.stop - part.start, *self.plane, self.shape[2])
            plane = workspace.frame(self.name, shape, image.dtype)
            xp.copyto(plane[:, rows, columns], image[part, of_rows, of_columns])
            transform = workspace.backend.operation_for(to_domain)
            transform(matrix, self.tiles(plane), self.in_domain(out, part), workspace)

    def write(self, M: Array, matrix: Transform, image: Array, workspace: ThreadWorkspace) -> None:
        """The image = matrix · M (products, tiles, s_h·s_w·c), for each tile"""
        (rows, of_rows), (columns, of_columns) = self.inside
        xp = workspace.backend.xp
        for part in self.batches(image):
            shape = (part.stop - part.start, *self.plane, self.shape[2])
            plane = workspace.get("plane", shape, image.dtype)
            transform = workspace.backend.operation_for(from_domain)
            transform(matrix, self.in_domain(M, part), self.tiles(plane), workspace)
            xp.copyto(image[part, of_rows, of_columns], plane[:, rows, columns])

    def batches(self, image: Array) -> list[slice]:
        """-> slices small enough for their tiles to stay in cache while they are transformed"""
        size = self.count * self.size[0] * self.size[1]
        size *= self.phases[0] * self.phases[1] * self.shape[2]
        return chunks(len(image), max(1, BLOCK // (size * image.itemsize)), 1)

    def tiles(self, plane: Array) -> Array:
        """plane (n, h, w, c) -> view (n, t_h, t_w, s_h, tile_h, tile_w, s_w·c)"""
        (s_h, s_w), (t_h, t_w), (h, w), c = self.phases, self.grid, self.plane, self.shape[2]
        shape = (len(plane), t_h, t_w, s_h, *self.size, s_w * c)
        strides = (h * w * c, TILE * s_h * w * c, TILE * s_w * c, w * c, s_h * w * c, s_w * c, 1)
        return view(plane, 0, shape, strides)

    def in_domain(self, array: Array, part: slice) -> Array:
        """array (products, tiles, s_h·s_w·c) -> view of some images' tiles, as as_matrices"""
        some = array[:, part.start * self.count : part.stop * self.count]
        shape = (len(array), -1, self.phases[0], self.phases[1] * self.shape[2])
        return some.reshape(shape).transpose(1, 2, 0, 3)


def corner_of(size: int, stride: int, top: int) -> int:
    """-> the pixel of x where phase 0 begins: no phase is shifted then; or 0 if that saves tiles"""
    unshifted = -(top % stride)
    return min(unshifted, 0, key=lambda corner: -(-(size - corner) // (stride * TILE)))


def toom_cook(m: int, r: int) -> tuple[np.ndarray, ...]:
    """-> Aᵀ (m, a), G (a, r), Bᵀ (a, a) in float64 for m outputs of a filter of r, a = m + r - 1.

    Row i of Bᵀ holds the coefficients of Π (x - p_l) over the other points l; the row of
    infinity holds those of the product over all points.
    """
    a = m + r - 1
    points = np.array(POINTS[: a - 1])
    A, G, B = np.zeros((m, a)), np.zeros((a, r)), np.zeros((a, a))
    for i, p in enumerate(points):
        others = np.delete(points, i)
        A[:, i] = p ** np.arange(m)
        G[i] = p ** np.arange(r) / np.prod(p - others)
        B[i, :-1] = np.poly(others)[::-1]
    A[-1, -1] = G[-1, -1] = 1.0
    B[-1] = np.poly(points)[::-1]
    return A, G, B
