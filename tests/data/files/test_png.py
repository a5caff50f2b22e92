"""Grids of pictures, and PNG files."""

import numpy as np
import pytest
from PIL import Image

import minigan as mg
from minigan.data.files.png import grid, load_png, save_png
from tests.support.refusals import refusal

IMAGES = np.random.default_rng(0).integers(1, 256, (5, 3, 4, 3), np.uint8)


def test_grid():
    picture = grid(IMAGES, columns=2, border=1)
    assert picture.shape == (3 * 4 + 1, 2 * 5 + 1, 3)
    np.testing.assert_array_equal(picture[1:4, 1:5], IMAGES[0])
    np.testing.assert_array_equal(picture[1:4, 6:10], IMAGES[1])
    np.testing.assert_array_equal(picture[9:12, 1:5], IMAGES[4])
    assert np.count_nonzero(picture) == IMAGES.size  # all else is black
    assert grid(IMAGES).shape == (2 * 5 + 2, 3 * 6 + 2, 3)  # close to a square
    assert grid(IMAGES[:1], columns=2).shape == (1 * 5 + 2, 2 * 6 + 2, 3)


def test_one_image_alone_has_its_own_size():
    np.testing.assert_array_equal(grid(IMAGES[:1]), IMAGES[0])
    np.testing.assert_array_equal(grid(IMAGES[:1], columns=1), IMAGES[0])


@pytest.mark.parametrize(
    "images, message",
    (
        (IMAGES[0], "grid: expected uint8 images (n, h, w, 1 or 3), got uint8 (3, 4, 3)"),
        (IMAGES[:0], "got uint8 (0, 3, 4, 3)"),
        (IMAGES[..., :2], "got uint8 (5, 3, 4, 2)"),
        (IMAGES / np.float32(255), ": floats in [-1, 1] become pixels by data.to_pixels"),
    ),
)
def test_what_is_not_a_grid(images, message):
    assert message in refusal(grid, images, kind=mg.ShapeError)


@pytest.mark.parametrize("c", (1, 3))
def test_a_png_file_has_the_same_pixels(c, tmp_path):
    save_png(tmp_path / "a.png", IMAGES[0, :, :, :c])
    np.testing.assert_array_equal(load_png(tmp_path / "a.png"), IMAGES[0, :, :, :c])


def test_png_files_that_cannot_be_read(tmp_path):
    path = tmp_path / "a.png"
    assert "No such file" in refusal(load_png, path, kind=mg.RunError)
    save_png(path, IMAGES[0])
    damaged = (path.read_bytes()[:50], b"no picture")
    for content in damaged:
        path.write_bytes(content)
        message = refusal(load_png, path, kind=mg.RunError)
        assert message == f"cannot read {path}: it is damaged, far too large or no PNG file"
    Image.new("1", (10_000, 10_000)).save(path)
    assert "too large" in refusal(load_png, path, kind=mg.RunError)
