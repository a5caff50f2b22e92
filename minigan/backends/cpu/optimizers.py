"""Optimizers in blocks that stay in cache.

A definition in optimizers.py passes over the parameters some thirteen times. Here it runs on one
block of 16,384 numbers after another, so each is read from memory once; the blocks are
distributed over the threads. Every number equals the definition's, bit for bit.
Shown by: benchmarks/step.py
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from minigan import averaging, optimizers
from minigan.arrays import Array
from minigan.backends.cpu.backend import CpuBackend
from minigan.backends.cpu.chunks import chunks
from minigan.optimizers import SGD, Adam, Optimizer, RMSprop

BLOCK = 16_384  # numbers; six arrays of them, two of which are temporary, fill 384 KiB


def in_blocks(
    update: Callable[..., None], arrays: list[Array], backend: CpuBackend, *rest: Any
) -> None:
    """update(*parts of the arrays, *rest) for each block."""
    parts = chunks(arrays[0].size, BLOCK, backend.team.size)
    backend.run(lambda i, *_: update(*(array[parts[i]] for array in arrays), *rest), len(parts))


def arrays_of(optimizer: Optimizer) -> list[Array]:
    """-> parameters, gradients, moments"""
    store = optimizer.store
    return [store.flat_params, store.flat_grads, *optimizer.state_arrays()]


def adam(optimizer: Adam, backend: CpuBackend) -> None:
    """As Adam.apply."""
    in_blocks(optimizers.adam_update, arrays_of(optimizer), backend, optimizer.constants(), np)


def rmsprop(optimizer: RMSprop, backend: CpuBackend) -> None:
    """As RMSprop.apply."""
    in_blocks(optimizers.rmsprop_update, arrays_of(optimizer), backend, optimizer.constants(), np)


def sgd(optimizer: SGD, backend: CpuBackend) -> None:
    """As SGD.apply."""
    update, constants = optimizers.sgd_update, optimizer.constants()
    in_blocks(lambda p, g, v=None: update(p, g, v, constants), arrays_of(optimizer), backend)


def ema_update(mean: Array, new: Array, weight: float, backend: CpuBackend) -> None:
    """As ema_update in averaging.py."""
    in_blocks(averaging.ema_update, [mean.reshape(-1), new.reshape(-1)], backend, weight, backend)
