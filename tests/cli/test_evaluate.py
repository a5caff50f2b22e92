"""The commands train-classifier and evaluate: what they print and write, and mistakes."""

import json
import shutil
from math import inf

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

import minigan as mg
from minigan import evaluation
from minigan.cli.main import main
from minigan.data import Dataset
from minigan.data.files.npz import load_arrays, unpack
from minigan.evaluation import get_classifier, reference_images
from minigan.evaluation.classifier import load_classifier
from minigan.parallel.group import ALONE
from minigan.training import Run, open_game, periodic_evaluation, train
from tests.support import squares
from tests.support.networks import assert_same_arrays
from tests.support.ranks import minigan, needs_mpi
from tests.support.training_runs import metrics


def quiet(line):
    pass


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """-> a folder with a cache, which has the classifier of the squares, and with a short run."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        squares.make_small(patch, folder / "cache")
        patch.setattr(periodic_evaluation, "BUDGET", 1e9)
        get_classifier(squares.reference(), mg.get_backend("numpy"), log=quiet)
        train({**squares.RUN, "evaluate_every": 12}, out=folder / "run", log=quiet)
    return folder


@pytest.fixture
def cache(made, tmp_path, monkeypatch):
    """-> a copy of that cache folder, in use."""
    folder = shutil.copytree(made / "cache", tmp_path / "cache")
    squares.make_small(monkeypatch, folder)
    return folder


@pytest.fixture
def run(made, tmp_path, cache):
    """-> a copy of the run."""
    return shutil.copytree(made / "run", tmp_path / "run")


def printed(capsys, *words):
    """-> what a command prints."""
    assert main([str(word) for word in words]) == 0
    return capsys.readouterr().out


def mistake(capsys, *words):
    """-> the line on stderr of a command that ends with exit code 2."""
    assert main([str(word) for word in words]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "Traceback" not in err, err
    return err


TRAIN_CLASSIFIER = ("train-classifier", "--dataset", "strokes", "--image-size", "8x8")


@pytest.mark.parametrize("command", ("train-classifier", "judge"))
def test_a_classifier_is_trained_once(command, cache, capsys, monkeypatch):
    words = (command, *TRAIN_CLASSIFIER[1:])
    assert printed(capsys, *words).startswith("classifier ")
    monkeypatch.setattr(squares.train_classifier, "EPOCHS", 1)
    before = squares.classifier_in(cache).read_bytes()
    out = printed(capsys, *words, "--seed", 3)
    other = squares.classifier_in(cache).read_bytes()
    assert "epoch 1/1" in out and other != before
    assert printed(capsys, *words).startswith("classifier ")  # of any seed
    assert squares.classifier_in(cache).read_bytes() == other


def test_evaluate_prints_a_table_and_writes_two_files(run, capsys):
    out = printed(capsys, "evaluate", run)
    record = json.loads((run / "evaluation.json").read_text())
    assert record["n"] == 120 and record["data"] == "strokes"
    assert f"in the features of classifier {record['judge']['name']}, " in out
    assert f"LeNet Fréchet distance{record['samples']['frechet']:>29.2f}" in out
    assert record["samples"]["frechet"] > 5 * record["floor"]["frechet"]  # G has hardly begun
    with Image.open(run / "nearest.png") as picture:
        assert picture.size == (16 * (8 + 2) + 2, 6 * (8 + 2) + 2)


def test_what_is_evaluated_of_a_conditional_run_with_mirrored_images(
    cache, tmp_path, capsys, monkeypatch
):
    """The samples of `minigan sample`, of each class in turn."""
    folder, given = tmp_path / "run", []
    train({**squares.RUN, "classes": 10, "flip": True, "steps": 1}, out=folder, log=quiet)
    monkeypatch.setattr(evaluation, "evaluate", lambda *arguments: given.append(arguments))
    printed(capsys, "evaluate", folder, "--n", 30)
    ((samples, _, _, labels, flip, _),) = given
    assert labels.tolist() == [*range(10)] * 3 and flip is True
    printed(capsys, "sample", folder, "--n", 30, "--out", tmp_path / "a.npy")
    np.testing.assert_array_equal(samples, np.load(tmp_path / "a.npy"))


def test_an_imported_run_is_evaluated_like_the_one_it_comes_from(run, tmp_path, capsys):
    copy = tmp_path / "copy"
    printed(capsys, "export", run, tmp_path / "weights.safetensors")
    printed(capsys, "import", tmp_path / "weights.safetensors", "--out", copy)
    for folder in (run, copy):
        printed(capsys, "evaluate", folder, "--n", 30)
    assert (copy / "evaluation.json").read_bytes() == (run / "evaluation.json").read_bytes()


@pytest.mark.parametrize(
    "words, said, sections",
    (
        ([], "G and D of step 12, ", {"G": "G average", "D": "D"}),
        (["--net", "G-unaveraged"], "G-unaveraged of step 12, ", {"G": "G"}),
    ),
)
def test_the_best_checkpoint_is_exported_though_the_run_went_on(
    words, said, sections, run, tmp_path, capsys
):
    train({"steps": 14, "evaluate_every": 0}, resume=run, log=quiet)
    file = tmp_path / "best.safetensors"
    assert said in printed(capsys, "export", run, file, "--best", *words)
    arrays, _ = unpack(load_arrays(run / "checkpoints/best.npz"), "")
    best = {
        f"{net}.{name}": array
        for net, section in sections.items()
        for name, array in arrays[section].items()
    }
    assert_same_arrays(load_file(file), best)


def test_evaluate_with_another_number_file_and_checkpoint(run, tmp_path, capsys):
    (tmp_path / "nearest.png").write_text("the user's own")
    printed(capsys, "evaluate", run, "--n", 30, "--out", tmp_path / "b.json")
    assert (tmp_path / "nearest.png").read_text() == "the user's own"
    assert json.loads((tmp_path / "b.json").read_text())["n"] == 30
    assert (tmp_path / "b-nearest.png").exists() and not (run / "evaluation.json").exists()
    printed(capsys, "evaluate", run, "--best", "--n", 30)
    assert (run / "evaluation-best.json").exists() and (run / "nearest-best.png").exists()


def test_without_labels_only_pixel_space_is_left(run, capsys, monkeypatch):
    data = squares.load("strokes")

    def unlabeled(name, data_dir=None, **options):
        return Dataset(name, data.images, None, (), data.fingerprint)

    monkeypatch.setattr(squares.open_game, "load_dataset", unlabeled)
    out = printed(capsys, "evaluate", run, "--n", 50)
    assert "has no labels" in out and "in pixel space" in out
    assert json.loads((run / "evaluation.json").read_text())["judge"] is None
    assert "has no labels" in mistake(capsys, *TRAIN_CLASSIFIER)


@pytest.mark.parametrize(
    "options, words",
    (
        (("--n", 121), "large enough to hold out 120 images"),
        (("--n", 19), "at least 20"),
        (("--n", "x"), "a whole number, got 'x'"),
        (("--out", "a.txt"), "end in .json, got 'a.txt'"),
    ),
)
def test_mistakes_of_evaluate(options, words, run, capsys):
    assert words in mistake(capsys, "evaluate", run, *options)


def test_more_mistakes(run, tmp_path, capsys, monkeypatch):
    assert "not the folder of a run" in mistake(capsys, "evaluate", tmp_path)
    (run / "best-generator.npz").unlink()
    assert "best-generator.npz" in mistake(capsys, "evaluate", run, "--best")
    assert "--flip" in mistake(capsys, "train-classifier", "--flip")
    monkeypatch.setattr(reference_images, "MIN_TEST", 500)
    assert "takes 2,500 images" in mistake(capsys, *TRAIN_CLASSIFIER)
    images = squares.squares(600)
    other = Dataset("strokes", images, None, (), "1" * 16)
    monkeypatch.setattr(squares.open_game, "load_dataset", lambda *names, **options: other)
    assert "not those that the run was trained on" in mistake(capsys, "evaluate", run)


# ---- on ranks


@needs_mpi
@pytest.mark.slow
@pytest.mark.parametrize("size, n", ((2, 120), (3, 97)))
def test_ranks_write_the_bytes_of_one_process(size, n, run, cache, capsys, tmp_path):
    written = []
    words = ("evaluate", run, "--n", n, "--out", tmp_path / "found.json")
    for evaluate in (
        lambda: printed(capsys, *words),
        lambda: minigan(size, *words, environment={"SQUARES": str(cache)}).stdout,
    ):
        lines = evaluate()
        written.append([lines, *(path.read_bytes() for path in sorted(tmp_path.glob("found*")))])
        for path in tmp_path.glob("found*"):
            path.unlink()
    assert written[0] == written[1] and len(written[0]) == 3


@needs_mpi
@pytest.mark.slow
def test_ranks_evaluate_during_training(cache, tmp_path, monkeypatch):
    """On all of them, with the numbers of the command; a fault on any ends all."""
    given = {"SQUARES": str(cache)}
    options = [f"--{name.replace('_', '-')}={each}" for name, each in squares.RUN.items()]
    words = ("train", *options, "--evaluate-every=4", "--sample-every=4")
    run = tmp_path / "run"
    assert minigan(3, *words, "--out", run, environment=given).returncode == 0
    rows = [row for row in metrics(run) if row["frechet"]]
    assert [row["step"] for row in rows] == ["4", "8", "12"]
    game, _ = open_game(Run(run))
    drawn = game.sample(480, game.stream("evaluation"))
    real = squares.reference()
    classifier = load_classifier(real, game.backend)
    alone = periodic_evaluation.PeriodicEvaluation(classifier, real, 4, inf, ALONE)
    assert float(rows[-1]["frechet"]) == alone.measure(drawn)["frechet"]
    for rank in (0, 1):
        options = {"rank": rank, "step": 8, "environment": given}
        done = minigan(3, *words, "--out", tmp_path / f"{rank}", fault="raise-evaluate", **options)
        assert done.returncode == 1 and done.stderr.count("\n") == 1
        assert f"minigan: error: rank {rank} of 3, step 8: " in done.stderr


@needs_mpi
@pytest.mark.slow
@pytest.mark.parametrize("rank", (0, 1))
def test_a_fault_on_any_rank_ends_all(rank, run, cache):
    given = {"SQUARES": str(cache)}
    done = minigan(3, "evaluate", run, fault="raise-nearest", rank=rank, environment=given)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert f"minigan: error: rank {rank} of 3: not enough memory" in done.stderr
    assert not (run / "evaluation.json").exists()


@needs_mpi
@pytest.mark.slow
def test_a_mistake_on_ranks_is_one_line(run, cache):
    done = minigan(3, "evaluate", run, "--n", 500, environment={"SQUARES": str(cache)})
    assert (done.returncode, done.stdout.count("Traceback")) == (2, 0)
    assert done.stderr.count("\n") == 1 and "use at most that many" in done.stderr
