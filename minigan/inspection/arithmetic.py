"""Sums of z: thick 7 - thin 7 + thin 3 should be a thick 3.

G is never told what a thick stroke is. If it can be added and taken away all the same, then G has found out by itself
what pictures have in common, and keeps it in a direction of z. One z says too much besides (this slant, that hook), so
a group of a few stands for what they share:

    z = mean(z of a) - mean(z of b) + mean(z of c)

With three z a group, each mean has a third of the variance of one z, and the sum of three has all of it again: a z
about as long as those that G knows. The same sum of pixels is shown beside it: what pictures give without z.
Source: Radford et al. 2016, arXiv:1511.06434, figure 7
"""

from collections.abc import Sequence

import numpy as np

from minigan.errors import ConfigError
from minigan.inspection.open_run import Floats, paint
from minigan.inspection.page_layout import (
    GAP,
    SMALL,
    TEXT,
    TITLE,
    Block,
    below,
    beside,
    cells,
    enlargement,
    picture,
    sign,
    space,
    words,
)
from minigan.inspection.sample_groups import Group, drawn, stroke_width
from minigan.training.game import Game

SHOWN = 150  # samples with their numbers, to choose by hand
JITTER = 0.25  # added to the sum, uniform in ±JITTER
LARGE = 80  # pixels that a picture in the page should be wide, about
LINE = 200  # grey of the line round the sum


def combine(a: Floats, b: Floats, c: Floats) -> Floats:
    """Groups of z, each (n, d) -> mean(a) - mean(b) + mean(c), (d,)."""
    total: Floats = a.mean(axis=0) - b.mean(axis=0) + c.mean(axis=0)
    return total


def around(z: Floats, rng: np.random.Generator) -> Floats:
    """z (d,) -> (9, d): z itself in the middle, eight times z with noise, uniform in ±JITTER."""
    noise = rng.uniform(-JITTER, JITTER, (9, len(z)))
    noise[4] = 0
    return z + noise


def draw_arithmetic(game: Game, groups: Sequence[Group], seed: int) -> tuple[Block, str]:
    """-> page: the three groups, what G draws from the mean of each, and from a - b + c; the sum in a line of words.

    Raises ConfigError where a group is of several classes: a conditional G draws its mean as one of them.
    """
    z, told = drawn(game, 1 + max(max(group.numbers) for group in groups), seed)
    for group in groups:
        if len(of := np.unique(told[group.numbers])) > 1:
            classes = ", ".join(map(str, of))
            raise ConfigError(
                f"--pick: group {group.name} is of the classes {classes}, and its mean is drawn as one: take samples of one"
            )
    label = told[groups[2].numbers[0]]  # of the sum
    members = [z[group.numbers] for group in groups]
    samples = [
        paint(game, of, told[group.numbers]) for of, group in zip(members, groups, strict=True)
    ]
    result = paint(game, around(combine(*members), np.random.default_rng(seed)), label)
    means = [
        paint(game, of.mean(axis=0, keepdims=True), told[group.numbers[0]])[0]
        for of, group in zip(members, groups, strict=True)
    ]
    in_pixels = np.clip(
        np.rint(combine(*(of.astype(np.float64) for of in samples))), 0, 255
    ).astype(np.uint8)

    factor = enlargement(result.shape[2], LARGE)
    nine, (high, wide) = (
        cells(result, 3, factor),
        (factor * result.shape[1], factor * result.shape[2]),
    )
    middle = nine[high + GAP : 2 * high + GAP, wide + GAP : 2 * wide + GAP]
    middle[:GAP] = middle[-GAP:] = middle[:, :GAP] = middle[:, -GAP:] = LINE
    signs = [sign(operator) for operator in "-+="]
    apart = [space(1, len(each)) for each in signs]

    def row(left: str, blocks: Sequence[Block], right: Block, between: Sequence[Block]) -> Block:
        a, b, c = blocks
        return beside(
            [words(left, SMALL, width=100), a, between[0], b, between[1], c, between[2], right],
            at=0.5,
        )

    def centred(text: str, width: int = wide, size: int = TEXT) -> Block:
        return words(text, size, width=width, centred=True)

    formula = f"{groups[0].name} - {groups[1].name} + {groups[2].name}"
    rows = [
        words(formula, TITLE),
        row(
            "",
            [centred(group.name) for group in groups],
            centred(f"the sum (framed), and noise of ±{JITTER}", nine.shape[1]),
            apart,
        ),
        row("samples of G", [cells(of, 1, factor) for of in samples], nine, signs),
        row(
            "G of the mean of their z",
            [picture(mean, factor) for mean in means],
            beside(
                [centred("the same sum of pixels"), picture(in_pixels, factor)], gap=2 * GAP, at=0.5
            ),
            apart,
        ),
    ]
    if result.shape[3] == 1:
        *widths, total = stroke_width(np.stack([*means, result[4]]))
        formula += ": strokes {:.1f} - {:.1f} + {:.1f} pixels wide, and of the sum {:.1f}".format(
            *widths, total
        )
        numbers = [centred(f"{width:.1f}") for width in widths]
        rows.append(
            row(
                "width of its strokes, in pixels",
                numbers,
                centred(f"the sum (framed): {total:.1f}", nine.shape[1]),
                apart,
            )
        )
    return below(rows), formula


def draw_candidates(game: Game, seed: int) -> Block:
    """-> page: samples with the numbers that --pick takes."""
    pictures = paint(game, *drawn(game, SHOWN, seed))
    factor = enlargement(pictures.shape[2])
    numbered = [
        below(
            [
                picture(image, factor),
                words(str(i), SMALL, width=factor * image.shape[1], centred=True),
            ],
            gap=0,
        )
        for i, image in enumerate(pictures)
    ]
    page = cells(numbered, game.preset.classes or 15)
    return below([words("Samples to choose from", TITLE), page])
