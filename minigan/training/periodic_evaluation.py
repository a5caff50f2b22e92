"""The evaluations that a run's options request: see evaluation/during_training.py."""

import shlex
from collections.abc import Callable
from math import inf
from typing import Any

from minigan.arrays import Backend
from minigan.data import Dataset
from minigan.errors import ConfigError
from minigan.evaluation.classifier import classifier_file, load_classifier
from minigan.evaluation.during_training import BUDGET, PeriodicEvaluation
from minigan.evaluation.reference_images import split
from minigan.evaluation.train_classifier import why_no_classifier
from minigan.training.config import Config, flag, new_config

WITHOUT = "--evaluate-every 0 trains without evaluations"


def make_evaluation(
    config: Config,
    data: Dataset,
    data_dir: str | None,
    backend: Backend,
    metadata: dict[str, Any],
    best: dict[str, float] | None,
    log: Callable[[str], object],
) -> PeriodicEvaluation:
    """-> the evaluation for a run that is about to start. Raises MiniganError if it is impossible.

    data      as the run loaded it, with the same data_dir
    metadata  of the run; it gets the classifier's hash: a run has one classifier, or its metrics
              would not be comparable
    best      metrics of the best checkpoint so far, or None
    """
    real = split(data, data_dir, config.fit)
    if reason := why_no_classifier(real):
        raise ConfigError(f"{reason}; {WITHOUT}")
    classifier = load_classifier(real, backend)
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
    metadata["judge"] = classifier.sha256
    evaluation = PeriodicEvaluation(
        classifier, real, config.evaluate_every, inf if best is None else best["frechet"]
    )
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
    names = ("image_size", "channels", "fit", "limit")
    changed = [name for name in names if getattr(config, name) != getattr(defaults, name)]
    options = {**source, **{name: getattr(config, name) for name in changed}}
    if data_dir is not None:
        options["data_dir"] = data_dir
    words = [word for name, value in options.items() for word in (flag(name), str(value))]
    return shlex.join(["minigan", "train-classifier", "--preset", config.preset, *words])
