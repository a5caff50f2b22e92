"""Blocks of BatchNorm and activations, each of whose loops is one pass over a chunk.

NumPy reads and writes a chunk for each operation of ../blocks.py. Here a row of some channels after
another goes through all of them while it is in the first cache. The rows that repeat a number per
channel (A, bias ...) are as short. tanh and exp are NumPy's own, which are faster.
Shown by: benchmarks/step.py --against minigan-numba
"""

from functools import cached_property
from typing import Any

import numpy as np

from minigan.arrays import Array
from minigan.backends.cpu.blocks import Block, NormBlock
from minigan.backends.cpu.chunks import ThreadWorkspace
from minigan.backends.cpu.compiled.kernel import kernel
from minigan.layers import LeakyReLU, ReLU, Sigmoid, Tanh
from minigan.layers.activation import Activation

RUN = 64  # rows, whose sums are kept in the dtype of the arrays before float64 takes them
ROW = 512  # numbers, or one pixel's channels if these are more
NONE, LEAKY, RELU, TANH, SIGMOID = range(5)
KINDS: dict[type[Activation], int] = {LeakyReLU: LEAKY, ReLU: RELU, Tanh: TANH, Sigmoid: SIGMOID}


@kernel
def activate(x: Array, y: Array, kind: int, low: Any) -> None:
    """y = activation(x), if it is LEAKY or RELU; else y = x"""
    if kind == LEAKY:
        for i in range(len(x)):
            y[i] = max(x[i] * low, x[i])  # NaN remains
    elif kind == RELU:
        for i in range(len(x)):
            y[i] = np.maximum(x[i], low)  # low is 0
    else:
        for i in range(len(x)):
            y[i] = x[i]


@kernel
def differentiate(dy: Array, y: Array, dx: Array, kind: int, low: Any, high: Any) -> None:
    """dx = dy·activation', from the activation's output y; low, high: what it is for y <= 0, > 0"""
    one = y.dtype.type(1)  # a plain 1 would make it float64
    if kind == TANH:
        for i in range(len(dy)):
            dx[i] = dy[i] * (one - y[i] * y[i])
    elif kind == SIGMOID:
        for i in range(len(dy)):
            dx[i] = (one - y[i]) * y[i] * dy[i]
    else:
        for i in range(len(dy)):
            dx[i] = dy[i] * (high if y[i] > 0 else low)


@kernel
def normalize(
    y: Array, mean: Array, A: Array, bias: Array, c: Array, out: Array, kind: int, low: Any
) -> None:
    """c = y - mean;  out = activate(A·c + bias)"""
    scaled = np.empty_like(A)
    for start in range(0, len(y), len(A)):
        part = slice(start, start + len(A))
        y_row, c_row, out_row = y[part], c[part], out[part]
        for i in range(len(y_row)):
            c_row[i] = y_row[i] - mean[i]
        for i in range(len(y_row)):
            scaled[i] = c_row[i] * A[i] + bias[i]
        activate(scaled[: len(y_row)], out_row, kind, low)


@kernel
def add_products(a: Array, b: Array, some: Array, total: Array, rows: int) -> None:
    """some (2, row) += a, a·b; after RUN rows, total (2, row), float64, += some"""
    for i in range(len(a)):
        some[0, i] += a[i]
    for i in range(len(a)):
        some[1, i] += a[i] * b[i]
    if rows % RUN == 0:
        total += some
        some[:] = 0


@kernel
def add_channels(some: Array, total: Array, sums: Array) -> None:
    """sums (2, c) = what some and total have, of all pixels of a row"""
    total += some
    sums[:] = 0
    for i in range(0, total.shape[1], sums.shape[1]):
        sums += total[:, i : i + sums.shape[1]]


