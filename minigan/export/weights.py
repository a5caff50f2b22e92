"""Arrays in a file, matched by name with those of a network, and checked before they are read.

A file may come from a stranger. So all that it declares, names, dtypes and shapes, is compared with
what the network expects before a number is read; and the numbers must be finite.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minigan.arrays import Shape
from minigan.errors import RunError
from minigan.layers import Sequential

Arrays = dict[str, np.ndarray]


class Stored(NamedTuple):
    """An array in a file, not yet read."""

    shape: Shape
    dtype: str
    read: Callable[[], np.ndarray]


class Place(NamedTuple):
    """Where a file has an array of a network."""

    name: str
    shape: Shape
    turn: Callable[[np.ndarray], np.ndarray] = np.asarray  # to minigan's layout


def channels_first(name: str, shape: Shape, flip: bool = False) -> Place:
    """The place of a parameter of this shape in a program whose kernels are channels-first.

    Conv2d.W (k_h, k_w, c_in, c_out) is (c_out, c_in, k_h, k_w) there, and ConvTranspose2d.W
    (k_h, k_w, c_out, c_in) is (c_in, c_out, k_h, k_w).

    flip  its convolution is that of mathematics: kernels are rotated by 180 degrees
    """
    if len(shape) != 4:
        return Place(name, shape)
    step = -1 if flip else 1
    moved = (shape[3], shape[2], *shape[:2])
    return Place(name, moved, lambda W: W.transpose(2, 3, 1, 0)[::step, ::step])


def shapes_of(net: Sequential) -> dict[str, Shape]:
    """-> the shape of each parameter and buffer, by name."""
    return {name: tuple(array.shape) for name, array in {**net.params, **net.buffers}.items()}


def read_net(
    net: Sequential, places: dict[str, Place], stored: dict[str, Stored], path: Path
) -> Arrays:
    """The arrays of a network -> name -> array float32, in minigan's layout. Raises RunError.

    places  by the network's names
    stored  by the file's names
    """
    for key, (name, shape, _) in places.items():
        if name not in stored:
            raise RunError(f"{path}: {name} is missing: {net.name} has {len(places)} arrays")
        there = stored[name]
        if (there.shape, there.dtype) != (shape, "float32"):
            label = net.layers[int(key.split(".")[0])].label
            raise RunError(
                f"{path}: {name} must be float32 {shape} for {label}, got {there.dtype} "
                f"{there.shape}: convert it, or give --width, --z-dim or another --preset"
            )
    arrays = {}
    for key, (name, _, turn) in places.items():
        arrays[key] = array = np.ascontiguousarray(turn(stored[name].read()), np.float32)
        if not np.isfinite(array).all() or (key.endswith("running_var") and array.min() < 0):
            raise RunError(f"{path}: {name} has numbers that no network has, such as NaN")
    return arrays
