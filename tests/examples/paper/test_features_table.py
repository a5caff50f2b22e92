"""The table of D's features: the features of a run, and the program on images of waves."""

import shutil

import numpy as np
import pytest

from minigan import ConfigError, RunError
from minigan.data import Dataset
from minigan.data.files.npz import load_arrays, save_arrays
from minigan.evaluation import reference_images
from minigan.inspection.open_run import activations, freeze_discriminator, load_net, untrained
from minigan.training import train
from minigan.training.open_game import open_game
from minigan.training.run_folder import Run
from tests.support import waves
from tests.support.pictures import noise
from tests.support.programs import load_program
from tests.support.ranks import ROOT, job, needs_mpi
from tests.support.refusals import refusal
from tests.support.training_runs import content, open_game_module

SMALL = dict(image_size="16x16", width=3, z_dim=8, batch_size=16)
RATES = dict(lr_g=2e-3, lr_d=1e-3, beta1=0.5)


def quiet(line):
    pass


@pytest.fixture(autouse=True)
def few_images(monkeypatch):
    monkeypatch.setattr(open_game_module, "load_dataset", waves.load)
    monkeypatch.setattr(reference_images, "MIN_TEST", 50)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """-> folder of a run of 40 steps on the waves."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(open_game_module, "load_dataset", waves.load)
        train({"dataset": "strokes", **SMALL, **RATES, "steps": 40}, out=folder, log=quiet)
    return folder


@pytest.fixture(scope="module")
def program():
    return load_program("paper/features_table")


def rows(text):
    """-> name of a row: its columns"""
    table = text[text.index(f"{'':36}") :].splitlines()[1:4]
    return {line[:36].strip(): line[36:].split() for line in table}


def accuracies(text):
    """-> of the trained D, of D before its first step, and of pixels, in %"""
    return [float(row[3].rstrip("%")) for row in rows(text).values()]


def test_features_are_the_pooled_maps(run, program):
    """Of each image alone, layer after layer, and for more images than a batch."""
    pooled = load_program("paper/pooled_features")
    game, _ = open_game(Run(run))
    assert load_net(game.D, "D", Run(run), print) == 40
    freeze_discriminator(game, game.D, waves.load("strokes"))
    images = waves.waves(37)
    found = pooled.features(game, game.D, images)
    maps = activations(game.D, (images / 127.5 - 1).astype(np.float32))
    wanted = [pooled.pool(maps[i]).reshape(37, -1) for i in pooled.map_layers(game.D)]
    assert found.shape == (37, 16 * (3 + 3 + 6)) and found.dtype == np.float32
    np.testing.assert_allclose(found, np.concatenate(wanted, axis=1), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(pooled.features(game, game.D, images[:16]), found[:16])
    before = untrained(game)
    freeze_discriminator(game, before, waves.load("strokes"))
    assert np.abs(pooled.features(game, before, images) - found).max() > 0.1


def test_the_table_of_a_run(program, run, capsys):
    pytest.importorskip("scipy.optimize")
    before = content(run)
    program.features_table([str(run), "--n", "400"])
    out = capsys.readouterr().out
    names = ["D of mnist, 40 steps", "the same D before its first step", "pixels"]
    assert list(rows(out)) == names
    columns = [["192", "400"], ["192", "400"], ["256", "400"]]
    assert [row[:2] for row in rows(out).values()] == columns
    trained, at_first, pixels = accuracies(out)
    assert trained > 80 and at_first > 80 and 20 < pixels < 65
    assert "on 200 images of strokes (held out of 1,000" in out
    assert "D has seen the held-out images too" in out
    assert "the paper: 82.8% with 28,672 features" in out and "arXiv:1511.06434" in out
    assert content(run) == before


def test_one_row_is_of_the_checkpoint_and_one_of_the_initial_weights(
    program, run, tmp_path, capsys
):
    """If all weights of the checkpoint are 0, its features say nothing, the initial ones do."""
    pytest.importorskip("scipy.optimize")
    broken = shutil.copytree(run, tmp_path / "broken")
    (path,) = broken.glob("checkpoints/*40.npz")
    zeroed = {name: array * (name[:2] != "D/") for name, array in load_arrays(path).items()}
    save_arrays(path, zeroed)
    program.features_table([str(broken), "--n", "400"])
    trained, at_first, _ = accuracies(capsys.readouterr().out)
    assert trained < 20 and at_first > 70


def test_labels_that_say_nothing_are_guessed(program, run, monkeypatch, capsys):
    """The accuracy does not come from the labels of the test images."""
    pytest.importorskip("scipy.optimize")
    data = waves.load("strokes")
    mixed = np.random.default_rng(0).permutation(data.labels)
    shuffled = Dataset("strokes", data.images, mixed, data.classes, data.fingerprint)
    monkeypatch.setattr(open_game_module, "load_dataset", lambda *names, **options: shuffled)
    program.features_table([str(run), "--n", "300"])
    assert all(accuracy < 20 for accuracy in accuracies(capsys.readouterr().out))


@pytest.mark.slow
def test_published_test_images_and_fewer_for_the_memory(program, run, monkeypatch, capsys):
    pytest.importorskip("scipy.optimize")
    test = waves.waves(70, seed=1), np.arange(70) % 10
    monkeypatch.setattr(reference_images, "TESTED", ("strokes",))
    monkeypatch.setattr(reference_images, "load_test", lambda *_: test)
    monkeypatch.setattr(program, "MEMORY", 4 * 192 * 200)
    program.features_table([str(run), "--n", "100"])
    out = capsys.readouterr().out
    assert "on 70 images of strokes (its test images)" in out and "held" not in out
    assert [row[1] for row in rows(out).values()] == ["100"] * 3
    program.features_table([str(run)])
    assert [row[1] for row in rows(capsys.readouterr().out).values()] == ["200", "200", "150"]


@pytest.mark.slow
def test_without_a_run_one_is_trained_and_resumed(program, monkeypatch, tmp_path, capsys):
    pytest.importorskip("scipy.optimize")
    out = str(tmp_path / "new")

    def train_small(config, **options):
        train(config if options.get("resume") else {**config, **SMALL}, **options)

    monkeypatch.setattr(program, "train", train_small)
    monkeypatch.setattr(reference_images, "TESTED", ())
    for steps in ("4", "6"):
        program.features_table(["--steps", steps, "--out", out, "--n", "100"])
        text = capsys.readouterr().out
        assert f"D of color32, {steps} steps" in text and "images of cifar10" in text


def test_mistakes_are_one_line(program, run, tmp_path):
    pytest.importorskip("scipy.optimize")

    def mistake(*options, kind=ConfigError):
        return refusal(program.features_table, list(map(str, options)), kind=kind)

    assert "--n" in mistake(run, "--n", 5)
    assert "omit them, or RUN" in mistake(run, "--steps", 5)
    assert "is not the folder of a run" in mistake(tmp_path / "none", kind=RunError)


@pytest.mark.parametrize(
    "preset, width, words",
    (
        ("radford-mnist-conditional", 2, "D of preset radford-mnist-conditional is conditional"),
        ("shibuya-fnn", 8, "D has no convolutions"),
    ),
)
def test_some_discriminators_have_no_features(preset, width, words, program, tmp_path, monkeypatch):
    pytest.importorskip("scipy.optimize")
    monkeypatch.setattr(open_game_module, "load_dataset", noise(300))
    config = {"preset": preset, "width": width, "steps": 1, "batch_size": 20}
    train(config, out=tmp_path / "run", log=quiet)
    assert words in refusal(program.features_table, [str(tmp_path / "run")], kind=ConfigError)


@pytest.mark.parametrize(
    "labels, words", ((None, "has no labels"), (np.zeros(1000, int), "of one class"))
)
def test_images_without_classes_have_no_table(labels, words, program, run, monkeypatch):
    pytest.importorskip("scipy.optimize")
    data = waves.load("strokes")
    changed = Dataset("strokes", data.images, labels, ("cat",), data.fingerprint)
    monkeypatch.setattr(open_game_module, "load_dataset", lambda *names, **options: changed)
    assert words in refusal(program.features_table, [str(run)], kind=ConfigError)


def test_a_folder_without_classes_is_refused_before_the_training(program, monkeypatch, tmp_path):
    pytest.importorskip("scipy.optimize")

    def load_folder(*names, **options):
        data = waves.load("cifar10", image_shape=(32, 32, 3))
        return Dataset("folder", data.images, None, (), data.fingerprint)

    monkeypatch.setattr(open_game_module, "load_dataset", load_folder)
    words = ["--images", "photos", "--out", str(tmp_path / "run")]
    assert "has no labels" in refusal(program.features_table, words, kind=ConfigError)
    assert not (tmp_path / "run").exists()


@needs_mpi
def test_ranks_share_the_features_with_the_numbers_of_one_process(run, tmp_path):
    tables = []
    for size in (1, 3):
        words = ("features_table", run)
        done = job(size, ROOT / "tests/support/rank_paper.py", *words)
        assert done.returncode == 0, done.stderr
        tables.append({name: row[:-1] for name, row in rows(done.stdout).items()})  # less seconds
    assert tables[0] == tables[1] and len(tables[0]) == 3
