"""A run's nets and images, opened for training, sampling, evaluation and inspection."""

import os
from dataclasses import replace
from typing import Any

import numpy as np

from minigan.backends.cpu.threads import available_cpus
from minigan.data import Dataset, load_dataset
from minigan.data.base import Log, class_number
from minigan.data.dataset import CLASSES
from minigan.data.files.locations import full_path
from minigan.data.files.messages import printable, some
from minigan.data.files.npz import load_arrays
from minigan.errors import ConfigError, DataError, RunError
from minigan.parallel.group import ALONE, Group
from minigan.presets import Preset
from minigan.training.config import Config, versions
from minigan.training.game import Game
from minigan.training.outline import outline
from minigan.training.ranks import expect_same
from minigan.training.run_folder import Run


def open_game(
    run: Run, best: bool = False, backend: str = "numpy", ranks: Group = ALONE
) -> tuple[Game, dict[str, Any]]:
    """-> Game with the G that the run saved, the newest or the best; the metadata of config.json.

    If samples are drawn from an average of G's weights, G has that average.
    ranks  that work with it together, with the bits of one process on the CPUs of rank 0
    Raises RunError, ConfigError.
    """
    config, metadata = run.load_config()
    files = run.checkpoints
    file = files.best_generator_file if best else files.generator_file
    if not file.exists():
        cure = "--evaluate-every keeps one, given time" if best else "wait for the first one"
        raise RunError(f"{file} does not exist: {cure}")
    arrays = load_arrays(file)
    outline(config)[0].ready().expect_fits(arrays, file)  # before memory is taken for other sizes
    is_shared = ranks.size > 1 and backend == "numpy"
    threads = int(ranks.broadcast(available_cpus(), 0)) if is_shared else None
    config = replace(config, backend=backend, threads=threads, precision="fp32")
    # compile: False stays, and True becomes what is installed here
    game = Game(replace(config, compile=config.compile and None, ema=0.0), ranks)
    game.G.ready().load_state(arrays, file)
    expect_same(ranks, "versions", versions(game.backend) | {"platform": ""})
    expect_same(ranks, "files of the run", config, *arrays.values())
    names = metadata.get("classes", CLASSES.get(config.dataset))
    if isinstance(names, (list, tuple)) and len(names) == game.preset.classes:
        game.class_names = tuple(printable(str(name)) for name in names)
    return game, metadata


def parse_label(game: Game, label: str | int | None) -> int | None:
    """--label, the name or the number of a class -> its number. Raises ConfigError.

    An int is a number; text is a name, or else a number: see class_number.
    """
    if not isinstance(label, str):
        game.expect_label(label)
        return label
    game.expect_label(0)  # has it any classes?
    names = game.class_names or list(map(str, range(game.preset.classes)))
    return class_number("--label", label, names)


def open_images(game: Game, metadata: dict[str, Any], data_dir: str | None, log: Log) -> Dataset:
    """-> the images that a run was trained on. Raises DataError if they have changed since.

    data_dir  where they are now; None: where they were
    """
    config = game.config
    is_untrained = config.dataset == "auto"  # as after an import
    of_import = "folder" if metadata.get("own_pictures") else game.preset.data
    name = of_import if is_untrained else config.dataset
    if name == "folder" and data_dir is None and config.images is None:
        raise ConfigError("the run has no pictures yet: give their folder with --data-dir")
    if name == "folder" and data_dir is not None:
        config, data_dir = replace(config, dataset=name, images=str(full_path(data_dir))), None
    expect_pictures(config, "--data-dir")
    data = load_images(config, game.preset, data_dir, log, is_old(metadata))
    expect_same_images(data, metadata, "give their folder or file with --data-dir")
    return data


def expect_pictures(config: Config, option: str) -> None:
    """Raises DataError if a run's pictures are gone; option: says where they are now."""
    if config.images is not None and not os.path.exists(config.images):
        raise DataError(f"{config.images} is not there: say with {option} where it is now")


def expect_same_images(data: Dataset, metadata: dict[str, Any], hint: str) -> None:
    """Raises DataError unless a run began with these images."""
    if "imported" in metadata and metadata.get("data") is None:
        return  # it has not been trained yet
    if metadata.get("data") != data.fingerprint:
        raise DataError(
            f"the images of {data.name} are not those that the run was trained on "
            f"({metadata.get('data')} then, {data.fingerprint} now; images: "
            f"{metadata.get('images', 'unknown')} then, {len(data.images)} now): {hint}"
        )


def is_old(metadata: dict[str, Any]) -> bool:
    """Is a run of minigan 0.2.0 or earlier? They did not record the names of the classes."""
    return "classes" not in metadata and "imported" not in metadata


def load_images(
    config: Config, preset: Preset, data_dir: str | None, log: Log, as_text: bool = False
) -> Dataset:
    """-> the images that a run trains on, with labels if its nets need them.

    as_text  list a folder as minigan 0.2.0 did
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
    if config.images is not None and data_dir is not None:
        raise ConfigError("--data-dir is for data sets: give the pictures with --images alone")
    names = ("images", "fit", "limit", "background", "max_pixels")
    options: dict[str, Any] = {each: getattr(config, each) for each in names}
    options |= dict(image_shape=config.image_shape, as_text=as_text, log=log)
    data = load_dataset(name, data_dir, **options)
    labels = np.array([], int) if data.labels is None else data.labels
    counts = np.bincount(labels, minlength=len(data.classes))
    if preset.classes and (len(counts) != preset.classes or not counts.all()):
        found = f"{np.count_nonzero(counts)}"
        if missing := [name for name, count in zip(data.classes, counts, strict=True) if not count]:
            found += f" (no picture can be used of {some(missing)})"
        elif data.classes:
            found += f" ({some(data.classes, 20)})"
        elif data.unlabeled:
            found += f" ({data.unlabeled})"
        cure = "use mnist, fashion-mnist, kmnist, or a folder of that many sub-folders of pictures"
        if config.classes:
            cure = "use a folder of that many sub-folders, arrays with labels, or --classes 0"
        if config.limit is not None:
            found += f" in the first {config.limit:,} pictures (--limit)"
            cure = "give a larger --limit, or none" if len(counts) == preset.classes else cure
        if config.classes and len(counts) > 1 and counts.all():
            cure = f"give --classes {len(counts)}, or leave it out"
        raise ConfigError(
            f"preset {preset.name} learns {preset.classes} classes, and "
            f"{config.images or data.name} has {found}: {cure}"
        )
    return data
