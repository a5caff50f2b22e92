"""The Fréchet distance against closed forms and SciPy."""

from math import sqrt

import numpy as np
import pytest

from minigan.evaluation.frechet import frechet_distance, moments


def covariance(rng, d, rank=None):
    a = rng.standard_normal((d, rank or d))
    return a @ a.T


def test_frechet_of_gaussians_whose_covariances_commute():
    """|m1 - m2|² + Σ (√a - √b)² over the eigenvalues, in any rotated basis."""
    rng = np.random.default_rng(0)
    q, _ = np.linalg.qr(rng.standard_normal((20, 20)))
    a, b, m = rng.uniform(0, 3, 20), rng.uniform(0, 3, 20), rng.standard_normal(20)
    a[:5] = b[3:8] = 0
    wanted = m @ m + np.sum((np.sqrt(a) - np.sqrt(b)) ** 2)
    found = frechet_distance((q @ m, q * a @ q.T), (np.zeros(20), q * b @ q.T))
    assert found == pytest.approx(wanted, rel=1e-6)


def test_frechet_in_two_dimensions():
    """The root of a 2x2 matrix M has the trace √(Tr M + 2√det M)."""
    rng = np.random.default_rng(1)
    for _ in range(20):
        a, b = covariance(rng, 2), covariance(rng, 2)
        root = sqrt(np.trace(a @ b) + 2 * sqrt(np.linalg.det(a) * np.linalg.det(b)))
        wanted = np.trace(a) + np.trace(b) - 2 * root
        assert frechet_distance((np.zeros(2), a), (np.zeros(2), b)) == pytest.approx(
            wanted, rel=1e-9, abs=1e-9
        )


def test_frechet_is_a_distance():
    rng = np.random.default_rng(2)
    x, y = moments(rng.standard_normal((300, 50))), moments(1 + 2 * rng.standard_normal((300, 50)))
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(y, x), rel=1e-9)
    assert 0 <= frechet_distance(x, x) < 1e-6 * np.trace(x[1])
    few = moments(rng.standard_normal((10, 50)))  # fewer rows than columns: a singular covariance
    assert 0 <= frechet_distance(few, few) < 1e-6 * np.trace(few[1])


@pytest.mark.parametrize("rank", (None, 5))
def test_frechet_with_scipys_matrix_root(rank):
    linalg = pytest.importorskip("scipy.linalg")
    rng = np.random.default_rng(3)
    a, b, m = covariance(rng, 12), covariance(rng, 12, rank), rng.standard_normal(12)
    root = linalg.sqrtm(a @ b)
    wanted = m @ m + np.trace(a) + np.trace(b) - 2 * np.trace(root).real
    assert frechet_distance((m, a), (np.zeros(12), b)) == pytest.approx(wanted, rel=1e-6)


def test_moments_are_those_of_numpy():
    x = np.random.default_rng(4).standard_normal((30, 4))
    mean, cov = moments(x.astype(np.float32))
    np.testing.assert_allclose(mean, x.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(cov, np.cov(x.T), rtol=1e-5, atol=1e-6)
