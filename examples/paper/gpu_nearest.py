"""Nearest neighbors among images on the GPU: exact, because bytes are small.

    |q - c|² = |q|² - 2 q·c + |c|²

Subtracting 128 from all bytes leaves -128 .. 127. Then q·c and all its partial sums are whole
numbers of at most d·128², which float32 represents exactly up to 2²⁴: for d up to 1,024 numbers in
an image. A 28x28 image has 784. The rest, |c|² - 2 q·c, is computed in whole numbers. So there is
no rounding and nothing to verify: distances, indices and ties are those of evaluation/neighbors.py.

Each query has STRIPS threads. Each thread looks at every STRIPS-th image, so neighboring threads
read neighboring products. Then the STRIPS best are compared.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigan.backends.gpu.backend import GpuBackend

STRIPS = 64
LARGEST = 2**24 // 128**2  # numbers in an image
TILE = 2**30  # bytes of products, or of images, at a time


class DeviceNearest:
    """DeviceNearest(queries, backend): which image of a corpus is nearest to each query?"""

    def __init__(self, queries: NDArray[Any], backend: GpuBackend):
        self.backend = backend
        q, squares = self.centered(queries)
        self.q, self.squares = q.copy(), backend.to_host(squares).astype(np.int64)

    @staticmethod
    def can_take(queries: NDArray[Any], backend: GpuBackend) -> bool:
        """Are the images small bytes, and products exact?"""
        numbers = queries[0].size
        return queries.dtype == np.uint8 and numbers <= LARGEST and backend.precision == "fp32"

    def among(self, corpus: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """corpus (n, ...) uint8 -> distance of each query's nearest image, and its index."""
        step = max(1, TILE // (self.backend.dtype.itemsize * max(self.q.shape)))
        best, indices = self.among_few(corpus[:step])
        for start in range(step, len(corpus), step):
            others, found = self.among_few(corpus[start : start + step])
            nearer = others < best
            best[nearer], indices[nearer] = others[nearer], start + found[nearer]
        return np.sqrt((best + self.squares).astype(np.float64)), indices

    def among_few(self, corpus: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """-> |c|² - 2 q·c of each query's nearest, and its index"""
        backend, queries = self.backend, len(self.q)
        get, scratch = backend.kernels.get, backend.scratch
        c, squares = self.centered(corpus)
        products = scratch("products", (queries, len(c)))
        backend.gemm(self.q, c.T, products)
        of_strips = scratch("nearest of strips", (2, queries, STRIPS), np.int32)
        best = scratch("nearest", (2, queries), np.int32)
        sizes = (queries, len(c), STRIPS)
        get("nearest_of_strips")(queries * STRIPS, products, squares, of_strips, *sizes)
        get("nearest_strip")(queries, of_strips, best, queries, STRIPS)
        found = backend.to_host(best).astype(np.int64)
        return found[0], found[1]

    def centered(self, images: NDArray[Any]) -> tuple[Any, Any]:
        """(n, ...) uint8 on the host -> numbers less 128 (n, d), squared norms (n,), scratch"""
        backend, rows = self.backend, images.reshape(len(images), -1)
        pixels = backend.scratch("pixels", rows.shape, np.uint8)
        centered = backend.scratch("centered", rows.shape)
        squares = backend.scratch("squares of rows", (len(rows),))
        backend.put(rows, pixels)
        backend.kernels.get("center_bytes")(rows.size, pixels, centered, rows.size)
        backend.kernels.get("square_rows")(len(rows), centered, squares, *rows.shape)
        return centered, squares
