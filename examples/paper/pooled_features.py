"""What D knows of an image: the maxima of its maps, coarsely, as features for a classifier.

D has learnt without labels. If its maps tell cats from ships all the same, a linear classifier on top of them does well;
evaluation/svm.py is one. After the activation of each convolution the maps are cut into 4 x 4 cells, and the largest value of each
cell is a feature, whatever the size of the map:

    features = concat over the maps of  max over the cell of y[n, row, column, channel]        (4·4·channels of each)

Row cell i of g over h rows is [floor(i·h/g), ceil((i+1)·h/g)): 16 rows make four cells of four; where it does not come out even,
neighbours overlap by one row, as 7 rows make 0-1, 1-3, 3-5 and 5-6. A map of less than 4 rows or columns is taken as it is.
A vector, as that of a Linear layer, has no cells and gives no features.
Source: Radford et al. 2016, arXiv:1511.06434, section 5.1
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigan.data import to_floats
from minigan.errors import ConfigError
from minigan.inspection.guided_backprop import KINKS
from minigan.inspection.partial_passes import expect_finite
from minigan.layers import Sequential
from minigan.layers.base import Array
from minigan.training.game import Game

GRID = 4


def cells(size: int, grid: int = GRID) -> list[slice]:
    """-> the rows of each cell, of so many rows (or columns); see the top."""
    grid = min(grid, size)
    return [slice(i * size // grid, -(-(i + 1) * size // grid)) for i in range(grid)]


def pool(maps: Array, xp: Any = np) -> Array:
    """maps (n, h, w, c) -> maxima of their cells (n, 4, 4, c); fewer where a map has fewer rows or columns."""
    rows = xp.stack([maps[:, part].max(axis=1) for part in cells(maps.shape[1])], axis=1)
    return xp.stack([rows[:, :, part].max(axis=2) for part in cells(maps.shape[2])], axis=2)


def map_layers(D: Sequential) -> list[int]:
    """-> where D's maps have gone through their kinks. Raises ConfigError where it has no maps."""
    found = [
        i
        for i, layer in enumerate(D.layers)
        if isinstance(layer, KINKS) and len(layer.out_shape) == 3
    ]
    if not found:
        raise ConfigError(
            "D has no convolutions: there are no maps to take features of; take a run with another preset"
        )
    return found


def feature_count(D: Sequential) -> int:
    """-> features of an image."""
    shapes = [D.layers[i].out_shape for i in map_layers(D)]
    return sum(min(h, GRID) * min(w, GRID) * c for h, w, c in shapes)


def expect_features(game: Game) -> None:
    """Raises ConfigError where D has no maps, or is told the class: then its features would tell it, too."""
    map_layers(game.D)
    if game.preset.classes:
        raise ConfigError(
            f"D of preset {game.config.preset} is told the class of each image, and its features would give it away: "
            "take a run without labels, as of color32"
        )


def features(game: Game, D: Sequential, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """images (n, h, w, c) -> features (n, feature_count(D)) on the host, in sampling mode: hold D's statistics before, see layerwise.py.

    D  the game's, or another of the same layers
    Raises ConfigError, see expect_features; RunError for NaN.
    """
    expect_features(game)
    indices, size, xp = map_layers(D), game.config.batch_size, game.backend.xp
    found = np.empty((len(images), feature_count(D)), np.float32)
    floats = np.empty((size, *images.shape[1:]), np.float32)
    for start in range(0, len(images), size):
        part = images[start : start + size]
        to_floats(part, floats[: len(part)], game.preset.pixel_min)
        x, at = game.backend.asarray(floats[: len(part)]), 0
        for i, layer in enumerate(D.layers[: indices[-1] + 1]):
            x = layer.forward(x, train=False)
            if i in indices:
                pooled = game.backend.to_host(pool(x, xp)).reshape(len(part), -1)
                found[start : start + len(part), at : at + pooled.shape[1]] = pooled
                at += pooled.shape[1]
    return expect_finite(found, D)
