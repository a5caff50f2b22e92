"""Metrics of the classifier's outputs, for outputs whose scores are known."""

from math import exp, log

import numpy as np
import pytest

from minigan.evaluation.scores import class_shares, classifier_score, confidence, entropies, missed


def test_scores_of_known_probabilities():
    even, unsure, one = (
        np.eye(10)[np.arange(50) % 10],
        np.full((50, 10), 0.1),
        np.eye(10)[np.zeros(50, int)],
    )
    assert classifier_score(even) == pytest.approx(10, rel=1e-12)
    assert classifier_score(unsure) == pytest.approx(1, rel=1e-12) and classifier_score(
        one
    ) == pytest.approx(1, rel=1e-12)
    p = np.array([[0.9, 0.1], [0.1, 0.9]])
    h = -0.9 * log(0.9) - 0.1 * log(0.1)
    assert classifier_score(p) == pytest.approx(exp(log(2) - h), rel=1e-12)
    assert confidence(p) == pytest.approx(0.9) and confidence(even) == 1
    np.testing.assert_allclose(entropies(np.vstack([p, [[1, 0]]])), [h, h, 0], rtol=1e-12)


def test_a_class_is_missed_below_a_tenth_of_an_even_share():
    numbers = np.repeat(np.arange(10), [0, 9, 10, 200, 200, 200, 200, 81, 50, 50])  # of 1,000
    shares = class_shares(np.eye(10)[numbers])
    assert shares[1] == 0.009 and shares[2] == 0.01 and sum(shares) == pytest.approx(1)
    assert missed(shares) == [0, 1]  # less than 1%


def test_entropies_are_those_of_scipy():
    stats = pytest.importorskip("scipy.stats")
    p = np.random.default_rng(0).dirichlet(np.full(10, 0.3), 100)
    np.testing.assert_allclose(entropies(p), stats.entropy(p, axis=1), rtol=1e-12)
    assert classifier_score(p) == pytest.approx(
        exp(stats.entropy(p, p.mean(axis=0), axis=1).mean()), rel=1e-12
    )
