"""The kernel distance KID: are two clouds of features draws of one distribution?

With a kernel k(x, y) = φ(x)·φ(y), the squared distance of the means of φ under two distributions P and Q is

    MMD² = |E φ(x) - E φ(y)|² = E k(x, x') + E k(y, y') - 2·E k(x, y)        x, x' of P;  y, y' of Q

Here k is a polynomial of degree 3 in the dot product, (x·y/d + 1)³ with d features, so that φ holds all products of
up to three of them: means, variances and skewness are compared. The mean over the pairs i ≠ j,

    1/(m(m-1)) Σ_{i≠j} k(x_i, x_j) + 1/(m(m-1)) Σ_{i≠j} k(y_i, y_j) - 2/m² Σ_{i,j} k(x_i, y_j)

is unbiased: of equal distributions it is 0 in the mean, at any m, and so it is below 0 about as often as above.
(With the pairs i = j it would not be.) This is what the Fréchet distance is not, and why few samples are enough.

It is taken on random subsets, whose spread says how much of a figure is chance.
Source: Gretton et al. 2012; as a measure of GANs: Bińkowski et al. 2018, arXiv:1801.01401
"""

import numpy as np

SUBSETS, SIZE = 100, 1000


def sum_of_kernel(x: np.ndarray, y: np.ndarray) -> float:
    """x (n, d), y (m, d), divided by √d -> Σ over all pairs of (x·y + 1)³."""
    values = x @ y.T
    values += 1
    return float(np.vdot(values * values, values))


def unbiased_mmd(x: np.ndarray, y: np.ndarray) -> float:
    """x, y (m, d) float64, as many of each -> MMD² of the polynomial kernel."""
    m, d = x.shape
    x, y = x / np.sqrt(d), y / np.sqrt(d)

    def others(a: np.ndarray) -> float:  # the mean over the pairs i ≠ j
        itself = float(np.sum((np.sum(a * a, axis=1) + 1) ** 3))
        return (sum_of_kernel(a, a) - itself) / float(m * (m - 1))

    return others(x) + others(y) - 2 * sum_of_kernel(x, y) / float(m * m)


def kernel_distance(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """Features (n, d) of two sets -> mean and standard deviation of MMD² over 100 pairs of subsets of 1,000 (or of all, if fewer)."""
    size = min(SIZE, len(x), len(y))
    found = [
        unbiased_mmd(*(a[rng.choice(len(a), size, replace=False)] for a in (x, y)))
        for _ in range(SUBSETS)
    ]
    return float(np.mean(found)), float(np.std(found))
