"""Fréchet distance between two sets of features, each modeled as a Gaussian.

Of all ways to pair points x of a Gaussian N(m1, C1) with points y of N(m2, C2), the one with the
smallest mean squared distance has

    d = min E |x - y|² = |m1 - m2|² + Tr C1 + Tr C2 - 2·Tr (C1 C2)^½

C1 C2 is not symmetric. But let S be the symmetric square root of C1. Then S C2 S is symmetric and
has the same eigenvalues, because C1 C2 = S (S C2 S) S⁻¹. None is negative, so the trace of its root
is the sum of their roots: two symmetric eigenvalue problems in float64.

The square root of a rounding error is larger than a rounding error, so d is accurate to about 1e-7
of Tr C.

In the features of minigan's classifier this is called the LeNet Fréchet distance. It is not FID,
which takes the features of Inception, and is comparable only for the same classifier and the
same n (fewer samples give a larger distance, even of real images: the floor shows how large).

Source: Dowson & Landau 1982; as a metric of GANs: Heusel et al. 2017, arXiv:1706.08500
"""

import numpy as np

from minigan.checks import ignore_float_errors

Moments = tuple[np.ndarray, np.ndarray]


@ignore_float_errors
def moments(features: np.ndarray) -> Moments:
    """features (n, d) -> mean (d,), covariance (d, d) with 1/(n-1), float64."""
    features = np.asarray(features, np.float64)
    mean = features.mean(axis=0)
    centered = features - mean
    return mean, centered.T @ centered / (len(features) - 1)


@ignore_float_errors
def frechet_distance(a: Moments, b: Moments) -> float:
    """-> d, in squared units of the features."""
    (mean_a, cov_a), (mean_b, cov_b) = a, b
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    product = np.linalg.eigvalsh(root @ cov_b @ root)
    difference = mean_a - mean_b
    traces = np.trace(cov_a) + np.trace(cov_b) - 2 * np.sqrt(np.maximum(product, 0)).sum()
    return float(difference @ difference + max(traces, 0.0))
