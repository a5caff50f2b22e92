"""Losses on logits, for training a discriminator or a classifier.

Binary cross-entropy. A discriminator gives a logit l for each image; p = sigmoid(l) is its
probability that the image is real; the target t is 1 for real and 0 for fake, or softer: 0.9.

    loss = -t·log p - (1 - t)·log(1 - p)

Computed literally, this is 0·log 0 when p rounds to 0 or 1. With log p = l - softplus(l) and
log(1 - p) = -softplus(l), where softplus(l) = log(1 + e^l), it becomes

    loss = softplus(l) - t·l = max(l, 0) - t·l + log(1 + e^-|l|)

which is exact for every l: the exponent is never positive. Its derivative is simple:

    dloss/dl = sigmoid(l) - t

Softmax cross-entropy. A classifier gives a logit l_k for each class k; p = softmax(l) are its
probabilities, and the label t is 1 for the image's class and 0 for the others, or any other
distribution over them.

    p_k = e^l_k / Σ_j e^l_j             loss = -Σ_k t_k·log p_k

e^l overflows at l = 89 in float32. But p does not change if the same number is subtracted from all
logits. With s = l - max_j l_j no exponent is above 0, the sum is at least 1, and

    log p_k = s_k - log Σ_j e^s_j

is exact for every l. The derivative of the logarithm of the sum is softmax itself, so with Σ_k t_k
= 1

    dloss/dl_i = -Σ_k t_k·(δ_ik - p_i) = p_i - t_i

the same as above: the binary case is two classes with the logits l and 0.

The mean over the batch puts 1/n before each gradient, here and nowhere else.
Fast versions of mean_bce and mean_sigmoid: backends/cpu/losses.py, backends/gpu/losses.py
"""

import sys
from numbers import Real
from typing import Any

from minigan.arrays import Array, Backend
from minigan.checks import expect_one_hot, ignore_float_errors
from minigan.errors import ArrayTypeError, ConfigError, ShapeError

Target = float | Array  # of all logits, or of each
Loss = tuple[Array, Array]  # the mean over a batch, a scalar; its gradient, dlogits


@ignore_float_errors
def bce_with_logits(
    logits: Array, target: Target, *, backend: Backend | None = None, limit: float | None = None
) -> Loss:
    """Mean binary cross-entropy and its gradient.

    logits   (n, 1), or any shape   n counts all logits
    target   number in [0, 1], or array as logits: 1 real, 0 fake; 0.9 is one-sided smoothing
    backend  of logits; inferred from the array's type if not given
    limit    report the loss of the logits clipped to ±limit; the gradient is exact in any case
    -> mean loss (a scalar of the backend), dlogits as logits, 1/n included; the caller's to keep
    Raises ConfigError for a number outside [0, 1] (arrays are not checked), ShapeError,
    ArrayTypeError.
    """
    backend, target = expect_target("bce_with_logits", logits, target, backend)
    return backend.operation_for(mean_bce)(logits, target, limit, backend)


def mean_bce(logits: Array, target: Target, limit: float | None, backend: Backend) -> Loss:
    """The arithmetic of bce_with_logits -> mean loss, dlogits."""
    xp = backend.xp
    clipped = logits if limit is None else xp.minimum(xp.maximum(logits, -limit), limit)
    loss = xp.mean(xp.log1p(xp.exp(-xp.abs(clipped))) + xp.maximum(clipped, 0) - clipped * target)
    # sigmoid(l) = 1/(1 + e^-l) for l >= 0, e^l/(1 + e^l) below: the numerator is e^min(l, 0)
    sigmoid = xp.exp(xp.minimum(logits, 0)) / (1 + xp.exp(-xp.abs(logits)))
    return loss, (sigmoid - target) * (1.0 / logits.size)


def mean_sigmoid(logits: Array, backend: Backend) -> Array:
    """-> mean of σ(logits), a scalar: how sure D is. σ(l) = (1 + tanh(l/2)) / 2"""
    return 0.5 + 0.5 * backend.xp.mean(backend.xp.tanh(0.5 * logits))


@ignore_float_errors
def softmax_cross_entropy(logits: Array, labels: Array, *, backend: Backend | None = None) -> Loss:
    """Mean softmax cross-entropy and its gradient.

    logits   (n, classes)
    labels   (n, classes)   one-hot, or nonnegative numbers with sum 1 in each row (not checked)
    backend  of both; inferred from the arrays' type if not given
    -> mean loss over the n rows (a scalar of the backend), dlogits as logits, 1/n included
    Raises ShapeError, ArrayTypeError.
    """
    if backend is None or not backend.is_array(logits):
        backend = backend_of(logits, "softmax_cross_entropy")
    xp = backend.xp
    if logits.ndim != 2 or logits.size == 0:
        raise ShapeError(f"softmax_cross_entropy: expected logits (n, classes), got {logits.shape}")
    expect_one_hot("softmax_cross_entropy", labels, logits.shape[1])
    expect_like_logits("softmax_cross_entropy", "labels", labels, logits, backend)
    shifted = logits - logits.max(axis=1, keepdims=True)
    exp = xp.exp(shifted)
    total = exp.sum(axis=1, keepdims=True)
    loss = xp.sum((shifted - xp.log(total)) * labels) * (-1.0 / len(logits))
    return loss, (exp / total - labels) * (1.0 / len(logits))


def expect_target(
    label: str, logits: Array, target: Target, backend: Backend | None
) -> tuple[Backend, Target]:
    """-> the backend of the logits, and the target as a Python number or an array.

    label  the function they were passed to, for the message
    Raises ShapeError, ConfigError, ArrayTypeError: see bce_with_logits.
    """
    if backend is None or not backend.is_array(logits):
        backend = backend_of(logits, label)
    if logits.size == 0:
        raise ShapeError(f"{label}: expected at least one logit, got an empty array {logits.shape}")
    if isinstance(target, (int, float, Real)):
        target = float(target)  # a NumPy scalar would decide the dtype of the result
        if not 0 <= target <= 1:
            raise ConfigError(f"{label}: target must be in [0, 1], got {target!r}")
    else:
        expect_like_logits(label, "target", target, logits, backend)
    return backend, target


def backend_of(array: Array, label: str) -> Backend:
    """-> a plain backend for an array that came without one; raises ArrayTypeError.

    label  the function it was passed to, for the message
    """
    kind = type(array).__module__.split(".")[0]
    dtype = getattr(array, "dtype", None)
    if kind not in ("numpy", "cupy") or dtype not in ("float32", "float64"):
        raise ArrayTypeError(
            f"{label}: expected logits as a NumPy or CuPy array of float32 or float64, "
            f"got {type(array).__name__} {dtype or ''}: call backend.asarray(logits) first"
        )
    return Backend(dtype, sys.modules[kind])


def expect_like_logits(label: str, name: str, value: Any, logits: Array, backend: Backend) -> None:
    """Raises ArrayTypeError, ShapeError unless value is an array of the logits' kind and shape."""
    if not backend.is_array(value):
        expected = "a number or an array" if name == "target" else "an array"
        raise ArrayTypeError(
            f"{label}: expected {name} as {expected} of the logits' kind, "
            f"got {type(value).__name__}"
        )
    if tuple(value.shape) != tuple(logits.shape):
        raise ShapeError(
            f"{label}: expected {name} of the logits' shape {logits.shape}, "
            f"got {tuple(value.shape)}"
        )
    if value.dtype != logits.dtype:
        raise ArrayTypeError(
            f"{label}: expected {name} of dtype {logits.dtype}, got {value.dtype}: "
            f"call backend.asarray({name}) first"
        )