@kernel
def sums_of_off(y: Array, near: Array, sums: Array) -> None:
    """sums (2, c) = Σ off, Σ off² with off = y - near"""
    some, total, off = np.zeros((2, len(near)), y.dtype), np.zeros((2, len(near))), near.copy()
    for start in range(0, len(y), len(near)):
        row = y[start : start + len(near)]
        for i in range(len(row)):
            off[i] = row[i] - near[i]
        add_products(off[: len(row)], off, some, total, start // len(near))
    add_channels(some, total, sums)


@kernel
def sums_of_g(
    dy: Array, out: Array, c: Array, g: Array, kind: int, low: Any, high: Any, row: Array,
    sums: Array,
) -> None:  # fmt: skip
    """g = dy·activation'; sums (2, c) = Σ g, Σ g·c"""
    some, total = np.zeros((2, len(row)), g.dtype), np.zeros((2, len(row)))
    for start in range(0, len(dy), len(row)):
        part = slice(start, start + len(row))
        differentiate(dy[part], out[part], g[part], kind, low, high)
        add_products(g[part], c[part], some, total, start // len(row))
    add_channels(some, total, sums)


@kernel
def norm_backward(
    g: Array, c: Array, A: Array, B: Array, C: Array, is_batch: bool, dx: Array
) -> None:
    """dx = A·g - B·c - C;  A·g with running statistics"""
    for start in range(0, len(g), len(A)):
        part = slice(start, start + len(A))
        g_row, c_row, dx_row = g[part], c[part], dx[part]
        if is_batch:
            for i in range(len(g_row)):
                dx_row[i] = g_row[i] * A[i] - c_row[i] * B[i] - C[i]
        else:
            for i in range(len(g_row)):
                dx_row[i] = g_row[i] * A[i]


class CompiledBlock(Block):
    """As Block."""

    @cached_property
    def how(self) -> tuple[int, Any, Any]:
        """-> the kind of the activation, and its derivative left and right of 0"""
        number, activation = self.backend.dtype.type, self.activation
        kind = next((KINDS[each] for each in KINDS if isinstance(activation, each)), NONE)
        slope = 1.0 if kind == NONE else self.constants[0] if kind == LEAKY else 0.0
        return kind, number(slope), number(1.0 - slope) + number(slope)  # as the definition rounds

    def activate(
        self, part: slice, y: Array, workspace: ThreadWorkspace | None = None, i: int = 0
    ) -> None:
        if self.how[0] in (LEAKY, RELU):
            flat = y.reshape(-1), self.saved.out[part].reshape(-1)
            self.backend.opaque_call(activate, *flat, *self.how[:2])
        else:
            super().activate(part, y)

    def activation_backward(self, dy: Array, part: slice, g: Array) -> Array:
        flat = (array.reshape(-1) for array in (dy, self.saved.out[part], g))
        self.backend.opaque_call(differentiate, *flat, *self.how)
        return g


class CompiledNormBlock(CompiledBlock, NormBlock):
    """As NormBlock."""

    @property
    def tiled(self) -> int:
        return max(1, ROW // self.channels)

    def sums_of_off(self, y: Array, near: Array, sums: Array, workspace: ThreadWorkspace) -> None:
        self.backend.opaque_call(sums_of_off, y.reshape(-1), near, sums)

    def normalize(self, part: slice, y: Array, workspace: ThreadWorkspace, i: int = 0) -> None:
        saved, out = self.saved, self.saved.out[part]
        rows = (saved.mean_row, saved.A_row, saved.bias_row, saved.c[part].reshape(-1))
        self.backend.opaque_call(normalize, y.reshape(-1), *rows, out.reshape(-1), *self.how[:2])
        if self.how[0] in (TANH, SIGMOID):
            self.activate(part, out)

    def sums_of_g(self, dy: Array, part: slice, sums: Array, workspace: ThreadWorkspace) -> None:
        saved = self.saved
        flat = (array.reshape(-1) for array in (dy, saved.out[part], saved.c[part], saved.g[part]))
        self.backend.opaque_call(sums_of_g, *flat, *self.how, saved.A_row, sums)

    def norm_backward(
        self, g: Array, part: slice, B_row: Array, C_row: Array, workspace: ThreadWorkspace
    ) -> Array:
        saved, dx = self.saved, workspace.get("dy", g.shape)
        flat = (g.reshape(-1), saved.c[part].reshape(-1), saved.A_row, B_row, C_row)
        self.backend.opaque_call(norm_backward, *flat, saved.is_batch, dx.reshape(-1))
        return dx
