"""One picture file -> pixels, whatever kind of picture it is.

    greyscale, 1 bit        as they are; 0 is black
    16-bit grey             divided by 257, so that 0..65535 becomes 0..255
    palette                 looked up, with its transparency
    transparency            laid on white, wherever it comes from (alpha, a transparent colour)
    CMYK, YCbCr and others  by Pillow's formula, without colour profiles
    turned by EXIF          upright, as a viewer shows it; EXIF that cannot be read turns nothing
    animated                the first frame
    colour for a grey set   by Pillow's "L"; grey for a colour set is repeated
    another size            cut and resized as `fit` says; transparent pictures before they are laid on white

A large JPEG is decoded at 1/2, 1/4 or 1/8, the smallest that is still twice the wanted size
(Pillow's draft mode): the filter then has two pixels for each that it makes, and a photograph
takes a tenth of the time and memory. Only for crop and squash: the numbers of the
others are pixels of the whole picture.

Whatever a file makes Pillow raise, it means that this file cannot be read: Unreadable is all
that comes out. Only the five formats are tried, told by content and not by name: Pillow knows
others that start programs. Pillow's limit of 89 million pixels holds (after draft mode).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from minigan.data.prepare.resize import Fit, resize, to_array
from minigan.errors import ShapeError

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
SUFFIXES = (b".jpg", b".jpeg", b".png", b".webp", b".bmp", b".gif")
ORIENTATION = 0x0112  # the EXIF tag
TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
SIDEWAYS = ("TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90")
SPARE = 2  # a drafted picture is at least so many times the wanted size


class Unreadable(Exception):
    """Why one picture cannot be used, in a few words without its name."""


def decode(file: BinaryIO, shape: tuple[int, int, int], fit: Fit) -> np.ndarray:
    """An open picture file -> (h, w, c) uint8. Raises Unreadable, and nothing else.

    Warnings of Pillow about odd files are the caller's to silence: their filter belongs to the
    whole process, not to a thread.
    """
    from PIL import Image, UnidentifiedImageError

    h, w, c = shape
    try:
        with Image.open(file, formats=FORMATS) as image:
            jpeg = image.format in (
                "JPEG",
                "MPO",
            )  # MPO: a JPEG with further pictures behind the first
            turn = upright(image) if jpeg else ""
            if jpeg and fit.kind in ("crop", "squash"):
                image.draft(
                    None, (SPARE * h, SPARE * w) if turn in SIDEWAYS else (SPARE * w, SPARE * h)
                )
            if (
                Image.MAX_IMAGE_PIXELS is not None
                and image.width * image.height > Image.MAX_IMAGE_PIXELS
            ):
                raise Unreadable(f"decompression bomb: {image.width} x {image.height} pixels")
            image.load()
            if not jpeg:
                turn = upright(image)  # now: a PNG may have it behind its pixels
            plain = in_plain_mode(image, c)
            if turn:
                plain = plain.transpose(Image.Transpose[turn])
            plain = resize(plain, fit, w, h)
            if plain.mode == "RGBA":
                plain = Image.alpha_composite(Image.new("RGBA", plain.size, "white"), plain)
            return to_array(plain, c)
    except (Unreadable, ShapeError) as error:
        reason = str(error)
    except UnidentifiedImageError:
        reason = "not a picture in JPEG, PNG, WebP, BMP or GIF"
    except Image.DecompressionBombError:
        reason = "decompression bomb: more pixels than Pillow takes from a file"
    except (
        Exception
    ) as error:  # Pillow lets any kind through: SyntaxError, struct.error, MemoryError ...
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    raise Unreadable(printable(reason))


def printable(text: str) -> str:
    """-> the start of a text from a file, fit for one line on a terminal."""
    return "".join(c if c.isprintable() else " " for c in text[:200])


def upright(image: Image) -> str:
    """-> name of the Transpose that turns the picture upright as its EXIF says, "" for none."""
    try:
        return TURNS.get(image.getexif().get(ORIENTATION, 0), "")
    except Exception:  # of the pixels nothing is known to be wrong
        return ""


def in_plain_mode(image: Image, c: int) -> Image:
    """A loaded image of any mode -> L, RGB or, where something is transparent, RGBA."""
    from PIL import Image

    if image.mode.startswith("I"):
        wide = np.clip(np.asarray(image), 0, 65535).astype(np.uint32)
        return Image.fromarray(((wide + 128) // 257).astype(np.uint8))
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        return in_mode(image, "RGBA")
    if image.mode in ("1", "L"):
        return in_mode(image, "L")
    image = in_mode(image, "RGB")
    return image.convert("L") if c == 1 else image


def in_mode(image: Image, mode: str) -> Image:
    """convert, without the copy that it makes where there is nothing to convert: a photograph has 36 MB and more."""
    return image if image.mode == mode and "transparency" not in image.info else image.convert(mode)
