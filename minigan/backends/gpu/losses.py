"""Losses and what is measured beside them, on the GPU: few launches, no new memory, and the results stay on the device."""

from minigan.arrays.backend import Array
from minigan.backends.gpu.backend import CupyBackend
from minigan.backends.gpu.convolution import contiguous
from minigan.backends.gpu.reductions import mean

NO_LIMIT = float("inf")


def mean_bce(
    logits: Array, target: float | Array, dlogits: Array, limit: float | None, backend: CupyBackend
) -> Array:
    """As mean_bce in losses.py."""
    size, losses, out = (
        logits.size,
        backend.scratch("losses", logits.shape),
        backend.workspace.fresh("loss", ()),
    )
    targets, target = (
        (None, target)
        if isinstance(target, float)
        else (contiguous(target, "targets", backend.workspace), 0.0)
    )
    logits = contiguous(logits, "logits", backend.workspace)
    backend.kernels.get("bce")(
        size, logits, targets, losses, dlogits, size, target, NO_LIMIT if limit is None else limit
    )
    mean(losses, out, backend)
    return out


def mean_sigmoid(logits: Array, backend: CupyBackend) -> Array:
    """As mean_sigmoid in losses.py."""
    size, p, out = (
        logits.size,
        backend.scratch("probabilities", logits.shape),
        backend.workspace.fresh("probability", ()),
    )
    backend.kernels.get("probabilities")(
        size, contiguous(logits, "logits", backend.workspace), p, size
    )
    mean(p, out, backend)
    return out
