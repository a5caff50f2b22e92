"""A linear support vector machine: how much do features say about classes, weighed linearly?

For each class separately, with s = 1 for its images and -1 for all others, the L2-SVM minimizes

    L(w, b) = ½(|w|² + b²) + C·Σᵢ mᵢ²          mᵢ = max(0, 1 - sᵢ·(xᵢ·w + b))
    dL/dw   = w - 2C·Σᵢ sᵢ·mᵢ·xᵢ

C weighs mistakes against large weights. It is chosen on images that the machine is not trained on.
Features are standardized first, to mean 0 and standard deviation 1, so that the same values of C
suit those of any network, and pixels.

This is the machine of scikit-learn's LinearSVC with another solver. That one is LIBLINEAR, which
processes the images one by one, class after class, as lists of (index, value) pairs. For all
classes at once both sums are matrix products, here in float32, inside scipy's L-BFGS.
Source: Tang 2013, arXiv:1306.0239, section 2.2; Fan et al. 2008, "LIBLINEAR", JMLR 9
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigan.errors import ConfigError

Floats = NDArray[np.float32]

CS = tuple(c * 10.0**power for power in range(-5, 0) for c in (1, 3))  # tried in this order
FRACTION = 5  # one image in 5 is for the choice of C
TOLERANCE = 1e-2  # L-BFGS stops if the gradient falls to this share of that at W = 0 (max norm)
MAX_STEPS = 500


def expect_scipy() -> Callable[..., Any]:
    """-> scipy's minimize. Raises ConfigError if scipy is not installed."""
    try:
        from scipy.optimize import minimize
    except ImportError as error:
        raise ConfigError(
            "a linear SVM needs scipy, which is not installed: pip install scipy"
        ) from error
    found: Callable[..., Any] = minimize
    return found


def standardize(x: Floats) -> tuple[Floats, Floats]:
    """Features (n, d) to mean 0 and standard deviation 1, in place -> what these were (d,).

    A constant feature becomes 0.
    """
    mean = x.mean(axis=0, dtype=np.float64).astype(np.float32)
    x -= mean
    std = np.sqrt(np.einsum("nd,nd->d", x, x) / len(x))
    std[std == 0] = 1
    x /= std
    return mean, std


def fit(
    x: Floats,
    labels: NDArray[Any],
    classes: int,
    C: float,
    start: Floats | None = None,
    tolerance: float = TOLERANCE,
) -> Floats:
    """x (n, d), labels (n,) from 0 -> W (d + 1, classes): a column per class, b in the last row.

    start  initial W, such as that of a smaller C; None: 0
    Raises ConfigError if scipy is not installed.
    """
    minimize = expect_scipy()
    d = x.shape[1]
    one, other = np.float32(1), np.float32(-1)
    s = np.where(np.arange(classes) == np.asarray(labels)[:, None], one, other)  # (n, classes)

    def loss_and_gradient(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        W = flat.reshape(d + 1, classes).astype(np.float32)
        m = np.maximum(1 - s * scores(W, x), 0)
        loss = float(flat @ flat) / 2 + C * float(np.square(m, dtype=np.float64).sum())
        m *= s
        gradient = flat.reshape(d + 1, classes).copy()
        gradient[:d] -= 2 * C * (x.T @ m)
        gradient[d] -= 2 * C * m.sum(axis=0)
        return loss, gradient.ravel()

    zero = np.zeros((d + 1) * classes)
    steepest = np.abs(loss_and_gradient(zero)[1]).max()
    # the decrease of L is no criterion (ftol): the first step after a warm start is short
    options: dict[str, Any] = dict(maxiter=MAX_STEPS, maxfun=2 * MAX_STEPS, maxcor=20)
    options |= dict(ftol=0.0, gtol=tolerance * steepest)
    first = zero if start is None else start.astype(np.float64).ravel()
    found = minimize(loss_and_gradient, first, jac=True, method="L-BFGS-B", options=options)
    W: Floats = found.x.reshape(d + 1, classes).astype(np.float32)
    return W


def scores(W: Floats, x: Floats) -> Floats:
    """-> (n, classes): for each image the score of each class."""
    y: Floats = x @ W[:-1]
    y += W[-1]
    return y


def correct(W: Floats, x: Floats, labels: NDArray[Any]) -> int:
    """-> how many images x (n, d) have their highest score for their own class."""
    return int(np.count_nonzero(scores(W, x).argmax(axis=1) == labels))


def train(x: Floats, labels: NDArray[Any], classes: int) -> tuple[Floats, float]:
    """x (n, d) standardized, in random order -> W (d + 1, classes), and C.

    labels  (n,) from 0
    The last fifth is held out. C grows until fewer of these are correct; then the best C is used
    for all images. Raises ConfigError.
    """
    count = len(x) - len(x) // FRACTION
    best: tuple[int, float, Floats] | None = None
    W = None
    for C in CS:
        W = fit(x[:count], labels[:count], classes, C, W)
        found = correct(W, x[count:], labels[count:])
        if best is not None and found < best[0]:
            break
        if best is None or found > best[0]:
            best = found, C, W
    assert best is not None
    return fit(x, labels, classes, best[1], best[2]), best[1]
