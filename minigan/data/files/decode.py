"""One picture file -> pixels, for every kind of picture.

    gray, 1 bit             unchanged; 0 is black
    more than 8 bits        scaled so that the largest number is 255: see depth.py
    palette                 looked up, with its transparency
    transparency            composed onto `background`, from an alpha channel or a transparent color
    CMYK, YCbCr and others  by Pillow's formula, without color profiles
    rotated by EXIF         upright, as a viewer shows it; EXIF that cannot be read is ignored
    several frames, pages   the first one
    color for a gray set    by Pillow's "L"; gray for a color set is repeated
    another size            cropped and resized as `fit` says, with its transparency

A large JPEG is decoded at 1/2, 1/4 or 1/8, the smallest that is at least twice the wanted size
(Pillow's draft mode): the filter still averages two pixels for each pixel of the result, and a
photograph takes a tenth of the time and memory. This is done only for crop and squash: the numbers
of the other fits count pixels of the full picture.

Only the seven formats are tried, recognized by content and not by name: some of Pillow's
other decoders start programs. A picture may have `max_pixels`, and twice as many before draft mode.
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np

from minigan.data.base import Shape
from minigan.data.files.depth import png_transparency, to_8_bits
from minigan.data.files.messages import printable
from minigan.data.files.png import MARK, SOFTWARE
from minigan.data.prepare.resize import Fit, resize, to_array
from minigan.errors import ConfigError

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
KINDS = "JPEG, PNG, WebP, BMP, GIF, TIFF or PPM"
SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".gif", ".tif", ".tiff",
    ".ppm", ".pgm", ".pbm", ".pnm",
)  # fmt: skip
ORIENTATION = 0x0112  # the EXIF tag
SIDEWAYS = ("TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90")
# Orientations 1 to 8 -> the Transpose that undoes them
UPRIGHT = ("", "FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", *SIDEWAYS)
WHITE = (255, 255, 255)
MOST_PIXELS = 89_478_485  # Pillow's limit
OVERSIZE = 2  # a drafted picture is at least this many times the wanted size


class Unreadable(Exception):
    """Why one picture cannot be used, in a few words, without its name."""


class Form(NamedTuple):
    """What every picture becomes."""

    shape: Shape  # (h, w, c)
    fit: Fit
    background: tuple[int, ...] = WHITE  # behind transparent pixels
    max_pixels: int = MOST_PIXELS  # a larger picture is not decoded


def parse_background(text: str) -> tuple[int, ...]:
    """ "white", "black" or "R,G,B", each 0 to 255 -> (r, g, b). Raises ConfigError."""
    code = {"white": "255,255,255", "black": "0,0,0"}.get(str(text), str(text))
    numbers = re.fullmatch(r"([0-9]{1,3}),([0-9]{1,3}),([0-9]{1,3})", code)
    color = tuple(map(int, numbers.groups())) if numbers else (256,)
    if max(color) > 255:
        expected = "white, black or R,G,B such as 128,128,128"
        raise ConfigError(f"--background must be {expected}, got {text!r}")
    return color


def decode(file: BinaryIO, form: Form, traits: Counter[str] | None = None) -> np.ndarray:
    """An open picture file -> (h, w, c) uint8.

    traits  counts what a user may want to know: "animated", "transparent", and "turned": the wanted
            shape is higher than wide and the picture wider than high, or the other way round;
            "small": the picture has fewer pixels both ways; and "own": minigan wrote it
    Raises Unreadable; OSError: the disk fails. The caller silences Pillow's warnings about odd
    files: a warning filter belongs to the whole process, not to a thread.
    """
    from PIL import Image

    (h, w, c), fit, background, max_pixels = form
    try:
        with open_picture(file, OVERSIZE * max_pixels) as image:
            jpeg = image.format in ("JPEG", "MPO")  # MPO: a JPEG followed by further pictures
            turn = transpose_name(image) if jpeg else ""
            if jpeg and fit.kind in ("crop", "squash"):
                across, down = (h, w) if turn in SIDEWAYS else (w, h)
                image.draft(None, (OVERSIZE * across, OVERSIZE * down))
            expect_pixels(image, max_pixels)
            tiles = [(tile[1][2] - tile[1][0]) * (tile[1][3] - tile[1][1]) for tile in image.tile]
            if image.format == "TIFF" and sum(tiles) < image.width * image.height:
                # Pillow would leave the others black
                raise Unreadable("it holds fewer pixels than it declares")
            image.load()
            if not jpeg:
                turn = transpose_name(image)  # a PNG may store it behind its pixels
            plain = to_plain_mode(image, c, file)
            if turn:
                plain = plain.transpose(Image.Transpose[turn])
            turned = (plain.width - plain.height) * (w - h) < 0
            small = plain.width < w and plain.height < h
            plain = resize(plain, fit, w, h)
            transparent = plain.mode == "RGBA" and plain.getchannel("A").getextrema() != (255, 255)
            if plain.mode == "RGBA":
                behind = Image.new("RGBA", plain.size, (*background, 255))
                plain = Image.alpha_composite(behind, plain)
            if traits is not None:
                traits.update(transparent=transparent, turned=turned, small=small)
                traits["own"] += is_own(image)
                with suppress(Exception):  # damage in a later frame: the first is good
                    traits["animated"] += not jpeg and getattr(image, "is_animated", False)
            return to_array(plain, c)
    except Unreadable:
        raise
    except Exception as error:  # Pillow lets any kind through: SyntaxError, struct.error ...
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = str(error) or type(error).__name__
    raise Unreadable(printable(reason))


def open_picture(file: BinaryIO, max_pixels: int) -> Image:
    """Image.open with a limit for this picture: Pillow's limit belongs to the whole process."""
    from PIL import Image

    Image.init()
    start = file.read(16)
    for kind in FORMATS:
        factory, accept = Image.OPEN.get(kind, (None, None))
        if factory and accept and accept(start) is True:
            file.seek(0)
            try:
                image = factory(file, "")
            except (SyntaxError, IndexError, TypeError, struct.error):
                continue
            expect_pixels(image, max_pixels)
            return image
    raise Unreadable(f"not a picture in {KINDS}")


