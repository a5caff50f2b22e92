"""Cells of maps against plain loops, and the features of published discriminators."""

import numpy as np
import pytest

import minigan as mg
from minigan.layers import Conv2d, Flatten, LeakyReLU, Linear
from minigan.presets import get_preset
from tests.support.programs import load_program
from tests.support.torch_or_skip import import_torch

program = load_program("paper/pooled_features")
cells, pool, feature_count = program.cells, program.pool, program.feature_count


@pytest.mark.parametrize("h, w", ((16, 16), (7, 7), (14, 5), (4, 9), (3, 2), (1, 1), (1, 13)))
def test_pool_is_that_of_plain_loops(h, w):
    """Row r covers r to r + 1. It is in cell i if that overlaps i·h/g to (i + 1)·h/g."""
    maps = np.random.default_rng(0).standard_normal((3, h, w, 2)) - 5  # negative maxima, too
    tall, wide = min(h, 4), min(w, 4)
    wanted = np.full((3, tall, wide, 2), -np.inf)
    for n, i, j, c in np.ndindex(wanted.shape):
        for r, q in np.ndindex(h, w):
            in_rows = (r + 1) * tall > i * h and r * tall < (i + 1) * h
            in_columns = (q + 1) * wide > j * w and q * wide < (j + 1) * w
            if in_rows and in_columns:
                wanted[n, i, j, c] = max(wanted[n, i, j, c], maps[n, r, q, c])
    np.testing.assert_array_equal(pool(maps), wanted)


def test_cells_of_seven_rows_overlap():
    assert [list(range(7))[part] for part in cells(7)] == [[0, 1], [1, 2, 3], [3, 4, 5], [5, 6]]


def test_pool_is_pytorchs():
    torch = import_torch()
    maps = np.random.default_rng(0).standard_normal((2, 14, 7, 3))
    channels_first = torch.from_numpy(maps.transpose(0, 3, 1, 2))
    theirs = torch.nn.functional.adaptive_max_pool2d(channels_first, 4)
    np.testing.assert_array_equal(pool(maps), theirs.numpy().transpose(0, 2, 3, 1))


def set_up(layers, shape):
    """-> D"""
    D = mg.Sequential(layers, name="D")
    D.setup(shape, backend=mg.get_backend("numpy"), rng=np.random.default_rng(0))
    return D


@pytest.mark.parametrize(
    "name, width, shape, channels",
    (
        ("color32", 64, (32, 32, 3), 64 + 128 + 128 + 256),
        ("fredriksson-mnist", 32, (28, 28, 1), 32 + 64),
        ("tensorflow-mnist", 64, (28, 28, 1), 64 + 128),  # with Dropout after the rectifiers
        ("shibuya-svhn", 8, (32, 32, 3), 4 + 8 + 16),
    ),
)
def test_each_channel_gives_16_features(name, width, shape, channels):
    D = set_up(get_preset(name).discriminator(width, shape), shape)
    assert feature_count(D) == 16 * channels


def test_the_papers_discriminator_has_its_number_of_features():
    layers = []
    for channels, stride in ((128, 1), (128, 2), (256, 1), (256, 2), (512, 1), (512, 2)):
        layers += [Conv2d(channels, 3, stride, "same"), LeakyReLU(0.2)]
    assert feature_count(set_up([*layers, Flatten(), Linear(1)], (32, 32, 3))) == 28_672
