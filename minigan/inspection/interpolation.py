"""Walks through z: from one picture to another by way of all that G sees between them.

A G that has learnt only some pictures by heart jumps from one to the next; one that has understood how they are made
changes one into the other, and everything on the way is a picture too. (Radford et al. 2016, arXiv:1511.06434, figure 4)

Which way is right depends on what z was drawn from, for G knows nothing else.

    linear       z(t) = (1-t)·a + t·b

For uniform z. All of them fill the cube [-1, 1]^d evenly, and with a and b the cube has the whole line between them.
The arc below would leave it: half way between (1, 0) and (0, 1) lies (0.71, 0.71), but between (1, 1) and (1, -1)
lies (1.41, 0), and no z had a coordinate of 1.41. (The middle of a line is nearer to 0 than most z, here too.)

    spherical    z(t) = |z(t)|·( sin((1-t)Ω)/sin Ω · a/|a|  +  sin(tΩ)/sin Ω · b/|b| )      Ω: the angle between a and b
                 |z(t)| = (1-t)·|a| + t·|b|

For normal z. In d dimensions they lie close to a sphere: |z|² is a sum of d squares of mean 1, so |z| is about √d, give
or take 0.7. Two of them are nearly at right angles, and half way along the line |z| is only √(d/2): for d = 64 that
is 5.7 where nearly all z have between 6.6 and 9.4. The arc keeps the length.
Source: Shoemake 1985 (the arc); White 2016, arXiv:1609.04468 (for z)
"""

from typing import TYPE_CHECKING

import numpy as np

from minigan.data.files.png import grid
from minigan.inspection.open_run import Floats, draw_z, paint
from minigan.inspection.page_layout import TITLE, Block, below, cells, enlargement, words
from minigan.training.game import Game

if TYPE_CHECKING:
    from PIL.Image import Image

POINTS = 9  # z in a ring, as in the paper
STEPS, FRAMES = 8, 16  # from one z to the next, in a page and in an animation
WALKERS = 16  # that an animation shows side by side
WIDE = 400  # pixels that it should be, about
PARALLEL = 1e-6  # radians from a straight line: there is no arc, or there are many


def linear(a: Floats, b: Floats, t: Floats) -> Floats:
    """z (d,) and z (d,), t (n,) in [0, 1] -> the points between them (n, d); at 0 and 1 a and b, bit for bit."""
    return np.outer(1 - t, a) + np.outer(t, b)


def spherical(a: Floats, b: Floats, t: Floats) -> Floats:
    """As linear, but along the arc. Linear where a and b lie on a line through 0."""
    lengths = np.linalg.norm(a), np.linalg.norm(b)
    angle = np.arccos(np.clip(a @ b / max(lengths[0] * lengths[1], 1e-300), -1, 1))
    if min(angle, np.pi - angle) < PARALLEL or min(lengths) == 0:
        return linear(a, b, t)
    length = (1 - t) * lengths[0] + t * lengths[1]
    # in this order each factor at the ends is a number divided by itself: 1, exactly
    of_a = length / lengths[0] * (np.sin((1 - t) * angle) / np.sin(angle))
    of_b = length / lengths[1] * (np.sin(t * angle) / np.sin(angle))
    return np.outer(of_a, a) + np.outer(of_b, b)


PATHS = {"linear": linear, "spherical": spherical}
PATH_OF = {"uniform": "linear", "normal": "spherical"}  # z's distribution -> the way that fits it


def ring(points: Floats, steps: int, path: str) -> Floats:
    """points (k, d) -> (k, steps + 1, d): row i goes from point i to point i + 1, both of them in it; the last row to the first."""
    t = np.linspace(0, 1, steps + 1)
    return np.stack(
        [PATHS[path](a, b, t) for a, b in zip(points, np.roll(points, -1, axis=0), strict=True)]
    )


def draw_walk(game: Game, path: str, label: int | None, seed: int) -> Block:
    """-> page: a ring of random z, a row from each to the next.

    path   one of PATHS
    label  class of all pictures, where G is conditional; None: a class a row, in turn
    seed   of z, as of `minigan sample`
    """
    own_class = game.preset.classes > 0 and label is None
    points = game.preset.classes if own_class else POINTS
    z = ring(draw_z(game, points, seed), STEPS, path)
    numbers = np.arange(points) if own_class else np.full(points, label or 0)
    pictures = paint(game, z.reshape(-1, z.shape[2]), numbers.repeat(STEPS + 1))
    page = cells(pictures, STEPS + 1, enlargement(pictures.shape[2]))
    return below(
        [
            words("From one random z to another", TITLE),
            words(
                f"Each row begins with a z drawn at random and ends with that of the next row{', each in a class of its own' * own_class}; "
                f"the last row leads back to the first. Between them {path} interpolation, in {STEPS} equal steps.",
                width=page.shape[1],
            ),
            page,
        ]
    )


def animate_walk(game: Game, path: str, label: int | None, seed: int) -> "list[Image]":
    """-> frames that loop: walkers side by side, each once round a ring of its own. Arguments as of draw_walk.

    Where G is conditional and no label is given, one walker a class, all with the same z.
    """
    from PIL import Image

    classes = game.preset.classes if label is None else 0
    walkers = 1 if classes else WALKERS
    points = draw_z(game, walkers * POINTS, seed).reshape(walkers, POINTS, -1)
    z = np.stack(
        [ring(own, FRAMES, path)[:, :-1].reshape(POINTS * FRAMES, -1) for own in points], axis=1
    )  # (frames, walkers, z_dim)
    shown = classes or walkers
    numbers = np.arange(classes) if classes else np.full(walkers, label or 0)
    pictures = paint(
        game, z.repeat(shown // walkers, axis=1).reshape(-1, z.shape[2]), np.tile(numbers, len(z))
    )
    frames = []
    for now in np.split(pictures, len(z)):
        frame = grid(now, columns=-(-classes // 2) if classes else None)
        factor = enlargement(frame.shape[1], WIDE)
        large = frame.repeat(factor, axis=0).repeat(factor, axis=1)
        frames.append(Image.fromarray(large[:, :, 0] if large.shape[2] == 1 else large))
    return frames
