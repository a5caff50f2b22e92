"""Paths through z, by their formulas, and the frames of an animation."""

import numpy as np
import pytest

from minigan.data.files.png import grid
from minigan.inspection import interpolation
from minigan.inspection.interpolation import animate_interpolation, linear, ring, spherical
from minigan.inspection.open_run import draw_z, generate
from minigan.training.open_game import open_game
from minigan.training.run_folder import Run


@pytest.mark.parametrize("path", (linear, spherical))
def test_a_path_begins_and_ends_with_the_same_bits(path):
    rng = np.random.default_rng(0)
    for d in (1, 2, 64, 100):
        a, b = rng.standard_normal((2, d))
        points = path(a, b, np.linspace(0, 1, 9))
        assert np.array_equal(points[0], a) and np.array_equal(points[-1], b)


def test_linear_is_the_formula():
    a, b = np.random.default_rng(0).uniform(-1, 1, (2, 5))
    t = np.linspace(0, 1, 7)
    assert np.array_equal(linear(a, b, t), [(1 - each) * a + each * b for each in t])


def test_spherical_turns_evenly_and_keeps_the_length():
    a, b = np.random.default_rng(0).standard_normal((2, 64))
    b *= 1.5
    t = np.linspace(0, 1, 17)
    points, lengths = spherical(a, b, t), np.linalg.norm([a, b], axis=1)
    norms = np.linalg.norm(points, axis=1)
    np.testing.assert_allclose(norms, (1 - t) * lengths[0] + t * lengths[1], rtol=1e-13)
    angles = np.arccos(np.clip(points @ a / norms / lengths[0], -1, 1))
    np.testing.assert_allclose(angles, t * angles[-1], atol=1e-7)  # arccos near 1: half the digits
    assert np.linalg.matrix_rank(np.vstack([points, a, b]), tol=1e-9) == 2  # in their plane
    half = spherical(np.array([3.0, 0]), np.array([0, 3.0]), np.array([0.5]))
    np.testing.assert_allclose(half, [[4.5**0.5] * 2], rtol=1e-15)


@pytest.mark.parametrize("b", ([2.0, 4.0], [-1.0, -2.0], [0.0, 0.0], [1.0, 2.0]))
def test_spherical_is_linear_if_there_is_no_arc(b):
    a, t = np.array([1.0, 2.0]), np.linspace(0, 1, 5)
    assert np.array_equal(spherical(a, np.array(b), t), linear(a, np.array(b), t))


@pytest.mark.parametrize("path", ("linear", "spherical"))
def test_a_ring_closes(path):
    points = np.random.default_rng(0).standard_normal((4, 6))
    walk = ring(points, 3, path)
    assert walk.shape == (4, 4, 6)
    assert np.array_equal(walk[:, 0], points) and np.array_equal(walk[:, -1], points[[1, 2, 3, 0]])


def test_an_animation_shows_one_z_at_a_time_in_all_classes(runs, monkeypatch):
    """It goes from the first z of the seed to the next ones."""
    monkeypatch.setattr(interpolation, "FRAMES", 2)
    game, _ = open_game(Run(runs["conditional"]))
    frames = animate_interpolation(game, "linear", None, 5)
    for frame, z in zip(frames[::2], draw_z(game, 9, 5), strict=True):
        images = generate(game, np.tile(z, (10, 1)), np.arange(10))
        expected = grid(images, columns=5)[:, :, 0]
        factor = frame.height // len(expected)
        np.testing.assert_array_equal(np.asarray(frame)[::factor, ::factor], expected)
