"""Pictures with more or fewer than 8 bits for a number, and their transparent color.

A viewer shows the largest number as white. Which number that is depends on the bits that are used:
12 bits of a camera are often stored in 16. A file may declare this, and is trusted unless a number
in it is larger:

    PNG   chunk sBIT: the significant bits. The standard wants numbers scaled to all 16 bits, and
          only numbers that are not are divided by less
    TIFF  BitsPerSample, MaxSampleValue, PhotometricInterpretation (0: the largest is black)
    PPM   maxval; Pillow scales by it

Without that it is all bits; of floats, it is 1. Color of 16 bits keeps its upper 8 (Pillow).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

BITS, MAX_SAMPLE, PHOTOMETRIC, FORMAT = 258, 281, 262, 339  # tags of a TIFF
UNSIGNED, SIGNED = 1, 2  # FORMAT


def to_8_bits(image: Image, file: BinaryIO) -> Image:
    """A loaded gray image of mode I, I;16 or F, and its file -> L, or LA if a gray is transparent.

    Raises ValueError if floats are not 0 to 1: their range is unknown.
    """
    from PIL import Image

    values, tags = np.asarray(image), getattr(image, "tag_v2", {})
    if values.dtype.kind == "f":
        if not (values.min() >= 0 and values.max() <= 1):  # also NaN
            raise ValueError("floats that are not 0 to 1: convert it to 8 or 16 bits")
        white = 1
    elif image.format == "PNG":
        white = png_white(values, png_bits(file)[1])
    else:
        bits, kind = tags.get(BITS, (16,))[0], tags.get(FORMAT, (UNSIGNED,))[0]
        if bits == 32 and kind == UNSIGNED:
            values = values.view(np.uint32)
        bits -= kind == SIGNED
        declared = tags.get(MAX_SAMPLE, 0)
        declared = declared[0] if isinstance(declared, tuple) else declared
        largest = (1 << bits) - 1
        white = declared if max(1, values.max()) <= declared <= largest else largest
    gray = np.clip(values, 0, white).astype(np.float32)
    gray *= 255 / white
    gray = np.rint(gray, out=gray).astype(np.uint8)
    if tags.get(PHOTOMETRIC) == 0:
        gray = 255 - gray
    key = image.info.get("transparency")
    if key is None:
        return Image.fromarray(gray)
    return Image.fromarray(np.dstack([gray, np.where(values == key, 0, 255).astype(np.uint8)]))


def png_white(values: np.ndarray, bits: int) -> int:
    """16-bit numbers (h, w), of which `bits` are significant -> the number that is white."""
    unused = (1 << 16 - bits) - 1
    # numbers that were scaled to 16 bits have the same bits at both ends, so small ones end in 0
    scaled = values.max() >= 1 << bits or not (values & unused).any()
    return 0xFFFF if scaled else (1 << bits) - 1


def png_bits(file: BinaryIO) -> tuple[int, int]:
    """-> bits of each number in a PNG, and how many are significant."""
    file.seek(8)
    bits = significant = 0
    while len(head := file.read(8)) == 8 and head[4:] not in (b"IDAT", b"IEND"):
        content = file.read(9) if head[4:] in (b"IHDR", b"sBIT") else b""
        if head[4:] == b"IHDR":
            bits = significant = content[8]
        elif content and 0 < content[0] <= bits:
            significant = content[0]
        file.seek(int.from_bytes(head[:4], "big") + 4 - len(content), 1)
    return bits, significant


def png_transparency(image: Image, file: BinaryIO) -> int | tuple[int, ...]:
    """-> the transparent color of a loaded PNG in mode L or RGB, in 8 bits as its pixels are."""
    bits, key = png_bits(file)[0], image.info["transparency"]

    def scaled(value: int) -> int:
        value &= (1 << bits) - 1
        return value >> bits - 8 if bits > 8 else value * 255 // ((1 << bits) - 1)

    return scaled(key) if isinstance(key, int) else tuple(map(scaled, key))
