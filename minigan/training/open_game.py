"""A run's nets and images, opened for training, sampling, evaluation and inspection."""

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from minigan.data import Dataset, load_dataset
from minigan.data.files.npz import load_arrays
from minigan.errors import ConfigError, DataError, RunError
from minigan.presets import Preset
from minigan.training.config import Config
from minigan.training.game import Game
from minigan.training.run_folder import Run

Log = Callable[[str], object]


def open_game(run: Run, best: bool = False, backend: str = "numpy") -> tuple[Game, dict[str, Any]]:
    """-> Game with the G that the run saved, the newest or the best; the metadata of config.json.

    If samples are drawn from an average of G's weights, G has that average. Raises RunError.
    """
    config, metadata = run.load_config()
    game = Game(replace(config, backend=backend, threads=None, precision="fp32", ema=0.0))
    file = run.best_generator_file if best else run.generator_file
    if best and not file.exists():
        raise RunError(f"{file} does not exist: only --evaluate-every keeps a best checkpoint")
    game.G.ready().load_state(load_arrays(file), file)
    return game, metadata


def open_images(game: Game, metadata: dict[str, Any], data_dir: str | None, log: Log) -> Dataset:
    """-> the images that a run was trained on. Raises DataError if they have changed since.

    data_dir  where they are now; None: where they were
    """
    config = game.config
    if config.dataset == "folder" and data_dir is not None:
        images = os.path.abspath(os.path.expanduser(data_dir))
        config, data_dir = replace(config, images=images), None
    data = load_images(config, game.preset, data_dir, log)
    expect_same_images(data, metadata, "give their folder with --data-dir")
    return data


def expect_same_images(data: Dataset, metadata: dict[str, Any], hint: str) -> None:
    """Raises DataError unless a run began with these images."""
    if metadata.get("data") != data.fingerprint:
        raise DataError(
            f"the images of {data.name} are not those that the run was trained on "
            f"({metadata.get('data')} then, {data.fingerprint} now): {hint}"
        )


def load_images(config: Config, preset: Preset, data_dir: str | None, log: Log) -> Dataset:
    """-> the images that a run trains on, with labels if its nets need them.

    Raises ConfigError, DataError.
    """
    name = config.dataset
    if name == "auto" and preset.data != "mnist":  # only MNIST has a substitute, drawn here
        name = preset.data
    if name == "folder" and config.images is None:
        raise ConfigError(
            f"preset {preset.name} trains on a folder of pictures: "
            "give --images DIR, or a data set such as --dataset cifar10"
        )
    data = load_dataset(
        name,
        data_dir,
        image_shape=config.image_shape,
        images=config.images,
        fit=config.fit,
        limit=config.limit,
        background=config.background,
        max_pixels=config.max_pixels,
        log=log,
    )
    classes = 0 if data.labels is None else len(np.unique(data.labels))
    if preset.classes and (classes != preset.classes or len(data.classes) != preset.classes):
        raise ConfigError(
            f"preset {preset.name} learns {preset.classes} classes, and {data.name} has {classes}: "
            "use mnist, fashion-mnist, kmnist, or a folder with that many sub-folders"
        )
    return data
