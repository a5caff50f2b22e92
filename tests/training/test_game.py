"""A game: the same numbers on every backend, samples, labels, rates, and its state."""

import sys

import numpy as np
import pytest

import minigan as mg
from minigan.gan import MEASURED
from minigan.presets import MODULES, get_preset
from minigan.training.config import new_config
from minigan.training.game import STREAMS, Game
from tests.support.games import make_game, play
from tests.support.networks import assert_same_arrays
from tests.support.strict_cupy import make_module

ROUNDS = (  # a preset of each round, optimizer and kind of layer
    "mnist",
    "fredriksson-mnist",
    "shibuya-mnist",
    "tensorflow-mnist",
    "radford-mnist-conditional",
    "jayathilaka-faces:sgd",
    "jayathilaka-faces:rmsprop",
)


@pytest.mark.parametrize(
    "preset, threads", [(preset, 1) for preset in ROUNDS] + [("mnist", 2)], ids=str
)
def test_numpy_trains_as_plain_does(preset, threads):
    """Ten steps in float64, across epochs with a smaller last batch: equal but for rounding."""
    options = dict(width=2, images=22, batch_size=8, dtype="float64")
    plain, reference = play(preset, 10, backend="plain", **options)
    fast, game = play(preset, 10, backend="numpy", threads=threads, **options)
    np.testing.assert_allclose(fast, plain, rtol=1e-6)
    for name, net in reference.nets.items():
        for key, p in net.params.items():
            np.testing.assert_allclose(game.nets[name].params[key], p, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    "preset", ("mnist", "shibuya-fnn", "tensorflow-mnist", "jayathilaka-faces:rmsprop")
)
def test_cupy_trains_as_plain_does(preset, monkeypatch):
    """The same on the stand-in for CuPy."""
    monkeypatch.setitem(sys.modules, "cupy", make_module())
    options = dict(width=2, images=10, dtype="float64")
    plain, _ = play(preset, 4, backend="plain", **options)
    fast, _ = play(preset, 4, backend="cupy", **options)
    np.testing.assert_allclose(fast, plain, rtol=1e-6)


def test_in_float32_the_first_losses_are_the_same():
    options = dict(lr_g=2e-4, lr_d=2e-4, beta1=0.5, width=8, batch_size=16, images=32)
    plain, _ = play("mnist", 3, backend="plain", **options)
    fast, _ = play("mnist", 3, backend="numpy", **options)
    np.testing.assert_allclose(fast[0], plain[0], rtol=1e-4)
    np.testing.assert_allclose(fast[-1], plain[-1], rtol=1e-2)


@pytest.mark.parametrize("backend", ("plain", "numpy"))
def test_what_a_round_returns(backend):
    game, batches = make_game("mnist", width=2, images=6, backend=backend)
    for images in (4, 2, 4):
        result = game.round(batches)
        assert result["images"] == images
        measured = game.read(result)
        assert tuple(measured) == MEASURED
        assert all(type(value) is float for value in measured.values())
    game, batches = make_game("radford-mnist-conditional", width=2, images=6, backend=backend)
    assert [game.round(batches)["images"] for _ in range(2)] == [4 + 2, 4 + 2]


def test_rates_fall_in_a_line_after_the_constant_epochs():
    game, _ = make_game("radford-mnist-conditional", width=1)
    seen = []
    for epoch in (0, 99, 100, 150, 199, 200, 300):
        game.set_rates(epoch)
        seen.append([optimizer.lr for optimizer in game.optimizers.values()])
    wanted = [2e-4, 2e-4, 2e-4, 1e-4, 2e-6, 0, 0]
    np.testing.assert_allclose(seen, np.repeat(np.array(wanted)[:, None], 2, axis=1), atol=1e-18)


def test_the_joint_update_is_a_third_optimizer_that_is_saved():
    options = dict(joint_update=True, width=4)
    game, batches = make_game("shibuya-mnist", **options)
    assert set(game.optimizers) == {"G", "D", "D joint"}
    assert game.optimizers["D joint"].lr == game.config.lr_g
    game.round(batches)
    sections, record = game.state()
    assert record["optimizer_steps"] == {"G": 1, "D": 2, "D joint": 1}
    assert np.any(sections["optimizer D joint"]["m"])
    again, _ = make_game("shibuya-mnist", **options)
    again.load(sections, record, "here")
    np.testing.assert_array_equal(again.optimizers["D joint"].m, game.optimizers["D joint"].m)


@pytest.mark.parametrize("preset", ROUNDS)
def test_state_comes_back(preset):
    """The next rounds of a game that was loaded are those of the one that was saved."""
    game, batches = make_game(preset, width=2, ema=0.9)
    other, other_batches = make_game(preset, width=2, ema=0.9)
    for _ in range(2):
        game.round(batches)
    sections, record = game.state()
    sections = {
        name: {key: array.copy() for key, array in section.items()}
        for name, section in sections.items()
    }
    other.load(sections, record, "here")
    other_batches.seek(batches.epoch, batches.position)
    for _ in range(2):
        ours = game.read(game.round(batches))
        assert other.read(other.round(other_batches)) == ours
    for name, section in game.state()[0].items():
        assert_same_arrays(other.state()[0][name], section)


