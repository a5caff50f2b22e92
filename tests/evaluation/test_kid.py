"""KID against a plain loop and closed forms."""

from itertools import pairwise
from math import sqrt

import numpy as np
import pytest

from minigan.evaluation import kid
from minigan.evaluation.kid import kernel_distance, unbiased_mmd


def test_mmd_is_that_of_a_plain_loop():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((7, 3)), 1 + rng.standard_normal((7, 3))

    def k(a, b):
        return (a @ b / 3 + 1) ** 3

    pairs = [(i, j) for i in range(7) for j in range(7)]
    same = sum(k(x[i], x[j]) + k(y[i], y[j]) for i, j in pairs if i != j) / 42
    other = sum(k(x[i], y[j]) for i, j in pairs) / 49
    assert unbiased_mmd(x, y) == pytest.approx(same - 2 * other, rel=1e-12)


@pytest.mark.parametrize("shift", (0.0, 0.5))
def test_mmd_has_the_mean_of_its_closed_form(shift):
    """x ~ N(0, I), y ~ N(m, I): with μ = |m|²/d, E k(x, x') = 1 + 3/d, E k(x, y) = 1 + 3(μ + 1)/d,
    E k(y, y') = (1 + μ)³ + 3(1 + μ)(2μ + 1)/d + 6μ/d²."""
    rng, d, times = np.random.default_rng(1), 4, 400
    mu = shift**2
    wanted = (
        (1 + 3 / d)
        + (1 + mu) ** 3
        + 3 * (1 + mu) * (2 * mu + 1) / d
        + 6 * mu / d**2
        - 2 * (1 + 3 * (mu + 1) / d)
    )
    found = [
        unbiased_mmd(rng.standard_normal((50, d)), shift + rng.standard_normal((50, d)))
        for _ in range(times)
    ]
    assert abs(np.mean(found) - wanted) < 4 * np.std(found) / sqrt(times)


def test_equal_distributions_are_within_the_spread_and_others_are_not(monkeypatch):
    monkeypatch.setattr(kid, "SIZE", 200)
    monkeypatch.setattr(kid, "SUBSETS", 30)
    rng = np.random.default_rng(3)
    x, y, z = (
        rng.standard_normal((1500, 8)),
        rng.standard_normal((1500, 8)),
        0.5 + rng.standard_normal((1500, 8)),
    )
    same, spread = kernel_distance(x, y, np.random.default_rng(0))
    other, _ = kernel_distance(x, z, np.random.default_rng(0))
    assert abs(same) < 2 * spread < other and spread > 0


def test_the_spread_of_few_images():
    """Of all images, every subset would be the same, and the spread 0."""
    rng = np.random.default_rng(3)
    values = [rng.standard_normal((500, 8)) for _ in range(40)]
    pairs = [kernel_distance(x, y, rng) for x, y in pairwise(values)]
    found, spreads = zip(*pairs, strict=True)
    assert 0.5 < np.mean(spreads) / np.std(found) < 3
