"""Direct convolution of one chunk of images: no column matrix, no fold.

In a padded copy of x the window's row (k_w, c) is one run of memory. So a product can take its
numbers from there as well as from a column matrix:

    forward     y[p] = Σ_i (k_w·c numbers of x, from pixel s·p, row i on) · W[i]
    transpose   x by its s·s phases: pixels whose row and column leave the same remainders. Each
                is a forward convolution of padded y, with stride 1, by every s-th tap of W
    gradient    dW[k] = Σ_p (k-th number of p's window of x) · y[p]

On a CPU, a load takes as long as a multiplication of vectors. So a tile of R·V sums stays in
registers: R numbers of x, each for a pixel or a place in the window, times V vectors of channels.

    R x V    registers       loads for each multiplication
    4 x 3    12 + 3 + 1      7/12                   of 16 registers; with AVX-512 there are 32
    6 x 2    12 + 2 + 1      8/12
    8 x 1     8 + 1 + 1      9/8, where the channels fill one vector only; 8 sums, because one takes
                             4 cycles, and a CPU begins 2 in a cycle

Pixels and channels behind the last whole tile are computed by one that overlaps the tile before:
some numbers twice. So V is the width that computes the fewest channels, and its last vector may be
half a register. With 16 numbers in a register, 24 channels are 1.5 of them, 40 are 2.5, 48 are 3.
Images of few channels do not fill a vector. There a vector goes along the channels of y instead,
and its lanes are added up at the end.
Shown by: benchmarks/layers.py
"""

from itertools import product
from math import prod
from typing import Any

import numpy as np

from minigan.arrays import Array, Padding, Pair, Shape
from minigan.backends.cpu.backend import CpuBackend
from minigan.backends.cpu.chunks import ThreadWorkspace
from minigan.backends.cpu.compiled import vector
from minigan.backends.cpu.compiled.kernel import kernel
from minigan.backends.cpu.compiled.vector import BYTES, lanes, outer, store, take, zeros
from minigan.backends.cpu.im2col import Im2col, pad

CHUNK = 2**20  # bytes of padded x and y
FEW = 4  # channels, at most
PIXELS = 8  # in a tile, at most
RUN = 256  # pixels that are added up one after another: rounding errors grow with their number

# one axis of a phase: taps, pixels to write, the first pixel that each of them reads
Axis = tuple[int, Array, Array]


def tile(R: int, WIDTH: int) -> tuple[Any, Any]:
    """-> multiply, gradient by tiles of R numbers times the vectors of WIDTH bytes"""

    @kernel
    def multiply(
        x: Array, x_places: Array, row: int, W: Array, y: Array, y_places: Array, phases: Array,
        n: int, c: int,
    ) -> None:  # fmt: skip
        """y[y_places] = (windows of x, from x_places on) · W, phase by phase."""
        for start, pixels, k_h, run, W_start in phases:
            stop = start + n * pixels
            for channel in range(0, c, lanes(x, WIDTH)):
                j = min(channel, c - lanes(x, WIDTH))
                for pixel in range(start, stop, R):
                    p = min(pixel, stop - R)
                    places, sums, k = take(x_places, p, R), zeros(x, R, WIDTH), W_start + j
                    for i in range(k_h):
                        for r in range(i * row, i * row + run):
                            sums = outer(sums, x, places, r, W, k)
                            k += c
                    store(sums, y, take(y_places, p, R), j)

    @kernel
    def gradient(
        x: Array, x_places: Array, window: Array, y: Array, dW: Array, dW_places: Array,
        n: int, c: int,
    ) -> None:  # fmt: skip
        """dW[dW_places] = Σ over n pixels of x[x_places + window] · y"""
        for channel in range(0, c, lanes(x, WIDTH)):
            j = min(channel, c - lanes(x, WIDTH))
            for place in range(0, len(window), R):
                k = min(place, len(window) - R)
                places, total = take(window, k, R), zeros(x, R, WIDTH)
                for start in range(0, n, RUN):
                    sums = zeros(x, R, WIDTH)
                    for p in range(start, min(start + RUN, n)):
                        sums = outer(sums, x, places, x_places[p], y, p * c + j)
                    total = vector.plus(total, sums)
                store(total, dW, take(dW_places, k, R), j)

    return multiply, gradient


