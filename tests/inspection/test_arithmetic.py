"""Sums of z, and the groups of samples in them."""

from types import SimpleNamespace

import numpy as np
import pytest

from minigan.data import Dataset
from minigan.errors import ConfigError
from minigan.inspection import arithmetic, page_layout, sample_groups
from minigan.inspection.arithmetic import combine, draw_arithmetic, draw_candidates, neighborhood
from minigan.inspection.open_run import draw_z, generate
from minigan.inspection.sample_groups import parse_groups, stroke_width
from minigan.training.open_game import open_game
from minigan.training.run_folder import Run
from tests.support.pages import holds, where
from tests.support.pictures import DIGITS


def test_the_sum_and_its_neighbors():
    a, b, c = np.arange(6.0).reshape(3, 2), np.ones((2, 2)), np.full((1, 2), 10.0)
    assert combine(a, b, c).tolist() == [2 - 1 + 10, 3 - 1 + 10]
    z = neighborhood(np.arange(5.0), np.random.default_rng(0))
    assert z.shape == (9, 5) and np.array_equal(z[4], np.arange(5.0))
    distances = np.abs(np.delete(z, 4, axis=0) - np.arange(5.0))
    assert distances.min() > 0 and distances.max() <= 0.25


def test_the_width_of_a_sum_is_that_of_its_means_in_the_class_of_the_last_group(runs):
    game, _ = open_game(Run(runs["conditional"]))
    _, line = draw_arithmetic(game, parse_groups(["0,10,20", "31,41", "2"]), 3)
    z = draw_z(game, 42, 3)
    a, b, c = z[[0, 10, 20]], z[[31, 41]], z[[2]]
    points = np.stack([a.mean(axis=0), b.mean(axis=0), c.mean(axis=0), combine(a, b, c)])
    widths = [f"{width:.1f}" for width in stroke_width(generate(game, points, [0, 1, 2, 2]))]
    in_words = "{} - {} + {} pixels wide, and of the sum {}".format(*widths)
    assert line == f"A - B + C: strokes {in_words}"


def test_samples_to_choose_from_are_those_of_the_seed(runs, monkeypatch):
    monkeypatch.setattr(arithmetic, "SHOWN", 4)
    game, _ = open_game(Run(runs["plain"]))
    first, again, other = (draw_candidates(game, seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_samples_to_choose_from_have_their_numbers_below_them(runs, monkeypatch):
    monkeypatch.setattr(arithmetic, "SHOWN", 3)
    game, _ = open_game(Run(runs["plain"]))
    page, images = draw_candidates(game, 1), generate(game, draw_z(game, 3, 1))
    factor = page_layout.enlargement(images.shape[2])
    for i, image in enumerate(images):
        block = page_layout.picture(image, factor)
        style = dict(width=block.shape[1], centered=True)
        number = page_layout.words(str(i), arithmetic.SMALL, **style)
        assert holds(page, page_layout.below([block, number], gap=0))


def test_the_page_shows_a_minus_b_plus_c_and_the_same_sum_of_pixels(runs):
    game, _ = open_game(Run(runs["plain"]))
    page, _ = draw_arithmetic(game, parse_groups(["0,1", "2", "3"]), 3)
    z = draw_z(game, 4, 3)
    a, b, c = (generate(game, z[numbers]).astype(float) for numbers in ([0, 1], [2], [3]))
    pixels = np.clip(np.rint(a.mean(axis=0) - b[0] + c[0]), 0, 255).astype(np.uint8)
    factor = page_layout.enlargement(pixels.shape[1], arithmetic.LARGE)
    assert holds(page, page_layout.picture(pixels, factor))
    places = [where(page, page_layout.sign(operator)) for operator in "-+="]
    assert [len(found) for found in places] == [1, 1, 1]
    minus, plus, equals = (found[0] for found in places)
    assert minus < plus < equals


def bars(width, lying, count, size=28):
    """-> images of a bar, all the same."""
    images = np.zeros((count, size, size, 1), np.uint8)
    images[:, 4 : size - 4, 10 : 10 + width] = 255
    return images.swapaxes(1, 2) if lying else images


def test_the_width_of_strokes():
    widths = np.arange(2, 8)
    for lying in (False, True):
        images = np.concatenate([bars(width, lying, 1) for width in widths])
        expected = 2 * 20 * widths / (2 * 20 + 2 * widths)  # the ends are outline too
        np.testing.assert_allclose(stroke_width(images), expected, rtol=0.05)
    assert stroke_width(np.zeros((2, 8, 8, 3), np.uint8)).tolist() == [0, 0]


@pytest.mark.parametrize("classes", (0, 10))
def test_thick_and_thin_samples_are_chosen_by_width(classes, monkeypatch):
    """Class 7 are upright bars, class 3 lying ones, 2 to 7 pixels wide.

    A conditional G was asked for another class in half of the samples.
    """
    kinds = [(width, lying) for lying in (False, True) for width in range(2, 8)]
    images = np.concatenate([bars(width, lying, 20) for width, lying in kinds])
    widths = np.repeat([width for width, _ in kinds], 20)
    truth = np.repeat([3 if lying else 7 for _, lying in kinds], 20)
    asked = np.zeros(len(images), int)
    if classes:
        asked = np.where(np.arange(len(images)) % 2, truth, 5)
    z = np.random.default_rng(0).standard_normal((len(images), 6))
    monkeypatch.setattr(sample_groups, "REAL", 120)  # of the 240
    monkeypatch.setattr(sample_groups, "draw_z", lambda game, n, seed: {5: z}[seed])
    monkeypatch.setattr(sample_groups, "generate", lambda game, z, numbers: images)
    data = Dataset("bars", images, truth, DIGITS, "0", None)
    preset = SimpleNamespace(classes=classes)
    game = SimpleNamespace(preset=preset, classes_in_turn=lambda n: asked)
    groups = sample_groups.choose(game, data, ("7", "3"), 5)
    assert [group.name for group in groups] == ["thick 7", "thin 7", "thin 3"]
    for group, number, width in zip(groups, (7, 7, 3), (7, 2, 2), strict=True):
        assert len(set(group.numbers)) == 3
        assert (truth[group.numbers] == number).all() and (widths[group.numbers] == width).all()
        assert not classes or (asked[group.numbers] == number).all()


def test_pairs_are_those_whose_z_are_nearest():
    z = np.array([[0.0], [10.0], [20.0], [30.0], [0.1], [10.3], [20.2], [99.0]])
    pairs = sample_groups.nearest_pairs(z, np.arange(4), np.arange(4, 8))
    assert pairs == ([0, 2, 1], [4, 6, 5])


def test_groups_as_they_are_typed():
    a, b, c = parse_groups(["3,14,15", "92", "65,35"])
    assert (a.name, a.numbers, b.numbers, c.numbers) == ("A", [3, 14, 15], [92], [65, 35])
    many = ",".join(map(str, range(1000, 1100)))
    assert len(parse_groups([many, "1", "2"])[0].numbers) == 100
    for texts in (["1", "2"], ["1", "2", "x"], ["1", "2", "4096"], ["1", "2", 9999 * "9"]):
        with pytest.raises(ConfigError, match="--pick: expected"):
            parse_groups(texts)
