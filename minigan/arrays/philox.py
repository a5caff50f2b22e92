"""Philox4x32-10: random numbers computed from a counter, not from the number before.

A counter of four 32-bit words is mixed with a key in ten rounds; four random words come out:

    (hi0, lo0) = 0xD2511F53·c0        (hi1, lo1) = 0xCD9E8D57·c2        64-bit products
    c = (hi1 ⊕ c1 ⊕ k0, lo1, hi0 ⊕ c3 ⊕ k1, lo0)      k0 += 0x9E3779B9, k1 += 0xBB67AE85

So each thread of a GPU computes its own numbers from its own counter (place, steps, steps >> 32,
stream), with the seed as the key. The only state is the number of calls, `steps`. This file does
the same in NumPy, for every other backend. The words and the uniform numbers are equal bit for bit.
Normal numbers are too, unless two libraries' sine or logarithm differ in their last bit.

uniform   float32: 24 bits of a word; float64: 53 bits of two
normal    from two uniform numbers u, v: √(-2·log(1 - u)) times cos 2πv and sin 2πv, in float64
Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"; Box & Muller 1958
Fast version: backends/gpu/step_state.py
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from minigan.checks import expect_size

if TYPE_CHECKING:
    from minigan.arrays import Array, Backend

MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
WEYL = 0x9E3779B9, 0xBB67AE85
LOW, HALF = np.uint64(0xFFFFFFFF), np.uint64(32)


class Philox:
    """Philox(backend, seed, stream): made by backend.philox. Each call draws different numbers.

    seed    0 .. 2^64 - 1
    stream  0 .. 2^31 - 1: streams of one seed are independent
    steps   number of calls so far; set it to continue where another generator stopped
    """

    def __init__(self, backend: "Backend", seed: int, stream: int = 0):
        self.backend = backend
        self.seed = expect_size("philox: seed", seed, 0, 2**64 - 1)
        self.stream = expect_size("philox: stream", stream, 0)
        self.steps = 0

    def uniform(self, out: "Array") -> None:
        """out = U[0, 1)"""
        self.draw(out, normal=False)

    def normal(self, out: "Array") -> None:
        """out = N(0, 1)"""
        self.draw(out, normal=True)

    def draw(self, out: "Array", normal: bool) -> None:
        values = numbers(out.size, self.seed, self.steps, self.stream, out.dtype, normal)
        self.backend.put(values.reshape(out.shape), out)
        self.steps += 1


def words(counters: list[np.ndarray], seed: int) -> np.ndarray:
    """counters: four arrays (count,) of uint64, one for each word -> (count, 4) uint32"""
    c, k = counters, [seed & 0xFFFFFFFF, seed >> 32]
    for _ in range(10):
        a, b = MULTIPLIERS[0] * c[0], MULTIPLIERS[1] * c[2]
        key0, key1 = map(np.uint64, k)
        c = [(b >> HALF) ^ c[1] ^ key0, b & LOW, (a >> HALF) ^ c[3] ^ key1, a & LOW]
        k = [(key + weyl) & 0xFFFFFFFF for key, weyl in zip(k, WEYL, strict=True)]
    return np.stack(c, axis=1).astype(np.uint32)


def numbers(size: int, seed: int, steps: int, stream: int, dtype: Any, normal: bool) -> np.ndarray:
    """-> (size,) of float32 or float64"""
    each = 16 // np.dtype(dtype).itemsize  # numbers from one counter's four words
    places = np.arange(-(-size // each), dtype=np.uint64)
    others = (steps & 0xFFFFFFFF, steps >> 32, stream)
    drawn = words([places, *(np.full_like(places, word) for word in others)], seed)
    if each == 4:
        values = (drawn >> 8) * 2.0**-24
    else:
        values = ((drawn[:, ::2] >> 5) * 2.0**26 + (drawn[:, 1::2] >> 6)) * 2.0**-53
    if normal:
        u, v = values[:, ::2].copy(), values[:, 1::2].copy()
        length, angle = np.sqrt(-2.0 * np.log(1.0 - u)), 2.0 * np.pi * v
        values[:, ::2], values[:, 1::2] = length * np.cos(angle), length * np.sin(angle)
    return values.reshape(-1)[:size].astype(dtype)
