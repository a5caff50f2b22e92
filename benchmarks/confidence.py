"""Curves of several seeds as one: a mean and its 95% confidence interval.

A Fréchet distance falls by factors while training goes on, and a seed that fails is a factor above
the others. So everything is computed on logarithms: the mean is the geometric mean, and the
interval, on that scale, contains the mean of very many seeds with 95% confidence (Student's t):

    log low, log high = m ± t·s / √n    m, s: mean and standard deviation (1/(n-1)) of n logarithms

More seeds make intervals narrower. Of two contenders that are equally good, the intervals of 5
seeds each are disjoint at about one point in 200.
"""

from typing import NamedTuple

import numpy as np

T = {  # 97.5% quantile of Student's t, by n
    2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262,
}  # fmt: skip


class Interval(NamedTuple):
    low: float
    mean: float
    high: float


def interval(values):
    """values, above 0, one per seed -> Interval."""
    logs, n = np.log(values), len(values)
    middle, half = logs.mean(), T[n] * logs.std(ddof=1) / n**0.5
    return Interval(*np.exp([middle - half, middle, middle + half]).tolist())


def overlap(a, b):
    """-> do two Intervals have a value in common?"""
    return a.low <= b.high and b.low <= a.high


def by_steps(curves):
    """[{"seconds", "distance"}], one per seed -> an Interval for each evaluation."""
    return [interval(values) for values in zip(*(c["distance"] for c in curves), strict=True)]


def common_times(curves):
    """-> as many instants, evenly spaced, as a curve has points; [] if there are none.

    From the instant when the last curve has its first point to the end of the shortest curve.
    """
    first = max(curve["seconds"][0] for curve in curves)
    last = min(curve["seconds"][-1] for curve in curves)
    count = len(curves[0]["seconds"])
    return np.linspace(first, last, count).tolist() if count > 1 and last > first else []


def by_time(curves, instants):
    """-> an Interval for each instant; between two points the logarithm is linear."""
    logs = [np.interp(instants, c["seconds"], np.log(c["distance"])) for c in curves]
    return [interval(values) for values in np.exp(logs).T]
