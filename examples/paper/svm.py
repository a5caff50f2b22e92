"""A linear support vector machine: how much of the classes do features tell, with nothing learnt on top but a weight for each?

For each class k of its own, s = 1 for its images and -1 for all others, the L2-SVM is the minimum of

    L(w, b) = ½(|w|² + b²) + C·Σᵢ mᵢ²          mᵢ = max(0, 1 - sᵢ·(xᵢ·w + b))
    dL/dw   = w - 2C·Σᵢ sᵢ·mᵢ·xᵢ

C says what a mistake costs beside large weights; it is chosen on images that the machine has not learnt from. Features are first
brought to mean 0 and spread 1, so that one C fits those of any net, and pixels.

It is the machine of scikit-learn's LinearSVC, solved otherwise. That one goes through the images one by one, class after class, and
holds each number in 24 bytes: 10,000 images of 7,168 features took it 147 s for one C on a busy CPU, and a table takes some twenty
of them, of 50,000 images, which would be 8.6 GB. For all classes at once the two sums are matrix products, in float32, and scipy's
L-BFGS takes about 30 steps.
Source: Tang 2013, arXiv:1306.0239, section 2.2; Fan et al. 2008, "LIBLINEAR", JMLR 9
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigan.errors import ConfigError

Floats = NDArray[np.float32]
CS = tuple(
    c * 10.0**power for power in range(-5, 0) for c in (1, 3)
)  # in turn, as long as they do better
HELD_OUT = 5  # one image in so many is for the choice of C
TOLERANCE, STEPS = (
    1e-2,
    500,
)  # L-BFGS ends where no slope of L is steeper than this share of the steepest at W = 0; at the latest


def expect_scipy() -> Callable[..., Any]:
    """-> scipy's minimize. Raises ConfigError where scipy is not installed."""
    try:
        from scipy.optimize import minimize
    except ImportError as error:
        raise ConfigError(
            "a linear SVM needs scipy, which is not installed: pip install scipy"
        ) from error
    found: Callable[..., Any] = minimize
    return found


def standardise(x: Floats) -> tuple[Floats, Floats]:
    """Bring features (n, d) to mean 0 and spread 1, in place -> what they had: mean, spread (d,); a constant feature becomes 0."""
    mean = x.mean(axis=0, dtype=np.float64).astype(np.float32)
    x -= mean
    spread = np.sqrt(np.einsum("nd,nd->d", x, x) / len(x))
    spread[spread == 0] = 1
    x /= spread
    return mean, spread


def fit(
    x: Floats,
    labels: NDArray[Any],
    classes: int,
    C: float,
    start: Floats | None = None,
    tolerance: float = TOLERANCE,
) -> Floats:
    """x (n, d), labels (n,) from 0 -> W (d + 1, classes): the weights of each class in a column, b last.

    start  W to begin with, as of a smaller C; None: 0
    Raises ConfigError where scipy is not installed.
    """
    minimize = expect_scipy()
    d = x.shape[1]
    s = np.where(
        np.arange(classes) == np.asarray(labels)[:, None], np.float32(1), np.float32(-1)
    )  # (n, classes)

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
    first = zero if start is None else start.astype(np.float64).ravel()
    flat_enough = (
        tolerance * np.abs(loss_and_gradient(zero)[1]).max()
    )  # not a small gain in L: the first step of a warm start is short
    options = {
        "maxiter": STEPS,
        "maxfun": 2 * STEPS,
        "maxcor": 20,
        "ftol": 0.0,
        "gtol": flat_enough,
    }
    found = minimize(loss_and_gradient, first, jac=True, method="L-BFGS-B", options=options)
    W: Floats = found.x.reshape(d + 1, classes).astype(np.float32)
    return W


def scores(W: Floats, x: Floats) -> Floats:
    """-> (n, classes): what each class says of each image."""
    y: Floats = x @ W[:-1]
    y += W[-1]
    return y


def right(W: Floats, x: Floats, labels: NDArray[Any]) -> int:
    """-> of how many images x (n, d) the class with the highest score is the right one."""
    return int(np.count_nonzero(scores(W, x).argmax(axis=1) == labels))


def learn(x: Floats, labels: NDArray[Any], classes: int) -> tuple[Floats, float]:
    """x (n, d) standardised, in random order; labels (n,) from 0 -> W (d + 1, classes), and the C that was chosen.

    The last fifth is held out. C grows until it tells fewer of these right; the best one learns from all. Raises ConfigError.
    """
    kept = len(x) - len(x) // HELD_OUT
    best: tuple[int, float, Floats] | None = None
    W = None
    for C in CS:
        W = fit(x[:kept], labels[:kept], classes, C, W)
        found = right(W, x[kept:], labels[kept:])
        if best is not None and found < best[0]:
            break
        if best is None or found > best[0]:
            best = found, C, W
    assert best is not None
    return fit(x, labels, classes, best[1], best[2]), best[1]
