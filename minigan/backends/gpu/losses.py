"""Losses and probabilities on the GPU: few launches, no new memory; results stay on the device."""

from minigan.arrays import Array
from minigan.backends.gpu.backend import GpuBackend
from minigan.backends.gpu.convolution import contiguous
from minigan.backends.gpu.reductions import mean

NO_LIMIT = float("inf")


def mean_bce(
    logits: Array, target: float | Array, limit: float | None, backend: GpuBackend
) -> tuple[Array, Array]:
    """As mean_bce in losses.py."""
    size, shape, workspace = logits.size, logits.shape, backend.workspace
    dlogits, losses = backend.outputs.new_output("dlogits", shape), backend.scratch("losses", shape)
    targets = None
    if not isinstance(target, float):
        targets, target = contiguous(target, "targets", workspace), 0.0
    logits = contiguous(logits, "logits", workspace)
    limit = NO_LIMIT if limit is None else limit
    bce = backend.kernels.get("bce")
    bce(size, logits, targets, losses, dlogits, size, target, limit)
    return mean(losses, "loss", backend), dlogits


def mean_sigmoid(logits: Array, backend: GpuBackend) -> Array:
    """As mean_sigmoid in losses.py."""
    p = backend.scratch("probabilities", logits.shape)
    logits = contiguous(logits, "logits", backend.workspace)
    backend.kernels.get("probabilities")(logits.size, logits, p, logits.size)
    return mean(p, "probability", backend)
