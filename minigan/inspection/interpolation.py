"""Interpolation in z: what G draws on the way from one random z to another.

A G that has memorized some images jumps from one to the next; one that has learned how images are
made turns one gradually into the other, and every point on the way is an image too. (Radford et al.
2016, arXiv:1511.06434, figure 4)

Which path is right depends on the distribution of z, because G knows nothing else.

    linear       z(t) = (1-t)·a + t·b

For uniform z, which fill the cube [-1, 1]^d evenly: if a and b lie in the cube, so does the whole
line between them. An arc would leave it: halfway between (1, 0) and (0, 1) lies (0.71, 0.71), but
between (1, 1) and (1, -1) lies (1.41, 0), and no z has a coordinate of 1.41.

    spherical    z(t) = |z(t)|·( sin((1-t)Ω)/sin Ω · a/|a|  +  sin(tΩ)/sin Ω · b/|b| )
                 |z(t)| = (1-t)·|a| + t·|b|                  Ω: the angle between a and b

For normal z, which in d dimensions lie close to a sphere: |z|² is a sum of d squares of mean 1, so
|z| is √d ± 0.7. Two of them are nearly orthogonal, and halfway along the line |z| is only √(d/2):
for d = 64 that is 5.7, and nearly all z have between 6.6 and 9.4. The arc keeps the length.
Source: Shoemake 1985 (the arc); White 2016, arXiv:1609.04468 (for z)
"""

import numpy as np
from PIL import Image

from minigan.checks import ignore_float_errors
from minigan.data.files.png import grid
from minigan.inspection.open_run import Floats, draw_z, generate
from minigan.inspection.page_layout import Block, cells, enlargement, titled
from minigan.training import Game

POINTS = 9  # z in a ring, as in the paper
STEPS, FRAMES = 8, 16  # from one z to the next, in a page and in an animation
RINGS = 16  # that an animation shows side by side
WIDE = 400  # approximate width of an animation, in pixels
PARALLEL = 1e-6  # radians from a straight line: there is no arc, or there are many


def linear(a: Floats, b: Floats, t: Floats) -> Floats:
    """z a (d,), z b (d,), t (n,) in [0, 1] -> points (n, d); at 0 and 1 exactly a and b."""
    return np.outer(1 - t, a) + np.outer(t, b)


@ignore_float_errors
def spherical(a: Floats, b: Floats, t: Floats) -> Floats:
    """As linear, but along the arc. Linear if a and b lie on a line through 0."""
    lengths = np.linalg.norm(a), np.linalg.norm(b)
    angle = np.arccos(np.clip(a @ b / max(lengths[0] * lengths[1], 1e-300), -1, 1))
    if min(angle, np.pi - angle) < PARALLEL or min(lengths) == 0:
        return linear(a, b, t)
    length = (1 - t) * lengths[0] + t * lengths[1]
    # in this order each factor at the ends is a number divided by itself: exactly 1
    of_a = length / lengths[0] * (np.sin((1 - t) * angle) / np.sin(angle))
    of_b = length / lengths[1] * (np.sin(t * angle) / np.sin(angle))
    return np.outer(of_a, a) + np.outer(of_b, b)


PATHS = {"linear": linear, "spherical": spherical}
PATH_OF = {"uniform": "linear", "normal": "spherical"}  # distribution of z -> the path that fits


def ring(points: Floats, steps: int, path: str) -> Floats:
    """points (k, d) -> (k, steps + 1, d): row i goes from point i to i + 1, the last to 0."""
    t = np.linspace(0, 1, steps + 1)
    pairs = zip(points, np.roll(points, -1, axis=0), strict=True)
    return np.stack([PATHS[path](a, b, t) for a, b in pairs])


def draw_interpolation(game: Game, path: str, label: int | None, seed: int) -> Block:
    """-> page: a ring of random z, a row from each to the next.

    path   one of PATHS
    label  class of all images, if G is conditional; None: each row has a different one
    seed   of z, as of `minigan sample`
    """
    points, numbers, each = POINTS, np.full(POINTS, label or 0), ""
    if game.preset.classes and label is None:
        points, numbers = game.preset.classes, np.arange(game.preset.classes)
        each = ", each in another class"
    z = ring(draw_z(game, points, seed), STEPS, path)
    images = generate(game, z.reshape(-1, z.shape[2]), numbers.repeat(STEPS + 1))
    page = cells(images, STEPS + 1, enlargement(images.shape[2]))
    text = (
        f"Each row begins with a random z and ends with that of the next row{each}; the last row "
        f"leads back to the first. {path.capitalize()} interpolation in {STEPS} equal steps."
    )
    return titled("From one random z to another", text, page, gap=12)


def animate_interpolation(game: Game, path: str, label: int | None, seed: int) -> list[Image.Image]:
    """-> frames that loop: images side by side, each going around a ring of z.

    Arguments as of draw_interpolation. Without a label a conditional G goes around one ring, in
    all classes at once.
    """
    classes = game.preset.classes if label is None else 0
    rings = 1 if classes else RINGS
    points = draw_z(game, rings * POINTS, seed).reshape(rings, POINTS, -1)
    walks = [ring(own, FRAMES, path)[:, :-1].reshape(POINTS * FRAMES, -1) for own in points]
    shown = classes or rings
    z = np.stack(walks, axis=1).repeat(shown // rings, axis=1)  # (frames, shown, z_dim)
    numbers = np.arange(classes) if classes else np.full(rings, label or 0)
    images = generate(game, z.reshape(-1, z.shape[2]), np.tile(numbers, len(z)))
    frames = []
    for now in np.split(images, len(z)):
        frame = grid(now, columns=-(-classes // 2) if classes else None)
        factor = enlargement(frame.shape[1], WIDE)
        large = frame.repeat(factor, axis=0).repeat(factor, axis=1)
        frames.append(Image.fromarray(large[:, :, 0] if large.shape[2] == 1 else large))
    return frames
