"""Strokes: handwritten-looking digits, drawn by this file, for machines without a network.

Ten classes of 28x28 pictures in the style of MNIST. Each picture is made as follows:

  control points   a way of writing the digit, chosen from the table DIGITS, each point moved a bit
  pen path         a Catmull-Rom curve through the points, cut into SEGMENTS straight pieces: linear
                   in the points, so one matrix does it
  bend, affine     a random cubic polynomial of (x, y) bends the path, a random 2x2 matrix gives it
                   slant, rotation and aspect ratio
  fit              scaled so that path and pen just fit a box of 20x20 pixels
  ink              white where the path is closer than half the pen's width, black where it is
                   farther away, gray in between
  place            the box is moved so that its center of mass is in the middle of 28x28 pixels

The distances are the expensive part: 400 pixels x 64 pieces for every picture. They need not be
computed one by one. Let each piece, of length l and middle (px, py), contribute a Gaussian blob.
Along a straight line of such pieces the blobs add up to

  F(x, y) = sum_p  l / (s sqrt(2 pi)) exp(-((x - px)^2 + (y - py)^2) / (2 s^2))
          = exp(-d^2 / (2 s^2)),     d the distance from (x, y) to the line,

so d = s sqrt(-2 ln F). A blob is a function of y times a function of x, which makes F a product of
two small matrices, (20, 64) by (64, 20). At the ends of a line F is half as large, so the ink
tapers; where lines meet F is larger, so the ink spreads a little, as real ink does.
"""

import functools

import numpy as np

from minigan.checks import expect_size
from minigan.data.base import LabeledImages

SIDE = 28  # pixels, of the picture
BOX = 20  # pixels, of the box that the digit fits
BLOCK = 500  # pictures drawn together, from one generator: another number changes what a seed draws
SEGMENTS = 64  # pieces of a pen path, about 1 pixel long in the longest ones
BLUR = 0.7  # pixels, s above; below half a piece's length a line would break into dots
EDGE = 1.1  # pixels, from black to white across the edge of a line
STEPS = 32  # per pixel: the middles of the pieces are rounded to them

