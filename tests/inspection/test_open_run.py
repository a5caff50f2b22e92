"""A run opened for inspection: an image depends on its z alone."""

import numpy as np
import pytest

import minigan as mg
from minigan.data.files.npz import load_arrays
from minigan.frozen_statistics import freeze_statistics
from minigan.inspection.open_run import (
    activations,
    draw_z,
    find_layer,
    freeze_discriminator,
    generate,
    untrained,
)
from minigan.training import Game, open_game
from minigan.training.run_folder import Run
from tests.support.inspected_runs import RUNS, SHAPES
from tests.support.networks import network
from tests.support.pictures import noise


@pytest.mark.parametrize("name", RUNS)
def test_an_image_depends_on_its_z_alone(name, runs):
    game, _ = open_game(Run(runs[name]))
    classes = max(game.preset.classes, 1)
    z, numbers = draw_z(game, 47, 3), np.arange(47) % classes
    images = generate(game, z, numbers)
    assert images.shape == (47, *SHAPES.get(name, (28, 28, 1)))
    other = images[10 if classes > 1 else 1].astype(int)
    assert np.abs(images[0] - other).mean() > 1  # or the rest would prove nothing
    assert np.array_equal(generate(game, z[:5], numbers[:5]), images[:5])
    order = np.random.default_rng(0).permutation(47)
    assert np.array_equal(generate(game, z[order], numbers[order]), images[order])
    for i in (0, 46):
        assert np.array_equal(generate(game, z[i : i + 1], numbers[i])[0], images[i])


@pytest.mark.parametrize("name", RUNS)
def test_they_are_the_images_that_are_sampled(name, runs):
    game, _ = open_game(Run(runs[name]))
    sampled = game.sample(30, game.stream("sample", seed=4))
    game, _ = open_game(Run(runs[name]))
    z, numbers = draw_z(game, 30, 4), game.classes_in_turn(30)
    assert np.array_equal(generate(game, z, numbers), sampled)


def test_batch_statistics_are_frozen_at_the_first_batch_of_the_grids(runs):
    game, _ = open_game(Run(runs["conditional"]))
    by_batches = Game(game.config)
    file = runs["conditional"] / "generator.npz"
    by_batches.G.ready().load_state(load_arrays(file), file)
    wanted = by_batches.sample(20, by_batches.stream("fixed z"), statistics="batch").astype(int)
    z = np.empty((20, game.config.z_dim), np.float32)
    game.fill_z(z, game.stream("fixed z"))
    images = generate(game, z.astype(float), np.arange(20) % 10)
    assert np.abs(images - wanted).max() <= 1  # sums in another order


def test_frozen_statistics_are_those_of_the_batch_and_stay():
    layers = [mg.Conv2d(4, 3), mg.BatchNorm(sampling="batch"), mg.LeakyReLU(0.2), mg.Flatten()]
    layers += [mg.Linear(5), mg.BatchNorm(), mg.ReLU(), mg.Linear(1)]
    D = network(layers, (8, 8, 2))
    x = np.random.default_rng(0).standard_normal((12, 8, 8, 2))
    with_batch = D.forward(x)
    freeze_statistics(D, x)
    np.testing.assert_allclose(D.forward(x, train=False), with_batch, rtol=1e-10)
    np.testing.assert_allclose(D.forward(x[3:4], train=False), with_batch[3:4], rtol=1e-10)
    outputs = activations(D, x)
    np.testing.assert_allclose(outputs[-1], with_batch, rtol=1e-10)
    assert [output.shape[1:] for output in outputs] == [layer.out_shape for layer in D.layers]


def test_statistics_are_frozen_at_images_of_the_whole_set(runs):
    """It may be sorted by class."""
    data, x, outputs = noise(50)("mnist"), np.ones((1, 28, 28, 1), np.float32), []
    for _ in range(2):
        game, _ = open_game(Run(runs["plain"]))
        freeze_discriminator(game, game.D, data)
        outputs.append(game.D.forward(x, train=False))
        data.images[game.config.batch_size :] = 0
    assert not np.array_equal(*outputs)


def test_the_untrained_network_is_the_one_that_the_run_began_with(runs):
    game, _ = open_game(Run(runs["plain"]))
    began = Game(game.config)  # D has not been loaded
    assert np.array_equal(untrained(game).ready().flat_params, began.D.ready().flat_params)


def test_layers_are_found_by_name(runs):
    game, _ = open_game(Run(runs["plain"]))
    assert find_layer(game.nets, "D.3") == (game.D, 3)
    with pytest.raises(mg.ConfigError, match=r"--layer: there is no 'D.99': choose one of G.0 \("):
        find_layer(game.nets, "D.99")


def test_numbers_that_are_not_finite_are_an_error():
    D = network([mg.Linear(2)], (3,))
    message = "N outputs NaN or infinity: its training diverged"
    with np.errstate(all="ignore"), pytest.raises(mg.RunError, match=message):
        activations(D, np.full((1, 3), np.inf))
