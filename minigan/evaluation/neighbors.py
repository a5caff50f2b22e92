"""Nearest neighbors among images or feature vectors: fast, and exact.

    |q - c|² = |q|² - 2 q·c + |c|²

so all distances from many queries to many rows take one matrix product. It is computed tile by
tile: memory does not grow with the corpus, which may be memory-mapped.

In float32 this is inexact: it subtracts large numbers to get a small one. So the product only
selects candidates. For rows of d numbers it is off by at most

    E = (d + 8)·u·(|q|² + |c|²)       u = 2⁻²⁴; 8 for the roundings outside the sum

in whatever order it is summed. Every row within 2E of the k-th best is measured again, as
Σ (q_i - c_i)² in float64. Whether a row lies within a radius is in doubt only if the product comes
within E of it; then it is measured too. The result equals that of a plain loop, for any tile size,
any number of threads and any BLAS: equal distances are equal, and a copy is at distance 0.
Source of the bound: Higham 2002, Accuracy and Stability of Numerical Algorithms, section 3.1
"""

from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from minigan.backends.cpu.threads import blas
from minigan.errors import ArrayTypeError
from minigan.evaluation.reference_images import Rows
from minigan.parallel.group import Group
from minigan.progress_bar import progress_bar

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

QUERIES, CORPUS = 1024, 4096  # rows of a tile: 16 MiB of products
NUMBERS = 2**24  # in a tile at most: 64 MiB, if rows are long
PAIRS = 2**21  # numbers that are measured again at a time
LARGEST = 1e37  # squared norm of a row: beyond it the product overflows float32


def nearest(queries: Rows, corpus: Rows, k: int = 1) -> tuple[Floats, Ints]:
    """The k nearest rows of the corpus to each query, nearest first.

    queries  (n, ...)     uint8, or floats
    corpus   (m, ...)     the same kind, and the same shape after the first axis; m >= k
    -> distances (n, k), Euclidean, in the units of the arrays; indices (n, k) into the corpus
    Of equal distances, the lower index is nearer. For uint8, distances and ties are exact.
    Raises ArrayTypeError.
    """
    center = center_of(corpus)
    squares = np.full((len(queries), k), np.inf)
    indices = np.full((len(queries), k), len(corpus))
    with progress_bar(desc="nearest", total=len(queries), leave=False, delay=2) as bar:
        for at, q in tiles(queries, QUERIES, center):
            best, found = squares[at : at + len(q.rows)], indices[at : at + len(q.rows)]
            for start, c in tiles(corpus, CORPUS, center):
                # |q|² is left out: it is the same for all that a query is compared with
                relative = products(q, c, c.squares)
                limit = best[:, -1] - q.squares
                if start == 0 and k <= len(c.rows):
                    limit = np.partition(relative, k - 1)[:, k - 1].astype(np.float64)
                limit += 2 * error(q, c.squares.max())
                pairs = np.nonzero(relative <= limit[:, None])
                merge(best, found, pairs[0], measure(q, c, *pairs), start + pairs[1])
            bar.update(len(q.rows))
    return np.sqrt(squares), indices


def nearest_on(ranks: Group, queries: np.ndarray, corpus: Rows) -> Floats:
    """As nearest, with k = 1 -> (2, n): the distances; the indices.

    ranks  that share the queries: each must call this, and has all
    """

    def search(part: np.ndarray) -> Floats:
        with blas.single_threaded() if ranks.size > 1 else nullcontext():
            return np.concatenate(nearest(part, corpus), axis=1)

    jobs = (partial(search, part) for part in np.array_split(queries, ranks.size))
    return np.transpose(np.concatenate([*ranks.in_order(jobs)]))


