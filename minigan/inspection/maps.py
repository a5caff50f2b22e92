"""Weights and activations as pictures: the filters of D's first layer, and the maps of a network.

Filters and maps have numbers of very different ranges. So each is scaled by itself: the pattern
within one is visible, but brightness cannot be compared between two.

    numbers of both signs    0 is middle gray, the largest magnitude is black or white
    none below 0             0 is black, the largest is white

The filters of a convolution that reads images are small images themselves, in color if those are. A
Linear layer that reads images has filters as large as the images. Weights of labels, which a
conditional D reads besides the pixels, are left out.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigan import layers as nn
from minigan.inspection import page_layout as layout
from minigan.inspection.open_run import Pixels, activations, expect_finite, untrained
from minigan.inspection.page_layout import Block, below, beside, cells, enlargement, words
from minigan.layers.base import Array
from minigan.layers.spectral_norm import unwrapped
from minigan.training import Game

CORES = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.SpectralNorm)
FILTERS, MAPS = 64, 256  # shown of a layer at most
ROW = 10  # maps of a stage, if all stages are shown
SCALE = (
    "Each map is scaled by itself: white is its largest number, and 0 is black, "
    "or gray if some are below 0."
)
SIDE, LARGE = 40, 112  # approximate widths of a filter or map, and of an image


def first_core(D: nn.Sequential) -> Any:
    """-> D's first convolution or Linear layer."""
    return next(layer for layer in D.layers if isinstance(layer, CORES))


def filters(D: nn.Sequential) -> NDArray[Any]:
    """-> the weights of the image in each unit of D's first layer (units, h, w, c)."""
    first = first_core(D)
    W: NDArray[Any] = D.backend.to_host(first.W)
    h, w, c = D.in_shape
    if isinstance(unwrapped(first), nn.Linear):
        W = W[: h * w * c].reshape(h, w, c, -1)
    return np.moveaxis(W[:, :, :c], 3, 0)


def stages(net: nn.Sequential) -> list[tuple[int, int]]:
    """-> first and last layer of each stage: a core, and its BatchNorm, activation and Reshape."""
    found: list[tuple[int, int]] = []
    for i, layer in enumerate(net.layers):
        if isinstance(layer, CORES):
            found.append((i, i))
        elif found and not isinstance(layer, (nn.AppendLabels, nn.Flatten)):
            found[-1] = (found[-1][0], i)
    return found


def map_pictures(values: NDArray[Any]) -> list[Pixels]:
    """Output of a layer for one image -> a picture (h, w, 1) of each map, scaled by itself.

    A vector (n,) becomes one picture, row by row.
    """
    if values.ndim == 1:
        side = int(np.ceil(len(values) ** 0.5))
        values = np.pad(values, (0, -len(values) % side)).reshape(-1, side, 1)
    maps = np.moveaxis(values, 2, 0)[..., None]
    return [
        layout.signed(each)
        if each.min() < 0
        else np.rint(255 * (each / max(each.max(), 1e-30))).astype("u1")
        for each in maps
    ]


def draw_filters(game: Game) -> Block:
    """-> page: the filters of D's first layer before and after training.

    Raises RunError if one is not finite.
    """
    columns, total = [], 0
    for D, when in ((untrained(game), "before training"), (game.D, "after training")):
        W = expect_finite(filters(D), D)
        total, width = W.shape[0], W.shape[2]
        factor = enlargement(width, SIDE if width < SIDE / 2 else layout.CELL)
        pictures = [layout.signed(each) for each in W[:FILTERS]]
        columns.append(below([words(f"D {when}"), cells(pictures, 8, factor)]))
    some = f"The first {FILTERS} of" if total > FILTERS else "All"
    text = (
        f"{some} {total:,} filters of {first_core(game.D).label}. "
        "Middle gray is a weight of 0; each filter is scaled by itself."
    )
    return layout.titled("Filters of D's first layer", text, beside(columns, gap=36))


def draw_layer(
    net: nn.Sequential, index: int, x: Array, labels: Array | None, shown: Pixels, name: str
) -> Block:
    """-> page: the output of one layer for an image, or a z, all its maps.

    x      (1, *in_shape);  labels (1, classes), or None
    shown  the image (h, w, c) that belongs to x, and its name
    Raises RunError if the output is not finite.
    """
    values = activations(net, x, labels)[index][0]
    some = f", the first {MAPS}" if values.ndim == 3 and values.shape[2] > MAPS else ""
    if values.size == 1:
        block = words(f"{values.item():+.2f}")
    else:
        maps = map_pictures(values)[:MAPS]
        block = cells(maps, 16, enlargement(maps[0].shape[1], SIDE if len(maps) > 1 else 10 * SIDE))
    block = below([words(shape_in_words(values) + some), block], gap=8)
    return with_image(shown, name, net.layers[index].label, block)


def draw_stages(
    net: nn.Sequential, x: Array, labels: Array | None, shown: Pixels, name: str
) -> Block:
    """-> page: the same for a whole network, stage by stage: the maps that vary most."""
    outputs, blocks = activations(net, x, labels), []
    for start, end in stages(net):
        values = outputs[end][0]
        parts = ", ".join(layer.describe() for layer in net.layers[start : end + 1])
        some = f", the {ROW} that vary most" if values.ndim == 3 and values.shape[2] > ROW else ""
        if values.ndim == 3:
            values = values[:, :, np.argsort(-values.std(axis=(0, 1)), kind="stable")[:ROW]]
        if values.size == 1:
            logit = float(values.item())
            block = words(f"{logit:+.2f}, with sigmoid {(1 + np.tanh(logit / 2)) / 2:.2f}")
        else:
            maps = map_pictures(values)
            wanted = layout.CELL if len(maps) > 1 else LARGE
            block = cells(maps, ROW, enlargement(maps[0].shape[1], wanted))
        about = words(f"{net.layers[start].path}: {parts}", layout.SMALL)
        size = words(shape_in_words(outputs[end][0]) + some, layout.SMALL, layout.SOFT)
        blocks.append(below([below([about, size], gap=0), block], gap=6))
    return with_image(shown, name, f"The maps of {net.name}, layer by layer", below(blocks, gap=14))


def with_image(shown: Pixels, name: str, title: str, block: Block) -> Block:
    """-> page: the image and its name, next to the block."""
    image = layout.picture(shown, enlargement(shown.shape[1], LARGE))
    about = words(SCALE, layout.SMALL, layout.SOFT, width=LARGE)
    left = below([image, words(name, layout.SMALL, width=LARGE), about], gap=6)
    return below([words(title, layout.TITLE), beside([left, block], gap=28)], gap=16)


def shape_in_words(values: NDArray[Any]) -> str:
    """Output of a layer for one image -> "64 maps of 7x7" """
    if values.ndim == 1:
        return f"{len(values):,} numbers" if len(values) > 1 else "one number"
    h, w, c = values.shape
    return f"{c} map{'s' * (c > 1)} of {h}x{w}"