# Ways to write each digit: (digit, how often, the path of the pen). "x,y" is a point of the path,
# x to the right and y down, in a box 20 high. "!" after a point makes it a sharp corner, "/" lifts
# the pen.
DIGITS = (
    # 0: closed, with an overlap at the top, open at the top
    (0, 4, "9,0 2,5 2,15 8,20 14,15 14,5 8,0"),
    (0, 2, "13,2 8,0 2,6 2,15 8,20 14,14 13,5 9,1 5,2"),
    (0, 1, "8,0 2,6 2,15 8,20 13,15 14,8 12,1"),
    # 1: a stick, with a flag, with flag and base
    (1, 16, "5,0 5,10 5,20"),
    (1, 2, "2,4 5,0! 5,10 5,20"),
    (1, 1, "3,4 6,0! 6,10 6,20/0,20 12,20"),
    # 2: corner at the bottom, small loop, flat base, big loop
    (2, 2, "1,4 5,0 11,1 12,6 7,13 0,20! 7,19 14,20"),
    (2, 2, "1,4 5,0 10,1 11,6 8,12 3,18 0,18 1,15 5,16 9,19 14,19"),
    (2, 2, "0,2 6,0 11,2 10,7 5,14 1,19! 7,19 13,19"),
    (2, 2, "1,3 6,0 11,4 11,12 7,18 2,19 0,16 4,13 9,15 16,20"),
    # 3: two bows, a small loop between them, flat top, small upper bow
    (3, 4, "1,3 5,0 10,1 11,5 8,8 4,9! 9,10 12,14 10,18 5,20 0,18"),
    (3, 2, "1,3 6,0 10,3 8,8 5,10 4,9 6,9 10,11 12,15 9,19 4,20 0,17"),
    (3, 1, "1,0 11,0! 5,8! 10,9 12,14 9,19 4,20 0,18"),
    (3, 1, "2,2 7,0 9,3 5,7! 9,8 13,12 12,18 6,20 1,19"),
    # 4: open with a corner, open and round, closed, open and steep, in one go
    (4, 3, "2,0 1,6 1,10! 13,9/11,1 10,10 9,20"),
    (4, 3, "1,1 0,7 3,11 8,10 12,8/12,0 11,10 9,20"),
    (4, 1, "10,0 0,13! 14,13/10,0 10,10 10,20"),
    (4, 2, "3,0 0,10! 13,10/9,3 8,12 8,20"),
    (4, 1, "3,0 0,6 2,10 7,10 12,3! 11,10 9,20"),
    # 5: in one go, the bar last, like an S, a full bow with the bar apart
    (5, 3, "12,0 3,0! 2,8! 7,7 12,10 12,16 7,20 0,18"),
    (5, 3, "3,1 2,9! 7,8 11,11 10,17 5,20 0,18/3,1 8,1 14,0"),
    (5, 1, "12,1 6,1 3,4 5,8 10,11 11,16 6,20 0,18"),
    (5, 2, "3,3 2,9! 7,7 12,10 12,16 7,20 1,19 1,15/4,1 14,0"),
    # 6: small loop, narrow, big loop, the loop rolled in
    (6, 3, "9,0 4,5 1,12 2,18 6,20 11,18 11,13 7,11 2,14"),
    (6, 2, "6,0 2,8 0,15 3,20 8,19 10,15 7,12 1,15"),
    (6, 2, "11,0 5,4 1,11 2,18 7,20 13,17 12,11 7,10 2,14"),
    (6, 2, "4,0 1,7 1,15 4,20 10,19 13,15 10,12 6,14 5,19"),
    # 7: plain, with a hook, with a bar, round, an upright arch
    (7, 4, "0,2 12,1! 8,10 5,20"),
    (7, 2, "0,5 1,1! 6,2 12,0! 8,9 6,20"),
    (7, 2, "0,1 12,1! 7,11 4,20/3,10 12,10"),
    (7, 2, "1,3 5,1 11,1 11,5 7,12 5,20"),
    (7, 2, "0,6 2,1 8,0 12,3 12,10 11,20"),
    # 8: in one go from the upper right, two rings, ends crossed at the top, ends apart
    (8, 3, "11,3 7,0 3,3 4,7 9,12 9,17 5,20 2,17 4,12 9,7 11,3"),
    (8, 1, "6,0 2,4 6,9 10,4 6,0/6,9 1,15 6,20 11,15 6,9"),
    (8, 3, "13,1 6,0 2,4 6,9 9,14 7,20 3,19 3,14 8,8 13,2"),
    (8, 2, "11,3 6,0 1,3 4,8 10,12 10,18 5,20 2,16 6,10 14,4"),
    # 9: straight stem, hooked stem, slanted stem, the stem apart, loop drawn flat
    (9, 3, "11,3 6,0 1,4 3,9 8,8 11,3! 10,10 9,20"),
    (9, 2, "11,4 7,0 1,3 1,8 6,10 11,4! 11,13 7,19 2,19"),
    (9, 2, "12,2 7,0 1,4 3,9 8,8 12,2! 8,12 5,20"),
    (9, 1, "11,2 6,1 1,5 2,10 7,10 11,5/12,1 11,10 11,20"),
    (9, 1, "9,1 5,0 1,5 2,9 6,9 11,2! 10,11 9,20"),
)


