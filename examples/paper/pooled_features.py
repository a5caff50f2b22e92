"""Features of D for a classifier: its feature maps, max-pooled to 4x4.

D was trained without labels. If its maps still separate cats from ships, a linear classifier on top
of them, such as svm.py, does well. After the activation of each convolution the maps are divided
into 4x4 cells, and the largest value in each cell is a feature, for maps of any size:

    features = concatenation over layers of  max over the cell of y[n, row, column, channel]

Row cell i of g over h rows is [floor(i·h/g), ceil((i+1)·h/g)). 16 rows make four cells of four. If
h is not a multiple of g, neighboring cells overlap by a row: 7 rows make 0-1, 1-3, 3-5 and 5-6.
Along a side with fewer than 4 rows or columns the map is taken as it is. A vector, the output of a
Linear layer, has no cells and gives no features.
Source: Radford et al. 2016, arXiv:1511.06434, section 5.1
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigan.data import to_floats
from minigan.errors import ConfigError
from minigan.inspection.guided_backprop import RECTIFIERS
from minigan.inspection.open_run import activations
from minigan.layers import Sequential
from minigan.training.game import Game

GRID = 4


def cells(size: int) -> list[slice]:
    """-> the rows (or columns) of each cell, of `size`; see above."""
    grid = min(GRID, size)
    return [slice(i * size // grid, -(-(i + 1) * size // grid)) for i in range(grid)]


def pool(maps: NDArray[Any]) -> NDArray[Any]:
    """maps (n, h, w, c) -> the maximum of each cell (n, 4, 4, c)."""
    rows = np.stack([maps[:, part].max(axis=1) for part in cells(maps.shape[1])], axis=1)
    return np.stack([rows[:, :, part].max(axis=2) for part in cells(maps.shape[2])], axis=2)


def map_layers(D: Sequential) -> list[int]:
    """-> indices of the rectifiers that follow D's convolutions. Raises ConfigError if none do."""
    found = [
        i
        for i, layer in enumerate(D.layers)
        if isinstance(layer, RECTIFIERS) and len(layer.out_shape) == 3
    ]
    if not found:
        raise ConfigError("D has no convolutions, so there are no feature maps: use another preset")
    return found


def feature_count(D: Sequential) -> int:
    """-> features of an image."""
    shapes = [D.layers[i].out_shape for i in map_layers(D)]
    return sum(min(h, GRID) * min(w, GRID) * c for h, w, c in shapes)


def expect_features(game: Game) -> None:
    """Raises ConfigError if D has no maps, or if it is conditional: its input has the label."""
    map_layers(game.D)
    if game.preset.classes:
        raise ConfigError(
            f"D of preset {game.config.preset} is conditional: its features would contain the "
            "label: use a run without labels, such as one of color32"
        )


def features(game: Game, D: Sequential, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """images (n, h, w, c) -> features (n, feature_count(D)) on the host, in sampling mode.

    D  the game's, or another with the same layers, its statistics frozen: see
       minigan/inspection/open_run.py
    Raises RunError for NaN.
    """
    indices, size = map_layers(D), game.config.batch_size
    found = np.empty((len(images), feature_count(D)), np.float32)
    for start in range(0, len(images), size):
        part = images[start : start + size]
        floats = np.empty(part.shape, np.float32)
        to_floats(part, floats, game.preset.pixel_min)
        maps = activations(D, game.backend.asarray(floats))
        pooled = [pool(maps[i]).reshape(len(part), -1) for i in indices]
        np.concatenate(pooled, axis=1, out=found[start : start + len(part)])
    return found
