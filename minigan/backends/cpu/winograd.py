"""Winograd's convolution of one chunk of images: fewer multiplications for the same result.

Take a filter g of three numbers and four outputs y_j = Σ d_{j+i}·g_i: twelve products. Read
g and d as polynomials instead: what is wanted are coefficients of a product, and that is fixed
by its values at six points. So six products do, and some additions:

    y = Aᵀ[(G·g) ⊙ (Bᵀ·d)]          tiles d of 6, filters g of 3, outputs y of 4

In two dimensions the same goes for rows and for columns: 36 products for 16 outputs, where the
plain sum takes 144. Over many channels and tiles, each of the 36 is a matrix product:

    V = Bᵀ d B    (36, tiles, c_in)       from x
    U = G g Gᵀ    (36, c_in, c_out)       from W, once a batch
    M = V·U       (36, tiles, c_out)      nearly all of the time
    y = Aᵀ M A                            back to pixels

With stride 2, x is sorted by the parity of its rows and columns into 4 phases, and so is the
filter: a 5x5 or 4x4 convolution of stride 2 is the sum of 4 convolutions of stride 1, with
filters of 3x3 or 2x2. A sum over phases is a sum over channels: the phases make c_in four times
as large. In the other direction, from y to x, each phase of x is a convolution of y by the
flipped filter. The gradient is the transpose of the forward pass: dU = Vᵀ·(A dy Aᵀ), dW = Gᵀ dU G.

Exact in real numbers; rounding in float32 makes errors of some 2e-6 of the largest value, where
the plain sum makes 5e-7 (tests/test_numpy_fast.py holds both to that).
Sources: Lavin & Gray 2015, arXiv:1509.09308; on the points Barabasz et al. 2018, arXiv:1803.10986
Shown by: benchmarks/layers.py
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from minigan.arrays.backend import Array, Padding, Pair, Shape, Workspace
from minigan.backends.cpu.backend import NumpyBackend
from minigan.backends.cpu.chunks import Desk, chunks
from minigan.backends.cpu.im2col import view

POINTS = tuple(
    Fraction(quarters, 4) for quarters in (0, 3, -3, 6, -6)
)  # and infinity. Near 1, where powers stay small
TILE = 4  # outputs of a tile, each way
SMALL = (
    10**6
)  # OpenBLAS multiplies matrices of at most so many products by kernels that need no preparations
ROWS = 384  # tiles in a product beyond that: enough to make up for the preparations, and no more, for memory's sake
BLOCK = 2**21  # bytes of tiles to transform at a time, and as many of filters


class Winograd:
    """One geometry, and the three products as in numpy_columns.py."""

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
            np.kron(*pair).astype(dtype) for pair in zip(*one_axis, strict=True)
        )
        self.products = len(self.B)
        self.depth = s_h * s_w * c_in
        tops = [before for before, _ in padding]
        # along each axis, phases of x are counted from the first that a window reads; y's pixel 0 reads those from 0 on
        firsts = [
            top // s for top, s in zip(tops, stride, strict=True)
        ]  # the first with a pixel of x in it
        lasts = [
            (size - 1 + top) // s for size, top, s in zip(x_shape[:2], tops, stride, strict=True)
        ]
        self.x_for_y = Tiles(x_shape, stride, [-top for top in tops], y_shape[:2], taps)
        self.y_for_x = Tiles(
            y_shape,
            (1, 1),
            [first - r + 1 for first, r in zip(firsts, taps, strict=True)],
            [last - first + 1 for first, last in zip(firsts, lasts, strict=True)],
            taps,
        )
        self.y_out = Tiles(y_shape, (1, 1), (0, 0), y_shape[:2], (1, 1))
        corner = [s * first - top for s, first, top in zip(stride, firsts, tops, strict=True)]
        self.x_out = Tiles(x_shape, stride, corner, self.y_for_x.extent, (1, 1))

    @property
    def tiles(self) -> int:
        return self.x_for_y.count

    def images(self, itemsize: int) -> int:
        """-> how many in a chunk"""
        rows = SMALL // (self.depth * self.W_shape[3])
        if rows >= 32:
            return max(1, rows // self.tiles)
        return max(
            1, ROWS // max(self.tiles, self.y_for_x.count)
        )  # of the two directions the one with more tiles: M is large

    def prepare(self, W: Array, backend: NumpyBackend, transposed: bool) -> Array:
        """W -> U (products, s_h·s_w·c_in, c_out) for forward, (products, c_out, s_h·s_w·c_in) for transpose"""
        (k_h, k_w, c_in, c_out), (s_h, s_w), (r_h, r_w) = self.W_shape, self.stride, self.taps
        shape = (
            (r_h, r_w, c_out, s_h, s_w, c_in) if transposed else (r_h, r_w, s_h, s_w, c_in, c_out)
        )
        filters = backend.scratch("filters", shape)
        if k_h % s_h or k_w % s_w:  # some phases have a tap less than others
            filters.fill(0)
        phases = filters[::-1, ::-1].transpose(0, 1, 3, 4, 5, 2) if transposed else filters
        for a in range(s_h):
            for b in range(s_w):
                phase = W[a::s_h, b::s_w]
                phases[: phase.shape[0], : phase.shape[1], a, b] = phase
        filters = filters.reshape(r_h * r_w, -1)
        U = backend.scratch("U", (self.products, filters.shape[1]))
        transform(self.G, filters, U, backend)
        return U.reshape(
            self.products, *((c_out, self.depth) if transposed else (self.depth, c_out))
        )

    # -- the three products --------------------------------------------------------------

    def read_x(self, x: Array, desk: Desk, out: Array | None) -> Array:
        """-> V (products, tiles, s_h·s_w·c_in)"""
        V = (
            desk.get("V", (self.products, len(x) * self.tiles, self.depth), x.dtype)
            if out is None
            else out
        )
        self.x_for_y.read(x, self.B, V, desk)
        return V

    def forward(self, V: Array, U: Array, y: Array, desk: Desk) -> None:
        M = desk.get("M", (self.products, V.shape[1], U.shape[2]), y.dtype)
        np.matmul(V, U, out=M)
        self.y_out.write(M, self.A, y, desk)

    def transpose(self, y: Array, U: Array, x: Array, desk: Desk) -> None:
        V = desk.get("V", (self.products, len(y) * self.y_for_x.count, U.shape[1]), y.dtype)
        M = desk.get("M", (self.products, V.shape[1], U.shape[2]), y.dtype)
        self.y_for_x.read(y, self.B, V, desk)
        np.matmul(V, U, out=M)
        self.x_out.write(M, self.A, x, desk)

    def gradient(self, backend: NumpyBackend, memory: Workspace, n: int) -> "WinogradGradient":
        return WinogradGradient(self, backend, memory, n)


class WinogradGradient:
    """dW of a batch. The tiles of all chunks are kept, so that each product sums over all of them at once."""

    def __init__(self, kernel: Winograd, backend: NumpyBackend, memory: Workspace, n: int):
        self.kernel, self.backend = kernel, backend
        self.V = memory.get("V of batch", (kernel.products, n * kernel.tiles, kernel.depth))
        self.M = backend.scratch(
            "M of batch", (kernel.products, n * kernel.tiles, kernel.W_shape[3])
        )

    def place(self, part: slice) -> Array:
        """-> where read_x shall write this chunk's V"""
        return self.V[:, part.start * self.kernel.tiles : part.stop * self.kernel.tiles]

    def kept(self, x: Array, part: slice, worker: int) -> Array:
        """-> V of this chunk, from the forward pass"""
        return self.place(part)

    def add(self, V: Array, y: Array, part: slice, worker: int) -> None:
        M = self.M[:, part.start * self.kernel.tiles : part.stop * self.kernel.tiles]
        self.kernel.y_out.read(y, self.kernel.A.T, M, self.backend.desks[worker])

    def finish(self, dW: Array) -> None:
        """dW += Gᵀ (Vᵀ·M) G"""
        kernel, backend = self.kernel, self.backend
        (_, _, c_in, c_out), (s_h, s_w), (r_h, r_w) = kernel.W_shape, kernel.stride, kernel.taps
        dU = backend.scratch("dU", (kernel.products, kernel.depth, c_out))
        backend.team.run(lambda i, _: np.matmul(self.V[i].T, self.M[i], out=dU[i]), kernel.products)
        filters = backend.scratch("d filters", (r_h * r_w, kernel.depth * c_out))
        transform(kernel.G.T, dU.reshape(kernel.products, -1), filters, backend)
        filters = filters.reshape(r_h, r_w, s_h, s_w, c_in, c_out)
        for a in range(s_h):
            for b in range(s_w):
                phase = dW[a::s_h, b::s_w]
                np.add(phase, filters[: phase.shape[0], : phase.shape[1], a, b], out=phase)


