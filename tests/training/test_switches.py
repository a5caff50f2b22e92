"""The switches of the game: each changes what it says, on every backend, and nothing else."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from minigan.cli.main import main
from minigan.gradcheck import check_gradients
from minigan.layers import AppendLabels, BatchNorm, Conv2d, ConvTranspose2d, SpectralNorm, Upsample
from minigan.objective import Objective
from minigan.parallel.shared_memory import can_fork
from minigan.presets import get_preset
from minigan.training import game as game_module
from minigan.training.config import config_from_record, new_config, options_like
from minigan.training.switches import switched_preset
from tests.support.games import play as play_small
from tests.support.noise_games import assert_near, assert_same_bits, make_game, play
from tests.support.strict_cupy import make_module

ALL = dict(
    loss="hinge", d_steps=2, upsample="nearest", spectral_norm=True, r1=0.5, weight_decay=1e-3,
    classes=10,
)  # fmt: skip
EACH = (
    {"loss": "lsgan"}, {"real_target": 0.9}, {"fake_target": 0.1}, {"optimizer": "rmsprop"},
    {"optimizer": "sgd"}, {"weight_decay": 0.1}, {"d_steps": 3}, {"upsample": "nearest"},
    {"spectral_norm": True}, {"r1": 0.5}, {"classes": 10},
)  # fmt: skip


@pytest.mark.parametrize("options", EACH, ids=str)
def test_each_switch_changes_the_numbers(options):
    expected = play(make_game("mnist", backend="plain"), 2)
    found = play(make_game("mnist", backend="plain", **options), 2)
    assert found.rows[1] != expected.rows[1]


@pytest.mark.parametrize("backend", ("numpy", "cupy"))
def test_fast_backends_train_as_plain_does(backend, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", make_module())
    options = dict(ALL, width=2, images=10, dtype="float64")
    threads = {"threads": 1} if backend == "numpy" else {}
    plain, _ = play_small("mnist", 4, backend="plain", **options)
    fast, _ = play_small("mnist", 4, backend=backend, **threads, **options)
    np.testing.assert_allclose(fast, plain, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.skipif(not can_fork(), reason="processes cannot be forked here")
def test_two_processes_train_as_one_does():
    games = [make_game("mnist", dtype="float64", threads=threads, **ALL) for threads in (2, 1)]
    played = [play(game, 4) for game in games]
    assert games[0].captured.replay.group.size == 2
    games[0].captured.close()
    assert_near(*played)


def test_without_switches_a_preset_stays_as_it_is():
    for name in ("mnist", "shibuya-mnist", "jayathilaka-faces:sgd"):
        assert switched_preset(new_config({"preset": name})) == get_preset(name)
    adam = new_config({"preset": "shibuya-svhn", "optimizer": "adam"})  # which is the preset's own
    assert switched_preset(adam) == get_preset("shibuya-svhn")


def test_targets_and_loss_replace_the_presets():
    config = new_config({"preset": "jindal-mnist64", "fake_target": 0.0, "loss": "lsgan"})
    limit = get_preset("jindal-mnist64").objective.loss_limit
    assert switched_preset(config).objective == Objective("lsgan", 0.9, 0.0, limit)


@pytest.mark.parametrize("image_size", ("28x28", "27x37", "48x80", "6x7"))
def test_g_grows_to_any_size_by_upsampling(image_size):
    game = make_game("mnist", image_size=image_size, upsample="nearest")
    kinds = [type(layer) for layer in game.G.layers]
    assert Upsample in kinds and ConvTranspose2d not in kinds
    assert game.G.out_shape == game.config.image_shape


@pytest.mark.parametrize("image_size", ("28x28", "32x32", "27x37", "6x7"))
def test_both_nets_learn_classes(image_size):
    """What D says of an image depends on its class, and by how much depends on the image."""
    game = make_game("mnist", image_size=image_size, classes=3)
    counts = [
        sum(isinstance(layer, AppendLabels) for layer in net.layers) for net in (game.G, game.D)
    ]
    assert counts == ([1, 1] if image_size == "6x7" else [2, 1])
    rng = np.random.default_rng(0)
    z = rng.standard_normal((4, game.config.z_dim)).astype(np.float32)
    first, second = (game.labels(np.full(4, number)) for number in (0, 1))
    images = [game.G.forward(z, train=False, labels=labels) for labels in (first, second)]
    assert np.abs(images[0] - images[1]).max() > 0.01 * np.abs(images[0]).max()
    x = rng.standard_normal((4, *game.config.image_shape)).astype(np.float32)
    answers = [game.D.forward(x, train=False, labels=labels) for labels in (first, second)]
    change = answers[0] - answers[1]
    assert np.ptp(change) > 0.01 * np.abs(change).max()


@pytest.mark.parametrize("net, size", (("G", "28x28"), ("D", "28x28"), ("D", "6x7")))
def test_gradients_of_the_conditional_nets(net, size):
    game = make_game("mnist", dtype="float64", image_size=size, width=2, classes=3, z_dim=3)
    rng, labels = np.random.default_rng(1), game.labels(np.arange(5) % 3)
    x = rng.standard_normal((5, 3) if net == "G" else (5, *game.config.image_shape))
    assert check_gradients(game.nets[net], x, labels=labels, directions=1)


@pytest.mark.parametrize("classes, grid", ((0, (8, 8)), (3, (8, 9)), (10, (8, 10)), (17, (8, 8))))
def test_a_column_of_a_grid_is_of_one_class(classes, grid):
    assert make_game("mnist", classes=classes).preset.grid == grid


def test_spectral_norm_replaces_batchnorm_in_d():
    game = make_game("mnist", spectral_norm=True)
    kinds = [type(layer) for layer in game.D.layers]
    assert SpectralNorm in kinds and BatchNorm not in kinds and Conv2d not in kinds
    assert all(layer.layer.b is not None for layer in game.D.layers if hasattr(layer, "layer"))
    assert any(isinstance(layer, BatchNorm) for layer in game.G.layers)
    found, expected = (next(iter(each.D.params.values())) for each in (game, make_game("mnist")))
    np.testing.assert_array_equal(found, expected)  # the first weights stay as they were


def test_r1_replaces_batchnorm_in_d_and_fills_it_with_hes_weights():
    game = make_game("mnist", r1=0.5, width=16)
    assert not any(isinstance(layer, BatchNorm) for layer in game.D.layers)
    convolutions = [layer for layer in game.D.layers if isinstance(layer, Conv2d)]
    for layer in convolutions:
        assert layer.b is not None
        expected = (2 / np.prod(layer.W.shape[:3])) ** 0.5
        assert layer.W.std() == pytest.approx(expected, rel=0.15)


def test_weight_decay_is_added_to_the_gradient():
    game = make_game("mnist", weight_decay=0.25, optimizer="sgd")
    optimizer = game.optimizers["D"]
    assert optimizer.l2 == 0.25 and optimizer.momentum == 0.5
    before = game.D.store.flat_params.copy()
    optimizer.step()
    np.testing.assert_allclose(
        game.D.store.flat_params, before - optimizer.lr * 0.25 * before, rtol=1e-6
    )


def test_d_steps_draw_that_many_batches_and_move_d_as_often():
    game, plain = make_game("mnist", d_steps=3), make_game("mnist")
    play(game, 2)
    play(plain, 2)
    assert game.optimizers["D"].steps == 6 and game.optimizers["G"].steps == 2
    assert plain.optimizers["D"].steps == plain.optimizers["G"].steps == 2


def test_another_optimizer_comes_with_its_own_rates():
    sgd = new_config({"preset": "mnist", "optimizer": "sgd"})
    assert (sgd.lr_g, sgd.lr_d, sgd.beta1) == (0.01, 0.01, None)
    assert new_config({"preset": "mnist", "optimizer": "sgd", "lr_g": 0.5}).lr_g == 0.5
    adam = new_config({"preset": "jayathilaka-faces:sgd", "optimizer": "adam"})
    assert (adam.lr_g, adam.beta1) == (2e-4, 0.5)
    own = new_config({"preset": "mnist", "optimizer": "adam"})
    assert (own.lr_g, own.beta1) == (get_preset("mnist").lr_g, 0.0)
    assert new_config({"preset": "color32"}).lr_decay > 0
    assert new_config({"preset": "color32", "optimizer": "sgd"}).lr_decay == 0


def test_a_resumed_run_has_its_switches(tmp_path, capsys, monkeypatch):
    """Saved in config.json, with u of SpectralNorm in the checkpoint: the same bits."""
    monkeypatch.setattr(game_module, "STAIR", 1)
    words = "--width 2 --batch-size 4 --loss hinge --d-steps 2 --spectral-norm --threads 1"
    words += " --r1 0.5 --lr-decay 2"
    for name, steps in (("whole", ["4"]), ("halves", ["2", "4"])):
        run = tmp_path / name
        assert main(["train", *words.split(), "--steps", steps[0], "--out", str(run)]) == 0
        for more in steps[1:]:
            assert main(["train", "--steps", more, "--resume", str(run)]) == 0
    capsys.readouterr()
    found = [
        (tmp_path / name / "checkpoints" / "step-00000004.npz").read_bytes()
        for name in ("whole", "halves")
    ]
    assert found[0] == found[1]
    saved = json.loads((tmp_path / "whole" / "config.json").read_text())["options"]
    assert saved["loss"] == "hinge" and saved["d_steps"] == 2 and saved["spectral_norm"] is True


def test_a_config_of_before_the_switches_can_be_read():
    options = {"preset": "mnist"}
    record = vars(new_config(options))
    new = (*ALL, "optimizer", "lr_decay")
    old = {name: value for name, value in record.items() if name not in new}
    assert config_from_record(old) == new_config(options)
    old |= {"preset": "color32"}
    assert config_from_record(old).r1 == 0  # color32 has R1 now, and had none
    assert config_from_record(old).upsample == "transposed"  # likewise


def test_a_run_like_an_earlier_one_grows_as_it_did():
    new = new_config({"preset": "color32"})
    assert new.upsample == "nearest" and new_config({"preset": "mnist"}).upsample == "transposed"
    earlier = replace(new, upsample="transposed")
    assert new_config(options_like(earlier, {})).upsample == "transposed"
    assert new_config(options_like(earlier, {"preset": "color32"})).upsample == "nearest"


@pytest.mark.parametrize(
    "words, message",
    (
        ("--loss wgan", "--loss must be one of bce, lsgan, hinge, got 'wgan'"),
        ("--optimizer adm", "--optimizer must be one of adam, rmsprop, sgd, got 'adm'"),
        ("--optimizer sgd --beta1 0.5", "--beta1 is for Adam: this run of mnist has SGD"),
        ("--real-target 1.5", "--real-target must be at least 0 and at most 1, got 1.5"),
        ("--d-steps 0", "--d-steps must be"),
        ("--upsample bilinear", "--upsample must be one of transposed, nearest, got 'bilinear'"),
        ("--preset pytorch-64 --upsample nearest", "--upsample is for mnist, color32 and image64"),
        ("--weight-decay 2", "--weight-decay must be at least 0 and at most 1, got 2"),
        (
            "--preset shibuya-svhn --r1 1",
            "--r1 is for mnist, color32 and image64: the nets of shib",
        ),
        ("--preset radford-64 --classes 3", "image64: the nets of radford-64 stay as published"),
        ("--preset radford-mnist-conditional --classes 3", "--classes is for mnist, color32"),
        ("--dataset strokes --limit 9 --classes 3", "give --classes 10, or leave it out"),
        ("--classes -1", "--classes must be a whole number of at least 0, got -1"),
        ("--classes 1", "--classes 1 leaves nothing to choose: give 2 or more, or none"),
        ("--lr-decay -1", "--lr-decay must be a whole number of at least 0, got -1"),
        ("--r1 -1", "--r1 must be at least 0 and at most"),
    ),
)
def test_mistakes_get_one_line(words, message, capsys):
    assert main(["train", *words.split(), "--steps", "1"]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1


def test_games_are_reproducible():
    assert_same_bits(*(play(make_game("mnist", threads=1, **ALL), 2) for _ in range(2)))


def test_what_depends_on_a_given_option_is_not_taken_over():
    saved = new_config({"preset": "color32", "width": 5, "steps": 3, "seed": 4, "lr_g": 0.1})
    sgd = new_config(options_like(saved, {"optimizer": "sgd"}))
    assert (sgd.lr_g, sgd.lr_decay, sgd.beta1) == (0.01, 0, None)
    assert (sgd.preset, sgd.width, sgd.steps) == ("color32", 5, 3)
    other = new_config(options_like(saved, {"preset": "shibuya-mnist"}))
    assert (other.width, other.seed, other.lr_g) == (32, 4, 1e-4)