def expect_pixels(image: Image, most: int) -> None:
    """Raises Unreadable if there are more pixels: a small file may declare a huge picture."""
    pixels = image.width * image.height
    if pixels > most:
        size = f"{image.width} x {image.height} pixels"
        raise Unreadable(f"{size}, a decompression bomb; --max-pixels {pixels} allows it")


def is_own(image: Image) -> bool:
    """Did minigan write a loaded image? See files/png.py: mark."""
    try:
        return MARK in (image.getexif().get(SOFTWARE), image.info.get("comment", b"").decode())
    except Exception:  # EXIF may hold anything
        return False


def transpose_name(image: Image) -> str:
    """-> name of the Transpose that turns the picture upright according to its EXIF, or ""."""
    try:
        return dict(enumerate(UPRIGHT, 1)).get(image.getexif().get(ORIENTATION, 1), "")
    except Exception:  # the pixels may still be good
        return ""


def to_plain_mode(image: Image, c: int, file: BinaryIO) -> Image:
    """A loaded image of any mode, and its file -> L, RGB or, if something is transparent, RGBA."""
    if image.format == "PNG" and "transparency" in image.info and image.mode in ("1", "L", "RGB"):
        image.info["transparency"] = png_transparency(image, file)
    if image.mode[0] in "IF":
        image = to_8_bits(image, file)
    elif image.mode == "La":
        image = image.convert("LA")
    if image.has_transparency_data:
        return image.convert("RGBA")
    if image.mode not in ("1", "L", "RGB"):  # a conversion copies, and a photograph has 36 MB
        image = image.convert("RGB")
    return image.convert("L") if c == 1 or image.mode == "1" else image
