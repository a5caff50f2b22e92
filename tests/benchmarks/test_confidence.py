"""Curves of several seeds: means, confidence intervals, and their comparison at equal times."""

from math import e

import numpy as np
import pytest

from benchmarks.confidence import Interval, T, by_steps, by_time, common_times, interval, overlap


def test_interval_by_hand():
    assert interval([3.0, 3.0, 3.0]) == pytest.approx((3, 3, 3))
    expected = (e ** (1 - 12.706), e, e ** (1 + 12.706))  # s = √2, n = 2
    assert interval([1.0, e**2]) == pytest.approx(expected)


@pytest.mark.slow
def test_interval_is_students_on_logarithms():
    stats = pytest.importorskip("scipy.stats")
    assert {n: round(stats.t.ppf(0.975, n - 1), 3) for n in range(2, 11)} == T
    logs = np.log(values := [4.0, 5.0, 7.0, 5.5, 30.0])
    low, high = stats.t.interval(0.95, 4, logs.mean(), stats.sem(logs))
    assert np.log(interval(values)) == pytest.approx((low, logs.mean(), high), rel=1e-3)


@pytest.mark.parametrize(
    "a, b, expected",
    [
        ((1, 3), (2, 4), True),
        ((1, 4), (2, 3), True),
        ((1, 2), (2, 3), True),
        ((1, 2), (3, 4), False),
    ],
)
def test_overlap(a, b, expected):
    one, other = Interval(a[0], 0.0, a[1]), Interval(b[0], 0.0, b[1])
    assert overlap(one, other) == overlap(other, one) == expected


def test_curves_at_equal_times():
    fast = {"seconds": [1.0, 2.0, 4.0], "distance": [8.0, 4.0, 1.0]}
    slow = {"seconds": [2.0, 4.0, 8.0], "distance": [8.0, 4.0, 1.0]}
    times = common_times([fast, slow])
    assert times == [2, 3, 4]  # from the slow one's first point to the fast one's last
    assert [each.mean for each in by_time([fast, fast], [1, 2, 3, 4])] == pytest.approx(
        [8, 4, 2, 1]
    )
    assert by_time([slow, slow], times)[1] == pytest.approx((32**0.5,) * 3)
    assert [each.mean for each in by_steps([fast, slow])] == pytest.approx([8, 4, 1])
    assert common_times([fast, {"seconds": [5.0, 6.0, 7.0]}]) == []
    assert by_time([fast, slow], []) == []
