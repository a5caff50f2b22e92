"""Nearest neighbours among pictures on the GPU: exact, since bytes are small.

    |q - c|² = |q|² - 2 q·c + |c|²

of bytes from which 128 is taken away, -128 .. 127. Then q·c and all sums on the way to it are whole numbers of at most
d·128², which float32 holds exactly up to 2²⁴: for d up to 1,024 numbers in a picture, so that one of 28x28 has 240 to spare. What is
left, |c|² - 2 q·c, is taken in whole numbers. So there is no rounding at all, nothing to measure again, and ties are
ties: the distances and indices are those of neighbours.py.

Each query looks at every STRIPS-th picture in a thread of its own, in which neighbours read neighbouring products; then at the
STRIPS best.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigan.backends.gpu.backend import CupyBackend
from minigan.evaluation.neighbours import Nearest, expect_alike, flat

STRIPS = 64
LARGEST = 2**24 // 128**2  # numbers in a picture
TILE = 2**30  # bytes of products, or of pictures, at a time


class DeviceNearest(Nearest):
    """As Nearest, which it is for all but pictures of at most LARGEST bytes."""

    backend: CupyBackend

    def __init__(self, queries: NDArray[Any], backend: CupyBackend):
        super().__init__(queries, backend)
        self.by_device = (
            queries.dtype == np.uint8
            and flat(queries).shape[1] <= LARGEST
            and backend.precision == "fp32"
        )
        if self.by_device:
            q, squares = self.centred(queries)
            self.q, self.squares = q.copy(), backend.to_host(squares).astype(np.int64)

    def among(self, corpus: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        expect_alike("nearest", self.queries, corpus, 1)
        if not self.by_device:
            return super().among(corpus)
        step = max(1, TILE // (self.backend.dtype.itemsize * max(self.q.shape)))
        best, indices = self.among_few(corpus[:step])
        for start in range(step, len(corpus), step):
            others, found = self.among_few(corpus[start : start + step])
            nearer = others < best
            best[nearer], indices[nearer] = others[nearer], start + found[nearer]
        return np.sqrt((best + self.squares).astype(np.float64)), indices

    def among_few(self, corpus: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """-> |c|² - 2 q·c of each query's nearest, and which one that is"""
        backend, queries = self.backend, len(self.q)
        c, squares = self.centred(corpus)
        products = backend.scratch("products", (queries, len(c)))
        backend.gemm(self.q, c.T, out=products)
        of_strips = backend.scratch("nearest of strips", (2, queries, STRIPS), np.int32)
        best = backend.scratch("nearest", (2, queries), np.int32)
        backend.kernels.get("nearest_of_strips")(
            queries * STRIPS, products, squares, of_strips, queries, len(c), STRIPS
        )
        backend.kernels.get("nearest_strip")(queries, of_strips, best, queries, STRIPS)
        found = backend.to_host(best).astype(np.int64)
        return found[0], found[1]

    def centred(self, pictures: NDArray[Any]) -> tuple[Any, Any]:
        """(n, ...) uint8 on the host -> numbers less 128 (n, d), the squares of their lengths (n,), in scratch memory"""
        backend, rows = self.backend, flat(pictures)
        pixels = backend.scratch("pixels", rows.shape, np.uint8)
        centred, squares = (
            backend.scratch("centred", rows.shape),
            backend.scratch("squares of rows", (len(rows),)),
        )
        backend.put(rows, pixels)
        backend.kernels.get("centre_bytes")(rows.size, pixels, centred, rows.size)
        backend.kernels.get("square_rows")(len(rows), centred, squares, *rows.shape)
        return centred, squares
