"""What a unit of D detects: the real images that excite it most, and the pixels that do it.

A unit is one channel of a layer, at the place of the image where it responds most. From there it
sees a window of the image, which is larger in deeper layers; guided backpropagation finds the
pixels in it that matter. D before its first step is shown beside the trained one: its units respond
to something too.
Source: Radford et al. 2016, arXiv:1511.06434, figure 5: 6 features of the last convolution
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigan.data import Dataset
from minigan.inspection import page_layout as layout
from minigan.inspection.guided_backprop import RECTIFIERS, guided_gradient
from minigan.inspection.open_run import expect_finite, freeze_discriminator, real_images, untrained
from minigan.inspection.page_layout import below, beside, cells, enlargement, signed, words
from minigan.layers import Conv2d, Linear, Reshape, Sequential
from minigan.layers.sequential import forward_pass, plan
from minigan.layers.spectral_norm import unwrapped
from minigan.training import Game

IMAGES = 5000  # real images that are searched
UNITS, PATCHES = 6, 9  # units in the page, images of each
PATCH = 44  # approximate width of a patch, in pixels
GRAY = 128  # outside the image, and where a gradient is 0
Ints = NDArray[np.int64]
Window = tuple[int, int, int, int]  # top, bottom, left, right in pixels; bottom, right exclusive


def last_map(D: Sequential) -> int:
    """-> the rectifier of D's last map; in a network of Linear layers, the last rectifier."""
    rectifiers = [i for i, layer in enumerate(D.layers) if isinstance(layer, RECTIFIERS)]
    of_maps = [i for i in rectifiers if len(D.layers[i].out_shape) == 3]
    return max(of_maps or rectifiers or [len(D.layers) - 1])


def strongest(
    game: Game, D: Sequential, index: int, data: Dataset, numbers: Ints, units: int, count: int
) -> tuple[Ints, Ints]:
    """-> for each of the first units of a layer: the images in which it responds most, strongest
    first (units, count), and at which place of its map (units, count).

    numbers  of the images to search, at least count of them
    """
    steps = D.backend.operation_for(plan)(D.layers[: index + 1], D.backend)  # fast, if possible
    peaks, places, size = [], [], game.config.batch_size
    for start in range(0, len(numbers), size):
        x, labels = real_images(game, data, numbers[start : start + size])
        output = expect_finite(game.backend.to_host(forward_pass(steps, x, False, labels)), D)
        maps = output.reshape(len(x), -1, output.shape[-1])[:, :, :units]
        peaks.append(maps.max(axis=1))
        places.append(maps.argmax(axis=1))
    chosen = np.argsort(-np.concatenate(peaks), axis=0, kind="stable")[:count]
    return numbers[chosen].T, np.take_along_axis(np.concatenate(places), chosen, axis=0).T


def window(net: Sequential, index: int, place: tuple[int, int]) -> Window:
    """-> the pixels that layer `index` sees from this place of its map, perhaps beyond the image.

    From the layer back to the image: a convolution with kernel k, stride s and padding p
    computes pixel i from the pixels s·i - p to s·i - p + k - 1. A Linear layer sees all.
    """
    (top, left), (bottom, right) = place, place
    for layer in map(unwrapped, reversed(net.layers[: index + 1])):
        if isinstance(layer, Conv2d):
            (k_h, k_w), (s_h, s_w) = layer.kernel_size, layer.stride
            (p_top, _), (p_left, _) = layer.pads
            top, bottom = s_h * top - p_top, s_h * bottom - p_top + k_h - 1
            left, right = s_w * left - p_left, s_w * right - p_left + k_w - 1
        elif isinstance(layer, (Linear, Reshape)):
            h, w = net.in_shape[:2]
            return 0, h, 0, w
    return top, bottom + 1, left, right + 1


def cut(image: NDArray[Any], seen: Window, outside: int = 0) -> NDArray[Any]:
    """image (h, w, c) -> the window of it, or all of it if the window is as large.

    outside  the value of pixels beyond the image
    """
    h, w, _ = image.shape
    top, bottom, left, right = seen
    if bottom - top >= h or right - left >= w:
        return image
    around = ((max(-top, 0), max(bottom - h, 0)), (max(-left, 0), max(right - w, 0)), (0, 0))
    inside = image[max(top, 0) : bottom, max(left, 0) : right]
    return np.pad(inside, around, constant_values=outside)


def draw_unit(
    game: Game, D: Sequential, index: int, data: Dataset, unit: int, numbers: Ints, places: Ints
) -> layout.Block:
    """-> a row of the page: the patches that excite a unit, and their guided gradients below.

    numbers, places  (count,), from `strongest`
    """
    x, labels = real_images(game, data, numbers)
    out_shape = D.layers[index].out_shape
    dy = game.backend.xp.zeros((len(x), *out_shape), game.backend.dtype)
    dy.reshape(len(x), -1, out_shape[-1])[np.arange(len(x)), places, unit] = 1
    dx = expect_finite(game.backend.to_host(guided_gradient(D, index, x, dy, labels)), D)
    columns = out_shape[1] if len(out_shape) == 3 else 1
    patches, gradients = [], []
    for i, place, gradient in zip(numbers, places, dx, strict=True):
        seen = window(D, index, divmod(int(place), columns))
        patches.append(cut(data.images[i], seen, GRAY))
        gradients.append(signed(cut(gradient, seen)))
    factor = enlargement(patches[0].shape[1], PATCH)
    block = cells([*patches, *gradients], len(patches), factor)
    number = words(str(unit), layout.SMALL, layout.SOFT, width=24)
    return beside([number, block], gap=0, align=0.5)


def draw_features(game: Game, data: Dataset, index: int) -> layout.Block:
    """-> page: for the first units of a layer of D the patches of real images that excite them
    most, with their guided gradients; for D before and after training."""
    total = min(IMAGES, len(data.images))
    numbers = np.sort(game.stream("real").choice(len(data.images), total, replace=False))
    layer = game.D.layers[index]
    units, count = min(UNITS, layer.out_shape[-1]), min(PATCHES, total)
    columns = []
    for D, when in ((untrained(game), "before training"), (game.D, "after training")):
        freeze_discriminator(game, D, data)
        images, places = strongest(game, D, index, data, numbers, units, count)
        rows = [draw_unit(game, D, index, data, i, images[i], places[i]) for i in range(units)]
        columns.append(below([words(f"D {when}"), *rows], gap=14))
    top, bottom, left, right = window(game.D, index, (0, 0))
    h, w = game.D.in_shape[:2]
    whole = bottom - top >= h or right - left >= w
    sees = "whole images" if whole else f"the {bottom - top}x{right - left} pixels that it sees"
    text = (
        f"For each unit, the {count} of {total:,} real images in which it responds most ({sees}), "
        "and below them the pixels that excite it, by guided backpropagation "
        "(gray: none, or outside the image)."
    )
    title = f"What the first {units} units of {layer.label} detect"
    return layout.titled(title, text, beside(columns, gap=36))
