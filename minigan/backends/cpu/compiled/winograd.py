"""Winograd's transforms of tiles: rows, then columns, each in registers.

As a matrix of a whole tile, B has 36·36 numbers; one after the other, the transforms of its rows
and columns take a third of the multiplications, and no tile is copied.
Shown by: benchmarks/step.py --against minigan-numba
"""

from math import prod
from typing import Any

import numpy as np

from minigan.arrays import Array
from minigan.backends.cpu import winograd
from minigan.backends.cpu.chunks import ThreadWorkspace
from minigan.backends.cpu.compiled.kernel import kernel
from minigan.backends.cpu.compiled.vector import BYTES, outer, store, take, zeros
from minigan.backends.cpu.winograd import Transform


def kernel_for(H: int, W: int) -> Any:
    """-> the kernel that makes tiles of H x W"""

    @kernel
    def separable(
        x: Array, x_steps: Array, left: Array, right: Array, y: Array, y_steps: Array,
        counts: Array, places: Array, h: int, w: int, run: int, lanes: int,
    ) -> None:  # fmt: skip
        """y = left · each tile · rightᵀ; steps: from an image, a tile ... a pixel to the next."""
        half = np.empty(H * w * lanes, x.dtype)  # left · tile, (H, w, lanes)
        left_at, half_at = take(places[0], 0, H), take(places[1], 0, H)
        right_at, y_at = take(places[2], 0, W), take(places[3], 0, W)
        for i, j, k, phase in np.ndindex(counts[0], counts[1], counts[2], counts[3]):
            from_x = i * x_steps[0] + j * x_steps[1] + k * x_steps[2] + phase * x_steps[3]
            to_y = i * y_steps[0] + j * y_steps[1] + k * y_steps[2] + phase * y_steps[3]
            for channel in range(0, run, lanes):
                c = min(channel, run - lanes)  # the last overlaps the one before
                for column in range(w):
                    sums, place = zeros(x, H, BYTES), from_x + c + column * x_steps[5]
                    for row in range(h):
                        sums = outer(sums, left, left_at, row, x, place + row * x_steps[4])
                    store(sums, half, half_at, column * lanes)
                for row in range(H):
                    sums = zeros(x, W, BYTES)
                    for column in range(w):
                        place = (row * w + column) * lanes
                        sums = outer(sums, right, right_at, column, half, place)
                    store(sums, y, y_at, to_y + c + row * y_steps[4])

    return separable


KERNELS = {(H, W): kernel_for(H, W) for H in (4, 5, 6) for W in (4, 5, 6)}


def flat(array: Array) -> Array:
    """-> all memory between the first and the last of its numbers"""
    last = sum((size - 1) * step for size, step in zip(array.shape, array.strides, strict=True))
    return np.lib.stride_tricks.as_strided(array, (last // array.itemsize + 1,), (array.itemsize,))


def run(
    matrix: Transform, tiles: Array, domain: Array, is_read: bool, workspace: ThreadWorkspace
) -> None:
    """Transform tiles to the domain, or from there."""
    (H, h), (W, w) = matrix.rows.shape, matrix.columns.shape
    counts, lanes = tiles.shape[:4], BYTES // tiles.itemsize
    tile, phase, product, _ = domain.strides
    steps = (prod(counts[1:3]) * tile, counts[2] * tile, tile, phase)
    in_domain = (*steps, (W if is_read else w) * product, product)
    sides = [(flat(tiles), tiles.strides[:6]), (flat(domain), in_domain)]
    (x, x_steps), (y, y_steps) = sides if is_read else sides[::-1]
    x_steps, y_steps = np.array([x_steps, y_steps]) // tiles.itemsize
    places = np.arange(6) * np.array([h, w * lanes, w, y_steps[5]])[:, None]
    backend: Any = workspace.backend
    backend.opaque_call(
        KERNELS[H, W], x, x_steps, matrix.rows.reshape(-1), matrix.columns.reshape(-1), y, y_steps,
        np.array(counts), places, h, w, tiles.shape[6], lanes,
    )  # fmt: skip


def to_domain(matrix: Transform, tiles: Array, domain: Array, workspace: ThreadWorkspace) -> None:
    """As to_domain in ../winograd.py."""
    if tiles.shape[6] * tiles.itemsize < BYTES:
        winograd.to_domain(matrix, tiles, domain, workspace)
    else:
        run(matrix, tiles, domain, True, workspace)


def from_domain(matrix: Transform, domain: Array, tiles: Array, workspace: ThreadWorkspace) -> None:
    """As from_domain in ../winograd.py."""
    if tiles.shape[6] * tiles.itemsize < BYTES:
        winograd.from_domain(matrix, domain, tiles, workspace)
    else:
        run(matrix, tiles, domain, False, workspace)
