"""Sets of pictures that are probably a mistake."""

from importlib import import_module

import numpy as np

from minigan.data import remarks
from tests.support.pictures import dataset

module = import_module("minigan.data.remarks")  # the package has a function of this name
NOISE = np.random.default_rng(0).integers(0, 256, (20, 8, 6, 1), np.uint8)


def found(images, **traits):
    data = dataset(np.asarray(images, np.uint8), "folder")
    data.traits.update(traits)
    return remarks(data)


def test_good_pictures_get_no_remark():
    assert found(NOISE) == found(np.where(NOISE > 240, 255, 0)) == []
    assert found(NOISE, turned=10) == []  # of 20: a mixture
    assert found(NOISE[:1]) == []  # there is no other to be like


def test_pictures_that_hardly_vary():
    (line,) = found(np.full_like(NOISE, 255))
    assert "the pictures hardly vary: the standard deviation of their pixels is 0.0 of 255" in line
    assert "(sBIT)" in line
    assert "hardly vary" in found(NOISE // 16)[0]  # 12 bits in 16
    assert "hardly vary" in found(NOISE * 0 + NOISE[:, :1, :1])[0]  # each of one color
    (line,) = found(np.full_like(NOISE, 255), transparent=20)
    assert "20 of 20 pictures are transparent, so try --background black" in line


def test_pictures_that_are_nearly_all_alike():
    (line,) = found(NOISE[[0, 1] * 10])
    assert "nearly all alike: 2 of 20 are distinct, and a pixel's standard deviation" in line
    (line,) = found(NOISE[:1] // 2 + NOISE // 80)
    assert "20 of 20 are distinct, and a pixel's standard deviation over the" in line


def test_pictures_from_the_whole_set_are_looked_at(monkeypatch):
    monkeypatch.setattr(module, "SAMPLE", 4 * NOISE[0].size)
    pictures = NOISE.copy()
    pictures[:5] = NOISE[0]  # of a video that begins with a still
    assert found(pictures) == []


def test_first_frames_and_sizes_the_other_way_round():
    assert found(NOISE, animated=3) == ["3 of 20 pictures have several frames: the first is used"]
    (line,) = found(NOISE, turned=20)
    assert (
        "wider than high, and --image-size is height first: 8x6 cuts or distorts them, 6x8" in line
    )


def test_pictures_that_are_enlarged():
    assert found(NOISE, small=10) == []
    (line,) = found(NOISE, small=20)
    assert "the pictures are smaller than 8x6, and enlarged: with their own size as" in line
