"""Metrics of a run during training, in at most a twentieth of its time.

Every few steps 2,000 samples are drawn and compared with the real test images, by the metrics that
need no more. This does not affect training: z comes from a separate random stream, and G is
in sampling mode. A run is the same, bit for bit, with and without it.

A measurement that would exceed the budget is skipped; preparing, and writing the best checkpoint,
count too. So the clock decides what is measured, and the best checkpoint is the best of those that
were measured.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from pathlib import Path
from time import monotonic

from minigan.evaluation.classifier import Classifier
from minigan.evaluation.frechet import frechet_distance, moments
from minigan.evaluation.reference_images import ReferenceImages, Rows
from minigan.evaluation.scores import class_shares, classifier_score, missed

SAMPLES = 2000
BUDGET = 0.05  # share of the time


class PeriodicEvaluation:
    """PeriodicEvaluation(classifier, real, every, best): asked after each step.

    every    steps between measurements, at least
    best     Fréchet distance of the best checkpoint, the one to beat
    samples  how many to draw for `measure`
    floor    the Fréchet distance of the same number of real training images
    """

    def __init__(
        self, classifier: Classifier, real: ReferenceImages, every: int, best: float = inf
    ):
        self.classifier, self.every, self.best, self.start = classifier, every, best, monotonic()
        self.samples = min(SAMPLES, len(real.train))
        self.real = moments(classifier.classify(real.test)[0])
        self.spent = monotonic() - self.start  # s of the budget
        with self.timed():  # it takes about as long as a measurement will
            self.floor = self.measure(real.train.draw(self.samples))["frechet"]

    def due(self, step: int, last_step: int) -> bool:
        """Is it time to measure, and is there time for it? After the last step too."""
        if step % self.every and step != last_step:
            return False
        return self.spent + self.last <= BUDGET * (monotonic() - self.start)

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Count what is done inside as part of the budget."""
        start = monotonic()
        yield
        self.last = monotonic() - start
        self.spent += self.last

    def measure(self, images: Rows) -> dict[str, float]:
        """images (n, h, w, c) uint8 -> metrics, by columns of metrics.csv."""
        features, p = self.classifier.classify(images)
        return {
            "frechet": round(frechet_distance(moments(features), self.real), 4),
            "classifier_score": round(classifier_score(p), 4),
            "classes_missed": len(missed(class_shares(p))),
        }

    def outcome(self, folder: Path) -> str:
        """-> a line for the end of a run in this folder."""
        if self.best == inf:
            return (
                f"no time for an evaluation within {BUDGET:.0%} of the run's: "
                f"minigan evaluate {folder}"
            )
        return (
            f"best LeNet Fréchet distance {self.best:.2f}, saved: "
            f"minigan sample {folder} --best --n 64 --out grid.png"
        )
