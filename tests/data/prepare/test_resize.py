"""The geometry of the four fits: which pixels are used. The filter is Pillow's."""

import numpy as np
import pytest
from PIL import Image

import minigan as mg
from minigan.data import parse_fit
from minigan.data.prepare.resize import fit_arrays, resize


def numbered(width, height):
    """A picture whose pixel (x, y) has the color (x, y, 7)."""
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([x, y, np.full_like(x, 7)], axis=-1).astype(np.uint8))


@pytest.mark.parametrize(
    "text, size, wanted, box",
    (
        ("crop", (40, 20), (10, 10), (10, 0, 30, 20)),
        ("crop", (20, 41), (10, 10), (0, 10, 20, 30)),
        ("crop", (30, 30), (10, 20), (7, 0, 22, 30)),
        ("crop", (178, 218), (64, 64), (0, 20, 178, 198)),
        ("crop", (100, 1), (10, 10), (49, 0, 50, 1)),
        ("crop", (1000, 1), (1, 1000), (499, 0, 500, 1)),  # less than a pixel becomes one
        ("crop", (7, 5), (7, 5), (0, 0, 7, 5)),
        ("squash", (40, 20), (10, 10), (0, 0, 40, 20)),
        ("centre:108", (178, 218), (64, 64), (35, 55, 143, 163)),  # of CelebA, in the first DCGANs
        ("centre:10", (10, 10), (10, 10), (0, 0, 10, 10)),
        ("box:14,34,144,184", (178, 218), (32, 32), (14, 34, 144, 184)),  # of CelebA, Shibuya's
        ("box:0,0,1,2", (1, 2), (9, 9), (0, 0, 1, 2)),
    ),
)
def test_the_box(text, size, wanted, box):
    fit = parse_fit(text)
    assert fit.box(*size, *wanted) == box and str(fit) == text
    if max(size) > 256:
        return
    picture, (w, h) = numbered(*size), wanted
    cut = np.asarray(picture)[box[1] : box[3], box[0] : box[2]]
    np.testing.assert_array_equal(resize(picture, fit, cut.shape[1], cut.shape[0]), cut)
    theirs = picture.crop(box).resize((w, h), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(resize(picture, fit, w, h), theirs)


def test_center_is_another_spelling():
    assert parse_fit("center:108") == parse_fit("centre:108")
    assert str(parse_fit("center:108")) == "centre:108"


@pytest.mark.parametrize("text", ("centre:108", "box:0,0,11,5", "box:0,0,5,11"))
def test_a_picture_that_is_too_small(text):
    shown = text.replace("centre", "center")
    with pytest.raises(mg.ShapeError, match=f"a picture of 10x10 is too small for {shown}"):
        parse_fit(text).box(10, 10, 4, 4)


@pytest.mark.parametrize(
    "text",
    (
        "",
        "Crop",
        "crop ",
        "centre",
        "centre:",
        "centre:0",
        "centre:-4",
        "centre:1.5",
        "centre:108,108",
        "centre:\u0661",
        "centre:10\n",
        "box:1,2,3",
        "box:1,2,3,4,5",
        "box:3,0,3,5",
        "box:0,5,5,5",
        "box:5,0,3,9",
        "box:-1,0,5,5",
        "box:0,0, 5,5",
        None,
        108,
        "centre:" + "9" * 30,
        "centre:" + "9" * 5000,
    ),
)
def test_text_that_is_not_a_fit(text):
    with pytest.raises(mg.ConfigError, match=r"^--fit") as caught:
        parse_fit(text)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 250


def test_arrays_are_resized_to_any_shape():
    """Against Pillow, picture by picture; more pictures than a thread resizes at a time."""
    rng = np.random.default_rng(0)
    for channels in (1, 3):
        images = rng.integers(0, 256, (300, 9, 7, channels), np.uint8)
        for shape in ((9, 7, 1), (9, 7, 3), (4, 4, 1), (4, 4, 3), (20, 18, 3), (7, 7, 1)):
            for text in ("crop", "squash", "centre:5", "box:1,2,6,9"):
                h, w, c = shape
                fit = parse_fit(text)
                made = fit_arrays(images, shape, fit)
                assert made.shape == (300, *shape) and made.dtype == np.uint8
                for i in (0, 255, 256, 299):
                    picture = Image.fromarray(images[i, :, :, 0] if channels == 1 else images[i])
                    box = fit.box(7, 9, w, h)
                    picture = picture.convert("L") if c == 1 else picture
                    if box != (0, 0, w, h) or (w, h) != (7, 9):
                        picture = picture.crop(box).resize((w, h), Image.Resampling.BILINEAR)
                    wanted = np.asarray(picture.convert("L" if c == 1 else "RGB")).reshape(shape)
                    np.testing.assert_array_equal(
                        made[i], wanted, err_msg=f"{channels} {shape} {text}"
                    )


def test_pictures_of_the_right_size_are_not_copied():
    images = np.random.default_rng(0).integers(0, 256, (5, 9, 7, 3), np.uint8)
    for text in ("crop", "squash", "box:0,0,7,9"):
        assert np.shares_memory(fit_arrays(images, (9, 7, 3), parse_fit(text)), images)
    np.testing.assert_array_equal(
        fit_arrays(images, (5, 5, 3), parse_fit("centre:5")), images[:, 2:7, 1:6]
    )
    gray = images[..., :1]
    np.testing.assert_array_equal(
        fit_arrays(gray, (9, 7, 3), parse_fit("crop")), np.repeat(gray, 3, axis=3)
    )