@pytest.mark.parametrize(
    "change, message",
    (
        (lambda sections, record: record.pop("generators"), "here is not a complete checkpoint"),
        (lambda sections, record: record["optimizer_steps"].pop("D"), "is not a complete checkpoi"),
        (
            lambda sections, record: sections.pop("D"),
            "here is not a complete checkpoint of minigan",
        ),
        (lambda sections, record: sections.pop("optimizer G"), "Adam: expected saved"),
        (lambda sections, record: sections["G"].pop("0.W"), "here: G has 0.W only here"),
    ),
)
def test_the_state_of_another_game_is_refused(change, message):
    game, _ = make_game("mnist", width=1)
    sections, record = game.state()
    change(sections, record)
    with pytest.raises(mg.RunError, match=message):
        make_game("mnist", width=1)[0].load(sections, record, "here")


# -- z, labels, samples ------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ("plain", "numpy"))
def test_sample_i_is_the_same_for_every_number_of_samples(backend):
    game, _ = make_game("fredriksson-fnn", width=8, backend=backend)
    many = game.sample(10, game.stream("sample", seed=0))
    assert many.shape == (10, 28, 28, 1) and many.dtype == np.uint8 and many.std() > 0
    for n in (1, 3, 4, 7):
        np.testing.assert_array_equal(game.sample(n, game.stream("sample", seed=0)), many[:n])
    assert not np.array_equal(game.sample(10, game.stream("sample", seed=1)), many)


def test_sampling_leaves_training_alone():
    """z of samples comes from other streams, and G is in sampling mode."""
    measured = []
    for samples in (0, 9):
        game, batches = make_game("mnist", width=2)
        rows = []
        for _ in range(3):
            rows.append(game.read(game.round(batches)))
            game.sample(samples, game.stream("sample"))
            game.sample_grid()
        measured.append(rows)
    assert measured[0] == measured[1]


def test_a_grid_is_of_the_same_z_every_time():
    game, _ = make_game("shibuya-fnn", width=4)
    grid = game.sample_grid()
    assert len(grid) == 4 * 5
    np.testing.assert_array_equal(game.sample_grid(), grid)


@pytest.mark.parametrize("backend", ("plain", "numpy"))
def test_conditional_samples_show_the_class_that_was_asked_for(backend):
    """A generator whose brightness is the class: labels go in turn, or are all the same."""
    game, _ = make_game("radford-mnist-conditional", width=1, backend=backend)
    G = game.G
    for p in G.params.values():
        p.fill(0)
    # the last layer sees planes of labels behind its channels: class k shines with k
    W = G.params["14.W"]
    W[..., -10:] = np.arange(10) / 10
    means = game.sample(20, game.stream("sample")).mean(axis=(1, 2, 3))
    assert list(np.argsort(means[:10])) == list(range(10))
    np.testing.assert_array_equal(means[:10], means[10:])
    for label in (0, 7):
        ones = game.sample(6, game.stream("sample"), label).mean(axis=(1, 2, 3))
        np.testing.assert_array_equal(ones, means[label])
    z = game.draw_z(2)
    images = game.images_of(z, np.array([7, 0]))
    np.testing.assert_array_equal(images.mean(axis=(1, 2, 3)), means[[7, 0]])


def test_labels_out_of_range():
    conditional, _ = make_game("radford-mnist-conditional", width=1)
    for label in (-1, 10):
        with pytest.raises(mg.ConfigError, match=f"--label must be in 0 .. 9, got {label}"):
            conditional.sample(1, conditional.stream("sample"), label)
    plain, _ = make_game("mnist", width=1)
    with pytest.raises(mg.ConfigError, match="--label is for a conditional run: mnist has no cla"):
        plain.sample(1, plain.stream("sample"), 0)


@pytest.mark.parametrize("backend", ("plain", "numpy"))
def test_z_is_drawn_on_the_host(backend):
    """The same numbers on every backend, in the preset's distribution."""
    for kind, low in (("normal", -np.inf), ("uniform", -1)):
        game, _ = make_game("mnist", width=1, z=kind, z_dim=500, backend=backend)
        z = np.array(game.draw_z(40))
        again = np.random.default_rng([0, STREAMS["z"]])
        wanted = again.standard_normal((40, 500), np.float32)
        if kind == "uniform":
            again = np.random.default_rng([0, STREAMS["z"]])
            wanted = again.random((40, 500), np.float32) * 2 - 1
        np.testing.assert_array_equal(z, wanted)
        assert z.min() >= low and abs(z.mean()) < 0.05


def test_a_generator_that_diverged_is_not_shown():
    game, _ = make_game("mnist", width=1)
    next(iter(game.drawn_from.params.values())).fill(np.nan)
    with np.errstate(all="ignore"), pytest.raises(mg.RunError, match="the generator outputs NaN"):
        game.sample(1, game.stream("sample"))


def test_streams_are_independent_and_belong_to_the_seed():
    config = new_config({"preset": "mnist", "width": 1, "seed": 5})
    game = Game(config)
    drawn = {name: game.stream(name).random() for name in STREAMS}
    assert len(set(drawn.values())) == len(STREAMS)
    assert game.stream("z").random() == drawn["z"]
    assert game.stream("z", seed=6).random() != drawn["z"]


def test_a_generator_starts_with_the_same_weights_every_time():
    game, _ = make_game("mnist", width=1, ema=0.9)
    assert_same_arrays(game.nets["G average"].params, game.G.params)
    assert game.drawn_from is game.nets["G average"]


@pytest.mark.parametrize("preset", MODULES)
def test_which_rounds_can_be_captured(preset):
    """Not those with Dropout, which draws on the host in the middle of a round."""
    game, _ = make_game(preset, width=2)
    assert (game.captured is None) == ("tensorflow" in preset)
    assert get_preset(preset).simultaneous == ("tensorflow" in preset)
