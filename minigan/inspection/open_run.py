"""A run opened to look inside: its nets as they were last saved, z and pictures by z, and the images that it learnt from."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigan.data import Dataset, to_floats
from minigan.data.files.npz import load_arrays, unpack
from minigan.errors import RunError
from minigan.inspection.partial_passes import hold_statistics
from minigan.layers import BatchNorm, Sequential
from minigan.layers.base import Array
from minigan.training.game import Game
from minigan.training.open_game import open_game
from minigan.training.run_folder import Run

Floats = NDArray[np.float64]
Say = Callable[[str], object]


def open_still(folder: str) -> tuple[Game, dict[str, Any]]:
    """-> Game of the run, its G as last saved and a function of z alone; what config.json says besides. Raises RunError."""
    run = Run(folder)
    run.load_config()
    if not run.generator_file.exists():
        raise RunError(
            f"{run.folder} has no generator.npz yet: wait until the run has saved its nets"
        )
    game, metadata = open_game(run)
    if any(isinstance(layer, BatchNorm) and layer.sampling == "batch" for layer in game.G.layers):
        n = game.config.batch_size
        z = game.draw_z(n, game.stream("fixed z"))
        hold_statistics(
            game.G, z, game.labels(np.arange(n) % max(game.preset.classes, 1))
        )  # as in a batch: all classes in turn
    return game, metadata


def open_discriminator(game: Game, folder: str, log: Say) -> int:
    """D of the newest checkpoint that is whole, into the game -> its step. Raises RunError where there is none."""
    run = Run(folder)
    for path in reversed(run.found_checkpoints()):
        try:
            game.D.ready().load_state(unpack(load_arrays(path), path)[0].get("D", {}), path)
            return int(path.stem.removeprefix("step-"))
        except RunError as error:
            log(f"passing over a checkpoint: {error}")
    raise RunError(
        f"D is in the checkpoints alone, and {run.checkpoints} has none that can be used: wait until the run has saved one"
    )


def draw_z(game: Game, n: int, seed: int) -> Floats:
    """-> z (n, z_dim) on the host: those of the first n pictures of `minigan sample` with this seed."""
    generator, size = game.stream("sample", seed=seed), game.config.batch_size
    drawn = [
        game.backend.to_host(game.draw_z(size, generator)).astype(np.float64)
        for _ in range(0, n, size)
    ]
    return np.concatenate(drawn)[:n]


def paint(game: Game, z: Floats, numbers: Any = 0) -> NDArray[np.uint8]:
    """z (n, z_dim) on the host, class of each or of all -> pictures of G (n, h, w, c) uint8. Raises RunError for NaN.

    Drawn in whole batches, as those of `minigan sample`: to the last bit a picture is the same in every company.
    """
    size = game.config.batch_size
    padding = -len(z) % size
    of_class = np.pad(np.broadcast_to(numbers, len(z)), (0, padding))
    filled = np.pad(z, ((0, padding), (0, 0)))
    parts = [slice(start, start + size) for start in range(0, len(filled), size)]
    return np.concatenate(
        [game.pictures(game.backend.asarray(filled[part]), of_class[part]) for part in parts]
    )[: len(z)]


def real(game: Game, data: Dataset, numbers: NDArray[Any]) -> tuple[Array, Array | None]:
    """Numbers of images (n,) -> x (n, h, w, c) as D gets them, their labels where it takes some."""
    floats = np.empty((len(numbers), *data.images.shape[1:]), np.float32)
    to_floats(data.images[numbers], floats, game.preset.pixel_min)
    return game.backend.asarray(floats), None if data.labels is None else game.labels(
        np.asarray(data.labels)[numbers]
    )


def hold_discriminator(game: Game, D: Sequential, data: Dataset) -> None:
    """D becomes a function of each image by itself, as it saw one batch of real images in training; see layerwise.py."""
    count = min(game.config.batch_size, len(data.images))
    numbers = game.stream("real").choice(len(data.images), count, replace=False)
    hold_statistics(D, *real(game, data, np.sort(numbers)))


def untrained(game: Game) -> Sequential:
    """-> D as it was before its first step: the run's seed draws the same weights again."""
    D = Sequential(game.preset.discriminator(game.config.width, game.config.image_shape), name="D")
    D.setup(game.config.image_shape, backend=game.backend, rng=game.stream("D"))
    return D
