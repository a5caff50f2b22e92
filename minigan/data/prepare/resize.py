"""How pictures of any size are resized for training: crop a box, then resize the box.

There are four ways to choose the box, in whole pixels of the picture:

    crop                        the largest centered part of the wanted aspect ratio: nothing is
                                distorted, the edges are lost. For photographs
    squash                      the whole picture, distorted if its aspect ratio differs
    center:SIZE                 the square of SIZE x SIZE pixels in the middle; center:108 is what
                                the first DCGANs took of CelebA's 178 x 218. centre:SIZE is the same
    box:LEFT,TOP,RIGHT,BOTTOM   this box, counted from the upper left corner, RIGHT and BOTTOM not
                                included; box:14,34,144,184 is Shibuya's part of CelebA

The box is resized with Pillow's BILINEAR filter, which averages over all pixels that fall into one
(antialiasing), as torchvision's Resize does. A picture of the right size is left unchanged.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from minigan.data.base import Shape
from minigan.data.prepare.threads import map_in_threads
from minigan.errors import ConfigError, ShapeError

if TYPE_CHECKING:
    from PIL.Image import Image

CHUNK = 256  # pictures that a thread resizes at a time


@dataclass(frozen=True)
class Fit:
    """A parsed fit: its kind, and the numbers after the colon."""

    kind: str
    numbers: tuple[int, ...] = ()

    def box(self, width: int, height: int, w: int, h: int) -> tuple[int, int, int, int]:
        """-> (left, top, right, bottom) of the part of a width x height picture to resize to w x h.

        Raises ShapeError if the picture is smaller than the box.
        """
        if self.kind == "squash":
            return 0, 0, width, height
        if self.kind == "box":
            left, top, right, bottom = self.numbers
        else:
            if self.kind == "centre":
                across = down = self.numbers[0]
            else:
                across = min(width, rounded_ratio(height * w, h))
                down = min(height, rounded_ratio(width * h, w))
            left, top = (width - across) // 2, (height - down) // 2
            right, bottom = left + across, top + down
        if left < 0 or top < 0 or right > width or bottom > height:
            problem = f"a picture of {width}x{height} is too small for {self}"
            raise ShapeError(problem.replace("centre", "center"))
        return left, top, right, bottom

    def __str__(self) -> str:
        return f"{self.kind}:{','.join(map(str, self.numbers))}" if self.numbers else self.kind


def rounded_ratio(a: int, b: int) -> int:
    """-> a / b as the nearest whole number, at least 1."""
    return max(1, (2 * a + b) // (2 * b))


def parse_fit(text: str) -> Fit:
    """ "crop", "squash", "center:108" or "box:14,34,144,184" -> Fit. Raises ConfigError."""
    n = r"([0-9]{1,9})"
    match = re.fullmatch(rf"crop|squash|cent(?:re|er):{n}|box:{n},{n},{n},{n}", str(text))
    if not match:
        expected = "crop, squash, center:SIZE or box:LEFT,TOP,RIGHT,BOTTOM, in pixels"
        raise ConfigError(f"--fit must be {expected}, got {str(text)[:40]!r}")
    numbers = tuple(int(number) for number in match.groups() if number is not None)
    kind = text.partition(":")[0].replace("center", "centre")
    if kind == "centre" and numbers[0] == 0:
        raise ConfigError(f"--fit {text}: SIZE must be at least 1")
    if kind == "box" and not (numbers[0] < numbers[2] and numbers[1] < numbers[3]):
        raise ConfigError(f"--fit {text}: LEFT must be below RIGHT and TOP below BOTTOM")
    return Fit(kind, numbers)


def resize(image: Image, fit: Fit, w: int, h: int) -> Image:
    """A Pillow image -> the same mode, w x h. Raises ShapeError."""
    from PIL.Image import Resampling, Transform

    left, top, right, bottom = box = fit.box(*image.size, w, h)
    if box != (0, 0, *image.size):  # crop() has Pillow's limit, which belongs to the whole process
        image = image.transform((right - left, bottom - top), Transform.EXTENT, box)
    return image if image.size == (w, h) else image.resize((w, h), Resampling.BILINEAR)


def fit_arrays(images: np.ndarray, shape: Shape, fit: Fit) -> np.ndarray:
    """images (n, H, W, C) uint8 -> (n, h, w, c) uint8, C and c 1 or 3; without a copy if possible.

    Gray becomes color by repetition, color gray by Pillow's "L" (0.299 R + 0.587 G + 0.114 B).
    Raises ShapeError if a box does not fit into the pictures.
    """
    h, w, c = shape
    count, height, width, channels = images.shape
    left, top, right, bottom = fit.box(width, height, w, h)
    if (right - left, bottom - top) == (w, h) and channels in (1, c):
        images = images[:, top:bottom, left:right]
        return images if channels == c else np.repeat(images, c, axis=3)
    made = np.empty((count, *shape), np.uint8)

    def work(start: int) -> None:
        from PIL import Image

        for i in range(start, min(start + CHUNK, count)):
            image = Image.fromarray(images[i, :, :, 0] if channels == 1 else images[i])
            made[i] = to_array(resize(image.convert("L") if c == 1 else image, fit, w, h), c)

    list(map_in_threads(work, range(0, count, CHUNK)))  # waits, and raises what work raises
    return made


def to_array(image: Image, c: int) -> np.ndarray:
    """A Pillow image in L or RGB -> (h, w, c) uint8, c 1 or 3."""
    return np.asarray(image.convert("L" if c == 1 else "RGB")).reshape(image.height, image.width, c)
