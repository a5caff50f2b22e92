"""How a picture of any size comes to the size that is trained on: cut out a box, then resize it.

Four ways to choose the box, in whole pixels of the picture:

    crop                        the largest part of the wanted aspect, from the middle: nothing is distorted,
                                what sticks out is lost. For photographs
    squash                      the whole picture, distorted where its aspect is another
    centre:SIZE                 the square of SIZE x SIZE pixels in the middle; centre:108 is what the first
                                DCGANs took of CelebA's 178 x 218
    box:LEFT,TOP,RIGHT,BOTTOM   this part, counted from the upper left corner, RIGHT and BOTTOM not
                                included; box:14,34,144,184 is Shibuya's of CelebA

The box is resized with Pillow's BILINEAR filter, which averages over all pixels that fall
into one (antialiasing), as torchvision's Resize does. A picture that has the size already
is left as it is, to the bit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from minigan.checks import LARGEST, expect_size
from minigan.errors import ConfigError, ShapeError

if TYPE_CHECKING:
    from PIL.Image import Image

CHUNK = 256  # pictures that a thread resizes at a time


@dataclass(frozen=True)
class Fit:
    """A parsed fit: its kind, and the numbers behind the colon."""

    kind: str
    numbers: tuple[int, ...] = ()

    def box(self, width: int, height: int, w: int, h: int) -> tuple[int, int, int, int]:
        """-> (left, top, right, bottom) of what is cut out of a picture of width x height, to become w x h.

        Raises ShapeError where the picture is smaller than the box.
        """
        if self.kind == "squash":
            return 0, 0, width, height
        if self.kind == "box":
            left, top, right, bottom = self.numbers
        else:
            if self.kind == "centre":
                across = down = self.numbers[0]
            elif width * h > height * w:  # too wide: all of the height
                across, down = max(1, rounded(height * w, h)), height
            else:
                across, down = width, max(1, rounded(width * h, w))
            left, top = (width - across) // 2, (height - down) // 2
            right, bottom = left + across, top + down
        if left < 0 or top < 0 or right > width or bottom > height:
            raise ShapeError(f"a picture of {width}x{height} is too small for {self}")
        return left, top, right, bottom

    def __str__(self) -> str:
        return self.kind + (":" + ",".join(map(str, self.numbers)) if self.numbers else "")


def rounded(a: int, b: int) -> int:
    """-> a / b as the nearest whole number."""
    return (2 * a + b) // (2 * b)


def parse_fit(text: str) -> Fit:
    """ "crop", "squash", "centre:108" or "box:14,34,144,184" -> Fit. Raises ConfigError."""
    if text in ("crop", "squash"):
        return Fit(text)
    match = (
        re.fullmatch(r"(centre:[0-9]+|box:[0-9]+,[0-9]+,[0-9]+,[0-9]+)", text, re.ASCII)
        if isinstance(text, str)
        else None
    )
    if not match:
        raise ConfigError(
            f"fit must be crop, squash, centre:SIZE or box:LEFT,TOP,RIGHT,BOTTOM in pixels, got {text!r}"
        )
    kind, _, rest = text.partition(":")
    if len(rest) > 4 * len(str(LARGEST)):
        raise ConfigError(f"fit: numbers up to {LARGEST} are expected, got {text[:40]!r}...")
    numbers = tuple(map(int, rest.split(",")))
    for number in numbers:
        expect_size(f"fit {kind}: each number", number, least=0 if kind == "box" else 1)
    if kind == "box" and not (numbers[0] < numbers[2] and numbers[1] < numbers[3]):
        raise ConfigError(f"fit {text}: LEFT must be below RIGHT and TOP below BOTTOM")
    return Fit(kind, numbers)


def resize(image: Image, fit: Fit, w: int, h: int) -> Image:
    """A Pillow image -> the same mode, w x h. Raises ShapeError."""
    from PIL.Image import Resampling

    box = fit.box(*image.size, w, h)
    if box != (0, 0, *image.size):
        image = image.crop(box)
    return image if image.size == (w, h) else image.resize((w, h), Resampling.BILINEAR)


def fit_arrays(images: np.ndarray, shape: tuple[int, int, int], fit: Fit) -> np.ndarray:
    """images (n, H, W, C) uint8 -> (n, h, w, c) uint8, C and c 1 or 3; the same array where nothing is to do.

    Grey becomes colour by repetition, colour grey by Pillow's "L" (0.299 R + 0.587 G + 0.114 B).
    Raises ShapeError where a box does not fit into the pictures.
    """
    h, w, c = shape
    count, height, width, channels = images.shape
    box = fit.box(width, height, w, h)
    resized = (box[2] - box[0], box[3] - box[1]) != (w, h)
    if not resized and channels in (1, c):
        left, top, right, bottom = box
        images = images[:, top:bottom, left:right]
        return images if channels == c else np.repeat(images, c, axis=3)
    made = np.empty((count, *shape), np.uint8)

    def work(start: int) -> None:
        from PIL import Image

        for i in range(start, min(start + CHUNK, count)):
            image = Image.fromarray(images[i, :, :, 0] if channels == 1 else images[i])
            made[i] = to_array(resize(image.convert("L") if c == 1 else image, fit, w, h), c)

    side_by_side(work, range(0, count, CHUNK))
    return made


def to_array(image: Image, c: int) -> np.ndarray:
    """A Pillow image in L or RGB -> (h, w, c) uint8, c 1 or 3."""
    return np.asarray(image.convert("L" if c == 1 else "RGB")).reshape(image.height, image.width, c)


def side_by_side(work: Callable[[int], object], items: Iterable[int]) -> None:
    """work(item) for all items, on a thread for each CPU: Pillow gives Python's lock away while it computes."""
    from concurrent.futures import ThreadPoolExecutor

    from minigan.backends.cpu.threads import available_cpus

    with ThreadPoolExecutor(available_cpus()) as pool:
        for _ in pool.map(work, items):
            pass