@kernel
def multiply_to_few(
    x: Array, x_places: Array, row: int, W: Array, y: Array, y_places: Array, phases: Array,
    n: int, c: int,
) -> None:  # fmt: skip
    """As multiply, for few channels: W is (c, window) in each phase."""
    for start, pixels, k_h, run, W_start in phases:
        stop = start + n * pixels
        for pixel in range(start, stop, PIXELS):
            p, k = min(pixel, stop - PIXELS), W_start
            places = take(x_places, p, PIXELS)
            for channel in range(c):
                sums = zeros(x, PIXELS, BYTES)
                for i in range(k_h):
                    for v in range(0, run, lanes(x, BYTES)):
                        sums = vector.inner(sums, x, places, i * row + v, W, k + v)
                    k += run
                vector.store_totals(sums, y, take(y_places, p, PIXELS), channel)


# V -> the tile
TILES = {V: tile(R, int(V * BYTES)) for V, R in ((1, 8), (1.5, 6), (2, 6), (2.5, 4), (3, 4))}


class Windows:
    """Where a convolution of n padded images reads x and writes y.

    phases (s, 5)      the first of its places, pixels of an image, rows and run of a window, the
                       first of its weights
    x_places (pixels)  the first number of a window
    y_places (pixels)  a pixel's first number
    """

    def __init__(
        self, n: int, x_shape: Shape, padding: Padding, y_shape: Shape,
        rows: list[Axis], columns: list[Axis],
    ):  # fmt: skip
        self.padding, (h, w, c) = padding, x_shape
        self.padded = (h + sum(padding[0]), w + sum(padding[1]), c)
        self.row, start, weights = self.padded[1] * c, 0, 0
        phases, x_places, y_places = [], [], []
        for (k_h, y_rows, x_rows), (k_w, y_columns, x_columns) in product(rows, columns):
            x_places.append(places_of(n, self.padded, x_rows, x_columns))
            y_places.append(places_of(n, y_shape, y_rows, y_columns))
            pixels = len(y_rows) * len(y_columns)
            phases.append((start, pixels, k_h, k_w * c, weights))
            start += n * pixels
            weights += k_h * k_w * c * y_shape[2]
        self.phases = np.array(phases)
        self.x_places, self.y_places = np.concatenate(x_places), np.concatenate(y_places)


