"""Philox4x32-10: random numbers that are looked up rather than drawn one after the other.

A counter of four 32-bit words is stirred ten times with a key, and four random words come out:

    (hi0, lo0) = 0xD2511F53·c0        (hi1, lo1) = 0xCD9E8D57·c2        products of 64 bits
    c = (hi1 ⊕ c1 ⊕ k0, lo1, hi0 ⊕ c3 ⊕ k1, lo0)                       and k0, k1 += 0x9E3779B9, 0xBB67AE85

So each of a GPU's threads makes its own numbers from its own counter, (place, steps, steps >> 32, stream), with the
seed as the key, and all that has to be remembered is how often it was asked. This file is the same in NumPy,
for every other backend: the words, and with them uniform numbers, are equal bit by bit; normal numbers too,
but for the last bit where two libraries' sine or logarithm differ in it (of float32, one in millions).

uniform   float32: 24 bits of a word; float64: 53 bits of two
normal    from two uniform numbers u, v: √(-2·log(1 - u)) times cos 2πv and sin 2πv, in float64
Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"; Box & Muller 1958
"""

from typing import Any

import numpy as np

from minigan.arrays.types import Array
from minigan.checks import expect_size

MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
WEYL = 0x9E3779B9, 0xBB67AE85
LOW, HALF = np.uint64(0xFFFFFFFF), np.uint64(32)


class Philox:
    """Philox(backend, seed, stream): made by backend.philox. Each call draws other numbers; `steps` says how many there were.

    seed    0 .. 2^64 - 1;  stream  0 .. 2^31 - 1: streams of one seed have nothing in common
    steps   may be set, to go on where another one stopped
    """

    def __init__(self, backend: Any, seed: int, stream: int = 0):
        self.backend = backend
        self.seed = expect_size("philox: seed", seed, 0, 2**64 - 1)
        self.stream = expect_size("philox: stream", stream, 0)
        self.steps = 0

    def uniform(self, out: Array) -> None:
        """out = U[0, 1)"""
        self.draw(out, normal=False)

    def normal(self, out: Array) -> None:
        """out = N(0, 1)"""
        self.draw(out, normal=True)

    def draw(self, out: Array, normal: bool) -> None:
        values = numbers(out.size, self.seed, self.steps, self.stream, out.dtype, normal)
        self.backend.put(values.reshape(out.shape), out)
        self.steps += 1


def words(counters: list[np.ndarray], seed: int) -> np.ndarray:
    """Four words of each counter, as uint64 (count,) -> (count, 4) uint32"""
    c, k = counters, [seed & 0xFFFFFFFF, seed >> 32]
    for _ in range(10):
        a, b = MULTIPLIERS[0] * c[0], MULTIPLIERS[1] * c[2]
        c = [
            (b >> HALF) ^ c[1] ^ np.uint64(k[0]),
            b & LOW,
            (a >> HALF) ^ c[3] ^ np.uint64(k[1]),
            a & LOW,
        ]
        k = [(key + weyl) & 0xFFFFFFFF for key, weyl in zip(k, WEYL, strict=True)]
    return np.stack(c, axis=1).astype(np.uint32)


def numbers(size: int, seed: int, steps: int, stream: int, dtype: Any, normal: bool) -> np.ndarray:
    """-> (size,) of float32 or float64"""
    each = 16 // np.dtype(dtype).itemsize  # numbers of four words
    places = np.arange(-(-size // each), dtype=np.uint64)
    drawn = words(
        [
            places,
            *(np.full_like(places, word) for word in (steps & 0xFFFFFFFF, steps >> 32, stream)),
        ],
        seed,
    )
    halves = drawn[:, ::2], drawn[:, 1::2]
    values = (
        (drawn >> 8) * 2.0**-24
        if each == 4
        else ((halves[0] >> 5) * 2.0**26 + (halves[1] >> 6)) * 2.0**-53
    )
    if normal:
        u, v = values[:, ::2].copy(), values[:, 1::2].copy()
        length, angle = np.sqrt(-2.0 * np.log(1.0 - u)), 2.0 * np.pi * v
        values[:, ::2], values[:, 1::2] = length * np.cos(angle), length * np.sin(angle)
    return values.reshape(-1)[:size].astype(dtype)
