"""What becomes white in pictures of more than 8 bits, and which pixels are transparent in any."""

import io
import struct
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from minigan.data.files.decode import Form, Unreadable, decode, to_plain_mode
from minigan.data.files.depth import to_8_bits
from minigan.data.prepare.resize import parse_fit
from tests.support.pictures import png_bytes

MODES = "1,L,LA,La,P,PA,RGB,RGBA,RGBa,RGBX,CMYK,YCbCr,LAB,HSV,I,I;16,I;16B,I;16L,F"
BEHIND = (10, 20, 30)  # transparent pixels
GRAY, RGB, PALETTE, GRAY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6  # color types of PNG


def wide(*numbers):
    return struct.pack(f">{len(numbers)}H", *numbers)


def clear(*numbers):
    return b"tRNS", wide(*numbers)


def row(content, width, c=3, traits=None):
    """-> the pixels of a picture of one row"""
    form = Form((1, width, c), parse_fit("squash"), BEHIND)
    return decode(io.BytesIO(content), form, traits)[0].tolist()


TRANSPARENT = {  # kind: (row, width, bits, color type, chunks, what is seen)
    "1 bit": (b"\x50", 4, 1, GRAY, [clear(1)], [0, BEHIND, 0, BEHIND]),
    "1 bit, black": (b"\x50", 4, 1, GRAY, [clear(0)], [BEHIND, 255, BEHIND, 255]),
    "2 bits": (b"\x1b", 4, 2, GRAY, [clear(1)], [0, BEHIND, 170, 255]),
    "4 bits": (b"\x01\x2f", 4, 4, GRAY, [clear(2)], [0, 17, BEHIND, 255]),
    "8 bits": (b"\x00\x01\x80\xff", 4, 8, GRAY, [clear(1)], [0, BEHIND, 128, 255]),
    "8 bits, upper bits set": (b"\x00\x01", 2, 8, GRAY, [clear(0xFF01)], [0, BEHIND]),
    "16 bits": (wide(0, 257, 32896, 65535), 4, 16, GRAY, [clear(32896)], [0, 1, BEHIND, 255]),
    "16 bits, lower bits differ": (wide(32896, 32897), 2, 16, GRAY, [clear(32896)], [BEHIND, 128]),
    "color": (bytes([1, 2, 3, 4, 4, 4]), 2, 8, RGB, [clear(1, 2, 3)], [BEHIND, 4]),
    "16-bit color": (
        wide(0x199, 0x2FF, 0x301, 65535, 65535, 65535), 2, 16, RGB, [clear(0x199, 0x2FF, 0x301)],
        [BEHIND, 255],
    ),
    "palette": (
        b"\x50", 4, 1, PALETTE, [(b"PLTE", bytes([5, 5, 5, 9, 9, 9])), (b"tRNS", b"\0")],
        [BEHIND, 9, BEHIND, 9],
    ),
    "gray with alpha, 16 bits": (wide(257, 65535, 65535, 0), 2, 16, GRAY_ALPHA, [], [1, BEHIND]),
    "color with alpha, 16 bits": (
        wide(0, 0, 0, 65535, 9, 9, 9, 0), 2, 16, RGB_ALPHA, [], [0, BEHIND],
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", TRANSPARENT)
def test_transparent_pixels_show_the_background_in_every_kind_of_png(kind):
    content, width, bits, color_type, chunks, seen = TRANSPARENT[kind]
    traits = Counter()
    made = row(png_bytes([content], (width, 1), bits, color_type, *chunks), width, traits=traits)
    assert made == [list(pixel) if pixel is BEHIND else [pixel] * 3 for pixel in seen]
    assert traits["transparent"] == 1


TWELVE = [0, 1000, 2047, 4095]  # numbers of 12 bits


@pytest.mark.parametrize(
    "numbers, significant, seen",
    (
        (TWELVE, 12, [0, 62, 127, 255]),  # as they are
        ([n << 4 | n >> 8 for n in TWELVE], 12, [0, 62, 127, 255]),  # scaled, as the standard says
        ([0, 16, 2048, 3200], 12, [0, 0, 8, 12]),  # dark, scaled
        (TWELVE, None, [0, 4, 8, 16]),
        (TWELVE, 4, [0, 4, 8, 16]),  # a lie
        (TWELVE, 0, [0, 4, 8, 16]),
        (TWELVE, 255, [0, 4, 8, 16]),
    ),
)
def test_the_significant_bits_of_a_png_are_its_range(numbers, significant, seen):
    chunks = [] if significant is None else [(b"sBIT", bytes([significant]))]
    content = png_bytes([wide(*numbers)], (4, 1), 16, GRAY, *chunks)
    assert row(content, 4, c=1) == [[value] for value in seen]


def packed_tiff(numbers):
    """12-bit numbers, two in three bytes, as some scanners store them."""
    bits = "".join(f"{number:012b}" for number in numbers)
    pixels = int(bits, 2).to_bytes(len(bits) // 8, "big")
    tags = (
        (256, 4),
        (257, 1),
        (258, 12),
        (259, 1),
        (262, 1),
        (273, 8),
        (277, 1),
        (278, 1),
        (279, 6),
    )
    directory = b"".join(struct.pack("<HHLL", tag, 4, 1, value) for tag, value in tags)
    return (
        b"II*\0"
        + struct.pack("<L", 14)
        + pixels
        + struct.pack("<H", len(tags))
        + directory
        + bytes(4)
    )


@pytest.mark.parametrize(
    "content",
    (packed_tiff(TWELVE), b"P5 4 1 4095\n" + wide(*TWELVE), b"P2 4 1 4095\n0 1000 2047 4095\n"),
)
def test_twelve_bits_in_other_files(content):
    assert row(content, 4, c=1) == [[0], [62], [127], [255]]


def tiff(pixels, **tags):
    """-> the same as a loaded TIFF, with tags by their numbers: t258=12."""
    file = io.BytesIO()
    tags = {int(name[1:]): value for name, value in tags.items()}
    Image.fromarray(pixels).save(file, "TIFF", tiffinfo=tags)
    image = Image.open(file)
    image.load()
    return image, file


@pytest.mark.parametrize(
    "pixels, tags, seen",
    (
        (np.array([[0, 32896, 65535]], np.uint16), {}, [0, 128, 255]),
        (np.array([[0, 2048, 4095]], np.uint16), {"t281": 4095}, [0, 128, 255]),
        (np.array([[0, 2048, 4096]], np.uint16), {"t281": 4095}, [0, 8, 16]),  # a lie
        (np.array([[0, 2048, 65535]], np.uint16), {"t262": 0}, [255, 247, 0]),
        (np.array([[-5, 0, 2**31 - 1]], np.int32), {}, [0, 0, 255]),
        (np.array([[0, 0.5, 1]], np.float32), {}, [0, 128, 255]),
    ),
)
def test_wide_tiffs(pixels, tags, seen):
    assert np.asarray(to_8_bits(*tiff(pixels, **tags)))[0].tolist() == seen


def test_a_tiff_that_declares_more_rows_than_it_holds():
    file = io.BytesIO()
    Image.new("L", (4, 3), 200).save(file, "TIFF")
    content = bytearray(file.getvalue())
    at = content.index(struct.pack("<HHLL", 257, 4, 1, 3))  # ImageLength
    struct.pack_into("<L", content, at + 8, 3000)
    with pytest.raises(Unreadable, match="fewer pixels than it declares"):
        row(bytes(content), 4)


@pytest.mark.parametrize("value", (1.5, -0.1, np.nan, np.inf))
def test_floats_of_an_unknown_range_are_refused(value):
    with pytest.raises(ValueError, match="floats that are not 0 to 1"):
        to_8_bits(*tiff(np.array([[0, value]], np.float32)))


@pytest.mark.parametrize("mode", MODES.split(","))
def test_every_mode_of_pillow_becomes_a_plain_one(mode):
    for c in (1, 3):
        plain = to_plain_mode(Image.new(mode, (3, 2)), c, io.BytesIO())
        assert plain.size == (3, 2) and plain.mode in ("L", "RGB", "RGBA")
        assert (plain.mode == "RGBA") == (mode in ("LA", "La", "PA", "RGBA", "RGBa"))


def test_damage_in_the_chunks_raises_nothing_else():
    for chunk in ((b"sBIT", b""), (b"tRNS", b""), (b"tRNS", b"\0")):
        content = png_bytes([wide(0, 65535)], (2, 1), 16, GRAY, chunk)
        try:
            assert row(content, 2, c=1) == [[0], [255]]
        except Unreadable as error:
            assert str(error)
