"""Sets of pictures that are probably a mistake."""

import numpy as np
import pytest

from minigan.data import remarks
from tests.support.pictures import dataset

NOISE = np.random.default_rng(0).integers(0, 256, (20, 8, 6, 1), np.uint8)


def found(images, **traits):
    data = dataset(np.asarray(images, np.uint8), "folder")
    data.traits.update(traits)
    return remarks(data)


def test_good_pictures_get_no_remark():
    assert found(NOISE) == found(np.where(NOISE > 240, 255, 0)) == []
    assert found(NOISE, turned=10) == []  # of 20: a mixture


def test_pictures_that_hardly_vary():
    (line,) = found(np.full_like(NOISE, 255))
    assert "the pictures hardly vary: the standard deviation of all pixels is 0.0 of 255" in line
    assert "PNG: sBIT" in line
    assert "hardly vary" in found(NOISE // 16)[0]  # 12 bits in 16
    (line,) = found(np.full_like(NOISE, 255), transparent=20)
    assert "20 of 20 pictures are transparent, so try --background black" in line


@pytest.mark.parametrize("equal", (20, 12))
def test_pictures_that_are_nearly_all_alike(equal):
    images = NOISE.copy()
    images[:equal] = images[0]
    (line,) = found(images)
    assert f"nearly all alike: {equal / 20:.0%} are equal" in line
    assert "nearly all alike: 5% are equal" in found(NOISE[:1] // 2 + NOISE // 80)[0]


def test_first_frames_and_sizes_the_other_way_round():
    assert found(NOISE, animated=3) == ["3 of 20 pictures have several frames: the first is used"]
    (line,) = found(NOISE, turned=20)
    assert "wider than high, and --image-size is height first: 8x6 cuts them, 6x8 would" in line
