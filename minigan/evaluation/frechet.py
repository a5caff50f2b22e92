"""The Fréchet distance of two clouds of features, each taken for a Gaussian.

Of all ways to pair points x of a Gaussian N(m1, C1) with points y of N(m2, C2), the one with the least
mean square distance has

    d = min E |x - y|² = |m1 - m2|² + Tr C1 + Tr C2 - 2·Tr (C1 C2)^½

C1 C2 is not symmetric. But with S the symmetric root of C1, the matrix S C2 S has the same eigenvalues
(C1 C2 = S (S C2 S) S⁻¹), it is symmetric, and none of them is below 0: the trace of its root is the sum of
their roots. So two symmetric eigenvalue problems are all, in float64.

Since the root of an eigenvalue that is 0 to rounding is not 0 to rounding, d is right to about 1e-7 of Tr C.

With features of the judge, and no other classifier, this is the "LeNet Fréchet distance". It is not FID, which
takes Inception's features, and compares with nothing but itself: the same judge, the same n (fewer samples give
a larger distance, even of real images: the floor says how large).

Source: Dowson & Landau 1982; as a measure of GANs: Heusel et al. 2017, arXiv:1706.08500
"""

import numpy as np

Moments = tuple[np.ndarray, np.ndarray]


def moments(features: np.ndarray) -> Moments:
    """features (n, d) -> mean (d,), covariance (d, d), float64, with 1/(n-1)."""
    features = np.asarray(features, np.float64)
    mean = features.mean(axis=0)
    centred = features - mean
    return mean, centred.T @ centred / (len(features) - 1)


def frechet_distance(a: Moments, b: Moments) -> float:
    """-> d, in squared units of the features."""
    (mean_a, cov_a), (mean_b, cov_b) = a, b
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    product = np.linalg.eigvalsh(root @ cov_b @ root)
    difference = mean_a - mean_b
    traces = np.trace(cov_a) + np.trace(cov_b) - 2 * np.sqrt(np.maximum(product, 0)).sum()
    return float(difference @ difference + max(traces, 0.0))
