"""The command `sample`: images from a run's generator, and as many training images beside them."""

import os
import sys
from argparse import Namespace
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

import numpy as np

from minigan.checks import expect_size
from minigan.cli.output import output_file
from minigan.data.files.messages import counted
from minigan.data.files.png import grid, save_png, to_png
from minigan.errors import ConfigError
from minigan.files import as_run_errors, write_atomically
from minigan.parallel.mpi import world
from minigan.training import Game, Log, Run, open_game, open_images, parse_label
from minigan.training.ranks import expect_same

Batch = tuple[np.ndarray, np.ndarray]  # images (n, h, w, c) uint8, class numbers (n,)


def sample(arguments: Namespace, log: Log) -> None:
    """Draw images as a grid, an array or files, batch by batch. On ranks, rank 0 writes them."""
    if not (arguments.out or arguments.each or arguments.real):
        raise ConfigError("say where to write: --out FILE.png, --out FILE.npy, or --each DIR")
    n = expect_size("--n", arguments.n, most=10**9)
    seed = expect_size("--seed", arguments.seed, least=0, most=2**63)
    ranks = world()
    game, metadata = open_game(Run(arguments.run), arguments.best, ranks=ranks)
    statistics = "frozen" if arguments.statistics is None else arguments.statistics
    label = parse_label(game, arguments.label)
    of_class = "" if label is None else f" of class {game.class_title(label)}"
    drawn = bool(arguments.out or arguments.each)
    expect_same(ranks, "options", (n, seed, label, statistics, drawn))
    if ranks.rank:
        arguments.out = arguments.each = arguments.real = None
    path = None
    if arguments.out:
        path = output_file(arguments.out, Path("samples.png"), ".png", ".npy")
    each, real = (new_folder(f"--{name}", getattr(arguments, name)) for name in ("each", "real"))
    if each and real and each.samefile(real):
        raise ConfigError(f"--each and --real are both {each}: give one of them another folder")
    if drawn:
        batches = game.sample_batches(n, game.stream("sample", seed=seed), label, statistics)
        if each:
            batches = saving(batches, each, game)
        write(path, batches, (n, *game.G.out_shape))
        place = " and ".join(str(place) for place in (path, each) if place)
        log(f"{n} images {game.G.out_shape}{of_class} in {place}")
    if real:
        data = open_images(game, metadata, arguments.data_dir, log)
        numbers = np.arange(len(data.images))
        if label is not None:
            numbers = numbers[data.labels == label]
        chosen = np.sort(game.stream("real", seed=seed).permutation(numbers)[:n])
        labels = np.zeros(len(data.images), int) if data.labels is None else data.labels
        batches = ((data.images[i : i + 1], labels[i : i + 1]) for i in chosen)
        for _ in saving(batches, real, game):
            pass
        fewer = f", all there are{of_class}" if len(chosen) < n else ""
        log(f"{counted(len(chosen), 'training image')} in {real}{fewer}")


def write(path: Path | None, batches: Iterable[Batch], shape: tuple[int, ...]) -> None:
    """Write all batches into a grid or an array; without a path only draw them."""

    def write_array(file: IO[bytes]) -> None:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for images, _ in batches:
            file.write(np.ascontiguousarray(images).data)

    if path is None:
        for _ in batches:
            pass
    elif path.suffix.lower() == ".npy":
        write_atomically(path, write_array)
    else:
        save_png(path, grid(np.concatenate([images for images, _ in batches])))


def saving(batches: Iterable[Batch], folder: Path, game: Game) -> Iterator[Batch]:
    """-> the same batches, after each image is saved: 00000.png, and in a folder for its class."""
    count = 0
    for images, numbers in batches:
        with as_run_errors(f"write into {folder}", "free some space"):
            for image, number in zip(images, numbers, strict=True):
                place = folder
                if game.preset.classes:
                    title = game.class_title(number)
                    name = title.encode(sys.getfilesystemencoding(), "replace")
                    is_name = title.isprintable() and title == os.path.basename(os.fsdecode(name))
                    place = folder / (title if is_name and title.strip(".") else str(number))
                    place.mkdir(exist_ok=True)
                (place / f"{count:05}.png").write_bytes(to_png(image))
                count += 1
        yield images, numbers


def new_folder(option: str, folder: str | None) -> Path | None:
    """-> an empty folder, made if it is missing. Raises RunError, ConfigError."""
    if folder is None:
        return None
    path = Path(os.path.expanduser(folder))
    with as_run_errors(f"write into {path}", f"choose another folder with {option}"):
        path.mkdir(parents=True, exist_ok=True)
        if any(path.iterdir()):
            raise ConfigError(
                f"{option} {folder} is not empty: give a new folder, which then holds these images "
                "alone"
            )
    return path
