"""Losses without new memory; in a captured step, over the rows of all processes."""

import numpy as np

from minigan.arrays import Array
from minigan.backends.cpu.backend import CpuBackend


def mean_bce(
    logits: Array, target: float | Array, limit: float | None, backend: CpuBackend
) -> tuple[Array, Array]:
    """As mean_bce in losses.py."""
    dlogits = backend.outputs.new_output("dlogits", logits.shape)
    loss = bce(logits, target, dlogits, backend)
    if limit is not None:
        clipped = backend.scratch("clipped logits", logits.shape)
        np.minimum(logits, limit, out=clipped)
        np.maximum(clipped, -limit, out=clipped)
        loss = bce(clipped, target, backend.scratch("unused dlogits", logits.shape), backend)
    loss, weight = backend.group.mean(loss, logits.size)
    if weight != 1.0:
        np.multiply(dlogits, weight, out=dlogits)
    return loss, dlogits


def bce(logits: Array, target: float | Array, dlogits: Array, backend: CpuBackend) -> Array:
    """-> the mean loss of these rows; dlogits is written."""
    exp, loss = (backend.scratch(name, logits.shape) for name in ("bce exp", "bce loss"))
    np.absolute(logits, out=exp)
    np.negative(exp, out=exp)
    np.exp(exp, out=exp)  # e^-|l|, in (0, 1]
    np.log1p(exp, out=loss)
    np.maximum(logits, 0, out=dlogits)  # dlogits serves as scratch until its turn
    np.add(loss, dlogits, out=loss)
    np.multiply(logits, target, out=dlogits)
    np.subtract(loss, dlogits, out=loss)

    np.minimum(logits, 0, out=dlogits)
    np.exp(dlogits, out=dlogits)
    np.add(exp, 1, out=exp)
    np.divide(dlogits, exp, out=dlogits)
    np.subtract(dlogits, target, out=dlogits)
    np.multiply(dlogits, 1.0 / logits.size, out=dlogits)
    return np.mean(loss)


def mean_sigmoid(logits: Array, backend: CpuBackend) -> Array:
    """As mean_sigmoid in losses.py."""
    half = backend.scratch("half logits", logits.shape)
    np.multiply(logits, 0.5, out=half)
    np.tanh(half, out=half)
    return backend.group.mean(0.5 + 0.5 * np.mean(half), logits.size)[0]
