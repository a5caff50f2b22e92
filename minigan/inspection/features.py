"""What a unit of D looks for: the real images that excite it most, and the pixels that do it.

A unit is one channel of a layer, at whatever place of the image it answers strongest. What it can see from there is a
window of the image, the larger the deeper its layer; which pixels in it count is told by guided backpropagation, see
guided.py. A D before its first step stands beside the trained one: its units answer to something, too.
Source: Radford et al. 2016, arXiv:1511.06434, figure 5: the first 6 features of the last convolution
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigan.data import Dataset
from minigan.inspection.guided_backprop import KINKS, guided_gradient
from minigan.inspection.open_run import hold_discriminator, real, untrained
from minigan.inspection.page_layout import (
    SMALL,
    SOFT,
    TITLE,
    Block,
    below,
    beside,
    cells,
    enlargement,
    signed,
    words,
)
from minigan.inspection.partial_passes import expect_finite, forward_to
from minigan.layers import Conv2d, Layer, Linear, Reshape, Sequential
from minigan.training.game import Game

IMAGES = 5000  # real images that are looked through: a minute or two in the largest nets
UNITS, PATCHES = 6, 9  # units in the page, images of each
PATCH = 44  # pixels that a patch should be wide, about
GREY = 128  # beyond the image, and where a gradient is 0
Window = tuple[int, int, int, int]  # top, bottom, left, right: pixels, the ends left out


def last_map(D: Sequential) -> int:
    """-> where D's last map has gone through its kink; in a net of Linear layers, their last hidden one."""
    vectors = next(
        (i for i, layer in enumerate(D.layers) if isinstance(layer, Linear)), len(D.layers)
    )
    kinks = [i for i, layer in enumerate(D.layers) if isinstance(layer, KINKS)]
    return max((i for i in kinks if i < vectors), default=max(kinks, default=len(D.layers) - 1))


def strongest(
    game: Game,
    D: Sequential,
    index: int,
    data: Dataset,
    numbers: NDArray[Any],
    units: int,
    count: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """-> for each of the first units of a layer, the images in which it answers strongest, strongest first (units, count),
    and at which place of its map (units, count).

    numbers  of the images that are looked through; count of them or more
    """
    peaks, places = [], []
    for start in range(0, len(numbers), game.config.batch_size):
        x, labels = real(game, data, numbers[start : start + game.config.batch_size])
        maps = game.backend.to_host(forward_to(D, index, x, labels)).reshape(
            len(x), -1, D.layers[index].out_shape[-1]
        )[:, :, :units]
        peaks.append(expect_finite(maps, D).max(axis=1))
        places.append(maps.argmax(axis=1))
    peak, place = np.concatenate(peaks), np.concatenate(places)
    chosen = np.argsort(-peak, axis=0, kind="stable")[:count]
    return numbers[chosen].T, np.take_along_axis(place, chosen, axis=0).T


def gradients(
    game: Game,
    D: Sequential,
    index: int,
    data: Dataset,
    numbers: NDArray[Any],
    places: NDArray[Any],
) -> NDArray[Any]:
    """Images (units, count) and places in the maps of the units, as from strongest -> (units, count, h, w, c):

    the guided gradient of each unit at its place by each pixel.
    """
    found = []
    for unit, (images, where) in enumerate(zip(numbers, places, strict=True)):
        x, labels = real(game, data, images)
        dy = game.backend.zeros((len(images), *D.layers[index].out_shape))
        dy.reshape(len(images), -1, dy.shape[-1])[np.arange(len(images)), where, unit] = 1
        found.append(
            expect_finite(game.backend.to_host(guided_gradient(D, index, x, dy, labels)), D).copy()
        )
    return np.stack(found)


def window(net: Sequential, index: int, place: tuple[int, int]) -> Window:
    """-> the pixels of the image that layer `index` sees from this place of its map; it may reach beyond the image.

    From the layer back to the image: a convolution with kernel k, stride s and padding p makes pixel i
    of pixels s·i - p to s·i - p + k - 1. A Linear layer sees all.
    """
    (top, left), (bottom, right) = place, place
    for layer in reversed(net.layers[: index + 1]):
        if isinstance(layer, Conv2d):
            (k_h, k_w), (s_h, s_w), ((p_top, _), (p_left, _)) = (
                layer.kernel_size,
                layer.stride,
                layer.pads,
            )
            top, bottom = s_h * top - p_top, s_h * bottom - p_top + k_h - 1
            left, right = s_w * left - p_left, s_w * right - p_left + k_w - 1
        elif isinstance(layer, (Linear, Reshape)):
            h, w = net.in_shape[:2]
            return 0, h, 0, w
    return top, bottom + 1, left, right + 1


def cut(image: NDArray[Any], seen: Window, beyond: int = 0) -> NDArray[Any]:
    """image (h, w, c) -> what is in the window, and `beyond` where it reaches out; the whole image where the window is as large."""
    h, w, _ = image.shape
    top, bottom, left, right = seen
    if bottom - top >= h or right - left >= w:
        return image
    outside = ((max(-top, 0), max(bottom - h, 0)), (max(-left, 0), max(right - w, 0)), (0, 0))
    return np.pad(
        image[max(top, 0) : bottom, max(left, 0) : right], outside, constant_values=beyond
    )


def map_shape(layer: Layer) -> tuple[int, int]:
    """-> rows and columns of a layer's maps; a vector is of maps of one place."""
    return layer.out_shape[:2] if len(layer.out_shape) == 3 else (1, 1)


def draw_features(game: Game, data: Dataset, index: int) -> Block:
    """-> page: the first units of a layer of D; of each the patches of real images that excite it most, and their guided
    gradients below; the same of D before training beside it."""
    numbers = np.sort(
        game.stream("real").choice(len(data.images), min(IMAGES, len(data.images)), replace=False)
    )
    layer = game.D.layers[index]
    units, count = min(UNITS, layer.out_shape[-1]), min(PATCHES, len(numbers))
    (top, bottom, left, right), (h, w) = window(game.D, index, (0, 0)), game.D.in_shape[:2]
    whole = bottom - top >= h or right - left >= w
    sees = (
        "it sees all of them"
        if whole
        else f"the {bottom - top}x{right - left} pixels that it sees of them"
    )
    columns = []
    for D, when in ((untrained(game), "before training"), (game.D, "after training")):
        hold_discriminator(game, D, data)
        images, places = strongest(game, D, index, data, numbers, units, count)
        reasons = gradients(game, D, index, data, images, places)
        rows = [words(f"D {when}")]
        for unit in range(units):
            seen = [
                window(D, index, place)
                for place in zip(*np.unravel_index(places[unit], map_shape(layer)), strict=True)
            ]
            patches = [
                cut(data.images[number], there, beyond=GREY)
                for number, there in zip(images[unit], seen, strict=True)
            ]
            below_them = [
                signed(cut(reason, there))
                for reason, there in zip(reasons[unit], seen, strict=True)
            ]
            block = cells([*patches, *below_them], count, enlargement(patches[0].shape[1], PATCH))
            rows.append(beside([words(str(unit), SMALL, SOFT, width=24), block], gap=0, at=0.5))
        columns.append(below(rows, gap=14))
    page = beside(columns, gap=36)
    return below(
        [
            words(f"What the first {units} units of {layer.label} look for", TITLE),
            words(
                f"Of {len(numbers):,} real images the {count} in which a unit answers strongest: {sees}, and below that which "
                "pixels excite it, by guided backpropagation (grey: none, or beyond the image).",
                width=page.shape[1],
            ),
            page,
        ],
        gap=16,
    )