class Direct(Im2col):
    """One geometry, and the three products as in im2col.py."""

    def __init__(
        self, x_shape: Shape, W_shape: Shape, y_shape: Shape, stride: Pair, padding: Padding,
        backend: CpuBackend,
    ):  # fmt: skip
        super().__init__(x_shape, W_shape, y_shape, stride, padding)
        self.backend, itemsize = backend, backend.dtype.itemsize
        n, self.lanes = self.images(itemsize), BYTES // itemsize
        by_axis = list(zip(x_shape[:2], W_shape[:2], y_shape[:2], stride, padding, strict=True))
        rows, columns = ([(k, np.arange(out), np.arange(out) * s)] for _, k, out, s, _ in by_axis)
        self.of_x = Windows(n, x_shape, padding, y_shape, rows, columns)
        (rows, vertical), (columns, horizontal) = (transposed_axis(*sizes) for sizes in by_axis)
        self.of_y = Windows(n, y_shape, (vertical, horizontal), x_shape, rows, columns)
        taps = np.arange(W_shape[0]), np.arange(W_shape[1] * x_shape[2])
        self.window_places = places_of(1, (1, self.of_x.row, 1), *taps)
        self.dW_places = np.arange(self.window) * y_shape[2]
        whole_vectors = not np.any(self.of_y.phases[:, 3] % self.lanes)
        self.fits = (
            y_shape[2] >= self.lanes
            and (x_shape[2] >= self.lanes or (x_shape[2] <= FEW and whole_vectors))
            and min(self.pixels, self.window, *self.of_y.phases[:, 1]) >= PIXELS
        )

    def images(self, itemsize: int) -> int:
        return max(1, CHUNK // ((prod(self.padded) + prod(self.y_shape)) * itemsize))

    def prepare(self, W: Array, backend: CpuBackend, transposed: bool) -> Array:
        """W -> flat, for forward; for transpose, each phase of of_y, flipped

        (r_h, r_w, c_out, c_in), or to few channels (c_in, r_h, r_w, c_out)
        """
        if not transposed:
            return W.reshape(-1)
        filters, start, (s_h, s_w) = backend.scratch("filters", (W.size,)), 0, self.stride
        axes = (2, 0, 1, 3) if W.shape[2] < self.lanes else (0, 1, 3, 2)
        for a, b in product(range(s_h), range(s_w)):
            phase = W[a::s_h, b::s_w][::-1, ::-1].transpose(axes)
            backend.xp.copyto(filters[start : start + phase.size].reshape(phase.shape), phase)
            start += phase.size
        return filters

    def read_x(self, x: Array, workspace: ThreadWorkspace, out: Array | None) -> Array:
        """-> padded x, flat"""
        return pad(x, self.padding, workspace).reshape(-1)

    def forward(self, x: Array, W: Array, y: Array, workspace: ThreadWorkspace) -> None:
        self.multiply(x, self.of_x, W, y)

    def transpose(self, y: Array, W: Array, x: Array, workspace: ThreadWorkspace) -> None:
        self.multiply(pad(y, self.of_y.padding, workspace).reshape(-1), self.of_y, W, x)

    def multiply(self, x: Array, of: Windows, W: Array, y: Array) -> None:
        """y = windows of x · W, whichever of the two is the layer's x."""
        n, _, _, c = y.shape
        multiply = multiply_to_few if c < self.lanes else self.kernels(c)[0]
        self.backend.opaque_call(
            multiply, x, of.x_places, of.row, W, y.reshape(-1), of.y_places, of.phases, n, c,
        )  # fmt: skip

    def gradient_part(self, x: Array, y: Array, out: Array, workspace: ThreadWorkspace) -> None:
        n, _, _, c = y.shape
        self.backend.opaque_call(
            self.kernels(c)[1], x, self.of_x.x_places, self.window_places, y.reshape(-1),
            out.reshape(-1), self.dW_places, n * self.pixels, c,
        )  # fmt: skip

    def kernels(self, c: int) -> tuple[Any, Any]:
        """-> the tile that computes the fewest channels, and of these the widest"""
        widths = [(V, int(V * self.lanes)) for V in TILES if V * self.lanes <= c]
        return TILES[min(widths, key=lambda each: (-(-c // each[1]) * each[1], -each[0]))[0]]


def places_of(n: int, shape: Shape, rows: Array, columns: Array) -> Array:
    """-> the first numbers of these pixels of n images, in order"""
    h, w, c = shape
    pixels = (rows[:, None] * w + columns).reshape(-1)
    return ((np.arange(n)[:, None] * (h * w) + pixels) * c).reshape(-1)


def transposed_axis(size: int, k: int, out: int, s: int, pads: Pair) -> tuple[list[Axis], Pair]:
    """One axis of x, from y -> its phases; padding of y, enough for what they read.

    Pixel u of x is number u + pads[0] = s·v + a when it is padded, with a < s: phase a. It is in
    the windows of the pixels v - t of y, for the taps a + s·t < k of the filter.
    """
    found, before, after = [], 0, 0
    for a in range(s):
        pixels, taps = np.arange((a - pads[0]) % s, size, s), len(range(a, k, s))
        first = (pixels + pads[0] - a) // s - taps + 1
        found.append((taps, pixels, first))
        if taps and len(pixels):
            before, after = max(before, int(-first[0])), max(after, int(first[-1]) + taps - out)
    return [(taps, pixels, first + before) for taps, pixels, first in found], (before, after)
