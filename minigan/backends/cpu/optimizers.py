"""Optimizers in blocks that stay in cache.

A definition in optimizers.py passes over the parameters some thirteen times. Here the same
operations run on one block of 32,768 numbers after another, so each is read from memory once;
the blocks are distributed over the threads. Every number equals the definition's, bit for bit.
Shown by: benchmarks/step.py
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from minigan.arrays import Array
from minigan.backends.cpu.backend import CpuBackend
from minigan.backends.cpu.chunks import chunks
from minigan.backends.workspace import Workspace
from minigan.optimizers import SGD, Adam, RMSprop

BLOCK = 32_768  # numbers; five arrays of them fill 640 KiB


Update = Callable[[list[Array], Any, Workspace], None]  # (arrays, constants, scratch memory)


def in_blocks(update: Update, arrays: list[Array], constants: Any, backend: CpuBackend) -> None:
    """update(parts of the arrays, constants, workspace) for each block."""
    parts = chunks(arrays[0].size, BLOCK, backend.team.size)

    def block(i: int, workspace: Workspace, worker: int) -> None:
        update([array[parts[i]] for array in arrays], constants, workspace)

    backend.run(block, len(parts))


def adam(optimizer: Adam, backend: CpuBackend) -> None:
    """As Adam.apply."""
    store = optimizer.store
    arrays = [store.flat_params, store.flat_grads, optimizer.m, optimizer.v]
    in_blocks(adam_update, arrays, optimizer.constants(), backend)


def rmsprop(optimizer: RMSprop, backend: CpuBackend) -> None:
    """As RMSprop.apply."""
    arrays = [optimizer.store.flat_params, optimizer.store.flat_grads, optimizer.s]
    in_blocks(rmsprop_update, arrays, optimizer.constants(), backend)


def sgd(optimizer: SGD, backend: CpuBackend) -> None:
    """As SGD.apply."""
    store = optimizer.store
    arrays = [store.flat_params, store.flat_grads, *optimizer.state_arrays()]
    in_blocks(sgd_update, arrays, optimizer.constants(), backend)


def ema_update(mean: Array, new: Array, weight: float, backend: CpuBackend) -> None:
    """As ema_update in averaging.py."""
    in_blocks(ema_block, [mean.reshape(-1), new.reshape(-1)], weight, backend)


def with_l2(p: Array, g: Array, l2: float, workspace: Workspace) -> Array:
    """-> g + l2·p, in scratch memory; g itself without l2."""
    if not l2:
        return g
    penalized = workspace.get("optimizer l2", p.shape)
    np.multiply(p, l2, out=penalized)
    np.add(penalized, g, out=penalized)
    return penalized


def adam_update(arrays: list[Array], constants: Any, workspace: Workspace) -> None:
    """One block of Adam: arrays p, g, m, v."""
    (p, g, m, v), (lr, beta1, beta2, eps, correction1, correction2, l2) = arrays, constants
    g = with_l2(p, g, l2, workspace)
    change = workspace.get("optimizer change", p.shape)
    np.multiply(g, 1.0 - beta1, out=change)
    np.multiply(m, beta1, out=m)
    np.add(m, change, out=m)
    np.multiply(g, g, out=change)
    np.multiply(change, 1.0 - beta2, out=change)
    np.multiply(v, beta2, out=v)
    np.add(v, change, out=v)
    np.multiply(v, 1.0 / correction2, out=change)
    np.sqrt(change, out=change)
    np.add(change, eps, out=change)
    np.divide(m, change, out=change)
    np.multiply(change, lr / correction1, out=change)
    np.subtract(p, change, out=p)


def rmsprop_update(arrays: list[Array], constants: Any, workspace: Workspace) -> None:
    """One block of RMSprop: arrays p, g, s."""
    (p, g, s), (lr, rho, eps, l2) = arrays, constants
    g = with_l2(p, g, l2, workspace)
    change = workspace.get("optimizer change", p.shape)
    np.multiply(g, g, out=change)
    np.multiply(change, 1.0 - rho, out=change)
    np.multiply(s, rho, out=s)
    np.add(s, change, out=s)
    np.sqrt(s, out=change)
    np.add(change, eps, out=change)
    np.divide(g, change, out=change)
    np.multiply(change, lr, out=change)
    np.subtract(p, change, out=p)


def sgd_update(arrays: list[Array], constants: Any, workspace: Workspace) -> None:
    """One block of SGD: arrays p, g, and v with momentum."""
    (p, g, *moments), (lr, momentum, nesterov, l2) = arrays, constants
    g = with_l2(p, g, l2, workspace)
    change = workspace.get("optimizer change", p.shape)
    for v in moments:  # the one, or none without momentum
        np.multiply(v, momentum, out=v)
        np.add(v, g, out=v)
        if nesterov:
            np.multiply(v, momentum, out=change)
            g = np.add(change, g, out=change)
        else:
            g = v
    np.multiply(g, lr, out=change)
    np.subtract(p, change, out=p)


def ema_block(arrays: list[Array], weight: float, workspace: Workspace) -> None:
    """One block of mean += weight·(new - mean)."""
    mean, new = arrays
    change = workspace.get("optimizer change", mean.shape)
    np.subtract(new, mean, out=change)
    np.multiply(change, weight, out=change)
    np.add(mean, change, out=mean)
