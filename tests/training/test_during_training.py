"""The time budget of evaluations during training: training/periodic_evaluation.py."""

from math import inf
from pathlib import Path

import numpy as np

from minigan.data import Dataset
from minigan.evaluation.reference_images import ReferenceImages, Subset
from minigan.parallel.group import ALONE
from minigan.training import periodic_evaluation
from minigan.training.periodic_evaluation import PeriodicEvaluation
from tests.support.squares import squares


class SlowClassifier:
    """Each call takes 1.5 s on the test's clock."""

    def __init__(self, now):
        self.now = now

    def classify(self, images, ranks):
        self.now[0] += 1.5
        rng = np.random.default_rng(0)
        return rng.standard_normal((len(images), 4)), rng.dirichlet(np.ones(10), len(images))


def make(monkeypatch, every=10):
    """-> PeriodicEvaluation, and the clock that it reads"""
    now = [0.0]
    monkeypatch.setattr(periodic_evaluation, "monotonic", lambda: now[0])
    images = squares(100)
    part = Subset(images, None, np.arange(100))
    data = Dataset("x", images, None, (), "0" * 16)
    real = ReferenceImages(data, None, "crop", part, part, published=False)
    return PeriodicEvaluation(SlowClassifier(now), real, every, inf, ALONE), now


def test_the_budget_is_kept_and_used(monkeypatch):
    """Of 1,000 s, at most a twentieth, and nearly that."""
    evaluation, now = make(monkeypatch)
    assert evaluation.spent == 3.0  # preparation counts, so at first nothing is left
    assert not evaluation.due(5, 1000) and not evaluation.due(10, 1000)
    spent, steps = now[0], []
    for step in range(1, 1001):
        now[0] += 1.0
        if evaluation.due(step, 1000):
            steps.append(step)
            start = now[0]
            with evaluation.timed():
                evaluation.measure(squares(100))
            spent += now[0] - start
            assert spent <= 0.05 * now[0]
    assert all(step % 10 == 0 for step in steps) and spent > 0.045 * now[0]


def test_after_the_last_step_there_is_a_measurement_too(monkeypatch):
    evaluation, now = make(monkeypatch)
    now[0] = 1e6
    assert [step for step in range(1, 26) if evaluation.due(step, 25)] == [10, 20, 25]


def test_the_outcome_is_a_command_to_type(monkeypatch):
    evaluation, _ = make(monkeypatch)
    assert evaluation.best == inf
    assert evaluation.outcome(Path("runs/a")).endswith("minigan evaluate runs/a")
    evaluation.best = 12.345
    assert evaluation.outcome(Path("runs/a")) == (
        "best LeNet Fréchet distance 12.35, saved: "
        "minigan sample runs/a --best --n 64 --out grid.png"
    )
