"""A game: the same numbers on every backend, samples, labels, rates, and its state."""

import sys

import numpy as np
import pytest

import minigan as mg
from minigan.frozen_statistics import samples_by_batch
from minigan.gan import MEASURED
from minigan.inspection.open_run import draw_z, generate
from minigan.parallel.shared_memory import can_fork
from minigan.presets import MODULES, get_preset
from minigan.training import game as game_module
from minigan.training.config import new_config
from minigan.training.game import STAIR, STREAMS, Game
from tests.support import noise_games
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


def test_the_first_step_of_an_epoch_has_its_rate():
    options = dict(width=1, images=8, batch_size=4)  # a round draws two batches
    game, batches = make_game("radford-mnist-conditional", **options)
    batches.seek(epoch=101, position=0)
    game.round(batches)
    assert game.optimizers["G"].lr == pytest.approx(1.98e-4)
    game.round(batches)
    assert game.optimizers["G"].lr == pytest.approx(1.96e-4)


def test_rates_fall_with_the_root_of_the_steps_in_stairs(monkeypatch):
    monkeypatch.setattr(game_module, "STAIR", 2)
    game, batches = make_game("mnist", width=1, images=8, lr_g=0.1, lr_d=0.2, lr_decay=3)
    seen = []
    for _ in range(5):
        game.round(batches)
        seen.append([optimizer.lr for optimizer in game.optimizers.values()])
    falls = np.array([1, 1, (1 + 2 / 3) ** -0.5, (1 + 2 / 3) ** -0.5, (1 + 4 / 3) ** -0.5])
    np.testing.assert_allclose(seen, falls[:, None] * [0.1, 0.2], rtol=1e-12)


@pytest.mark.skipif(not can_fork(), reason="processes cannot be forked here")
def test_processes_follow_a_rate_that_falls(monkeypatch):
    monkeypatch.setattr(game_module, "STAIR", 2)
    options = dict(dtype="float64", lr_decay=1, batch_size=16)
    games = [noise_games.make_game("mnist", threads=threads, **options) for threads in (2, 1)]
    played = [noise_games.play(game, 5) for game in games]
    assert games[0].captured.replay.group.size == 2
    games[0].captured.close()
    noise_games.assert_near(*played)


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
        (lambda sections, record: record.pop("generators"), "'generators'"),
        (lambda sections, record: record["optimizer_steps"].pop("D"), "'D'"),
        (lambda sections, record: sections.pop("D"), "'D'"),
        (lambda sections, record: sections.pop("optimizer G"), "Adam: expected saved"),
        (lambda sections, record: sections["G"].pop("0.W"), "here: G has 0.W only here"),
    ),
)
def test_the_state_of_another_game_is_refused(change, message):
    game, _ = make_game("mnist", width=1)
    sections, record = game.state()
    change(sections, record)
    with pytest.raises((mg.RunError, KeyError), match=message):
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


def grown_game(preset, **options):
    """-> a game after two rounds, its weights enlarged: so young a G draws only gray."""
    game, batches = make_game(preset, **{"width": 2, "batch_size": 6, "images": 12, **options})
    for _ in range(2):
        game.round(batches)
    for key, p in game.drawn_from.params.items():
        p[...] = p * (8 if key.endswith("W") else 1)
    return game


def assert_each_depends_on_its_z_and_class(game, **options):
    """Picture i of class k is the same bits in every draw of the same seed."""

    def draw(n, label=None):
        return game.sample(n, game.stream("sample", seed=3), label, **options)

    many = draw(20)  # three whole batches, and a remainder
    assert many.std() > 1
    for n in (1, 6, 13):
        np.testing.assert_array_equal(draw(n), many[:n])
    for label in range(game.preset.classes):
        of_label = draw(20, label)
        np.testing.assert_array_equal(of_label[label::10], many[label::10])
        np.testing.assert_array_equal(draw(1, label), of_label[:1])
    order = np.random.default_rng(0).permutation(20)
    z, numbers = draw_z(game, 20, 3)[order], game.classes_in_turn(20)[order]
    np.testing.assert_array_equal(generate(game, z, numbers), many[order])


@pytest.mark.parametrize("preset", MODULES)
def test_a_sample_depends_on_its_z_and_class_alone(preset):
    assert_each_depends_on_its_z_and_class(grown_game(preset))


def is_by_batch(preset):
    layers = preset.generator(2, preset.z_dim, preset.image_shape)
    return samples_by_batch(mg.Sequential(layers))


