"""1-nearest-neighbour label transfer: against plain loops, the same in pieces, real MNIST's known error, and the program."""

import json

import numpy as np
import pytest

from minigan import ConfigError, RunError, ShapeError
from minigan.evaluation.label_transfer import Transfer
from minigan.training.config import new_config
from minigan.training.game import Game
from tests.programs import load_program

RNG = np.random.default_rng(0)


PROGRAM = load_program("paper_table")
CHUNK, labelled_samples = PROGRAM.CHUNK, PROGRAM.labelled_samples


def some(n, shape=(5, 4, 1), levels=256):
    return RNG.integers(0, levels, (n, *shape), dtype=np.uint8), RNG.integers(0, 10, n)


def naive(images, labels, samples, told):
    wrong = 0
    for image, label in zip(images.astype(int), labels, strict=True):
        squares = [((image - sample.astype(int)) ** 2).sum() for sample in samples]
        wrong += told[squares.index(min(squares))] != label
    return wrong / len(images)


@pytest.mark.parametrize("levels", [256, 2])  # with two grey levels there are many ties
def test_error_is_that_of_plain_loops(levels):
    (images, labels), (samples, told) = some(60, levels=levels), some(150, levels=levels)
    transfer = Transfer(images, labels)
    transfer.add(samples, told)
    assert transfer.error() == naive(images, labels, samples, told)


def test_in_pieces_and_after_a_stop_it_is_the_same():
    (images, labels), (samples, told) = some(40, levels=3), some(300, levels=3)
    whole, pieces = Transfer(images, labels), Transfer(images, labels)
    whole.add(samples, told)
    for start in range(0, 300, 70):
        pieces.add(samples[start : start + 70], told[start : start + 70])
        resumed = Transfer(images, labels)
        resumed.load_state(pieces.state())
        pieces = resumed
    assert pieces.count == whole.count == 300
    for name, array in whole.state().items():
        np.testing.assert_array_equal(array, pieces.state()[name])


def test_what_is_known_without_a_calculation():
    images, labels = some(30)
    transfer = Transfer(images, labels)
    assert transfer.error() == 1.0  # nothing is known yet
    transfer.add(images, (labels + 1) % 10)
    assert transfer.error() == 1.0
    transfer = Transfer(images, labels)
    transfer.add(images, labels)
    assert transfer.error() == 0.0 and not transfer.distances.any()


def test_mistakes_are_told():
    transfer = Transfer(*some(5))
    with pytest.raises(ShapeError, match="as many labels as samples, got 2 and 3"):
        transfer.add(some(3)[0], np.arange(2))
    for state in ({}, Transfer(*some(6)).state()):
        with pytest.raises(ShapeError, match="nearest samples of 5 images"):
            transfer.load_state(state)


@pytest.fixture(scope="module")
def game():
    return Game(new_config({"preset": "radford-mnist-conditional", "width": 2, "batch_size": 100}))


def test_samples_go_on_where_they_stopped(game):
    n = CHUNK + 150
    chunks = list(labelled_samples(game, n, seed=3))
    assert [len(labels) for _, labels in chunks] == [CHUNK, 150]
    ((again, told),) = labelled_samples(game, n, seed=3, start=CHUNK)
    np.testing.assert_array_equal(again, chunks[1][0])
    np.testing.assert_array_equal(told, chunks[1][1])
    ((few, few_told),) = labelled_samples(game, 130, seed=3)  # the first of more
    np.testing.assert_array_equal(few, chunks[0][0][:130])
    np.testing.assert_array_equal(few_told, chunks[0][1][:130])


def test_labels_are_drawn_one_by_one(game):
    ((_, labels),) = labelled_samples(game, CHUNK, seed=0)
    counts = np.bincount(labels, minlength=10)
    expected = CHUNK / 10
    assert (
        0.5 < ((counts - expected) ** 2 / expected).sum() < 27.9
    )  # chi-square, 9 degrees of freedom: 0.999 of all draws


@pytest.mark.slow
def test_real_mnist_has_its_known_error():
    """3.09% with all 60,000 training images."""
    from minigan.data.sets.mnist import load_mnist

    try:
        images, labels = load_mnist(split="test", download=False)
        train_images, train_labels = load_mnist(download=False)
    except Exception as error:
        pytest.skip(f"MNIST is not here: {error}")
    transfer = Transfer(images, labels)
    transfer.add(train_images, train_labels)
    assert np.count_nonzero(transfer.given != labels) == 309


@pytest.fixture
def program(monkeypatch):
    """examples/paper_table.py, on Strokes, with few of them."""
    module = load_program("paper_table")
    train = module.train

    def train_few(options, **more):
        return train(
            options
            if "resume" in more
            else {**options, "dataset": "strokes", "limit": 300, "batch_size": 50},
            **more,
        )

    monkeypatch.setattr(module, "train", train_few)
    sets = {"test": some(100, (28, 28, 1)), "train": some(400, (28, 28, 1))}
    monkeypatch.setattr(module, "load_mnist", lambda *_, split="train": sets[split])
    monkeypatch.setattr(module, "AFTER_EPOCH", 60)
    return module