def transform(matrix: Array, columns: Array, out: Array, backend: NumpyBackend) -> None:
    """out = matrix · columns, for few rows and very many columns: in blocks, on all threads where there are several"""
    size = BLOCK // (columns.itemsize * len(columns))
    parts = chunks(columns.shape[1], size, 1 if columns.shape[1] <= size else backend.team.size)
    backend.team.run(
        lambda i, _: np.matmul(matrix, columns[:, parts[i]], out=out[:, parts[i]]), len(parts)
    )


class Tiles:
    """An image (h, w, c) as tiles: how it is read into Winograd's domain, or written from there.

    phases  (s_h, s_w)   the image is s_h·s_w phases, each of which is tiled
    first   (y, x)       pixel that the first tile starts at; outside of the image there are zeros
    extent  (h, w)       outputs that the tiles must hold, of each phase
    taps    (r_h, r_w)   tiles overlap by one less
    """

    def __init__(
        self, shape: Shape, phases: Pair, first: Sequence[int], extent: Sequence[int], taps: Pair
    ):
        self.shape, self.phases, self.first, self.extent = shape, phases, first, extent
        self.grid = tuple(-(-size // TILE) for size in extent)
        self.count = self.grid[0] * self.grid[1]
        self.size = tuple(TILE + r - 1 for r in taps)
        self.plane = tuple(
            s * (TILE * t + r - 1) for s, t, r in zip(phases, self.grid, taps, strict=True)
        )
        self.inside: list[
            tuple[slice, slice]
        ] = []  # by axis: the part of the plane that is image, and which part of it
        for offset, size, length in zip(first, shape[:2], self.plane, strict=True):
            start, stop = max(0, -offset), min(length, size - offset)
            self.inside.append((slice(start, stop), slice(start + offset, stop + offset)))
        self.name = f"plane with {self.inside}"

    def read(self, image: Array, matrix: Array, out: Array, desk: Desk) -> None:
        """out (products, tiles, s_h·s_w·c) = matrix · each tile"""
        (rows, of_rows), (columns, of_columns) = self.inside
        for part in self.few(image):
            plane = desk.frame(
                self.name, (part.stop - part.start, *self.plane, self.shape[2]), image.dtype
            )
            plane[:, rows, columns] = image[part, of_rows, of_columns]
            tiles = self.tiles(plane)
            copy = desk.get("tiles", tiles.shape, image.dtype)
            np.copyto(copy, tiles)
            np.matmul(matrix, self.as_matrices(copy), out=self.in_domain(out, part))

    def write(self, M: Array, matrix: Array, image: Array, desk: Desk) -> None:
        """The image = matrix · M (products, tiles, s_h·s_w·c), for each tile"""
        (rows, of_rows), (columns, of_columns) = self.inside
        for part in self.few(image):
            plane = desk.get(
                "plane", (part.stop - part.start, *self.plane, self.shape[2]), image.dtype
            )
            tiles = self.tiles(plane)
            product = desk.get("tiles", tiles.shape, image.dtype)
            np.matmul(matrix, self.in_domain(M, part), out=self.as_matrices(product))
            np.copyto(tiles, product)
            image[part, of_rows, of_columns] = plane[:, rows, columns]

    def few(self, image: Array) -> list[slice]:
        """-> slices of so few images that their tiles lie in cache while they are transformed"""
        size = (
            self.count
            * self.size[0]
            * self.size[1]
            * self.phases[0]
            * self.phases[1]
            * self.shape[2]
        )
        return chunks(len(image), max(1, BLOCK // (size * image.itemsize)), 1)

    def tiles(self, plane: Array) -> Array:
        """plane (n, h, w, c) -> view (n, t_h, t_w, s_h, tile_h, tile_w, s_w·c)"""
        (s_h, s_w), (t_h, t_w), (h, w), c = self.phases, self.grid, self.plane, self.shape[2]
        shape = (len(plane), t_h, t_w, s_h, *self.size, s_w * c)
        return view(
            plane,
            0,
            shape,
            (h * w * c, TILE * s_h * w * c, TILE * s_w * c, w * c, s_h * w * c, s_w * c, 1),
        )

    def as_matrices(self, tiles: Array) -> Array:
        """-> (tiles, s_h, tile_h·tile_w, s_w·c): small matrices, which BLAS multiplies at its best"""
        return tiles.reshape(-1, self.phases[0], self.size[0] * self.size[1], tiles.shape[-1])

    def in_domain(self, array: Array, part: slice) -> Array:
        """array (products, tiles, s_h·s_w·c) -> view of some images' tiles, as as_matrices"""
        some = array[:, part.start * self.count : part.stop * self.count]
        return some.reshape(
            len(array), -1, self.phases[0], self.phases[1] * self.shape[2]
        ).transpose(1, 2, 0, 3)


def toom_cook(m: int, r: int) -> tuple[np.ndarray, ...]:
    """-> Aᵀ (m, a), G (a, r), Bᵀ (a, a) in float64 for m outputs of a filter of r, a = m + r - 1.

    Row i of Bᵀ holds the coefficients of Π (x - p_l) over the other points l, that of infinity of all points.
    """
    a = m + r - 1
    points = POINTS[: a - 1]
    A, G, B = (
        [[Fraction(0)] * columns for _ in range(rows)] for rows, columns in ((m, a), (a, r), (a, a))
    )
    for i, p in enumerate(points):
        others = [q for q in points if q != p]
        scale = Fraction(1)
        for q in others:
            scale *= p - q
        for j in range(m):
            A[j][i] = p**j
        for j in range(r):
            G[i][j] = p**j / scale
        B[i] = [*polynomial(others), Fraction(0)]
    A[m - 1][a - 1] = G[a - 1][r - 1] = Fraction(1)
    B[a - 1] = polynomial(points)
    return tuple(
        np.array([[float(value) for value in row] for row in matrix]) for matrix in (A, G, B)
    )


def polynomial(roots: Sequence[Fraction]) -> list[Fraction]:
    """-> coefficients of Π (x - root), lowest power first"""
    coefficients = [Fraction(1)]
    for root in roots:
        shifted = [Fraction(0), *coefficients]
        coefficients = [
            s - root * c for s, c in zip(shifted, [*coefficients, Fraction(0)], strict=True)
        ]
    return coefficients
