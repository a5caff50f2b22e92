"""Every kind of picture, with known pixels, and every kind of damage, with a reason."""

import io
import struct
import threading
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, features

from minigan.data.files.decode import Form, Unreadable, decode
from minigan.data.prepare.resize import parse_fit

CROP, SQUASH = parse_fit("crop"), parse_fit("squash")
RGB = np.random.default_rng(0).integers(0, 256, (6, 5, 3), np.uint8)
GRAY = RGB[..., 0]


def saved(picture, kind="PNG", **options):
    file = io.BytesIO()
    (Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture).save(
        file, kind, **options
    )
    return file.getvalue()


def decoded(content, shape=(6, 5, 3), fit=CROP):
    return decode(io.BytesIO(content), Form(shape, fit))


def luminance(rgb):
    return np.asarray(Image.fromarray(rgb).convert("L"))[..., np.newaxis]


def smooth(width, height):
    """A picture that JPEG hardly changes."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // width, y * 255 // height, np.full_like(x, 99)], axis=-1).astype(
        np.uint8
    )


@pytest.mark.parametrize("kind", ("PNG", "BMP"))
def test_color_and_gray_are_unchanged(kind):
    np.testing.assert_array_equal(decoded(saved(RGB, kind)), RGB)
    np.testing.assert_array_equal(decoded(saved(RGB, kind), (6, 5, 1)), luminance(RGB))
    np.testing.assert_array_equal(decoded(saved(GRAY, kind), (6, 5, 1))[..., 0], GRAY)
    np.testing.assert_array_equal(decoded(saved(GRAY, kind)), np.repeat(GRAY[..., None], 3, axis=2))


@pytest.mark.skipif(not features.check("webp"), reason="Pillow without WebP")
def test_webp():
    np.testing.assert_array_equal(decoded(saved(RGB, "WEBP", lossless=True)), RGB)
    alpha = np.dstack([RGB, np.full(RGB.shape[:2], 255, np.uint8)])
    alpha[2:4, :, 3] = 0
    wanted = RGB.copy()
    wanted[2:4] = 255
    np.testing.assert_array_equal(decoded(saved(alpha, "WEBP", lossless=True, exact=True)), wanted)


def test_jpeg_is_decoded_as_by_pillow():
    for picture in (smooth(50, 60), smooth(50, 60)[..., 0]):
        content = saved(picture, "JPEG", quality=95)
        theirs = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
        np.testing.assert_array_equal(decoded(content, (60, 50, 3)), theirs)
        assert (
            np.abs(
                theirs.astype(int) - np.broadcast_to(picture.reshape(60, 50, -1), (60, 50, 3))
            ).max()
            < 9
        )


def test_one_bit():
    black_and_white = Image.fromarray(GRAY).convert("1")
    for kind in ("PNG", "BMP", "GIF"):
        np.testing.assert_array_equal(
            decoded(saved(black_and_white, kind), (6, 5, 1))[..., 0],
            np.asarray(black_and_white) * np.uint8(255),
        )


def test_sixteen_bits():
    wide = GRAY.astype(np.uint16) * 257
    np.testing.assert_array_equal(decoded(saved(wide), (6, 5, 1))[..., 0], GRAY)
    np.testing.assert_array_equal(decoded(saved(wide))[..., 1], GRAY)
    levels = np.array([[0, 1, 128, 129, 257, 385, 386, 32768, 65535]], np.uint16)
    np.testing.assert_array_equal(
        decoded(saved(levels), (1, 9, 1))[0, :, 0], np.rint(levels[0] / 257)
    )


def test_palettes():
    palette = Image.fromarray(RGB).quantize(16)
    wanted = np.asarray(palette.convert("RGB"))
    for kind in ("PNG", "GIF", "BMP"):
        np.testing.assert_array_equal(decoded(saved(palette, kind)), wanted)
        np.testing.assert_array_equal(decoded(saved(palette, kind), (6, 5, 1)), luminance(wanted))
    clear = int(palette.getpixel((1, 2)))
    wanted = wanted.copy()
    wanted[np.asarray(palette) == clear] = 255
    for kind in ("PNG", "GIF"):
        np.testing.assert_array_equal(decoded(saved(palette, kind, transparency=clear)), wanted)
    half = bytes([128] * 256)  # an alpha for each color of the palette
    blended = decoded(saved(palette, "PNG", transparency=half)).astype(int)
    assert (
        np.abs(
            blended - (np.asarray(palette.convert("RGB")) * (128 / 255) + 255 * (127 / 255))
        ).max()
        <= 1
    )


def test_transparency_is_composed_onto_white():
    alpha = np.array([[0, 255, 128, 51, 204]] * 6, np.uint8)
    wanted = 255 + (RGB.astype(float) - 255) * (alpha / 255)[..., None]
    made = decoded(saved(np.dstack([RGB, alpha])))
    assert np.abs(made - wanted).max() <= 1
    np.testing.assert_array_equal(made[:, 0], 255)
    np.testing.assert_array_equal(made[:, 1], RGB[:, 1])
    gray = decoded(saved(np.dstack([GRAY, alpha])), (6, 5, 1))[..., 0]
    assert np.abs(gray - (255 + (GRAY.astype(float) - 255) * (alpha / 255))).max() <= 1
    # One color is transparent.
    for picture, clear in ((RGB, tuple(map(int, RGB[1, 1]))), (GRAY, int(GRAY[1, 1]))):
        made = decoded(saved(picture, transparency=clear))
        np.testing.assert_array_equal(made[1, 1], 255)
        np.testing.assert_array_equal(made[0, 0], RGB[0, 0] if picture is RGB else [GRAY[0, 0]] * 3)


def test_transparent_pixels_do_not_color_their_neighbors():
    """Red rows, and green ones that are fully transparent: at half the size, no green is left."""
    picture = np.zeros((8, 8, 4), np.uint8)
    picture[..., 1] = 255
    picture[::2] = [255, 0, 0, 255]
    made = decoded(saved(picture), (4, 4, 3))
    assert (
        np.all(made[..., 0] >= 254) and np.abs(made[..., 1].astype(int) - made[..., 2]).max() <= 1
    )


def test_cmyk():
    cmyk = Image.fromarray(smooth(50, 60)).convert("CMYK")
    content = saved(cmyk, "JPEG", quality=95)
    np.testing.assert_array_equal(
        decoded(content, (60, 50, 3)), np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    )
    assert np.abs(decoded(content, (60, 50, 3)).astype(int) - smooth(50, 60)).mean() < 4


ORIENTED = {  # orientation: the picture in the file -> the picture that is seen
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", ORIENTED)
def test_exif(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    wanted = ORIENTED[orientation](RGB)
    np.testing.assert_array_equal(decoded(saved(RGB, exif=exif), wanted.shape), wanted)
    content = saved(smooth(80, 120), "JPEG", quality=95, exif=exif)
    wanted = ORIENTED[orientation](smooth(80, 120))
    assert np.abs(decoded(content, wanted.shape).astype(int) - wanted).max() < 9
    small = Image.fromarray(np.ascontiguousarray(wanted)).resize(
        (15, 10), Image.Resampling.BILINEAR
    )
    drafted = decoded(content, (10, 15, 3), SQUASH)
    assert np.abs(drafted.astype(int) - np.asarray(small)).max() < 12


@pytest.mark.parametrize(
    "exif",
    (
        b"Exif\0\0nonsense",
        b"",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x63\0\0",  # orientation 99
    ),
)
def test_exif_that_cannot_be_read_is_ignored(exif):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.testing.assert_array_equal(decoded(saved(RGB, exif=exif)), RGB)


def test_first_frame():
    frames = [Image.fromarray(np.full((6, 5, 3), value, np.uint8)) for value in (10, 200, 90)]
    for kind in ("GIF", "PNG", *(["WEBP"] if features.check("webp") else [])):
        options = {"lossless": True} if kind == "WEBP" else {}
        content = saved(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        np.testing.assert_array_equal(decoded(content), 10)


def test_two_pictures_in_one_jpeg():
    content = io.BytesIO()
    Image.fromarray(smooth(50, 60)).save(
        content, "MPO", save_all=True, append_images=[Image.new("RGB", (50, 60))], quality=95
    )
    assert np.abs(decoded(content.getvalue(), (60, 50, 3)).astype(int) - smooth(50, 60)).max() < 9


def test_a_large_jpeg_is_decoded_at_no_less_than_twice_the_size(monkeypatch):
    content = saved(smooth(800, 640), "JPEG", quality=95)
    sizes = []
    resize = Image.Image.resize
    monkeypatch.setattr(
        Image.Image,
        "resize",
        lambda self, *args, **options: sizes.append(self.size) or resize(self, *args, **options),
    )
    for wanted, drafted in (
        (32, (80, 80)),
        (40, (80, 80)),
        (41, (160, 160)),
        (160, (320, 320)),
        (161, (640, 640)),
        (640, None),
    ):
        sizes.clear()
        made = decoded(content, (wanted, wanted, 3))
        assert sizes == ([drafted] if drafted else [])
        exact = np.asarray(
            Image.fromarray(smooth(800, 640)[:, 80:720]).resize(
                (wanted, wanted), Image.Resampling.BILINEAR
            )
        )
        assert np.abs(made.astype(int) - exact).max() < 12
    sizes.clear()
    decoded(content, (32, 32, 3), parse_fit("centre:400"))
    assert sizes == [(400, 400)]  # the numbers are pixels of the full picture


def test_any_size_is_resized_to_the_shape():
    for size in ((1, 1), (1, 300), (300, 1), (5, 6), (31, 33), (400, 300)):
        for kind in ("PNG", "JPEG"):
            for c in (1, 3):
                for fit in (CROP, SQUASH):
                    assert decoded(saved(smooth(*size), kind), (7, 9, c), fit).shape == (7, 9, c)


def test_tiff_and_ppm():
    for compression in (None, "tiff_lzw", "tiff_deflate", "packbits"):
        np.testing.assert_array_equal(decoded(saved(RGB, "TIFF", compression=compression)), RGB)
    pages = saved(RGB, "TIFF", save_all=True, append_images=[Image.fromarray(RGB[::-1])])
    np.testing.assert_array_equal(decoded(pages), RGB)
    np.testing.assert_array_equal(decoded(saved(RGB, "PPM")), RGB)
    np.testing.assert_array_equal(decoded(saved(GRAY, "PPM"), (6, 5, 1))[:, :, 0], GRAY)
    turned = saved(RGB, "TIFF", tiffinfo={274: 3})
    np.testing.assert_array_equal(decoded(turned), RGB[::-1, ::-1])


# -- damage -------------------------------------------------------------------------------------


def reason(content, shape=(6, 5, 3), fit=CROP):
    with pytest.raises(Unreadable) as caught:
        decoded(content, shape, fit)
    text = str(caught.value)
    assert text and "\n" not in text and len(text) <= 200 and "0x" not in text
    return text


def bomb(width, height):
    """A PNG that declares this many pixels and has only a few."""

    def chunk(kind, content):
        return (
            struct.pack(">L", len(content))
            + kind
            + content
            + struct.pack(">L", zlib.crc32(kind + content))
        )

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">LLBBBBB", width, height, 8, 0, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b"")
    )


def test_files_that_are_not_pictures():
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"
    for content in (
        b"",
        b"not a picture",
        b"<svg/>",
        bytes(1000),
        postscript,
        b"\x89PNG\r\n\x1a\n",
    ):
        assert "not a picture" in reason(content)
    icon = io.BytesIO()
    Image.fromarray(RGB).save(icon, "ICO")
    assert "not a picture" in reason(icon.getvalue())  # Pillow could


def test_cut_off():
    for kind in ("JPEG", "PNG", "BMP"):
        content = saved(smooth(90, 90), kind)
        for share in (0.2, 0.5, 0.9):
            reason(content[: int(len(content) * share)], (90, 90, 3))


@pytest.mark.parametrize("size", ((9500, 9500), (20000, 20000), (2**31 - 1, 2**31 - 1)))
def test_bombs(size):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert "decompression bomb" in reason(bomb(*size))


def test_a_picture_that_is_too_small_for_the_box():
    assert (
        reason(saved(RGB), (4, 4, 3), parse_fit("centre:108"))
        == "a picture of 5x6 is too small for center:108"
    )


def test_any_error_of_pillow_becomes_a_reason(monkeypatch):
    named = (
        kind("x") for kind in (SyntaxError, struct.error, AttributeError, KeyError, zlib.error)
    )
    for error in (*named, MemoryError(), RecursionError()):

        def fail(*_, error=error, **__):
            raise error

        monkeypatch.setitem(Image.OPEN, "PNG", (fail, lambda start: True))
        reason(saved(RGB))


def test_in_threads():
    content, results = saved(smooth(300, 200), "JPEG"), []
    wanted = decoded(content, (32, 32, 3))

    def work():
        results.append(
            all(np.array_equal(decoded(content, (32, 32, 3)), wanted) for _ in range(30))
        )

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 4
