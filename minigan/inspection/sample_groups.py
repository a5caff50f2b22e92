"""Groups of samples for a sum of z: which samples are thick 7s, thin 7s and thin 3s.

No trained classifier is needed. A sample is clearly of a class if its ten nearest training images
all are (and if a conditional G was asked for that class). The width of strokes needs no skeleton: a
line of width w and length l has the area w·l and an outline of roughly 2·l, so

    w = 2·area / outline

For gray images the area is the sum of the pixels, and the outline the sum of their gradients'
magnitudes: the mean of the outlines at all levels (coarea formula). Thick and thin are the tenths
of a class with the widest and the narrowest strokes. The thick and thin 7s are chosen in pairs
whose z are nearest to each other, because they differ least in everything else; the thin 3s are
those nearest to a training image.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from minigan.data import Dataset
from minigan.data.base import class_number
from minigan.errors import ConfigError
from minigan.evaluation.neighbors import nearest
from minigan.inspection.open_run import Floats, Ints, Pixels, draw_z, generate
from minigan.training import Game

DRAWN = 4096  # samples to choose from
REAL = 10_000  # training images to compare them with
VOTES = 10  # nearest training images that must agree on a class
EACH = 3  # z in a group, as in the paper
EXAMPLE = "3,14,15 92,65,35 89,79,32"  # of groups picked by hand
EXTREME = 0.1  # of a class: the share that is thick, and that is thin


class Group(NamedTuple):
    """Numbers of samples, and what the samples have in common."""

    name: str
    numbers: list[int]


def stroke_width(images: Pixels) -> Floats:
    """Light strokes on black (n, h, w, 1 or 3) -> mean width in pixels (n,); 0 if all is black."""
    light = np.pad(images.mean(axis=3) / 255, ((0, 0), (1, 1), (1, 1)))
    down, right = np.diff(light, axis=1)[:, :, :-1], np.diff(light, axis=2)[:, :-1]
    area, outline = light.sum(axis=(1, 2)), np.hypot(down, right).sum(axis=(1, 2))
    return np.asarray(2 * area / np.maximum(outline, 1e-12))


def choose(game: Game, data: Dataset, names: Sequence[str], seed: int) -> list[Group]:
    """-> thick and thin samples of the first class, thin ones of the second, EACH of every kind.

    names  of the two classes, or their numbers
    Raises ConfigError if there are no such classes, or too few samples that are clearly of them.
    """
    by_hand = "list samples with --pick and choose by hand"
    if data.labels is None or data.images.shape[3] != 1:
        reason = "have no labels" if data.labels is None else "are in color"
        raise ConfigError(
            "thick and thin samples are found by class and stroke width, but the images of "
            f"{data.name} {reason}: {by_hand}"
        )
    chosen = [class_number("--classes", name, data.classes) for name in names]
    names = [data.classes[number] for number in chosen]
    z, asked = draw_z(game, DRAWN, seed), game.classes_in_turn(DRAWN)
    images = generate(game, z, asked)
    some = np.linspace(0, len(data.images) - 1, min(REAL, len(data.images))).round().astype(int)
    distances, found = nearest(images, data.images[some], min(VOTES, len(some)))
    votes, width = np.asarray(data.labels)[some][found], stroke_width(images)

    def by_width(number: int) -> tuple[Ints, Ints]:
        """-> the thin samples of a class, thinnest first, and the thick ones, thickest first."""
        clear = (votes == number).all(axis=1)
        if game.preset.classes:
            clear &= asked == number
        own = np.flatnonzero(clear)
        count = max(EACH, round(EXTREME * len(own)))
        if len(own) < 2 * count:
            name = data.classes[number]
            raise ConfigError(
                f"only {len(own)} of {DRAWN:,} samples are clearly of class {name!r}: "
                f"train longer, or {by_hand}"
            )
        own = own[np.argsort(width[own], kind="stable")]
        return own[:count], own[::-1][:count]

    thin, thick = by_width(chosen[0])
    thick_numbers, thin_numbers = nearest_pairs(z, thick, thin)
    others, _ = by_width(chosen[1])
    others = others[np.argsort(distances[others, 0], kind="stable")][:EACH]
    return [
        Group(f"thick {names[0]}", thick_numbers),
        Group(f"thin {names[0]}", thin_numbers),
        Group(f"thin {names[1]}", others.tolist()),
    ]


def nearest_pairs(z: Floats, first: Ints, second: Ints) -> tuple[list[int], list[int]]:
    """Numbers of z of two kinds -> EACH of both: the pairs whose z are nearest to each other."""
    distances = np.linalg.norm(z[first][:, None] - z[second][None], axis=2)
    chosen: tuple[list[int], list[int]] = ([], [])
    for _ in range(EACH):
        i, j = np.unravel_index(distances.argmin(), distances.shape)
        chosen[0].append(int(first[i]))
        chosen[1].append(int(second[j]))
        distances[i], distances[:, j] = np.inf, np.inf
    return chosen


def parse_groups(texts: Sequence[str]) -> list[Group]:
    """Three texts such as "3,14,15", sample numbers -> groups A, B and C. Raises ConfigError."""
    if len(texts) != 3:
        raise ConfigError(f"--pick: expected three groups such as {EXAMPLE}, got {len(texts)}")
    groups = []
    for name, text in zip("ABC", texts, strict=True):
        numbers = [
            int(number) if number.isdecimal() and len(number) < 10 else -1
            for number in text.split(",")
        ]
        if not all(0 <= number < DRAWN for number in numbers):
            raise ConfigError(
                f"--pick: expected numbers of samples below {DRAWN} such as 3,14,15, "
                f"got {text[:80]!r}"
            )
        groups.append(Group(name, numbers))
    return groups
