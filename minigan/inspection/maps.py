"""Weights and activations as pictures: the filters of D's first layer, and what a net makes of one image, layer by layer.

A filter, or a map, has numbers of any size, of which one has more and the next one less. So each is brought to the
range of a picture by itself: the pattern within one can be seen, and the brightness of two cannot be compared.

    numbers of both signs    0 is middle grey, the largest in size is black or white
    none below 0             0 is black, the largest white

A convolution that reads images has filters that are small images themselves, in colour where those are. A Linear
layer that reads them has some as large as they are. The weights of labels, which a conditional D reads beside
the pixels, are left out.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigan.inspection.open_run import untrained
from minigan.inspection.page_layout import (
    CELL,
    SMALL,
    SOFT,
    TITLE,
    Block,
    below,
    beside,
    cells,
    enlargement,
    picture,
    signed,
    words,
)
from minigan.inspection.partial_passes import activations, expect_finite
from minigan.layers import AppendLabels, Conv2d, ConvTranspose2d, Flatten, Linear, Sequential
from minigan.layers.base import Array
from minigan.training.game import Game

CORES = (Conv2d, ConvTranspose2d, Linear)
FILTERS, MAPS = 64, 256  # shown of a layer at most
ROW = 10  # maps of a stage, where all are shown
SCALE = "Each map has a scale of its own: white is its largest number, and 0 is black, or grey where there are numbers below it."
SIDE, LARGE = 40, 112  # pixels that a filter or a map should be wide, and an image, about


def filters(D: Sequential) -> NDArray[Any]:
    """-> what each unit of D's first layer weighs the image with (units, h, w, c): Conv2d's kernels, or rows of Linear."""
    first = next(layer for layer in D.layers if isinstance(layer, CORES))
    W = D.backend.to_host(first.W)
    h, w, c = D.in_shape
    seen: NDArray[Any] = (
        W[: h * w * c].T.reshape(-1, h, w, c)
        if isinstance(first, Linear)
        else W[:, :, :c].transpose(3, 0, 1, 2)
    )
    return seen


def stages(net: Sequential) -> list[tuple[int, int]]:
    """-> first and last layer of each stage: a convolution or Linear layer, and its BatchNorm, activation and Reshape."""
    found: list[tuple[int, int]] = []
    for i, layer in enumerate(net.layers):
        if isinstance(layer, CORES):
            found.append((i, i))
        elif found and not isinstance(layer, (AppendLabels, Flatten)):
            found[-1] = (found[-1][0], i)
    return found


def map_picture(values: NDArray[Any]) -> NDArray[np.uint8]:
    """One map (h, w) of any range -> picture (h, w, 1), on a scale of its own."""
    pixels = (
        signed(values)
        if values.min() < 0
        else np.rint(255 * (values / max(values.max(), 1e-30))).astype(np.uint8)
    )
    return pixels[:, :, None]


def map_pictures(values: NDArray[Any]) -> list[NDArray[np.uint8]]:
    """What a layer gives for one image -> a picture of each map; all numbers of a vector (n,) in one, row by row."""
    if values.ndim == 3:
        return [map_picture(values[:, :, i]) for i in range(values.shape[2])]
    side = int(np.ceil(len(values) ** 0.5))
    padded = np.zeros(side * -(-len(values) // side), values.dtype)
    padded[: len(values)] = values
    return [map_picture(padded.reshape(-1, side))]


def draw_filters(game: Game) -> Block:
    """-> page: the filters of D's first layer before and after training. Raises RunError for a D that is not finite."""
    pages = []
    for D, when in ((untrained(game), "before training"), (game.D, "after training")):
        W = expect_finite(filters(D), D)
        factor = enlargement(W.shape[2], SIDE if W.shape[2] < SIDE / 2 else CELL)
        pages.append(
            below([words(f"D {when}"), cells([signed(each) for each in W[:FILTERS]], 8, factor)])
        )
    first = next(layer for layer in game.D.layers if isinstance(layer, CORES))
    page, total = beside(pages, gap=36), len(W)
    some = (
        f"The first {FILTERS} of {total:,} filters" if total > FILTERS else f"All {total:,} filters"
    )
    return below(
        [
            words("What D's first layer looks for", TITLE),
            words(
                f"{some} of {first.label}. Middle grey is a weight of 0; each filter has a scale of its own.",
                width=page.shape[1],
            ),
            page,
        ],
        gap=16,
    )


def draw_layer(
    net: Sequential, index: int, x: Array, labels: Array | None, shown: NDArray[np.uint8], what: str
) -> Block:
    """-> page: what one layer gives for an image, or a z, all its maps.

    x       (1, *in_shape);  labels (1, classes), or None
    shown   the image (h, w, c) that belongs to it, and `what` it is, in words
    Raises RunError where that is not finite.
    """
    values = activations(net, x, labels)[index][0]
    some = f", the first {MAPS}" if values.ndim == 3 and values.shape[2] > MAPS else ""
    if values.size == 1:
        block = words(f"{values.item():+.2f}")
    else:
        maps = map_pictures(values)[:MAPS]
        block = cells(maps, 16, enlargement(maps[0].shape[1], SIDE if len(maps) > 1 else 10 * SIDE))
    return with_image(
        shown,
        what,
        net.layers[index].label,
        below([words(shape_in_words(values) + some), block], gap=8),
    )


def draw_stages(
    net: Sequential, x: Array, labels: Array | None, shown: NDArray[np.uint8], what: str
) -> Block:
    """-> page: the same of a whole net, stage by stage: those maps that have the greatest differences in them."""
    found, blocks = activations(net, x, labels), []
    whole = stages(net)
    for start, end in whole:
        values = found[end][0]
        parts = ", ".join(layer.describe() for layer in net.layers[start : end + 1])
        some = f", the {ROW} that vary most" if values.ndim == 3 and values.shape[2] > ROW else ""
        caption = [
            words(f"{net.layers[start].path}: {parts}", SMALL),
            words(shape_in_words(values) + some, SMALL, SOFT),
        ]
        if values.size == 1:
            logit = float(values.item())
            verdict = (
                f", so D(x) = {(1 + np.tanh(logit / 2)) / 2:.2f}"
                if (start, end) == whole[-1]
                else ""
            )
            block = words(f"{logit:+.2f}{verdict}")
        else:
            if values.ndim == 3:
                values = values[:, :, np.argsort(-values.std(axis=(0, 1)), kind="stable")[:ROW]]
            maps = map_pictures(values)
            block = cells(
                maps, ROW, enlargement(maps[0].shape[1], CELL if len(maps) > 1 else LARGE)
            )
        blocks.append(below([below(caption, gap=0), block], gap=6))
    title = (
        "How G makes it, layer by layer"
        if net.name == "G"
        else "What D makes of it, layer by layer"
    )
    return with_image(shown, what, title, below(blocks, gap=14))


def with_image(shown: NDArray[np.uint8], what: str, title: str, block: Block) -> Block:
    """-> page: the image, and what it is, beside the block."""
    left = below(
        [
            picture(shown, enlargement(shown.shape[1], LARGE)),
            words(what, SMALL, width=LARGE),
            words(SCALE, SMALL, SOFT, width=LARGE),
        ],
        gap=6,
    )
    return below([words(title, TITLE), beside([left, block], gap=28)], gap=16)


def shape_in_words(values: NDArray[Any]) -> str:
    """What a layer gives for one image -> "64 maps of 7x7"."""
    if values.ndim == 1:
        return f"{len(values):,} numbers" if len(values) > 1 else "one number"
    h, w, c = values.shape
    return f"{c} map{'s' * (c > 1)} of {h}x{w}"
