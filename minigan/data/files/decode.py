"""One picture file -> pixels, for every kind of picture.

    gray, 1 bit             unchanged; 0 is black
    16-bit gray             divided by 257, so that 0..65535 becomes 0..255
    palette                 looked up, with its transparency
    transparency            composed onto white, from an alpha channel or a transparent color
    CMYK, YCbCr and others  by Pillow's formula, without color profiles
    rotated by EXIF         upright, as a viewer shows it; EXIF that cannot be read is ignored
    animated                the first frame
    color for a gray set    by Pillow's "L"; gray for a color set is repeated
    another size            cropped and resized as `fit` says, before it is composed onto white

A large JPEG is decoded at 1/2, 1/4 or 1/8, the smallest that is at least twice the wanted size
(Pillow's draft mode): the filter still averages two pixels for each pixel of the result, and a
photograph takes a tenth of the time and memory. This is done only for crop and squash: the numbers
of the other fits count pixels of the full picture.

Only the five formats are tried, recognized by content and not by name: some of Pillow's
other decoders start programs. Pillow's limit of 89 million pixels applies (after draft mode).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from minigan.data.base import Shape
from minigan.data.files.messages import printable
from minigan.data.prepare.resize import Fit, resize, to_array

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif")
ORIENTATION = 0x0112  # the EXIF tag
SIDEWAYS = ("TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90")
# Orientations 1 to 8 -> the Transpose that undoes them
UPRIGHT = ("", "FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", *SIDEWAYS)
OVERSIZE = 2  # a drafted picture is at least this many times the wanted size


class Unreadable(Exception):
    """Why one picture cannot be used, in a few words, without its name."""


def decode(file: BinaryIO, shape: Shape, fit: Fit) -> np.ndarray:
    """An open picture file -> (h, w, c) uint8. Raises Unreadable, and nothing else.

    The caller silences Pillow's warnings about odd files: a warning filter belongs to the whole
    process, not to a thread.
    """
    from PIL import Image, UnidentifiedImageError

    h, w, c = shape
    try:
        with Image.open(file, formats=FORMATS) as image:
            jpeg = image.format in ("JPEG", "MPO")  # MPO: a JPEG followed by further pictures
            turn = transpose_name(image) if jpeg else ""
            if jpeg and fit.kind in ("crop", "squash"):
                across, down = (h, w) if turn in SIDEWAYS else (w, h)
                image.draft(None, (OVERSIZE * across, OVERSIZE * down))
            if image.width * image.height > (Image.MAX_IMAGE_PIXELS or np.inf):
                raise Unreadable(f"decompression bomb: {image.width} x {image.height} pixels")
            image.load()
            if not jpeg:
                turn = transpose_name(image)  # a PNG may store it behind its pixels
            plain = to_plain_mode(image, c)
            if turn:
                plain = plain.transpose(Image.Transpose[turn])
            plain = resize(plain, fit, w, h)
            if plain.mode == "RGBA":
                plain = Image.alpha_composite(Image.new("RGBA", plain.size, "white"), plain)
            return to_array(plain, c)
    except UnidentifiedImageError:
        reason = "not a picture in JPEG, PNG, WebP, BMP or GIF"
    except Exception as error:  # Pillow lets any kind through: SyntaxError, struct.error ...
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    raise Unreadable(printable(reason))


def transpose_name(image: Image) -> str:
    """-> name of the Transpose that turns the picture upright according to its EXIF, or ""."""
    try:
        return dict(enumerate(UPRIGHT, 1)).get(image.getexif().get(ORIENTATION, 1), "")
    except Exception:  # the pixels may still be good
        return ""


def to_plain_mode(image: Image, c: int) -> Image:
    """A loaded image of any mode -> L, RGB or, if something is transparent, RGBA."""
    from PIL import Image

    if image.mode.startswith("I"):
        wide = np.clip(np.asarray(image), 0, 65535).astype(np.uint32)
        return Image.fromarray(((wide + 128) // 257).astype(np.uint8))
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        return image.convert("RGBA")
    if image.mode in ("1", "L"):
        return image.convert("L")
    if image.mode != "RGB":  # a conversion copies, and a photograph has 36 MB or more
        image = image.convert("RGB")
    return image.convert("L") if c == 1 else image
