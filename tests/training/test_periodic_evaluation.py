"""Evaluations during training: they do not change the run, and they keep its best checkpoint."""

import json
import shlex
import shutil
from math import inf

import numpy as np
import pytest

import minigan as mg
from minigan import ConfigError
from minigan.cli.main import build_parser
from minigan.data import Dataset
from minigan.data.files.npz import load_arrays, pack, save_arrays, unpack
from minigan.evaluation import evaluate, get_classifier
from minigan.evaluation.classifier import load_classifier
from minigan.parallel.group import ALONE
from minigan.training import periodic_evaluation, train
from minigan.training.checkpoint import Checkpoints
from minigan.training.config import new_config
from minigan.training.periodic_evaluation import PeriodicEvaluation, classifier_command
from tests.support import squares
from tests.support.refusals import refusal
from tests.support.training_runs import content, metrics, names, resume

COLUMNS = ("frechet", "classifier_score", "classes_missed")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """-> a cache folder with the classifier of the squares."""
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        squares.make_small(patch, cache)
        train_another(seed=0)
    return cache


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch, trained):
    """-> a copy of that folder, in use; an evaluation never exceeds its budget."""
    folder = shutil.copytree(trained, tmp_path / "cache")
    squares.make_small(monkeypatch, folder)
    monkeypatch.setattr(periodic_evaluation, "BUDGET", 1e9)
    return folder


def train_another(seed):
    get_classifier(squares.reference(), mg.get_backend("numpy"), seed, lambda line: None)


def start(out, **options):
    """A run of 12 steps -> its lines."""
    lines = []
    data_dir = options.pop("data_dir", None)
    train({**squares.RUN, **options}, out=out, data_dir=data_dir, log=lines.append)
    return lines


def test_a_run_is_the_same_with_and_without_evaluations(tmp_path):
    start(tmp_path / "a")
    start(tmp_path / "b", evaluate_every=5)
    a, b = content(tmp_path / "a"), content(tmp_path / "b")
    assert set(b) - set(a) == {"checkpoints/best.npz", "best-generator.npz"}
    assert all(b[name] == a[name] for name in set(a) - {"config.json", "metrics.csv"})
    for without, evaluated in zip(metrics(tmp_path / "a"), metrics(tmp_path / "b"), strict=True):
        measured = evaluated["step"] in ("5", "10", "12")
        assert all(bool(evaluated[name]) == measured for name in COLUMNS)
        assert not any(without[name] for name in COLUMNS)
        same = set(without) - {*COLUMNS, "images_per_s"}
        assert all(without[name] == evaluated[name] for name in same)


def test_its_metrics_are_those_of_the_command_evaluate():
    """For as many samples as there are test images; these are of seven classes of ten."""
    real = squares.reference()
    classifier = load_classifier(real, mg.get_backend("numpy"))
    evaluation = PeriodicEvaluation(classifier, real, 5, inf, ALONE)
    samples = squares.squares(180, seed=5)[np.arange(180) % 10 < 7][: len(real.test)]
    expected = evaluate(samples, real, classifier).samples
    assert expected["classes_missed"] == 3
    assert evaluation.measure(samples) == {name: round(expected[name], 4) for name in COLUMNS}
    assert evaluation.floor > 0  # training images are compared with the test images, too


def test_a_best_checkpoint_that_could_not_be_written_is_not_the_one_to_beat(tmp_path, monkeypatch):
    """The disk is full when a distance of 20 is found: that of 30 is the best of the run."""
    save, out, distances = Checkpoints.save_best, tmp_path / "run", iter([50.0, 20.0, 30.0, 40.0])

    def save_best(self, snapshot, metrics):
        if metrics["frechet"] == 20:
            raise mg.RunError("full")
        save(self, snapshot, metrics)

    monkeypatch.setattr(Checkpoints, "save_best", save_best)
    monkeypatch.setattr(periodic_evaluation, "frechet_distance", lambda a, b: next(distances))
    start(out, evaluate_every=5)
    assert Checkpoints(out).best_distance() == 30
    distances = iter([50.0, 40.0])
    resume(out, steps=13)
    assert Checkpoints(out).best_distance() == 30


