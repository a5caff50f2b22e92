"""The figures of a run while it trains, in no more than a twentieth of its time.

Every so many steps 2,000 samples are drawn and compared with the real images for the test, by the figures that few samples
are enough for. What comes out is no part of the training: z comes from a random stream of its own, G is in
sampling mode, and nothing but the clock is different afterwards. So the run is the same, bit for bit, with and without it.

A measurement that would take the share of the time beyond the budget is left out, the preparations and the writing
of the best checkpoint being paid from it too. Which those are depends on the clock, and so does which checkpoint is kept as
the best: the best of those that were measured.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from pathlib import Path
from time import monotonic

import numpy as np

from minigan.evaluation.classifier import Classifier
from minigan.evaluation.frechet import frechet_distance, moments
from minigan.evaluation.reference_images import Real
from minigan.evaluation.scores import class_shares, classifier_score, missed

SAMPLES = 2000
BUDGET = 0.05  # of the time


class PeriodicEvaluation:
    """Watch(judge, real, every, best): asked after each step.

    every  steps between measurements, at least
    best   figures of the best checkpoint so far, or None
    least  their Fréchet distance, the one to beat
    floor  that of as many real training images
    """

    def __init__(
        self, classifier: Classifier, real: Real, every: int, best: dict[str, float] | None = None
    ):
        self.classifier, self.every, self.start = classifier, every, monotonic()
        self.best = inf if best is None else best["frechet"]
        self.samples = min(SAMPLES, len(real.train))
        self.real = moments(classifier.look(real.test)[0])
        self.spent = monotonic() - self.start  # s of the budget
        with self.timed():  # it takes about as long as a measurement will
            self.floor = self.measure(real.some_train(self.samples))["frechet"]

    def due(self, step: int, last_step: int) -> bool:
        """-> is it time to measure, and is there time for it? After the last step too."""
        if step % self.every and step != last_step:
            return False
        return self.spent + self.last <= BUDGET * (monotonic() - self.start)

    @contextmanager
    def timed(self) -> Iterator[None]:
        """What is done within is paid from the budget."""
        start = monotonic()
        yield
        self.last = monotonic() - start
        self.spent += self.last

    def measure(self, pictures: np.ndarray) -> dict[str, float]:
        """pictures (samples, h, w, c) uint8 -> figures, by columns of metrics.csv."""
        seen, p = self.classifier.look(pictures)
        return {
            "frechet": round(frechet_distance(moments(seen), self.real), 4),
            "classifier_score": round(classifier_score(p), 4),
            "classes_missed": len(missed(class_shares(p))),
        }

    def outcome(self, folder: Path) -> str:
        """-> a line for the end of a run, in its folder."""
        if self.best == inf:
            return f"there was no time for an evaluation in {BUDGET:.0%} of the run's: minigan evaluate {folder}"
        return f"best LeNet Fréchet distance {self.best:.2f}, kept: minigan sample {folder} --best --n 64 --out grid.png"
