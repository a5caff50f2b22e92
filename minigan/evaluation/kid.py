"""Kernel Inception Distance (KID), here in the features of minigan's classifier.

With a kernel k(x, y) = φ(x)·φ(y), the squared distance between the means of φ under two
distributions P and Q is the squared maximum mean discrepancy

    MMD² = |E φ(x) - E φ(y)|² = E k(x, x') + E k(y, y') - 2·E k(x, y)      x, x' ~ P;  y, y' ~ Q

Here k is a polynomial of degree 3 in the dot product, (x·y/d + 1)³ for d features. φ contains all
products of up to three of them: means, variances and skewness are compared. The estimate

    1/(m(m-1)) Σ_{i≠j} k(x_i, x_j) + 1/(m(m-1)) Σ_{i≠j} k(y_i, y_j) - 2/m² Σ_{i,j} k(x_i, y_j)

is unbiased, because the pairs i = j are left out: for equal distributions its mean is 0 for any m,
and it is negative about as often as positive. The Fréchet distance has no such estimate; this one
needs fewer samples.

It is computed on random subsets, and their standard deviation shows how much of it is chance.
Source: Gretton et al. 2012; as a metric of GANs: Bińkowski et al. 2018, arXiv:1801.01401
"""

import numpy as np

from minigan.checks import ignore_float_errors

SUBSETS, SIZE = 100, 1000


def sum_of_kernel(x: np.ndarray, y: np.ndarray) -> float:
    """x (n, d), y (m, d), divided by √d -> Σ over all pairs of (x·y + 1)³."""
    values = x @ y.T
    values += 1
    return float(np.vdot(values * values, values))


@ignore_float_errors
def unbiased_mmd(x: np.ndarray, y: np.ndarray) -> float:
    """x, y (m, d) float64 -> the estimate of MMD²."""
    m, d = x.shape
    x, y = x / np.sqrt(d), y / np.sqrt(d)

    def mean_of_others(a: np.ndarray) -> float:  # over the pairs i ≠ j
        itself = float(np.sum((np.sum(a * a, axis=1) + 1) ** 3))
        return (sum_of_kernel(a, a) - itself) / float(m * (m - 1))

    return mean_of_others(x) + mean_of_others(y) - 2 * sum_of_kernel(x, y) / float(m * m)


@ignore_float_errors
def kernel_distance(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """Features (n, d) of two sets -> KID, and its standard deviation over the subsets.

    100 pairs of subsets of 1,000 rows, or of half of the rows: of all, they would be the same.
    """
    size = max(2, min(SIZE, len(x) // 2, len(y) // 2))
    found = [
        unbiased_mmd(*(a[rng.choice(len(a), size, replace=False)] for a in (x, y)))
        for _ in range(SUBSETS)
    ]
    return float(np.mean(found)), float(np.std(found))