def balls_around(queries: Rows, corpus: Rows, radii: Floats) -> Ints:
    """In how many balls around the rows of the corpus does each query lie? Surfaces count.

    queries, corpus  as in nearest;  radii (m,) as it measures them
    -> counts (n,)
    Raises ArrayTypeError.
    """
    center = center_of(corpus)
    counts = np.zeros(len(queries), np.int64)
    for at, q in tiles(queries, QUERIES, center):
        for start, c in tiles(corpus, CORPUS, center):
            reach = radii[start : start + len(c.rows)]
            relative = products(q, c, c.squares - reach**2)
            doubt = error(q, c.squares.max() + (reach**2).max())
            inside = relative <= (-q.squares - doubt)[:, None]
            rows, columns = np.nonzero((relative <= (-q.squares + doubt)[:, None]) & ~inside)
            within = rows[np.sqrt(measure(q, c, rows, columns)) <= reach[columns]]
            found = inside.sum(axis=1) + np.bincount(within, minlength=len(q.rows))
            counts[at : at + len(q.rows)] += found
    return counts


class Tile(NamedTuple):
    """Some rows, prepared for products."""

    rows: NDArray[Any]  # (n, d), as they are
    centered: NDArray[np.float32]  # (n, d), minus the center
    squares: Floats  # (n,), the squared norms of those


def flat(rows: NDArray[Any]) -> NDArray[Any]:
    """(n, ...) -> (n, d)"""
    return rows.reshape(len(rows), prod(rows.shape[1:]))


def center_of(corpus: Rows) -> NDArray[np.float32]:
    """-> a point (d,) amid the rows: relative to it they are shorter, and errors smaller."""
    return np.asarray(flat(corpus[:CORPUS]).mean(axis=0, dtype=np.float32))


def tiles(rows: Rows, size: int, center: NDArray[np.float32]) -> Iterator[tuple[int, Tile]]:
    """Yields the index of a tile's first row, and the tile. Raises ArrayTypeError."""
    size = max(1, min(size, NUMBERS // len(center)))
    for start in range(0, len(rows), size):
        part = flat(rows[start : start + size])
        with np.errstate(all="ignore"):  # reported below, in words
            centered = np.subtract(part, center).astype(np.float32, copy=False)
            squares = np.einsum("ij,ij->i", centered, centered, dtype=np.float64)
        if not (squares < LARGEST).all():
            raise ArrayTypeError(
                "nearest: expected finite numbers of sensible size, "
                "got NaN, infinity or more than 1e18"
            )
        yield start, Tile(part, centered, squares)


def products(q: Tile, c: Tile, offsets: Floats) -> NDArray[np.float32]:
    """-> -2 q·c of all pairs, plus an offset for each row of c."""
    result: NDArray[np.float32] = q.centered @ c.centered.T
    result *= -2.0
    result += offsets.astype(np.float32)
    return result


def error(q: Tile, largest: float) -> Floats:
    """-> E (see above) of each query (n,), compared with squared norms up to `largest`."""
    return np.asarray((q.rows.shape[1] + 8) * 2.0**-24 * (q.squares + largest))


def measure(q: Tile, c: Tile, rows: Ints, columns: Ints) -> Floats:
    """Pairs (q.rows[rows[i]], c.rows[columns[i]]) -> their squared distances."""
    squares = np.empty(len(rows))
    step = max(1, PAIRS // q.rows.shape[1])
    for start in range(0, len(rows), step):
        few = slice(start, start + step)
        difference = np.subtract(q.rows[rows[few]], c.rows[columns[few]], dtype=np.float64)
        squares[few] = np.einsum("ij,ij->i", difference, difference)
    return squares


def merge(best: Floats, indices: Ints, rows: Ints, squares: Floats, found: Ints) -> None:
    """best, indices (n, k) = the k best of themselves and of more, found for the queries `rows`."""
    n, k = best.shape
    rows = np.concatenate([np.repeat(np.arange(n), k), rows])
    squares, found = np.append(best, squares), np.append(indices, found)
    # by query, then by distance; of equal distances the lower index stays first
    order = np.lexsort((squares, rows))
    rows = rows[order]
    place = np.arange(len(rows)) - np.searchsorted(rows, rows)  # within its query
    kept = order[place < k]
    best[...], indices[...] = squares[kept].reshape(n, k), found[kept].reshape(n, k)