@pytest.mark.slow
def test_the_best_checkpoint_is_kept_and_a_resumed_run_has_to_beat_it(tmp_path, monkeypatch):
    out = tmp_path / "run"
    distances = iter([50.0, 20.0, 30.0, 25.0])  # the first is the floor
    monkeypatch.setattr(periodic_evaluation, "frechet_distance", lambda a, b: next(distances))

    def best():
        return unpack(load_arrays(out / "checkpoints/best.npz"), "")

    lines = start(out, evaluate_every=5)
    assert any("as many training images have 50.00" in line for line in lines)
    assert any(line.startswith("best LeNet Fréchet distance 20.00") for line in lines)
    sections, record = best()
    assert record["step"] == 5 and record["best"]["frechet"] == 20 and "optimizer D" in sections
    generator = load_arrays(out / "best-generator.npz")
    assert all(np.array_equal(generator[name], sections["G average"][name]) for name in generator)
    last = (out / "generator.npz").read_bytes()
    assert (out / "best-generator.npz").read_bytes() != last
    kept = ["best.npz", "step-00000000.npz", "step-00000012.npz"]
    assert names(out / "checkpoints") == kept

    classifier = json.loads((out / "config.json").read_text())["judge"]
    distances = iter([1.0, 22.0, 19.0])
    assert any("distance 19.00" in line for line in resume(out, steps=20))
    assert best()[1]["step"] == 20
    distances = iter([1.0, 1000.0])
    assert any("distance 19.00" in line for line in resume(out, steps=25))
    assert best()[1]["step"] == 20
    found = [row["frechet"] for row in metrics(out) if row["frechet"]]
    assert found == ["20.0", "30.0", "25.0", "22.0", "19.0", "1000.0"]
    assert json.loads((out / "config.json").read_text())["judge"] == classifier


@pytest.mark.parametrize(
    "best",
    (
        None,
        {},
        [],
        1.0,
        {"frechet": "x"},
        {"frechet": float("nan")},
        {"frechet": None},
        {"frechet": 10**400},
    ),
)
def test_a_best_checkpoint_without_a_usable_metric_counts_as_none(best, tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.folder.mkdir()
    assert checkpoints.best_distance() == inf
    save_arrays(checkpoints.best_file, pack({}, {"best": best}))
    assert checkpoints.best_distance() == inf
    save_arrays(checkpoints.best_file, pack({}, {"best": {"frechet": 3}}))
    assert checkpoints.best_distance() == 3.0


@pytest.mark.slow
def test_a_run_from_before_there_were_evaluations_is_resumed_with_them(tmp_path):
    out = tmp_path / "run"
    start(out)
    record = json.loads((out / "config.json").read_text())
    del record["options"]["evaluate_every"]
    (out / "config.json").write_text(json.dumps(record))
    old = [line.rsplit(",", 3)[0] for line in (out / "metrics.csv").read_text().splitlines()]
    (out / "metrics.csv").write_text("\n".join(old) + "\n")
    resume(out, steps=14, evaluate_every=14)
    rows = metrics(out)
    assert [bool(row["frechet"]) for row in rows] == 13 * [False] + [True]
    assert None not in rows[0]


def test_without_a_classifier_the_error_is_the_command_that_trains_one(cache, tmp_path):
    squares.classifier_in(cache).unlink()
    folder = tmp_path / "my data"
    options = dict(evaluate_every=5, data_dir=str(folder))
    line = refusal(start, tmp_path / "run", **options, kind=ConfigError)
    assert not (tmp_path / "run").exists()
    program, command, *words = shlex.split(line.split("train it first, with: ")[1])
    assert (program, command) == ("minigan", "train-classifier")
    parsed = vars(build_parser().parse_args([command, *words]))
    wanted = dict(dataset="strokes", image_size="8x8", data_dir=str(folder), preset="mnist")
    assert wanted.items() <= parsed.items()
    train_another(seed=0)
    start(tmp_path / "run", evaluate_every=5)


def test_the_command_reads_the_pictures_as_the_run_does():
    options = dict(images="photos", background="black", max_pixels=10**6, fit="squash")
    data = Dataset("folder", np.zeros((1, 64, 64, 3), np.uint8), None, (), "")
    command = classifier_command(new_config(options), data, None)
    wanted = ("--background black", "--max-pixels 1000000", "--fit squash", "--images")
    assert all(words in command for words in wanted)


def test_without_labels_the_error_says_how_to_train(tmp_path, monkeypatch):
    def unlabeled(name, data_dir=None, **options):
        return Dataset(name, squares.squares(600), None, (), "0" * 16)

    monkeypatch.setattr(squares.open_game, "load_dataset", unlabeled)
    line = refusal(start, tmp_path / "run", evaluate_every=4, kind=ConfigError)
    assert "has no labels" in line and "--evaluate-every 0" in line
    options = {**squares.RUN, "evaluate_every": 4}
    assert refusal(train, options, dry_run=True, kind=ConfigError) == line  # what it would meet
    assert not (tmp_path / "run").exists()


def test_another_classifier_than_at_the_start_is_refused(tmp_path, monkeypatch):
    out = tmp_path / "run"
    start(out, evaluate_every=5)
    monkeypatch.setattr(squares.train_classifier, "EPOCHS", 1)
    train_another(seed=1)
    with pytest.raises(ConfigError, match="not the one that the run began with"):
        resume(out, steps=15)
    resume(out, steps=15, evaluate_every=0)
