"""Grids of pictures, and PNG files."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from minigan.checks import expect_size
from minigan.concurrency import without_warnings
from minigan.errors import RunError, ShapeError
from minigan.files import open_regular, write_atomically

if TYPE_CHECKING:
    from PIL.Image import Exif

MOST_GRID_PIXELS = 70_000_000  # of a picture that is read: a grid of 64 images of 1024 x 1024
MARK, SOFTWARE = "minigan", 0x0131  # the value of an EXIF tag


def grid(images: np.ndarray, columns: int | None = None, border: int = 2) -> np.ndarray:
    """images (n, h, w, 1 or 3) uint8 -> one picture (H, W, 1 or 3) uint8, row by row on black.

    columns  default: as close to a square as possible
    A grid of one image is that image: it has no frame.
    Raises ShapeError, ConfigError.
    """
    shape = images.shape
    if images.dtype != np.uint8 or images.ndim != 4 or len(images) == 0 or shape[3] not in (1, 3):
        is_float = images.dtype.kind == "f"
        hint = ": floats in [-1, 1] become pixels by data.to_pixels" if is_float else ""
        raise ShapeError(
            f"grid: expected uint8 images (n, h, w, 1 or 3), got {images.dtype} {shape}{hint}"
        )
    n, h, w, c = shape
    columns = int(np.ceil(n**0.5)) if columns is None else expect_size("grid: columns", columns)
    rows = -(-n // columns)
    border = border if rows * columns > 1 else 0
    picture = np.zeros((rows * (h + border) + border, columns * (w + border) + border, c), np.uint8)
    for i, image in enumerate(images):
        top, left = border + i // columns * (h + border), border + i % columns * (w + border)
        picture[top : top + h, left : left + w] = image
    return picture


def mark() -> Exif:
    """-> EXIF that marks a PNG or WebP as written by minigan: it is left out of a folder."""
    from PIL import Image

    exif = Image.Exif()
    exif[SOFTWARE] = MARK
    return exif


def to_png(picture: np.ndarray) -> bytes:
    """picture (h, w, 1 or 3) uint8 -> the bytes of a PNG file."""
    from PIL import Image

    memory = io.BytesIO()
    image = Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture)
    image.save(memory, "PNG", exif=mark())
    return memory.getvalue()


def save_png(path: str | Path, picture: np.ndarray) -> None:
    """picture (h, w, 1 or 3) uint8 -> a PNG file. Raises RunError."""
    write_atomically(path, to_png(picture))


def load_png(path: str | Path, side: int = 2**15) -> np.ndarray:
    """A PNG file, gray or color -> picture (h, w, 1 or 3) uint8. Raises RunError.

    side  a larger picture is reduced to at most side x side
    """
    from PIL import Image

    try:
        with (
            open_regular(path) as file,
            without_warnings(),  # of its size, looked at here
            Image.open(file, formats=["PNG"]) as image,
        ):
            if image.width * image.height > MOST_GRID_PIXELS:
                raise ValueError
            plain = image if image.mode in ("L", "RGB") else image.convert("RGB")
            plain.thumbnail((side, side), Image.Resampling.LANCZOS)
            picture = np.asarray(plain)
    except Exception as error:  # Pillow lets many kinds through
        reason = getattr(error, "strerror", None) or "it is damaged, far too large or no PNG file"
        raise RunError(f"cannot read {path}: {reason}") from error
    return picture.reshape(*picture.shape[:2], -1)
