"""Nearest neighbours among any number of pictures or vectors, quickly and exactly.

    |q - c|² = |q|² - 2 q·c + |c|²

so that all distances of many queries to many pictures are one matrix product. It goes tile by tile: the memory
does not grow with the corpus, which may be memory-mapped.

In float32 the formula makes a small number from large ones, and two of nearly the same distance may change
places. So the product only tells who can be among the nearest. For rows of d numbers it is wrong by at most

    E = (d + 8)·u·(|q|² + |c|²)       u = 2⁻²⁴, in whatever order it is summed; 8 for the roundings beside it

and whoever is within 2E of the k-th best is measured again, as Σ (q_i - c_i)² in float64. Likewise, who is within a
radius is only in doubt where the product comes within E of it. The answer is that of a plain loop, whatever the tiles,
the threads and the BLAS: two that are equally far are equally far, and a copy is at a distance of 0.
Source of the bound: Higham 2002, Accuracy and Stability of Numerical Algorithms, section 3.1
"""

from collections.abc import Iterator
from math import prod
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from minigan.arrays import Backend
from minigan.checks import expect_size
from minigan.errors import ArrayTypeError, ShapeError

QUERIES, CORPUS = 1024, 4096  # rows of a tile: 16 MiB of products
NUMBERS = 2**24  # in a tile of the corpus at most: 64 MiB, where rows are long
PAIRS = 2**21  # numbers that are measured again at a time
LARGEST = 1e37  # square of a row's length: the product would not fit into float32


class Rows(Protocol):
    """What is asked of them: an array has it, and so has real.Part, whose images may be on the disk."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice) -> NDArray[Any]: ...


def nearest(
    queries: Rows, corpus: Rows, k: int = 1
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The k nearest in the corpus of each query, nearest first.

    queries  (n, ...)     uint8, or floats
    corpus   (m, ...)     the same kind, and the same shape behind the first axis; m >= k
    -> distances (n, k), Euclidean, in the units of the arrays; indices (n, k) into the corpus
    Ties: of the same distance the lower index is nearer. For uint8 distances are exact, and so are ties.
    Raises ConfigError, ShapeError, ArrayTypeError.
    """
    expect_size("nearest: k", k)
    expect_alike("nearest", queries, corpus, k)
    centre = flat(corpus[:CORPUS]).mean(
        axis=0, dtype=np.float32
    )  # shorter rows, smaller errors; distances stay as they are
    squares, indices = np.empty((len(queries), k)), np.empty((len(queries), k), np.int64)
    for start in range(0, len(queries), QUERIES):
        tile = slice(start, start + QUERIES)
        squares[tile], indices[tile] = nearest_of_few(flat(queries[tile]), corpus, k, centre)
    return np.sqrt(squares), indices


