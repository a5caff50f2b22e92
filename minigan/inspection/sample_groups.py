"""Which samples are thick 7s, thin 7s and thin 3s: groups of samples that stand together in a sum of z.

No trained judge chooses them. A sample is clearly of a class if its ten nearest training images all are (and if a
conditional G was told that class). And the width of strokes needs no skeleton: a line of width w and length l has the
area w·l and an outline of about 2·l, so

    w = 2·area / outline

Of greys, the area is the sum of the pixels, and the outline that of their gradients' lengths: the mean of the outlines
at all levels (coarea formula). Thick and thin are the tenths of a class with the widest and the narrowest strokes. Of the
thick and thin 7s those pairs are taken whose z are nearest to each other, since they differ in the least
besides; of the thin 3s those that are nearest to a training image.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from minigan.data import Dataset
from minigan.errors import ConfigError
from minigan.evaluation.neighbours import nearest
from minigan.inspection.open_run import Floats, draw_z, paint
from minigan.training.game import Game

DRAWN = 4096  # samples to choose from
REAL = 10_000  # training images to compare them with
VOTES = 10  # nearest training images that must agree on a class
EACH = 3  # z in a group, as in the paper
EXTREME = (
    0.1  # thick and thin: the tenth of a class with the widest strokes, and with the narrowest
)


def stroke_width(pictures: NDArray[np.uint8]) -> Floats:
    """Light strokes on black, (n, h, w, 1 or 3) uint8 -> mean width of the strokes in pixels (n,); 0 of a black picture."""
    light = np.pad(pictures.mean(axis=3) / 255, ((0, 0), (1, 1), (1, 1)))
    down, right = np.diff(light, axis=1)[:, :, :-1], np.diff(light, axis=2)[:, :-1]
    area, outline = light.sum(axis=(1, 2)), np.hypot(down, right).sum(axis=(1, 2))
    width: Floats = 2 * area / np.maximum(outline, 1e-12)
    return width


@dataclass(frozen=True)
class Group:
    """Samples that stand together, by their numbers, and what they have in common."""

    name: str
    numbers: list[int]


def drawn(game: Game, count: int, seed: int) -> tuple[Floats, NDArray[np.int64]]:
    """-> z and class numbers of the samples 0 .. count-1; a conditional G draws all classes in turn."""
    return draw_z(game, count, seed), np.arange(count) % max(game.preset.classes, 1)


def choose(game: Game, data: Dataset, names: Sequence[str], seed: int) -> list[Group]:
    """-> thick and thin samples of the first class, thin ones of the second, EACH of them.

    names  of the two classes, as the data set has them
    Raises ConfigError where the data have no such classes, or G draws too few that are clearly of them.
    """
    by_hand = "draw numbered samples by --pick, and choose by hand"
    if data.labels is None or data.images.shape[3] != 1:
        what = "have no labels" if data.labels is None else "are in colour"
        raise ConfigError(
            f"thick and thin samples are told by class and width of strokes, and the images of {data.name} {what}: {by_hand}"
        )
    for name in names:
        if name not in data.classes:
            raise ConfigError(
                f"--classes: {data.name} has no class {name!r}: take two of {', '.join(data.classes)}"
            )
    z, told = drawn(game, DRAWN, seed)
    pictures = paint(game, z, told)
    some = np.linspace(0, len(data.images) - 1, min(REAL, len(data.images))).round().astype(int)
    distances, found = nearest(pictures, data.images[some], min(VOTES, len(some)))
    votes, width = np.asarray(data.labels)[some][found], stroke_width(pictures)

    def extreme(name: str, sign: int) -> NDArray[np.int64]:
        """-> numbers of a class's samples with the widest strokes, sign -1, or with the narrowest, sign 1."""
        number = data.classes.index(name)
        clear = (votes == number).all(axis=1)
        own = np.flatnonzero(clear & (told == number) if game.preset.classes else clear)
        count = max(EACH, round(EXTREME * len(own)))
        if len(own) < 2 * count:
            raise ConfigError(
                f"only {len(own)} of {DRAWN:,} samples are clearly of class {name!r}: train for longer, or {by_hand}"
            )
        return own[np.argsort(sign * width[own], kind="stable")][:count]

    thick, thin = pairs(z, extreme(names[0], -1), extreme(names[0], 1))
    others = extreme(names[1], 1)
    others = others[np.argsort(distances[others, 0], kind="stable")][
        :EACH
    ]  # those most like a real image
    return [
        Group(f"thick {names[0]}", thick),
        Group(f"thin {names[0]}", thin),
        Group(f"thin {names[1]}", others.tolist()),
    ]


def pairs(
    z: Floats, first: NDArray[np.int64], second: NDArray[np.int64]
) -> tuple[list[int], list[int]]:
    """Numbers of some z, and of others -> EACH of both whose z are nearest to each other, pair by pair."""
    distances = np.linalg.norm(z[first][:, None] - z[second][None], axis=2)
    chosen = []
    for _ in range(EACH):
        i, j = np.unravel_index(distances.argmin(), distances.shape)
        chosen.append((int(first[i]), int(second[j])))
        distances[i], distances[:, j] = np.inf, np.inf
    return [a for a, _ in chosen], [b for _, b in chosen]


def picked(texts: Sequence[str]) -> list[Group]:
    """Numbers of samples as they are typed, "3,14,15", three times -> groups A, B and C. Raises ConfigError."""
    if len(texts) != 3:
        raise ConfigError(
            f"--pick: expected three groups of samples, as 3,14,15 92,65,35 89,79,32, got {len(texts)}"
        )
    groups = []
    for name, text in zip("ABC", texts, strict=True):
        numbers = [
            int(number) if number.isdecimal() and len(number) < 10 else -1
            for number in text.split(",")
        ]
        if not all(0 <= number < DRAWN for number in numbers):
            raise ConfigError(
                f"--pick: expected numbers of samples below {DRAWN}, as 3,14,15, got {text[:80]!r}"
            )
        groups.append(Group(name, numbers))
    return groups
