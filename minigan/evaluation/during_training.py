"""The figures of a run while it trains, in no more than a twentieth of its time.

Every so many steps 2,000 samples are drawn and compared with the real images for the test, by the figures that few samples
are enough for. What comes out is no part of the training: z comes from a random stream of its own, G is in
sampling mode, and nothing but the clock is different afterwards. So the run is the same, bit for bit, with and without it.

A measurement that would take the share of the time beyond the budget is left out, the preparations and the writing
of the best checkpoint being paid from it too. Which those are depends on the clock, and so does which checkpoint is kept as
the best: the best of those that were measured.
"""

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from minigan.backends import Backend
from minigan.data import Dataset
from minigan.errors import ConfigError
from minigan.evaluation.classifier import Judge, judge_file, load_judge
from minigan.evaluation.frechet import frechet_distance, moments
from minigan.evaluation.reference_images import Real, split
from minigan.evaluation.scores import class_shares, classifier_score, missed
from minigan.evaluation.train_classifier import cannot_be_judged
from minigan.training.config import Config, flag, new_config

SAMPLES = 2000
BUDGET = 0.05  # of the time
WITHOUT = "without evaluations it goes by --evaluate-every 0"


class Watch:
    """Watch(judge, real, every, best): asked after each step.

    every  steps between measurements, at least
    best   figures of the best checkpoint so far, or None
    least  their Fréchet distance, the one to beat
    floor  that of as many real training images
    """

    def __init__(self, judge: Judge, real: Real, every: int, best: dict[str, float] | None = None):
        self.judge, self.every, self.start = judge, every, monotonic()
        self.least = inf if best is None else best["frechet"]
        self.samples = min(SAMPLES, len(real.train))
        self.real = moments(judge.look(real.test)[0])
        self.spent = monotonic() - self.start  # s of the budget
        with self.counted():  # it takes about as long as a measurement will
            self.floor = self.measure(real.some_train(self.samples))["frechet"]

    def due(self, step: int, last_step: int) -> bool:
        """-> is it time to measure, and is there time for it? After the last step too."""
        if step % self.every and step != last_step:
            return False
        return self.spent + self.last <= BUDGET * (monotonic() - self.start)

    @contextmanager
    def counted(self) -> Iterator[None]:
        """What is done within is paid from the budget."""
        start = monotonic()
        yield
        self.last = monotonic() - start
        self.spent += self.last

    def measure(self, pictures: np.ndarray) -> dict[str, float]:
        """pictures (samples, h, w, c) uint8 -> figures, by columns of metrics.csv."""
        seen, p = self.judge.look(pictures)
        return {
            "frechet": round(frechet_distance(moments(seen), self.real), 4),
            "classifier_score": round(classifier_score(p), 4),
            "classes_missed": len(missed(class_shares(p))),
        }

    def outcome(self, folder: Path) -> str:
        """-> a line for the end of a run, in its folder."""
        if self.least == inf:
            return f"there was no time for an evaluation in {BUDGET:.0%} of the run's: minigan evaluate {folder}"
        return f"best LeNet Fréchet distance {self.least:.2f}, kept: minigan sample {folder} --best --n 64 --out grid.png"


def make_watch(
    config: Config,
    data: Dataset,
    data_dir: str | None,
    backend: Backend,
    metadata: dict[str, Any],
    best: dict[str, float] | None,
    log: Callable[[str], object],
) -> Watch:
    """-> Watch of a run. Raises MiniganError where there cannot be one: it was asked for, and the run has not begun.

    data   as the run loaded it, with the same data_dir
    metadata  what config.json says of the run; it gets the judge's hash: a run has one judge, or its figures would not compare
    best   figures of the best checkpoint so far, or None
    """
    real = split(data, data_dir, config.fit)
    if reason := cannot_be_judged(real):
        raise ConfigError(f"{reason}; {WITHOUT}")
    path = judge_file(data, config.fit)
    judge = load_judge(path, real, backend)
    if judge is None:
        raise ConfigError(
            f"--evaluate-every needs a judge of {data.name}: train it before, with: {judge_command(config, data, data_dir)}"
        )
    if metadata.get("judge", judge.sha256) != judge.sha256:
        raise ConfigError(
            f"judge {judge.name} in {path} is not the one that the run began with, {str(metadata['judge'])[:8]!r}, and figures "
            f"of different judges do not compare: put that file back; {WITHOUT}"
        )
    metadata["judge"] = judge.sha256
    watch = Watch(judge, real, config.evaluate_every, best)
    log(
        f"evaluating every {config.evaluate_every} steps, in at most {BUDGET:.0%} of the time, by judge {judge.name}: LeNet Fréchet "
        f"distance of {watch.samples:,} samples; of as many training images it is {watch.floor:.2f}"
    )
    return watch


def judge_command(config: Config, data: Dataset, data_dir: str | None) -> str:
    """-> what to type for the judge of a run's images."""
    where = ["--images", config.images] if config.images is not None else ["--dataset", data.name]
    usual = new_config(
        {
            "preset": config.preset,
            **({"images": config.images} if config.images is not None else {"dataset": data.name}),
        }
    )
    differ = [
        name
        for name in ("image_size", "channels", "fit", "limit")
        if getattr(config, name) != getattr(usual, name)
    ]
    options = [word for name in differ for word in (flag(name), str(getattr(config, name)))]
    folder = ["--data-dir", data_dir] if data_dir is not None else []
    return shlex.join(["minigan", "judge", "--preset", config.preset, *where, *folder, *options])
