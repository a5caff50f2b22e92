"""Sums of z: thick 7 - thin 7 + thin 3 should be a thick 3.

G was never taught what a thick stroke is. If thickness can be added and subtracted nevertheless, G
has learned it from the images, and represents it as a direction of z. A single z encodes too much
else (this slant, that hook), so a small group represents what its members share:

    z = mean(z of a) - mean(z of b) + mean(z of c)

With three z in a group, each mean has a third of the variance of one z, and the sum of three means
has all of it again: a z roughly as long as those that G knows. The same sum of pixels is shown next
to it: the result without z.
Source: Radford et al. 2016, arXiv:1511.06434, figure 7
"""

from collections.abc import Sequence

import numpy as np

from minigan.errors import ConfigError
from minigan.inspection import page_layout as layout
from minigan.inspection.open_run import Floats, draw_z, generate
from minigan.inspection.page_layout import GAP, SMALL, Block, below, beside, cells, picture, words
from minigan.inspection.sample_groups import Group, stroke_width
from minigan.training import Game

SHOWN = 150  # samples with their numbers, to choose by hand
JITTER = 0.25  # added to the sum, uniform in ±JITTER
LARGE = 80  # approximate width of an image in the page, in pixels
LINE = 200  # gray of the line around the sum


def combine(a: Floats, b: Floats, c: Floats) -> Floats:
    """Groups of z, each (n, d) -> mean(a) - mean(b) + mean(c), (d,)."""
    return np.asarray(a.mean(axis=0) - b.mean(axis=0) + c.mean(axis=0))


def neighborhood(z: Floats, rng: np.random.Generator) -> Floats:
    """z (d,) -> (9, d): z itself in the middle, and eight times z with noise in ±JITTER."""
    noise = rng.uniform(-JITTER, JITTER, (9, len(z)))
    noise[4] = 0
    return z + noise


def draw_arithmetic(game: Game, groups: Sequence[Group], seed: int) -> tuple[Block, str]:
    """-> page: the groups, G of the mean of each, and G of a - b + c; the sum in words.

    Raises ConfigError if a group mixes classes: a conditional G draws its mean in one class.
    """
    count = 1 + max(max(group.numbers) for group in groups)
    z, asked = draw_z(game, count, seed), game.classes_in_turn(count)
    for group in groups:
        classes = np.unique(asked[group.numbers])
        if len(classes) > 1:
            mixed = ", ".join(map(game.class_title, classes))
            raise ConfigError(
                f"--pick: group {group.name} mixes the classes {mixed}: choose samples of one class"
            )
    members = [z[group.numbers] for group in groups]
    labels = [asked[group.numbers[0]] for group in groups]
    pairs = list(zip(members, labels, strict=True))
    samples = [generate(game, of, label) for of, label in pairs]
    means = [generate(game, of.mean(axis=0)[None], label)[0] for of, label in pairs]
    sums = generate(game, neighborhood(combine(*members), np.random.default_rng(seed)), labels[2])
    pixels = np.rint(combine(*(images.astype(np.float64) for images in samples)))
    in_pixels = np.clip(pixels, 0, 255).astype(np.uint8)

    factor = layout.enlargement(sums.shape[2], LARGE)
    nine, h, w = cells(sums, 3, factor), factor * sums.shape[1], factor * sums.shape[2]
    middle = nine[h + GAP : 2 * h + GAP, w + GAP : 2 * w + GAP]
    middle[...] = layout.framed(middle[GAP:-GAP, GAP:-GAP], GAP, LINE)

    def row(left: str, blocks: Sequence[Block], right: Block, signs: str = "   ") -> Block:
        parts = [words(left, SMALL, width=100)]
        for block, operator in zip(blocks, signs, strict=True):
            parts += [block, layout.space(1, 24) if operator == " " else layout.sign(operator)]
        return beside([*parts, right], align=0.5)

    def centered(text: str, width: int = w) -> Block:
        return words(text, width=width, centered=True)

    names = [group.name for group in groups]
    formula = "{} - {} + {}".format(*names)
    about_nine = centered(f"the sum (framed), and noise of ±{JITTER}", nine.shape[1])
    sum_of_pixels = [centered("the same sum of pixels"), picture(in_pixels, factor)]
    rows = [
        words(formula, layout.TITLE),
        row("", [centered(name) for name in names], about_nine),
        row("samples of G", [cells(images, 1, factor) for images in samples], nine, "-+="),
        row(
            "G of the mean of their z",
            [picture(mean, factor) for mean in means],
            beside(sum_of_pixels, gap=2 * GAP, align=0.5),
        ),
    ]
    if sums.shape[3] == 1:
        *widths, total = stroke_width(np.stack([*means, sums[4]]))
        numbers = [centered(f"{width:.1f}") for width in widths]
        about_sum = centered(f"the sum (framed): {total:.1f}", nine.shape[1])
        rows.append(row("width of its strokes, in pixels", numbers, about_sum))
        in_words = "{:.1f} - {:.1f} + {:.1f}".format(*widths)
        formula += f": strokes {in_words} pixels wide, and of the sum {total:.1f}"
    return below(rows), formula


def draw_candidates(game: Game, seed: int) -> Block:
    """-> page: samples with the numbers that --pick takes."""
    images = generate(game, draw_z(game, SHOWN, seed), game.classes_in_turn(SHOWN))
    factor = layout.enlargement(images.shape[2])
    numbered = [
        below([block, words(str(i), SMALL, width=block.shape[1], centered=True)], gap=0)
        for i, block in enumerate(picture(image, factor) for image in images)
    ]
    page = cells(numbered, game.preset.classes or 15)
    return below([words("Samples to choose from", layout.TITLE), page])
