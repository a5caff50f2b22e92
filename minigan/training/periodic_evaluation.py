"""Metrics of a run during training, in at most a twentieth of its time.

Every few steps 2,000 samples are drawn and compared with the real test images, by the metrics that
need no more. This does not affect training: z comes from a separate random stream, and G is
in sampling mode. A run is the same, bit for bit, with and without it.

A measurement that would exceed the budget is skipped; preparing, and writing the best checkpoint,
count too. So the clock decides what is measured, and the best checkpoint is the best of those that
were measured.
"""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from time import monotonic
from typing import Any

from minigan.data import Dataset
from minigan.data.base import Log
from minigan.errors import ConfigError
from minigan.evaluation.classifier import Classifier, classifier_file, load_classifier
from minigan.evaluation.frechet import frechet_distance, moments
from minigan.evaluation.reference_images import ReferenceImages, Rows, split
from minigan.evaluation.scores import class_shares, classifier_score, missed
from minigan.evaluation.train_classifier import why_no_classifier
from minigan.parallel.group import Group
from minigan.training.config import Config, flag, new_config
from minigan.training.game import Game
from minigan.training.ranks import expect_same

SAMPLES = 2000
BUDGET = 0.05  # share of the time
WITHOUT = "--evaluate-every 0 trains without evaluations"


class PeriodicEvaluation:
    """PeriodicEvaluation(classifier, real, every, best, ranks): asked after each step.

    every    steps between measurements, at least
    best     Fréchet distance of the best checkpoint, the one to beat
    samples  how many to draw for `measure`
    floor    the Fréchet distance of the same number of real training images
    ranks    that share the work: each has one, and calls `measure` when rank 0 does
    """

    def __init__(
        self, classifier: Classifier, real: ReferenceImages, every: int, best: float, ranks: Group
    ):
        self.classifier, self.every, self.best, self.ranks = classifier, every, best, ranks
        self.start = monotonic()
        self.samples = min(SAMPLES, len(real.train))
        self.real = moments(classifier.classify(real.test, ranks)[0])
        self.spent = monotonic() - self.start  # s of the budget
        with self.timed():  # it takes about as long as a measurement will
            self.floor = self.measure(real.train.draw(self.samples))["frechet"]

    def due(self, step: int, last_step: int) -> bool:
        """Is it time to measure, and is there time for it? Rank 0 decides; False on the others."""
        if self.ranks.rank or (step % self.every and step != last_step):
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
        features, p = self.classifier.classify(images, self.ranks)
        return {
            "frechet": round(frechet_distance(moments(features), self.real), 4),
            "classifier_score": round(classifier_score(p), 4),
            "classes_missed": len(missed(class_shares(p))),
        }

    def outcome(self, folder: str) -> str:
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


def make_evaluation(
    game: Game, data: Dataset, data_dir: str | None, metadata: dict[str, Any], best: float, log: Log
) -> PeriodicEvaluation:
    """-> the evaluation for a run that is about to start. Raises MiniganError if it is impossible.

    data      as the run loaded it, with the same data_dir
    metadata  of the run; it gets the classifier's hash: a run has one classifier, or its metrics
              would not be comparable
    best      Fréchet distance of the best checkpoint so far, or inf
    """
    config = game.config
    real = game.ranks.in_turn(lambda: split(data, data_dir, config.fit))
    if reason := why_no_classifier(real):
        raise ConfigError(f"{reason}; {WITHOUT}")
    classifier = load_classifier(real, game.backend)
    if classifier is None:
        raise ConfigError(
            f"--evaluate-every needs a classifier of {data.name}: train it first, with: "
            f"{classifier_command(config, data, data_dir)}"
        )
    if metadata.get("judge", classifier.sha256) != classifier.sha256:
        raise ConfigError(
            f"classifier {classifier.name} in {classifier_file(real)} is not the one that the run "
            f"began with, {str(metadata['judge'])[:8]!r}, and metrics of different classifiers "
            f"cannot be compared: restore that file; {WITHOUT}"
        )
    expect_same(game.ranks, "classifier", classifier.sha256)
    metadata["judge"] = classifier.sha256
    evaluation = PeriodicEvaluation(classifier, real, config.evaluate_every, best, game.ranks)
    log(
        f"evaluating every {config.evaluate_every} steps, in at most {BUDGET:.0%} of the time, "
        f"by classifier {classifier.name}: LeNet Fréchet distance of {evaluation.samples:,} "
        f"samples; as many training images have {evaluation.floor:.2f}"
    )
    return evaluation


def classifier_command(config: Config, data: Dataset, data_dir: str | None) -> str:
    """-> what to type to train the classifier of a run's images."""
    source = {"dataset": data.name} if config.images is None else {"images": config.images}
    defaults = new_config({"preset": config.preset, **source})
    names = ("image_size", "channels", "fit", "limit", "background", "max_pixels")
    changed = [name for name in names if getattr(config, name) != getattr(defaults, name)]
    options = {**source, **{name: getattr(config, name) for name in changed}}
    if data_dir is not None:
        options["data_dir"] = data_dir
    words = [word for name, value in options.items() for word in (flag(name), str(value))]
    return shlex.join(["minigan", "train-classifier", "--preset", config.preset, *words])
