"""The published weights of the DCGAN paper, for presets radford-64:svhn and radford-64:imagenet.

A folder of .npy files, one for each array, numbered in the order in which the program declares
them: the order of minigan's parameters.

    200_gen_params.jl_01.npy ... 200_discrim_params.jl_01.npy ...

The .jl files beside them are pickles, and are not opened. Theano is channels-first, which shows in
the kernels and where a vector is a map: in the columns of the Linear layer before a Reshape, with
the BatchNorm between them, and in the rows of the one after a Flatten. And its convolutions are
those of mathematics: kernels are rotated by 180 degrees. There are no running statistics: these
nets sample by those of a batch.
Source: github.com/Newmu/dcgan_code, models/
"""

import os
import re
from functools import partial
from math import prod
from pathlib import Path

import numpy as np

from minigan.arrays import Shape
from minigan.data.sets.array_file import read_npy
from minigan.errors import RunError
from minigan.export.weights import Place, Stored, channels_first
from minigan.files import as_run_errors
from minigan.layers import Flatten, Reshape, Sequential

FILE = re.compile(r"(.*?)(gen|discrim)_params\.jl_(\d{1,9})\.npy")


def open_folder(path: Path) -> dict[str, dict[str, Stored]]:
    """A folder, or one of its files -> the arrays of "G" and "D", not yet read, in order.

    Raises RunError, DataError.
    """
    folder = path if path.is_dir() else path.parent
    with as_run_errors(f"read {path}"):
        found = [match for name in sorted(os.listdir(folder)) if (match := FILE.fullmatch(name))]
        path.stat()
    own = FILE.fullmatch(path.name)
    epochs = {match[1] for match in found if own is None or match[1] == own[1]}
    if len(epochs) != 1:
        raise RunError(
            f"{path}: expected files of one net, such as 200_gen_params.jl_01.npy, got those of "
            f"{len(epochs)}: name one of its files; a run must be exported first"
        )
    nets: dict[str, dict[str, Stored]] = {}
    for match in sorted(found, key=lambda match: int(match[3])):
        if match[1] in epochs:
            array = read_npy(folder / match[0])
            stored = Stored(array.shape, str(array.dtype), partial(np.array, array))
            nets.setdefault("G" if match[2] == "gen" else "D", {})[match[0]] = stored
    return nets


def theano_places(net: Sequential, stored: dict[str, Stored], path: Path) -> dict[str, Place]:
    """-> where the parameters of a network are. Raises RunError."""
    if len(stored) != len(net.params):
        raise RunError(
            f"{path}: expected {len(net.params)} arrays for {net.name} ({', '.join(net.params)}), "
            f"got {len(stored)}: are they for another --preset?"
        )
    places = {}
    border = next(layer for layer in net.layers if isinstance(layer, Reshape))
    is_end = isinstance(border, Flatten)
    turn = partial(channels_last, shape=border.in_shape if is_end else border.shape, rows=is_end)
    for (key, array), name in zip(net.params.items(), stored, strict=True):
        places[key] = channels_first(name, tuple(array.shape), flip=True)
        if array.ndim < 4:
            places[key] = places[key]._replace(turn=turn)
    return places


def channels_last(array: np.ndarray, shape: Shape, rows: bool) -> np.ndarray:
    """A matrix or vector whose rows, or columns, are a map (c, h, w) -> the same with (h, w, c).

    shape  (h, w, c): fewer rows or columns belong to another layer; of more, the rest are labels
    """
    h, w, c = shape
    axis = 0 if rows else -1
    order = np.arange(array.shape[axis])
    if len(order) < prod(shape) or (rows and array.ndim == 1):
        return array
    order[: h * w * c] = order[: h * w * c].reshape(c, h, w).transpose(1, 2, 0).ravel()
    return array.take(order, axis)
