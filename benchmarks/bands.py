"""Curves of several seeds as one: a mean and a band, at equal steps and at equal times.

A Fréchet distance falls by factors while training goes on, and one seed that fails lies a factor above the others. So
all is done on logarithms: the mean is the geometric one, and the band, on that scale, is where the mean of very many
seeds would lie with 95% confidence (Student's t):

    log low, log high = m ± t·s / √n        m, s: mean and standard deviation (1/(n-1)) of n logarithms

Bands get narrower as seeds are added, so that to overlap becomes harder, not easier. For two that are alike, bands of
5 seeds each lie apart at about one point in 200, by chance.
"""

from math import exp, log, sqrt
from statistics import mean, stdev
from typing import NamedTuple

T = {
    2: 12.706,
    3: 4.303,
    4: 3.182,
    5: 2.776,
    6: 2.571,
    7: 2.447,
    8: 2.365,
    9: 2.306,
    10: 2.262,
}  # t of 97.5%, by n


class Band(NamedTuple):
    low: float
    mean: float
    high: float


def band(values):
    """values, above 0, one for each seed, as many as T knows -> Band"""
    logs = [log(value) for value in values]
    middle, half = mean(logs), T[len(logs)] * stdev(logs) / sqrt(len(logs))
    return Band(*map(exp, (middle - half, middle, middle + half)))


def overlap(a, b):
    """-> have two Bands a value in common?"""
    return a.low <= b.high and b.low <= a.high


def at(instant, seconds, values):
    """A curve of values, above 0, at rising seconds -> its value at an instant between the first and the last.

    Between two points the logarithm goes in a line.
    """
    for i in range(1, len(seconds)):
        if instant <= seconds[i]:
            share = (instant - seconds[i - 1]) / (seconds[i] - seconds[i - 1])
            return exp((1 - share) * log(values[i - 1]) + share * log(values[i]))
    return values[-1]


def by_steps(curves):
    """[{"seconds", "distance"}], one for each seed -> a Band for each evaluation."""
    return [band(values) for values in zip(*(curve["distance"] for curve in curves), strict=True)]


def instants(every):
    """Curves of all contenders and seeds -> as many instants, evenly spaced, as a curve has points; [] where there are none.

    From when the last has its first point to when the first has its last.
    """
    first, last = (
        max(curve["seconds"][0] for curve in every),
        min(curve["seconds"][-1] for curve in every),
    )
    count = len(every[0]["seconds"])
    if count < 2 or last <= first:
        return []
    return [first + (last - first) * i / (count - 1) for i in range(count)]


def by_time(curves, when):
    """Curves as in by_steps, instants -> a Band for each instant."""
    return [
        band([at(instant, curve["seconds"], curve["distance"]) for curve in curves])
        for instant in when
    ]
