"""Softmax cross-entropy: what a classifier is trained with.

The classifier gives a logit l_k for each class k; p = softmax(l) are its probabilities,

    p_k = e^l_k / Σ_j e^l_j

and the label t is 1 for the image's own class and 0 for the others, or any other distribution over them.

    loss = -Σ_k t_k·log p_k

e^l overflows at l = 89 in float32. But p stays the same when one number is subtracted from all logits: with
m = max_j l_j no exponent is above 0 and the sum is at least 1. So

    log p_k = s_k - log Σ_j e^s_j        s = l - m

which is exact for every l. The derivative of the logarithm of the sum is softmax itself, ∂ log Σ_j e^s_j / ∂l_i = p_i
(m drops out, as p does not depend on it), and with Σ_k t_k = 1

    dloss/dl_i = -Σ_k t_k·(δ_ik - p_i) = p_i - t_i

the same as of sigmoid and binary cross-entropy (losses.py), which is this with two classes and the logits l and 0.
The mean over the batch puts a 1/n before it, here and nowhere else.
"""

from minigan.backends import Array, Backend
from minigan.errors import ShapeError
from minigan.losses import backend_of, expect_as_logits


def softmax_cross_entropy(
    logits: Array, labels: Array, *, backend: Backend | None = None
) -> tuple[Array, Array]:
    """Mean softmax cross-entropy and its gradient.
    logits   (n, classes)
    labels   (n, classes)   one-hot, or any numbers from 0 whose sum is 1 in each row (they are not looked through)
    backend  of both; found by the arrays' type where it is not given
    -> mean loss over the n rows (a scalar of the backend), dlogits as logits, 1/n inside; the caller's own
    Raises ShapeError, ArrayTypeError.
    """
    backend = backend or backend_of(logits, "softmax_cross_entropy")
    xp = backend.xp
    if logits.ndim != 2 or logits.size == 0:
        raise ShapeError(
            f"softmax_cross_entropy: expected logits (n, classes), got {tuple(logits.shape)}"
        )
    expect_as_logits("softmax_cross_entropy", "labels", labels, logits, backend)
    dlogits = backend.workspace.fresh("dlogits", logits.shape)
    shifted = backend.scratch("softmax shifted", logits.shape)
    row = backend.scratch("softmax row", (len(logits), 1))

    xp.max(logits, axis=1, keepdims=True, out=row)
    xp.subtract(logits, row, out=shifted)
    xp.exp(shifted, out=dlogits)
    xp.sum(dlogits, axis=1, keepdims=True, out=row)
    xp.divide(dlogits, row, out=dlogits)  # softmax

    xp.log(row, out=row)
    xp.subtract(shifted, row, out=shifted)  # log p
    xp.multiply(shifted, labels, out=shifted)
    loss = xp.sum(shifted) * (-1.0 / len(logits))

    xp.subtract(dlogits, labels, out=dlogits)
    xp.multiply(dlogits, 1.0 / len(logits), out=dlogits)
    return loss, dlogits