def strokes(n: int, seed: int = 0) -> LabeledImages:
    """n pictures of handwritten digits, the same ones for the same seed.

    -> images (n, 28, 28, 1) uint8   0 black paper .. 255 white ink
       labels (n,)           uint8   0..9 in random order, 50 of each in every 500
    Picture i depends only on seed and i: strokes(1000) begins with strokes(100).
    Raises ConfigError unless n >= 1 and seed >= 0 are integers.
    """
    n = expect_size("strokes: n", n)
    seed = expect_size("strokes: seed", seed, least=0, most=2**63)
    images = np.zeros((n, SIDE, SIDE, 1), np.uint8)
    labels = np.empty(n, np.uint8)
    for start in range(0, n, BLOCK):
        rng = np.random.default_rng([seed, start // BLOCK])
        digits = rng.permutation(np.arange(BLOCK) % 10)
        nodes, pressure, width = write(digits, rng)
        pictures = place(draw_ink(fit_box(nodes, width), pressure, width))
        # The last block is drawn in full too, or its pictures would depend on n.
        images[start : start + BLOCK, ..., 0] = pictures[: n - start]
        labels[start : start + BLOCK] = digits[: n - start]
    return images, labels


def spline(points: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Catmull-Rom curve through points (k, d), at t (m,) in [0, k - 1] -> (m, d).

    At its ends it continues as if it were straight there.
    """
    before, after = 2 * points[0] - points[1], 2 * points[-1] - points[-2]
    padded = np.concatenate([[before], points, [after]])
    i = np.minimum(t.astype(int), len(points) - 2)
    u = (t - i)[:, None]
    a, b, c, d = padded[i], padded[i + 1], padded[i + 2], padded[i + 3]
    bend = 2 * a - 5 * b + 4 * c - d + u * (3 * (b - c) + d - a)
    return np.asarray(b + u / 2 * (c - a + u * bend))


def plan(path: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One path of the table, prepared to be drawn many times.

    -> points (k, 2)              its control points, within -1 .. 1
       matrix (SEGMENTS + 1, k)   nodes = matrix @ points, evenly spaced along the path
       down   (SEGMENTS,)         1 where the piece between two nodes is drawn, else 0
    """
    drawn: list[list[float]] = []  # all points, in order
    curves: list[list[int]] = []  # indices of points without a corner between them
    for stroke in path.split("/"):
        curves.append([])
        for word in stroke.split():
            curves[-1].append(len(drawn))
            if word.endswith("!"):
                curves.append([len(drawn)])
            drawn.append([float(number) for number in word.rstrip("!").split(",")])
    points = np.array(drawn)
    points = (points - (points.min(0) + points.max(0)) / 2) / (BOX / 2)

    times = [np.linspace(0, len(curve) - 1, 200) for curve in curves]
    lengths = []  # of each curve up to each of its times
    for curve, t in zip(curves, times, strict=True):
        steps = np.diff(spline(points[curve], t), axis=0)
        lengths.append(np.append(0, np.hypot(steps[:, 0], steps[:, 1]).cumsum()))

    # Two nodes for every curve, the others in proportion to its length.
    ends = np.cumsum([0] + [length[-1] for length in lengths])
    others = SEGMENTS + 1 - 2 * len(curves)
    counts = 2 + np.diff(np.rint(others * ends / ends[-1]).astype(int))

    matrix, down, row = np.zeros((SEGMENTS + 1, len(points))), np.ones(SEGMENTS), 0
    for curve, t, length, count in zip(curves, times, lengths, counts, strict=True):
        at = np.interp(np.linspace(0, length[-1], count), length, t)
        # The curve is linear in its points: their weights are the curve of the unit vectors.
        matrix[row : row + count, curve] = spline(np.eye(len(curve)), at)
        row += count
        down[row - 1 : row] = 0  # the piece that leads to the next curve
    return points, matrix, down


@functools.cache
def plans() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The whole table as arrays, with the points of each plan padded with zeros.

    -> points (plans, k, 2), matrix (plans, SEGMENTS + 1, k), down (plans, SEGMENTS),
       chance (10, plans)   of this plan or an earlier one, given the digit: rises from 0 to 1
    """
    entries = [(digit, often, *plan(path)) for digit, often, path in DIGITS]
    k = max(len(points) for _, _, points, _, _ in entries)
    points = np.zeros((len(entries), k, 2))
    matrix = np.zeros((len(entries), SEGMENTS + 1, k))
    down = np.zeros((len(entries), SEGMENTS))
    often_of = np.zeros((10, len(entries)), int)
    for i, (digit, often, p, m, d) in enumerate(entries):
        points[i, : len(p)], matrix[i, :, : len(p)], down[i], often_of[digit, i] = p, m, d, often
    return points, matrix, down, often_of.cumsum(1) / often_of.sum(1, keepdims=True)


def write(digits: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Write digits (n,), each in a different handwriting. All randomness is here.

    -> nodes    (n, SEGMENTS + 1, 2)   (x, y) along the path, about -1 .. 1
       pressure (n, SEGMENTS)          of the pen on each piece, about 1; 0 if lifted
       width    (n,)                   of the pen, pixels
    """
    n = len(digits)
    points, matrix, down, chance = plans()
    # The random number falls into the interval of one plan.
    chosen = (chance[digits] <= rng.random((n, 1))).sum(1)
    nodes = matrix[chosen] @ (points[chosen] + rng.normal(0, 0.06, (n, *points.shape[1:])))

    x, y = nodes[..., 0], nodes[..., 1]
    terms = np.stack([x * x, x * y, y * y, x * x * x, x * x * y, x * y * y, y * y * y], axis=-1)
    nodes = nodes + terms @ rng.normal(0, 0.08, (n, 7, 2))

    aspect = np.exp(rng.normal(0.05, 0.20, n))
    slant = rng.normal(0.15, 0.26, n)  # to the right, as most people write
    angle = rng.normal(0, 0.10, n)  # radians
    cos, sin = np.cos(angle), np.sin(angle)
    affine = np.stack([aspect * cos, aspect * sin, -slant * cos - sin, cos - slant * sin], axis=-1)
    nodes = nodes @ affine.reshape(n, 2, 2)

    # The pressure rises or falls from the start of the path to its end.
    pressure = np.exp(rng.normal(0, 0.15, (n, 1)) * np.linspace(-1, 1, SEGMENTS))
    width = np.clip(2.5 * np.exp(rng.normal(0, 0.28, n)), 1.4, 5)
    return nodes, down[chosen] * pressure, width


def fit_box(nodes: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Scale and move each path so that, drawn, its longer side just fits the box.

    -> (n, SEGMENTS + 1, 2)   pixels, 0 .. BOX
    """
    low, high = nodes.min(1), nodes.max(1)
    scale = (BOX - width) / (high - low).max(1)
    return np.asarray((nodes - (low + high)[:, None] / 2) * scale[:, None, None] + BOX / 2)


# BLOBS[i] is the blob around i / STEPS at the centers of the pixels of one row: a table instead of
# 20 exponentials for each piece, twice.
CENTERS, PIXELS = np.arange(BOX * STEPS + 1) / STEPS, np.arange(BOX) + 0.5
BLOBS = np.exp(-(((PIXELS - CENTERS[:, None]) / BLUR) ** 2) / 2)


def draw_ink(nodes: np.ndarray, pressure: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Draw the paths by the formula at the top -> (n, BOX, BOX), 0 paper .. 1 ink.

    Pressure scales the length of a piece, which makes the line wider or finer. In float64, the
    differences between machines disappear in the rounding to 256 levels.
    """
    pieces = np.diff(nodes, axis=1)
    length = np.hypot(pieces[..., 0], pieces[..., 1]) * pressure
    middle = (nodes[:, :-1] + nodes[:, 1:]) / 2
    at = np.rint(middle * STEPS).astype(np.intp)
    in_x, in_y = BLOBS[at[..., 0]], BLOBS[at[..., 1]]  # (n, SEGMENTS, BOX) both
    in_y *= (length / (BLUR * np.sqrt(2 * np.pi)))[..., None]
    field = in_y.transpose(0, 2, 1) @ in_x
    distance = BLUR * np.sqrt(-2 * np.log(np.clip(field, 1e-30, 1)))
    return np.asarray(np.clip(0.5 + (width[:, None, None] / 2 - distance) / EDGE, 0, 1))


def place(ink: np.ndarray) -> np.ndarray:
    """Boxes (n, BOX, BOX) into pictures -> (n, SIDE, SIDE) uint8.

    As in MNIST, the center of mass moves to pixel (14, 14), counted from 0, within half a pixel:
    moved by whole pixels, the ink stays sharp. A very top-heavy 7 stops at the edge of the picture.
    """
    n, cells, mass = len(ink), np.arange(BOX), ink.sum((1, 2))
    top, left = (SIDE / 2 - ink.sum(axis) @ cells / mass for axis in (2, 1))
    top, left = (np.clip(np.rint(edge), 0, SIDE - BOX).astype(int) for edge in (top, left))
    rows, columns = top[:, None] + cells, left[:, None] + cells
    images = np.zeros((n, SIDE, SIDE), np.uint8)
    images[np.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]] = np.rint(ink * 255)
    return images
