"""The linear SVM: a closed form, the minimum of its loss, scikit-learn, and the choice of C."""

import sys

import numpy as np
import pytest

from minigan import ConfigError
from tests.support.programs import load_program
from tests.support.refusals import refusal

svm = load_program("paper/svm")


def clouds(n=300, d=6, classes=4):
    """-> points around a center for each class, which overlap; their labels"""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, n)
    x = rng.standard_normal((classes, d))[labels] + rng.standard_normal((n, d))
    return x.astype(np.float32), labels


def test_two_points():
    """x = ±1: b = 0 by symmetry, and w²/2 + 2C(1 - w)² is minimal at w = 4C/(1 + 4C)."""
    pytest.importorskip("scipy.optimize")
    x, labels = np.array([[-1], [1]], np.float32), np.array([0, 1])
    for C in (0.01, 0.25, 10):
        w = 4 * C / (1 + 4 * C)
        W = svm.fit(x, labels, 2, C, tolerance=1e-6)
        np.testing.assert_allclose(W, [[-w, w], [0, 0]], atol=1e-4)


def test_the_weights_are_scikit_learns():
    pytest.importorskip("sklearn")
    from sklearn.svm import LinearSVC

    x, labels = clouds()
    theirs = LinearSVC(C=0.03, tol=1e-8, max_iter=100_000).fit(x, labels)
    W = svm.fit(x, labels, 4, 0.03, tolerance=1e-6)
    np.testing.assert_allclose(W, np.vstack([theirs.coef_.T, theirs.intercept_]), atol=2e-4)
    assert svm.correct(W, x, labels) == round(theirs.score(x, labels) * len(x))


def test_the_start_does_not_matter():
    """L has a curvature of at least 1, so W is no further from the minimum than |dL/dW|."""
    pytest.importorskip("scipy.optimize")
    x, labels = clouds()
    cold = svm.fit(x, labels, 4, 0.1, tolerance=1e-6)
    warm = svm.fit(x, labels, 4, 0.1, svm.fit(x, labels, 4, 0.01), tolerance=1e-6)
    steepest = 0.1 * 2 * np.abs(x.T @ np.where(np.arange(4) == labels[:, None], 1, -1)).max()
    assert np.linalg.norm(warm - cold) <= 2 * 1e-6 * steepest * np.sqrt(warm.size)


def test_no_other_weights_are_better():
    """The loss, written again as a plain loop, at W and a small step away on both sides."""
    pytest.importorskip("scipy.optimize")
    x, labels = clouds(n=100)

    def loss(W):
        total = np.square(W).sum() / 2
        for k in range(4):
            for each, label in zip(x.astype(float), labels, strict=True):
                sign = 1 if label == k else -1
                total += 0.1 * max(0, 1 - sign * (each @ W[:-1, k] + W[-1, k])) ** 2
        return total

    W = svm.fit(x, labels, 4, 0.1, tolerance=1e-6).astype(float)
    for seed in range(4):
        step = 0.01 * np.random.default_rng(seed).standard_normal(W.shape)
        assert loss(W) < min(loss(W + step), loss(W - step))


def test_features_are_standardized_in_place():
    x = np.random.default_rng(0).normal(3, 5, (50, 4)).astype(np.float32)
    x[:, 2] = 7
    before = x.copy()
    mean, std = svm.standardize(x)
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(x.std(axis=0), [1, 1, 0, 1], rtol=1e-5)
    np.testing.assert_allclose((before - mean) / std, x, rtol=1e-6)


def test_how_C_is_chosen(monkeypatch):
    """On the held-out fifth. Of equals the smaller C; the first that is worse ends the search."""
    tried, counts = [], iter([5, 7, 7, 6, 9])

    def fit(x, labels, classes, C, start, *_):
        tried.append((len(x), C, start))
        return len(tried)

    def correct(W, x, labels):
        assert len(x) == 4 and labels.tolist() == [16, 17, 18, 19]
        return next(counts)

    monkeypatch.setattr(svm, "fit", fit)
    monkeypatch.setattr(svm, "correct", correct)
    W, C = svm.train(np.zeros((20, 3), np.float32), np.arange(20), 4)
    c = svm.CS
    assert W == 5
    assert c.index(C) == 1
    assert tried == [(16, c[0], None), (16, c[1], 1), (16, c[2], 2), (16, c[3], 3), (20, c[1], 2)]


def test_without_scipy_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    assert refusal(svm.expect_scipy, kind=ConfigError).endswith("pip install scipy")
