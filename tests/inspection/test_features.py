"""What a unit sees, and the images that excite it."""

import numpy as np
import pytest

import minigan as mg
from minigan.inspection import features
from minigan.inspection.features import cut, draw_features, draw_unit, last_map, strongest, window
from minigan.inspection.guided_backprop import guided_gradient
from minigan.inspection.open_run import freeze_discriminator, real_images
from minigan.inspection.page_layout import cells, signed
from minigan.layers.sequential import forward_pass
from minigan.training.open_game import open_game
from minigan.training.run_folder import Run
from tests.support.networks import network
from tests.support.pictures import noise


@pytest.mark.parametrize(
    "k, s, padding",
    ((5, 2, "same"), (4, 2, "valid"), (3, 1, 2), (5, 2, ((0, 1), (2, 3))), (2, 3, "same")),
)
def test_a_window_is_where_the_gradient_is(k, s, padding):
    layers = [mg.Conv2d(2, k, s, padding), mg.LeakyReLU(0.2), mg.Conv2d(3, 3, padding=1), mg.ReLU()]
    D = network(layers, (31, 37, 1))
    for parameter in D.params.values():
        parameter[...] = 1
    x = np.ones((1, 31, 37, 1))
    h, w, c = D.out_shape
    for place in ((h // 2, w // 3), (0, 0), (h - 1, w - 1)):
        dy = np.zeros((1, h, w, c))
        dy[(0, *place, 1)] = 1
        seen = guided_gradient(D, 3, x, dy)[0] != 0
        top, bottom, left, right = window(D, 3, place)
        inside = np.zeros_like(seen)
        inside[max(top, 0) : bottom, max(left, 0) : right] = True
        assert seen.any() and not (seen & ~inside).any()
        if place == (h // 2, w // 3) and s <= k:  # no padding inside, and no gaps
            assert np.array_equal(seen, inside)
        assert cut(x[0], (top, bottom, left, right)).shape == (bottom - top, right - left, 1)


def test_a_cut_may_reach_outside_of_the_image():
    image = np.arange(12).reshape(3, 4, 1)
    assert cut(image, (-1, 1, 3, 5), outside=9)[:, :, 0].tolist() == [[9, 9], [3, 9]]
    assert np.array_equal(cut(image, (-5, 9, 0, 1)), image)


def test_the_strongest_responses_are_found(runs):
    game, _ = open_game(Run(runs["conditional"]))
    data = noise(50)("mnist")  # as in the runs
    freeze_discriminator(game, game.D, data)
    numbers = np.arange(3, 50, 2)
    index = last_map(game.D)
    images, places = strongest(game, game.D, index, data, numbers, 2, 4)
    x = data.images[numbers] / np.float32(255)  # this G ends in a sigmoid: black is 0
    maps = forward_pass(
        game.D.layers[: index + 1], x.astype(np.float32), False, game.labels(numbers % 10)
    )
    for unit in range(2):
        responses = maps[..., unit].reshape(len(numbers), -1)
        order = np.argsort(-responses.max(axis=1))[:4]
        assert images[unit].tolist() == numbers[order].tolist()
        assert places[unit].tolist() == responses[order].argmax(axis=1).tolist()


def test_a_patch_is_cut_where_the_unit_responds(runs):
    game, _ = open_game(Run(runs["color"]))
    data, numbers, places = noise(50)("folder", image_shape=(16, 24, 3)), [5, 9], [(0, 1), (1, 2)]
    _, w, _ = game.D.layers[1].out_shape
    flat = np.array([row * w + column for row, column in places])
    found = draw_unit(game, game.D, 1, data, 3, np.array(numbers), flat)
    x, labels = real_images(game, data, np.array(numbers))
    dy = np.zeros((2, *game.D.layers[1].out_shape), np.float32)
    for i, place in enumerate(places):
        dy[(i, *place, 3)] = 1
    windows = [window(game.D, 1, place) for place in places]
    patches = [cut(data.images[i], seen, 128) for i, seen in zip(numbers, windows, strict=True)]
    gradients = guided_gradient(game.D, 1, x, dy, labels)
    gradients = [signed(cut(each, seen)) for each, seen in zip(gradients, windows, strict=True)]
    factor = 44 // patches[0].shape[1]
    np.testing.assert_array_equal(found[:, 24:], cells([*patches, *gradients], 2, factor))


@pytest.fixture
def draw_one_unit(runs, monkeypatch):
    """-> function (data, layer, change): the page of a unit, for D after change(D)"""
    monkeypatch.setattr(features, "UNITS", 1)
    monkeypatch.setattr(features, "IMAGES", 10)

    def draw(data, layer=None, change=lambda D: None):
        game, _ = open_game(Run(runs["plain"]))
        change(game.D)
        return draw_features(game, data, last_map(game.D) if layer is None else layer)

    return draw


def test_units_of_the_trained_d_are_on_the_right(draw_one_unit):
    def turn(D):
        D.params["0.W"][...] *= -1

    data = noise(50)("mnist")
    pages = draw_one_unit(data, 1), draw_one_unit(data, 1, turn)
    changed = np.flatnonzero((pages[0] != pages[1]).any(axis=(0, 2)))
    assert changed.size and changed.min() > pages[0].shape[1] / 2


def test_features_are_those_of_frozen_statistics(draw_one_unit):
    def change_statistics(D):
        for buffer in D.buffers.values():
            buffer[...] = 1 + np.arange(len(buffer))

    data = noise(50)("mnist")
    page = draw_one_unit(data)
    np.testing.assert_array_equal(draw_one_unit(data, change=change_statistics), page)


def test_images_of_the_whole_set_are_searched(draw_one_unit):
    """It may be sorted by class."""
    data = noise(50)("mnist")
    page = draw_one_unit(data, 1)
    data.images[10:] = 0
    assert not np.array_equal(draw_one_unit(data, 1), page)


def test_the_last_map_is_found(runs):
    found = {}
    for name, folder in runs.items():
        D = open_game(Run(folder))[0].D
        layer = D.layers[last_map(D)]
        found[name] = (layer.describe(), len(layer.out_shape))
    assert found == {
        "conditional": ("LeakyReLU 0.2", 3),
        "plain": ("LeakyReLU 0.2", 3),
        "color": ("LeakyReLU 0.2", 3),
        "linear": ("LeakyReLU 0.01", 1),
        "dropout": ("LeakyReLU 0.3", 3),
    }
    only_maps = network([mg.Conv2d(4, 4), mg.LeakyReLU(0.2), mg.Conv2d(1, 5)], (8, 8, 1))
    assert last_map(only_maps) == 1  # not the logit
    assert last_map(network([mg.Linear(3), mg.Linear(1)], (6,))) == 1