def test_the_program_trains_measures_and_goes_on(program, tmp_path, capsys):
    options = ["--width", "2", "--out", str(tmp_path / "table")]
    program.paper_table([*options, "--minutes", "0.0001", "--samples", "1200"])
    first = json.loads((tmp_path / "table/table.json").read_text())
    assert [row["epoch"] for row in first["after_epoch"]] == [1]
    assert set(first["samples"]) == {"1000", "1200"} and set(first["real"]) == {"50000", "60000"}
    out = capsys.readouterr().out
    for line in (
        "GAN, the paper                                      6.28           -        5.65",
        "DCGAN, here, 1 epoch, 0 min, width 2",
    ):
        assert line in out

    program.paper_table(
        [*options, "--minutes", "0", "--samples", "6000"]
    )  # more samples of the same generator
    second = json.loads((tmp_path / "table/table.json").read_text())
    assert second["after_epoch"] == first["after_epoch"]
    assert set(second["samples"]) == {"1000", "1200", "2000", "5000", "6000"}
    assert second["samples"]["1000"] == first["samples"]["1000"]
    state = program.load_arrays(tmp_path / "table/nearest.npz")
    assert int(state["count"]) == CHUNK

    minutes = (
        second["seconds"] / 60 + 1e-6
    )  # a little more training: an epoch, and what was measured before is of another G
    program.paper_table([*options, "--minutes", str(minutes), "--samples", "1000"])
    third = json.loads((tmp_path / "table/table.json").read_text())
    assert [row["epoch"] for row in third["after_epoch"]] == [1, 2] and set(third["samples"]) == {
        "1000"
    }


def test_samples_are_measured_in_longer_and_longer_strides(program, tmp_path):
    table = program.Table(tmp_path)
    seen = []
    while table.epoch < 40:  # a minute an epoch, of 40
        table.after_epoch.append(
            {"epoch": table.epoch + program.epochs_until_measured(table, 40 * 60)}
        )
        table.seconds = 60.0 * table.epoch
        seen.append(table.epoch)
    assert seen == [1, 2, 3, 4, 6, 9, 13, 19, 28, 40]
    assert (
        program.epochs_until_measured(table, table.seconds + 61) == 2
    )  # one that has begun is ended


def test_training_ends_with_the_papers_epochs(program, tmp_path, monkeypatch):
    monkeypatch.setattr(program, "EPOCHS", 2)
    program.paper_table(["--width", "2", "--out", str(tmp_path), "--samples", "1000"])
    assert [
        row["epoch"] for row in json.loads((tmp_path / "table.json").read_text())["after_epoch"]
    ] == [1, 2]


def test_a_stop_within_a_stride_is_made_up_for(program, tmp_path, monkeypatch):
    """The next start goes on to the same epoch, names the row by it, and keeps no sample of the generator from before."""
    options = ["--width", "2", "--out", str(tmp_path), "--samples", "1000"]
    program.paper_table([*options, "--minutes", "0.0001"])
    monkeypatch.setattr(program, "epochs_until_measured", lambda table, seconds: 3)
    train = program.train

    def stopped(given, **more):
        train({**given, "epochs": 3}, **more)
        raise program.Interrupted(2)

    monkeypatch.setattr(program, "train", stopped)
    with pytest.raises(program.Interrupted):
        program.paper_table([*options, "--minutes", "60"])
    assert not (tmp_path / "nearest.npz").exists()
    halfway = json.loads((tmp_path / "table.json").read_text())
    assert (
        halfway["aim"] == 4
        and not halfway["samples"]
        and [row["epoch"] for row in halfway["after_epoch"]] == [1]
    )
    monkeypatch.setattr(program, "train", train)
    monkeypatch.setattr(program, "epochs_until_measured", lambda table, seconds: 1)
    program.paper_table([*options, "--minutes", str(halfway["seconds"] / 60 + 1e-6)])
    assert [
        row["epoch"] for row in json.loads((tmp_path / "table.json").read_text())["after_epoch"]
    ] == [1, 4]


def test_mistakes_of_the_program(program, tmp_path):
    for options, words in (
        (["--samples", "0"], "--samples"),
        (["--minutes", "nan"], "--minutes must be 0 or more"),
        (["--minutes", "0"], "nothing is trained yet"),
        (["--width", "0", "--minutes", "1"], "width"),
    ):
        with pytest.raises(ConfigError, match=words):
            program.paper_table([*options, "--out", str(tmp_path / "new")])
    (tmp_path / "new/table.json").write_text('{"seconds": "many"}')
    with pytest.raises(RunError, match="is not a table of this program"):
        program.paper_table(["--out", str(tmp_path / "new")])
