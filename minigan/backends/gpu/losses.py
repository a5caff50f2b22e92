"""Losses and probabilities on the GPU: few launches, no new memory; results stay on the device."""

from minigan.arrays import Array
from minigan.backends.gpu.backend import GpuBackend
from minigan.backends.gpu.convolution import contiguous
from minigan.backends.gpu.reductions import mean
from minigan.losses import Loss, Target

NO_LIMIT = float("inf")


def mean_bce(logits: Array, target: Target, limit: float | None, backend: GpuBackend) -> Loss:
    """As mean_bce in losses.py."""
    return mean_loss("CrossEntropy", logits, target, backend, limit)


def mean_least_squares(logits: Array, target: Target, backend: GpuBackend) -> Loss:
    """As mean_least_squares in objective.py."""
    return mean_loss("LeastSquares", logits, target, backend)


def mean_hinge(logits: Array, target: Target, backend: GpuBackend) -> Loss:
    """As mean_hinge in objective.py."""
    return mean_loss("Hinge", logits, target, backend)


def mean_negative(logits: Array, backend: GpuBackend) -> Loss:
    """As mean_negative in objective.py."""
    return mean_loss("Negative", logits, 1.0, backend)


def mean_loss(
    kind: str, logits: Array, target: Target, backend: GpuBackend, limit: float | None = None
) -> Loss:
    """kind: a loss in kernels.cu -> mean loss, dlogits; see losses.py, objective.py."""
    size, shape, workspace = logits.size, logits.shape, backend.workspace
    dlogits, losses = backend.outputs.new_output("dlogits", shape), backend.scratch("losses", shape)
    targets = None
    if not isinstance(target, float):
        targets, target = contiguous(target, "targets", workspace), 0.0
    logits = contiguous(logits, "logits", workspace)
    limit = NO_LIMIT if limit is None else limit
    kernel = backend.kernels.get("loss_of_logits", kind=kind)
    weight = 1.0 / backend.group.total(size)
    kernel(size, logits, targets, losses, dlogits, size, weight, target, limit)
    return mean(losses, "loss", backend), dlogits


def mean_sigmoid(logits: Array, backend: GpuBackend) -> Array:
    """As mean_sigmoid in losses.py."""
    p = backend.scratch("probabilities", logits.shape)
    logits = contiguous(logits, "logits", backend.workspace)
    backend.kernels.get("probabilities")(logits.size, logits, p, logits.size)
    return mean(p, "probability", backend)
