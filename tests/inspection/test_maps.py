"""Filters and maps as pictures, and the layout of pages."""

import numpy as np

import minigan as mg
from minigan.data.files.png import load_png
from minigan.inspection import maps, page_layout
from minigan.inspection.maps import (
    draw_filters,
    draw_layer,
    draw_stages,
    filters,
    map_pictures,
    stages,
)
from minigan.inspection.page_layout import below, beside, cells, picture, save_page, sign, words
from minigan.training.open_game import open_game
from minigan.training.run_folder import Run
from tests.support.networks import network
from tests.support.pages import holds


def test_filters_are_the_weights_of_the_image(runs):
    for name, folder in runs.items():
        game, _ = open_game(Run(folder))
        h, w, c = game.D.in_shape
        W = filters(game.D)
        assert W.shape[3] == c
        assert W.shape[1:3] == (h, w) if name == "linear" else W.shape[1] <= 5
    D = network([mg.Flatten(), mg.Linear(3, bias=False)], (4, 5, 2))
    x = np.random.default_rng(0).standard_normal((1, 4, 5, 2))
    np.testing.assert_allclose(D.forward(x)[0], (filters(D) * x).sum(axis=(1, 2, 3)), rtol=1e-12)


def test_filters_of_the_trained_d_are_on_the_right(runs):
    game, _ = open_game(Run(runs["plain"]))
    before = draw_filters(game)
    game.D.params["0.W"][...] *= -1
    changed = np.flatnonzero((draw_filters(game) != before).any(axis=(0, 2)))
    assert changed.size and changed.min() > before.shape[1] / 2


def test_each_map_is_scaled_by_itself():
    maps = np.stack([[[0.0, 1], [2, 4]], [[-1.0, 0], [0.5, 1]], np.zeros((2, 2))], axis=2)
    first, second, third = (each[:, :, 0].tolist() for each in map_pictures(maps))
    assert first == [[0, 64], [128, 255]]
    assert second == [[0, 128], [191, 255]]
    assert third == [[0, 0], [0, 0]]
    (vector,) = map_pictures(np.arange(5.0))
    assert vector[:, :, 0].tolist() == [[0, 64, 128], [191, 255, 0]]


def test_stages_are_cores_with_what_follows_them():
    D = network([mg.Conv2d(4, 4), mg.LeakyReLU(0.2), mg.Conv2d(1, 5), mg.Flatten()], (8, 8, 1))
    assert stages(D) == [(0, 1), (2, 2)]


BLACK = np.zeros((8, 8, 1), np.uint8)


def test_the_maps_that_vary_most_are_shown(monkeypatch):
    monkeypatch.setattr(maps, "ROW", 2)
    D = network([mg.Conv2d(3, 1, bias=False)], (8, 8, 1))
    x = np.random.default_rng(0).uniform(size=(1, 8, 8, 1))

    def page(*weights):  # what is negative looks different
        D.params["0.W"][...] = weights
        return draw_stages(D, x, None, BLACK, "noise")

    shown = page(1, -3, 2)
    assert np.array_equal(page(-1, -3, 2), shown) and np.array_equal(page(2, 1, -3), shown)
    assert not np.array_equal(page(1, 3, 2), shown)


def test_the_maps_of_one_layer_are_its_output():
    D = network([mg.Conv2d(3, 1), mg.LeakyReLU(0.5), mg.Conv2d(2, 3)], (8, 8, 1))
    x = y = np.random.default_rng(0).standard_normal((1, 8, 8, 1))
    for index, layer in enumerate(D.layers):
        page, y = draw_layer(D, index, x, None, BLACK, "noise"), layer.forward(y, False)
        factor = page_layout.enlargement(y.shape[2], maps.SIDE)
        assert holds(page, cells(map_pictures(y[0]), 16, factor))


def test_the_output_of_d_is_shown_as_a_probability_too():
    D = network([mg.Flatten(), mg.Linear(1)], (8, 8, 1))
    D.params["1.b"][...] = 2
    page = draw_stages(D, np.zeros((1, 8, 8, 1)), None, BLACK, "black")[:, :, 0]
    text = words("+2.00, with sigmoid 0.88")[:, :, 0]
    line = text[len(text) // 2].tobytes()  # of its pixels
    assert any(line in row.tobytes() for row in page)


def test_blocks_have_the_right_sizes():
    a, b = picture(np.zeros((3, 4, 1), np.uint8), 2), picture(np.zeros((5, 6, 3), np.uint8))
    assert a.shape == (6, 8, 3) and b.shape == (5, 6, 3)
    assert beside([a, b], gap=2).shape == (6, 16, 3) and below([a, b], gap=2).shape == (13, 8, 3)
    assert below([a, b], gap=0, align=1.0)[-1, :, 0].tolist() == [255, 255, 0, 0, 0, 0, 0, 0]
    grid = cells(np.zeros((7, 4, 4, 1), np.uint8), 3, factor=2, gap=1)
    assert grid.shape == (3 * 8 + 2, 3 * 8 + 2, 3)
    text = "some words that need a second line"
    narrow, wide = words(text, width=120), words(text)
    assert narrow.shape[1] == 120 and narrow.shape[0] > wide.shape[0] and narrow.min() < 100
    plus, minus, equals = ((sign(each) < 255).sum() for each in "+-=")
    assert minus < plus < equals == 2 * minus


def test_a_page_has_a_margin_and_is_gray_if_it_can_be(tmp_path):
    block = picture(np.zeros((3, 4, 1), np.uint8))
    save_page(tmp_path / "a.png", block)
    page = load_png(tmp_path / "a.png")
    assert page.shape == (43, 44, 1) and (page[20:23, 20:24] == 0).all()
    assert page.sum() == 255 * (43 * 44 - 12)
    block[0, 0, 0] = 9
    save_page(tmp_path / "a.png", block)
    assert load_png(tmp_path / "a.png").shape == (43, 44, 3)