BY_BATCH = [name for name in MODULES if is_by_batch(get_preset(name))]


def test_which_presets_sample_by_the_batch():
    assert BY_BATCH == [
        "radford-64", "radford-mnist-conditional", "pytorch-64", "jindal-mnist64",
        "fredriksson-mnist",
    ]  # fmt: skip


@pytest.mark.parametrize("preset", BY_BATCH)
def test_samples_by_batch_statistics_are_those_of_the_published_program(preset):
    """They would not pass the test above."""
    game = grown_game(preset)
    net, generator, wanted = game.G, game.stream("sample", seed=3), []
    for start in (0, 6):
        z = np.empty((6, game.config.z_dim), np.float32)
        game.fill_z(z, generator)
        labels = game.labels(game.classes_in_turn(6, start))
        wanted.append(game.to_images(net.forward(z, train=False, labels=labels)))
    drawn = game.sample(11, game.stream("sample", seed=3), statistics="batch")
    np.testing.assert_array_equal(drawn, np.concatenate(wanted)[:11])
    with pytest.raises(AssertionError):
        assert_each_depends_on_its_z_and_class(game, statistics="batch")


def test_only_published_behavior_can_be_asked_for():
    game, _ = make_game("mnist", width=1)
    with pytest.raises(mg.ConfigError, match="statistics batch: preset mnist samples by running"):
        game.sample(1, game.stream("sample"), statistics="batch")
    with pytest.raises(mg.ConfigError, match="statistics must be one of frozen, batch, got 'own'"):
        game.sample(1, game.stream("sample"), statistics="own")


def test_with_the_same_z_each_class_is_another_picture():
    """If the class enters at the first layer alone, those of a batch of one class remove it."""
    game = grown_game("radford-mnist-conditional")
    for W in list(game.G.params.values())[1:]:
        W[(slice(-10, None),) if W.ndim == 2 else (..., slice(-10, None))] = 0
    apart = {}
    for statistics in ("frozen", "batch"):
        ones, sevens = (
            game.sample(6, game.stream("sample"), label, statistics).astype(float)
            for label in (1, 7)
        )
        apart[statistics] = np.abs(ones - sevens).max()
    assert apart["batch"] <= 1 and apart["frozen"] > 30, apart


@pytest.mark.parametrize("ema", (0.0, 0.9))
@pytest.mark.parametrize("preset", ("mnist", "radford-mnist-conditional", "fredriksson-mnist"))
def test_sampling_leaves_training_alone(preset, ema):
    """z of samples comes from other streams, G is in sampling mode, statistics are kept apart."""
    left = []
    for samples in (0, 9):
        game, batches = make_game(preset, width=2, ema=ema)
        rows = []
        for _ in range(3):
            rows.append(game.read(game.round(batches)))
            if samples:
                game.sample(samples, game.stream("sample"))
                game.sample_grid()
        left.append((rows, *game.state()))
    (rows, sections, record), (wanted_rows, wanted, wanted_record) = left
    assert rows == wanted_rows and record == wanted_record
    for name, section in wanted.items():
        assert_same_arrays(sections[name], section)


def test_samples_are_those_of_a_game_that_just_loaded_the_weights():
    """Statistics are those of the weights as they are now, and of the net that is drawn from."""
    game, batches = make_game("fredriksson-mnist", width=2, ema=0.5)
    for _ in range(3):
        game.round(batches)
        for name in ("G average", "G"):
            game.drawn_from = game.nets[name]
            opened, _ = make_game("fredriksson-mnist", width=2)  # as from generator.npz
            opened.G.ready().load_state(game.state()[0][name], "here")
            drawn, wanted = (each.sample(5, each.stream("sample")) for each in (game, opened))
            np.testing.assert_array_equal(drawn, wanted)


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
    for label in (-1, 10, np.array([0, 1]), True):
        with pytest.raises(mg.ConfigError, match="--label must be a whole number of at least 0"):
            conditional.sample(1, conditional.stream("sample"), label)
    plain, _ = make_game("mnist", width=1)
    with pytest.raises(mg.ConfigError, match="--label needs classes, and mnist has none"):
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


def test_a_run_of_an_earlier_version_goes_on_with_its_streams_and_its_rates():
    """Other numbers would give a resumed run another z in its grids, and another rate."""
    assert STREAMS == {
        "G": 0, "D": 1, "z": 2, "fixed z": 3, "data": 4, "sample": 5, "real": 6, "evaluation": 7,
    }  # fmt: skip
    assert STAIR == 1000


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
