"""Binary cross-entropy on logits: what a discriminator is trained with.

The discriminator gives a logit l for each image; p = sigmoid(l) is its probability
that the image is real; the target t is 1 for real and 0 for fake, or softer: 0.9.

    loss = -t·log p - (1 - t)·log(1 - p)

Taken literally this is 0·log 0 as soon as p rounds to 0 or 1. With log p = l - softplus(l)
and log(1 - p) = -softplus(l), where softplus(l) = log(1 + e^l), it becomes

    loss = softplus(l) - t·l = max(l, 0) - t·l + log(1 + e^-|l|)

which is exact for every l: the exponent is never positive. Its derivative is simple:

    dloss/dl = sigmoid(l) - t

The mean over the batch puts a 1/n before it, here and nowhere else.
"""

from functools import cache
from numbers import Real
from typing import Any

from minigan.backends import Array, Backend, get_backend
from minigan.errors import ArrayTypeError, ConfigError, ShapeError


def bce_with_logits(
    logits: Array,
    target: float | Array,
    *,
    backend: Backend | None = None,
    limit: float | None = None,
) -> tuple[Array, Array]:
    """Mean binary cross-entropy and its gradient.
    logits   (n, 1), or any shape   n is the number of all logits
    target   number in [0, 1], or array as logits: 1 real, 0 fake; 0.9 is one-sided smoothing
    backend  of logits; found by the array's type where it is not given
    limit    the loss that is returned is that of the logits clipped to ±limit; the gradient is exact in any case
    -> mean loss (a scalar of the backend), dlogits as logits, 1/n inside; the caller's own
    Raises ConfigError for a number outside of [0, 1] (an array is not looked through), ShapeError, ArrayTypeError.
    """
    backend = backend or backend_of(logits, "bce_with_logits")
    if logits.size == 0:
        raise ShapeError(
            f"bce_with_logits: expected at least one logit, got an empty array {tuple(logits.shape)}"
        )
    if isinstance(target, (int, float, Real)):
        target = float(target)  # a NumPy scalar would decide on the dtype of the result
        if not 0 <= target <= 1:
            raise ConfigError(f"bce_with_logits: target must be in [0, 1], got {target!r}")
    else:
        expect_as_logits(
            "bce_with_logits", "target", target, logits, backend, kind="a number or an array"
        )
    dlogits = backend.workspace.fresh("dlogits", logits.shape)
    return backend.implementation(mean_bce)(logits, target, dlogits, limit, backend), dlogits


def mean_bce(
    logits: Array, target: float | Array, dlogits: Array, limit: float | None, backend: Backend
) -> Array:
    """The arithmetic of bce_with_logits: dlogits is written -> mean loss."""
    xp = backend.xp
    if limit is not None:
        clipped = backend.scratch("clipped logits", logits.shape)
        xp.minimum(logits, limit, out=clipped)
        xp.maximum(clipped, -limit, out=clipped)
        loss = mean_bce(clipped, target, dlogits, None, backend)
        mean_bce(logits, target, dlogits, None, backend)
        return loss
    exp = backend.scratch("bce exp", logits.shape)
    loss = backend.scratch("bce loss", logits.shape)

    xp.absolute(logits, out=exp)
    xp.negative(exp, out=exp)
    xp.exp(exp, out=exp)  # e^-|l|, in (0, 1]
    xp.log1p(exp, out=loss)
    xp.maximum(logits, 0, out=dlogits)  # dlogits serves as scratch until its own turn
    xp.add(loss, dlogits, out=loss)
    xp.multiply(logits, target, out=dlogits)
    xp.subtract(loss, dlogits, out=loss)

    # sigmoid(l) = 1/(1 + e^-l) for l >= 0, e^l/(1 + e^l) below: numerator e^min(l, 0)
    xp.minimum(logits, 0, out=dlogits)
    xp.exp(dlogits, out=dlogits)
    xp.add(exp, 1, out=exp)
    xp.divide(dlogits, exp, out=dlogits)
    xp.subtract(dlogits, target, out=dlogits)
    xp.multiply(dlogits, 1.0 / logits.size, out=dlogits)
    return xp.mean(loss)


def mean_sigmoid(logits: Array, backend: Backend) -> Array:
    """-> mean of σ(logits), a scalar of the backend: how sure D is that they are real. σ(l) = (1 + tanh(l/2)) / 2"""
    half = backend.scratch("half logits", logits.shape)
    backend.xp.multiply(logits, 0.5, out=half)
    backend.xp.tanh(half, out=half)
    return 0.5 + 0.5 * backend.xp.mean(half)


def backend_of(array: Array, label: str) -> Backend:
    """-> a backend for an array that came without one; raises ArrayTypeError.

    who  the function that it came to, for the message
    """
    kind = type(array).__module__.split(".")[0]
    if kind not in ("numpy", "cupy") or getattr(array, "dtype", None) not in ("float32", "float64"):
        raise ArrayTypeError(
            f"{label}: expected logits as a float32 or float64 array of NumPy or CuPy, got "
            f"{type(array).__name__} {getattr(array, 'dtype', '')}: call backend.asarray(logits) first"
        )
    return shared_backend(kind, array.dtype.name)


@cache
def shared_backend(name: str, dtype: str) -> Backend:
    """-> one backend for all calls that bring none: it has nothing but scratch memory to share."""
    return get_backend(name, dtype=dtype)


def expect_as_logits(
    label: str, name: str, value: Any, logits: Array, backend: Backend, kind: str = "an array"
) -> None:
    """Raises ArrayTypeError, ShapeError unless a value is an array with the logits' shape and dtype, on their device."""
    if not backend.is_array(value):
        raise ArrayTypeError(
            f"{label}: expected {name} as {kind} of logits' kind, got {type(value).__name__}"
        )
    if tuple(value.shape) != tuple(logits.shape):
        raise ShapeError(
            f"{label}: expected {name} of logits' shape {tuple(logits.shape)}, got {tuple(value.shape)}"
        )
    if value.dtype != logits.dtype:
        raise ArrayTypeError(
            f"{label}: expected {name} of dtype {logits.dtype}, got {value.dtype}: call backend.asarray({name}) first"
        )
