"""Distances between many vectors, a tile of them at a time.

    |a - b|² = |a|² - 2·a·b + |b|² = (-2a, |a|², 1) · (b, 1, |b|²)

so that the distances of all pairs are one matrix product, of vectors with two numbers more. Those of 10,000 samples
to 60,000 training images would fill 2.4 GB; a tile of them stays in the cache until what is wanted of it is found,
a minimum or a count.

Vectors are rows of a float64 array, (n, d), or pictures, (n, h, w, c) uint8: their pixels from 0 to 1, in
float32. Large numbers are subtracted here, which costs digits: about 1e-7·|a|² of a squared distance in float32, and
a distance of 0 may come out a little below it. Too little to change which picture is nearest; and the nearest
one's distance is taken once more, exactly.
"""

from collections.abc import Iterator
from typing import Protocol

import numpy as np

TILE = 1024  # vectors on a side of a tile, at most; and
TILE_BYTES = 2**26  # of their numbers, at most


class Vectors(Protocol):
    """What is asked of many vectors: an array has it, and so has real.Part."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> "np.dtype[np.generic]": ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice) -> np.ndarray: ...


def as_rows(values: np.ndarray) -> np.ndarray:
    """Vectors (n, d) float64, or pictures (n, h, w, c) uint8 -> rows (n, ...), pixels as float32 in [0, 1]."""
    if values.dtype == np.uint8:
        return values.reshape(len(values), -1).astype(np.float32) / np.float32(255)
    return values


def tiles(a: Vectors, b: Vectors) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """-> yields rows of a, rows of b, their squared distances (rows of a, rows of b), which the next tile overwrites."""
    dtype = np.dtype(np.float32 if a.dtype == np.uint8 else np.float64)
    side = max(64, min(TILE, TILE_BYTES // (int(np.prod(a.shape[1:])) * dtype.itemsize)))
    memory = np.empty(side * side, dtype)
    for i in range(0, len(a), side):
        rows_a = as_rows(a[i : i + side])
        left = np.hstack([-2 * rows_a, norms(rows_a), np.ones((len(rows_a), 1), dtype)])
        for j in range(0, len(b), side):
            rows_b = as_rows(b[j : j + side])
            right = np.hstack([rows_b, np.ones((len(rows_b), 1), dtype), norms(rows_b)])
            squared = memory[: len(left) * len(right)].reshape(len(left), len(right))
            np.matmul(left, right.T, out=squared)
            yield slice(i, i + len(left)), slice(j, j + len(right)), squared


def norms(rows: np.ndarray) -> np.ndarray:
    """rows (n, d) -> |row|² (n, 1)"""
    squared: np.ndarray = np.einsum("ij,ij->i", rows, rows)[:, np.newaxis]
    return squared


def leave_out_itself(rows: slice, columns: slice, squared: np.ndarray) -> None:
    """Of a tile of distances within one set: no vector is its own neighbour."""
    both = np.arange(max(rows.start, columns.start), min(rows.stop, columns.stop))
    squared[both - rows.start, both - columns.start] = np.inf


def nearest(a: Vectors, b: Vectors) -> tuple[np.ndarray, np.ndarray]:
    """-> for each of a its nearest neighbour in b: index (n,), squared distance (n,) float64."""
    index, least = np.zeros(len(a), np.intp), np.full(len(a), np.inf)
    for rows, columns, squared in tiles(a, b):
        best = squared.argmin(axis=1)
        found = squared[np.arange(len(best)), best]
        closer = found < least[rows]
        index[rows][closer] = columns.start + best[closer]
        least[rows][closer] = found[closer]
    return index, least


def exact_distances(a: Vectors, b: Vectors, index: np.ndarray) -> np.ndarray:
    """-> Euclidean distance of each of a to the one of b that index says, (n,) float64."""
    distances = np.empty(len(a))
    for i in range(len(a)):
        difference = as_rows(a[i : i + 1]).astype(np.float64) - as_rows(b[int(index[i]) : int(index[i]) + 1])
        distances[i] = np.sqrt(np.sum(difference * difference))
    return distances


def nearest_others(a: Vectors, k: int) -> np.ndarray:
    """-> for each of a the squared distances to the k nearest of the others, (n, k), in order; infinite where there are fewer."""
    least = np.full((len(a), k), np.inf)
    for rows, columns, squared in tiles(a, a):
        leave_out_itself(rows, columns, squared)
        each = np.arange(len(squared))
        found = [least[rows]]
        for _ in range(min(k, squared.shape[1])):  # k is small: so many minima are faster than a sort
            best = squared.argmin(axis=1)
            found.append(squared[each, best][:, np.newaxis].astype(np.float64))
            squared[each, best] = np.inf
        least[rows] = np.sort(np.hstack(found), axis=1)[:, :k]
    return least


def balls_around(a: Vectors, b: Vectors, radii: np.ndarray) -> np.ndarray:
    """-> for each of a in how many of the balls around b it lies, (n,); radii (len(b),) are squared."""
    counts = np.zeros(len(a), np.intp)
    for rows, columns, squared in tiles(a, b):
        counts[rows] += np.count_nonzero(squared <= radii[columns], axis=1)
    return counts