class Nearest:
    """Nearest(queries, backend): which row of a corpus is nearest to each query? For one corpus after the other.

    A backend may have its own way, of the same results: see backends/cupy_neighbours.py.
    """

    def __init__(self, queries: NDArray[Any], backend: Backend):
        self.queries, self.backend = queries, backend

    def among(self, corpus: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """-> distances (n,), indices (n,), as `nearest` has them"""
        distances, indices = nearest(self.queries, corpus)
        return distances[:, 0], indices[:, 0]


def balls_around(queries: Rows, corpus: Rows, radii: NDArray[np.float64]) -> NDArray[np.int64]:
    """In how many of the balls around the corpus does each query lie? The surface belongs to the ball.

    queries, corpus  as of nearest, which measures the radii (m,) in the same way
    -> counts (n,)
    Raises ShapeError, ArrayTypeError.
    """
    expect_alike("balls_around", queries, corpus, 1)
    if radii.shape != (len(corpus),) or not (radii < LARGEST**0.5).all():
        raise ShapeError(
            f"balls_around: expected a finite radius for each of {len(corpus)} rows, got {radii.shape}"
        )
    centre = flat(corpus[:CORPUS]).mean(axis=0, dtype=np.float32)
    counts = np.zeros(len(queries), np.int64)
    for start in range(0, len(queries), QUERIES):
        few = flat(queries[start : start + QUERIES])
        q, q_squares = centred(few, centre)
        for part, c, c_squares, at in parts(corpus, centre):
            reach = radii[at : at + len(part)]
            metadata = products(
                q, c
            )  # the difference of the squares of distance and radius, but for |q|²
            metadata += (c_squares - reach**2).astype(np.float32)
            doubt = error(q.shape[1]) * (q_squares + c_squares.max() + (reach**2).max())
            inside = metadata <= (-q_squares - doubt)[:, None]
            rows, columns = np.nonzero((metadata <= (-q_squares + doubt)[:, None]) & ~inside)
            within = np.sqrt(measure(few, part, rows, columns)) <= reach[columns]
            counts[start : start + len(few)] += np.count_nonzero(inside, axis=1) + np.bincount(
                rows[within], minlength=len(few)
            )
    return counts


def expect_alike(label: str, queries: Rows, corpus: Rows, k: int) -> None:
    """Raises ShapeError, ArrayTypeError unless they can be compared, and the corpus has k rows."""
    if (
        len(queries.shape) < 2
        or queries.shape[1:] != corpus.shape[1:]
        or len(corpus) < k
        or prod(queries.shape[1:]) == 0
    ):
        shapes = f"{queries.shape} and {corpus.shape}"
        raise ShapeError(
            f"{label}: expected queries (n, ...) and a corpus of {k} or more rows of the same shape, got {shapes}"
        )
    kinds = [array.dtype for array in (queries, corpus)]
    if not all(kind == np.uint8 for kind in kinds) and not all(kind.kind == "f" for kind in kinds):
        raise ArrayTypeError(
            f"{label}: expected both as uint8, or both as floats, got {kinds[0]} and {kinds[1]}"
        )


def flat(rows: NDArray[Any]) -> NDArray[Any]:
    """(n, ...) -> (n, d)"""
    return rows.reshape(len(rows), prod(rows.shape[1:]))


def error(d: int) -> float:
    """-> E of the module's head, for |q|² + |c|² = 1."""
    return (d + 8) * 2.0**-24


def parts(
    corpus: Rows, centre: NDArray[Any]
) -> Iterator[tuple[NDArray[Any], NDArray[np.float32], NDArray[np.float64], int]]:
    """-> yields tiles of the corpus: rows as they are, and centred; the squares of their lengths; the number of the first."""
    step = max(1, min(CORPUS, NUMBERS // len(centre)))
    for start in range(0, len(corpus), step):
        part = flat(corpus[start : start + step])
        yield part, *centred(part, centre), start


def products(q: NDArray[np.float32], c: NDArray[np.float32]) -> NDArray[np.float32]:
    """-> -2 q·c of all pairs."""
    metadata: NDArray[np.float32] = q @ c.T
    metadata *= -2.0
    return metadata


def nearest_of_few(
    queries: NDArray[Any], corpus: Rows, k: int, centre: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """As nearest, of a tile of rows -> squares of the distances, indices."""
    best, indices = np.full((len(queries), k), np.inf), np.full((len(queries), k), len(corpus))
    q, q_squares = centred(queries, centre)
    for part, c, c_squares, start in parts(corpus, centre):
        metadata = products(q, c)
        metadata += c_squares.astype(
            np.float32
        )  # |q|² is one number for all that a query is compared with
        limit = best[:, -1] - q_squares
        if start == 0 and k <= len(part):
            limit = np.partition(metadata, k - 1, axis=1)[:, k - 1].astype(np.float64)
        limit += 2 * error(q.shape[1]) * (q_squares + c_squares.max())
        rows, columns = np.nonzero(metadata <= limit[:, None])
        best, indices = merge(
            best, indices, rows, measure(queries, part, rows, columns), start + columns
        )
    return best, indices


def centred(
    rows: NDArray[Any], centre: NDArray[Any]
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Rows (n, d) -> rows - centre in float32; the squares of their lengths (n,). Raises ArrayTypeError."""
    with np.errstate(all="ignore"):  # what is too large is told in words
        moved = np.subtract(rows, centre).astype(np.float32, copy=False)
        squares = np.einsum("ij,ij->i", moved, moved, dtype=np.float64)
    if not (squares < LARGEST).all():
        raise ArrayTypeError(
            "nearest: expected finite numbers of sensible size, got NaN, infinity or more than 1e18"
        )
    return moved, squares


def measure(
    queries: NDArray[Any], part: NDArray[Any], rows: NDArray[Any], columns: NDArray[Any]
) -> NDArray[np.float64]:
    """Pairs (queries[rows[i]], part[columns[i]]) -> squares of their distances."""
    squares = np.empty(len(rows))
    step = max(1, PAIRS // queries.shape[1])
    for start in range(0, len(rows), step):
        few = slice(start, start + step)
        difference = np.subtract(queries[rows[few]], part[columns[few]], dtype=np.float64)
        squares[few] = np.einsum("ij,ij->i", difference, difference)
    return squares


def merge(
    best: NDArray[Any],
    indices: NDArray[Any],
    rows: NDArray[Any],
    squares: NDArray[Any],
    found: NDArray[Any],
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The k best of each query so far (n, k), and what was found besides, with its query -> the k best of both."""
    n, k = best.shape
    rows = np.concatenate([np.repeat(np.arange(n), k), rows])
    squares, indices = (
        np.concatenate([best.ravel(), squares]),
        np.concatenate([indices.ravel(), found]),
    )
    order = np.lexsort((indices, squares, rows))  # by query, then by distance, then by index
    rows = rows[order]
    place = np.arange(len(rows)) - np.searchsorted(rows, rows)  # within its query
    kept = order[place < k]
    return squares[kept].reshape(n, k), indices[kept].reshape(n, k)
