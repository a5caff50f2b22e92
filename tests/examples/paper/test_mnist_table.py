"""The paper's MNIST table: labeled samples, and the program on few synthetic digits."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from minigan import ConfigError, RunError
from minigan.training.config import new_config
from minigan.training.game import Game
from tests.support.programs import load_program
from tests.support.rank_paper import small_mnist_table
from tests.support.ranks import ROOT, job, needs_mpi
from tests.support.refusals import refusal

PROGRAM = load_program("paper/mnist_table")
CHUNK = PROGRAM.CHUNK


def labeled_samples(game, n, seed, start=0):
    """-> samples and labels, chunk by chunk"""
    draw = PROGRAM.make_drawer(game, n, seed)
    return [draw(first) for first in range(start, n, CHUNK)]


@pytest.fixture(scope="module")
def game():
    return Game(new_config({"preset": "radford-mnist-conditional", "width": 1, "batch_size": 100}))


def test_samples_resume_where_they_stopped(game):
    n = CHUNK + 150
    chunks = list(labeled_samples(game, n, seed=3))
    assert [len(labels) for _, labels in chunks] == [CHUNK, 150]
    ((again, requested),) = labeled_samples(game, n, seed=3, start=CHUNK)
    np.testing.assert_array_equal(again, chunks[1][0])
    np.testing.assert_array_equal(requested, chunks[1][1])
    ((few, few_requested),) = labeled_samples(game, 130, seed=3)  # the first of more
    np.testing.assert_array_equal(few, chunks[0][0][:130])
    np.testing.assert_array_equal(few_requested, chunks[0][1][:130])


def test_samples_are_by_the_statistics_of_their_batch(game):
    """As in the published program."""
    ((samples, labels),) = labeled_samples(game, 100, seed=0)
    generator = np.random.default_rng([0, 0])
    generator.integers(0, 10, -(-CHUNK // 100) * 100)
    z = np.empty((100, game.config.z_dim), np.float32)
    game.fill_z(z, generator)
    wanted = game.to_images(game.G.forward(z, train=False, labels=game.labels(labels)))
    np.testing.assert_array_equal(samples, wanted)
    assert not np.array_equal(game.images_of(z, labels), wanted)


def test_labels_are_drawn_independently(game):
    """Chi-square with 9 degrees of freedom: between these bounds in 0.999 of all draws."""
    ((_, labels),) = labeled_samples(game, CHUNK, seed=0)
    counts, expected = np.bincount(labels, minlength=10), CHUNK / 10
    assert 0.5 < ((counts - expected) ** 2 / expected).sum() < 27.9


@pytest.fixture
def program(monkeypatch):
    return small_mnist_table(monkeypatch)


def table_in(folder):
    return json.loads((folder / "table.json").read_text())


def epochs(folder):
    return [row["epoch"] for row in table_in(folder)["after_epoch"]]


def test_the_program_trains_measures_and_continues(program, tmp_path, capsys):
    options = ["--width", "1", "--out", str(tmp_path)]
    program.mnist_table([*options, "--minutes", "0.0001", "--samples", "1200"])
    first = table_in(tmp_path)
    assert epochs(tmp_path) == [1]
    assert set(first["samples"]) == {"1000", "1200"} and set(first["real"]) == {"50000", "60000"}
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["GAN,", "the", "paper", "6.28", "-", "5.65"] in lines
    assert any(" ".join(line[:8]) == "DCGAN, here, 1 epoch, 0 min, width 1" for line in lines)

    # more samples of the same generator
    program.mnist_table([*options, "--minutes", "0", "--samples", "2300"])
    second = table_in(tmp_path)
    assert second["after_epoch"] == first["after_epoch"]
    assert set(second["samples"]) == {"1000", "1200", "2000", "2300"}
    assert second["samples"]["1000"] == first["samples"]["1000"]
    assert int(program.load_arrays(tmp_path / "nearest.npz")["count"]) == 2048

    # a little more training: an epoch, after which earlier samples do not count
    minutes = str(second["seconds"] / 60 + 1e-6)
    program.mnist_table([*options, "--minutes", minutes, "--samples", "1000"])
    assert epochs(tmp_path) == [1, 2] and set(table_in(tmp_path)["samples"]) == {"1000"}


def test_the_picture_is_drawn(program, tmp_path):
    pytest.importorskip("matplotlib")
    table = program.Table(tmp_path)
    table.samples, table.real = {1000: 11.1, 50_000: 3.2}, {60_000: 3.1}
    table.after_epoch = [{"epoch": 1, "minutes": 0.5, "error": 30.0}]
    PROGRAM.draw(table, tmp_path / "table.png")
    with Image.open(tmp_path / "table.png") as picture:
        assert picture.size == (1280, 544)


def test_samples_are_measured_at_growing_intervals(program, tmp_path):
    """A minute an epoch, for 40 minutes."""
    table, seen = program.Table(tmp_path), []
    while table.epoch < 40:
        epoch = table.epoch + program.epochs_until_measured(table, 40 * 60)
        table.after_epoch.append({"epoch": epoch})
        table.seconds = 60.0 * epoch
        seen.append(epoch)
    assert seen == [1, 2, 3, 4, 6, 9, 13, 19, 28, 40]
    # an epoch that has begun is completed
    assert program.epochs_until_measured(table, table.seconds + 61) == 2


def test_training_ends_with_the_papers_epochs(program, tmp_path, monkeypatch):
    monkeypatch.setattr(program, "EPOCHS", 2)
    program.mnist_table(["--width", "1", "--out", str(tmp_path), "--samples", "1000"])
    assert epochs(tmp_path) == [1, 2]


@pytest.mark.slow
def test_a_stop_between_measurements_is_made_up_for(program, tmp_path, monkeypatch):
    """The next start trains to the same epoch, and drops samples of the earlier generator."""
    options = ["--width", "1", "--out", str(tmp_path), "--samples", "1000"]
    program.mnist_table([*options, "--minutes", "0.0001"])
    monkeypatch.setattr(program, "epochs_until_measured", lambda table, seconds: 3)
    train = program.train

    def stopped(config, **more):
        train({**config, "epochs": 3}, **more)
        raise program.Interrupted(2, more["resume"])

    monkeypatch.setattr(program, "train", stopped)
    with pytest.raises(program.Interrupted):
        program.mnist_table([*options, "--minutes", "60"])
    assert not (tmp_path / "nearest.npz").exists()
    halfway = table_in(tmp_path)
    assert halfway["aim"] == 4 and not halfway["samples"] and epochs(tmp_path) == [1]
    monkeypatch.setattr(program, "train", train)
    monkeypatch.setattr(program, "epochs_until_measured", lambda table, seconds: 1)
    program.mnist_table([*options, "--minutes", str(halfway["seconds"] / 60 + 1e-6)])
    assert epochs(tmp_path) == [1, 4]


def test_mistakes_are_one_line(program, tmp_path):
    for options, words in (
        (["--samples", "0"], "--samples"),
        (["--minutes", "nan"], "--minutes must be 0 or more"),
        (["--minutes", "0"], "nothing is trained yet"),
        (["--width", "0", "--minutes", "1"], "width"),
    ):
        arguments = [*options, "--out", str(tmp_path / "new")]
        assert words in refusal(program.mnist_table, arguments, kind=ConfigError)
    (tmp_path / "new/table.json").write_text('{"seconds": "many"}')
    arguments = ["--out", str(tmp_path / "new")]
    line = refusal(program.mnist_table, arguments, kind=RunError)
    assert "is not a table of this program" in line


@needs_mpi
def test_ranks_share_the_samples_with_the_numbers_of_one_process(program, tmp_path):
    """Also if they resume what one process has begun."""
    options = ["--width", "1", "--minutes", "0.0001", "--samples"]
    one, ranks = tmp_path / "one", tmp_path / "ranks"
    program.mnist_table([*options, "1200", "--out", str(one)])
    shutil.copytree(one, ranks)
    program.mnist_table([*options, "5300", "--out", str(one)])
    words = ("mnist_table", *options, 5300, "--out", ranks)
    done = job(3, ROOT / "tests/support/rank_paper.py", *words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("5,300 samples: error") == 1
    assert (one / "table.json").read_bytes() == (ranks / "table.json").read_bytes()
    assert (one / "nearest.npz").read_bytes() == (ranks / "nearest.npz").read_bytes()


@needs_mpi
def test_ranks_train_and_measure(tmp_path):
    words = ("mnist_table", "--width", "1", "--minutes", "0.0001", "--samples", "1200")
    done = job(2, ROOT / "tests/support/rank_paper.py", *words, "--out", tmp_path / "new")
    assert (done.returncode, done.stderr) == (0, "")
    assert set(table_in(tmp_path / "new")["samples"]) == {"1000", "1200"}
    assert done.stdout.count("1,200 samples: error") == 1
