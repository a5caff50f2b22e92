"""The two-sample test, precision, recall, density and coverage, where they are known."""

from math import sqrt

import numpy as np
import pytest

from minigan.evaluation.precision_recall import (
    nearest_others,
    precision_recall,
    two_sample_accuracy,
)


def accuracies(real, fake):
    return tuple(two_sample_accuracy(real, fake).values())


def test_two_samples_of_one_distribution_of_two_and_copies():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 400, 5))
    assert accuracies(x, x + 100) == (1, 1)
    for accuracy in accuracies(x, y):  # answers are not independent: neighbors come in pairs
        assert abs(accuracy - 0.5) < 4 * sqrt(0.25 / 400) * 1.5
    assert accuracies(x, x + 1e-9) == (0, 0)  # copies, but for rounding
    real, fake = accuracies(x, np.zeros((400, 5)) + x[0])  # collapsed onto one real image
    assert real >= 0.5 and fake == 0.5  # each fake has a neighbor at 0 of either kind


def test_two_samples_as_a_plain_loop():
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((40, 3)), 0.7 + rng.standard_normal((40, 3))
    pooled = np.vstack([x, y])
    correct = []
    for i, row in enumerate(pooled):
        distances = np.linalg.norm(pooled - row, axis=1)
        distances[i] = np.inf
        correct.append((distances.argmin() < 40) == (i < 40))
    wanted = {"two_sample_real": np.mean(correct[:40]), "two_sample_fake": np.mean(correct[40:])}
    found = precision_recall(x, y)
    assert two_sample_accuracy(x, y) == wanted == {name: found[name] for name in wanted}


def test_points_on_a_line():
    """Real 0, 1, 2, 3: balls (k = 1) of radius 1. Samples 0.5, 1, 9, 10: of 0.5, 0.5, 1, 1."""
    real, fake = np.array([[0.0], [1], [2], [3]]), np.array([[0.5], [1], [9], [10]])
    found = precision_recall(real, fake, k=1)
    assert found["precision"] == 0.5  # 0.5 and 1
    assert found["density"] == (2 + 3 + 0 + 0) / 4  # a ball has its surface
    assert found["recall"] == 0.5  # 0 and 1
    assert found["coverage"] == 0.75  # the ball of 3 is empty
    assert found["two_sample_real"] == (0 + 0 + 0.5 + 1) / 4
    assert found["two_sample_fake"] == (0.5 + 0 + 1 + 1) / 4


def test_a_set_compared_with_itself():
    """Each ball holds its center and k others, to the last bit: density (k + 1)/k."""
    x = 10 + np.random.default_rng(0).standard_normal((300, 100))
    found = precision_recall(x, x.copy(), k=3)
    assert found["precision"] == found["recall"] == found["coverage"] == 1
    assert found["density"] == pytest.approx(4 / 3, rel=1e-12)


def test_equal_and_separate_distributions():
    rng = np.random.default_rng(1)
    found = precision_recall(*rng.standard_normal((2, 1500, 2)), k=3)
    assert found["density"] == pytest.approx(1, abs=0.05)
    assert found["coverage"] == pytest.approx(1 - 2**-3, abs=0.03)
    x, y = rng.standard_normal((100, 2)), 50 + rng.standard_normal((100, 2))
    separate = precision_recall(x, y)
    assert not any(separate[name] for name in ("precision", "recall", "density", "coverage"))


def test_nearest_others_leave_out_the_row_itself_but_no_copy():
    """With many copies a row may not be among its nearest, whose indices are lower."""
    rows = np.array([[0.0], [0], [0], [0], [0], [1], [3]])
    np.testing.assert_array_equal(nearest_others(rows, 2), [[0, 0]] * 5 + [[1, 1], [2, 3]])
    x = np.random.default_rng(2).standard_normal((50, 4))
    distances = np.sort(np.linalg.norm(x[:, None] - x, axis=2), axis=1)
    np.testing.assert_allclose(nearest_others(x, 3), distances[:, 1:4], rtol=1e-12)
