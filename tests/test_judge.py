"""Judges and evaluations from end to end, on small pictures of ten classes that are easy to tell apart."""

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

import minigan as mg
import minigan.evaluation.during_training as watch_module
import minigan.training.loop
from minigan.cli.main import main
from minigan.data import Dataset
from minigan.data.files.npz import load_arrays, pack, save_arrays, unpack
from minigan.evaluation import classifier as classifier
from minigan.evaluation import evaluate, load_classifier, split, train_classifier
from minigan.evaluation import reference_images as real
from minigan.evaluation import train_classifier as lessons
from minigan.evaluation.during_training import PeriodicEvaluation
from minigan.evaluation.reference_images import Part, Real
from minigan.training.run_folder import Run
from tests.pictures import DIGITS, dataset

SIZE, COUNT = 8, 600
TRAIN = (
    "train",
    "--dataset",
    "strokes",
    "--image-size",
    SIZE,
    "--width",
    4,
    "--batch-size",
    16,
    "--z-dim",
    8,
    "--steps",
    12,
)
JUDGE = ("judge", "--dataset", "strokes", "--image-size", SIZE)


def pictures(count, shape=(SIZE, SIZE, 1), seed=0):
    """-> images of ten classes in turn: a bright square at a place of the class's own, in noise."""
    images = np.random.default_rng(seed).integers(0, 100, (count, *shape), np.uint8)
    for i, image in enumerate(images):
        top, left = i % 10 // 5 * 4, i % 5 + i % 10 // 5
        image[top : top + 3, left : left + 3] += 130
    return images


def load(name, data_dir=None, *, image_shape=(SIZE, SIZE, 1), limit=None, **options):
    return dataset(pictures(COUNT, image_shape), name)


def run(*words):
    return main([str(word) for word in words])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """-> a cache folder with the judge of those pictures."""
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        small(patch, cache)
        assert run(*JUDGE) == 0
    return cache


def small(patch, cache):
    patch.setattr(classifier, "cache_folder", lambda: cache)
    patch.setattr(minigan.training.loop, "load_dataset", load)
    patch.setattr(minigan.training.loop, "finish", lambda run, log, tables: None)
    patch.setattr(lessons, "EPOCHS", 25)
    patch.setattr(lessons, "REACH", {1: 0, 3: 1})
    patch.setattr(real, "LEAST", 50)
    patch.setattr("minigan.evaluation.metrics.LEAST", 20)
    patch.setattr("minigan.evaluation.kid.SUBSETS", 5)


@pytest.fixture
def cache(tmp_path, monkeypatch, trained):
    """-> a cache folder of the test's own, with a judge in it."""
    folder = shutil.copytree(trained, tmp_path / "cache")
    small(monkeypatch, folder)
    monkeypatch.setattr(watch_module, "BUDGET", 1e9)
    return folder


def file_in(cache):
    (file,) = (cache / "judges").iterdir()
    return file


def rows(folder):
    with open(folder / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def one_line(capsys):
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "Traceback" not in err, err
    return err


# ---- the judge


def test_judge_learns_and_stays(cache, capsys):
    before = file_in(cache).read_bytes()
    assert run(*JUDGE) == 0
    (line,) = capsys.readouterr().out.splitlines()  # it did not learn again
    name = line.split()[1].rstrip(":")
    assert line.startswith(f"judge {name}: right about ") and line.endswith(
        f"that were new to it; in {file_in(cache)}"
    )
    assert float(line.split("right about ")[1].split("%")[0]) >= 95 and "of 120 images" in line
    assert run(*JUDGE, "--seed", 3) == 0
    assert capsys.readouterr().out.count("epoch") == 25 and file_in(cache).read_bytes() != before


def test_the_same_seed_gives_the_same_judge(cache, monkeypatch):
    monkeypatch.setattr(lessons, "EPOCHS", 1)
    parts = split(load("strokes"), None, "crop")
    a, b, c = (
        train_classifier(parts, mg.get_backend("numpy", threads=1), seed, log=lambda line: None)
        for seed in (0, 0, 1)
    )
    assert a.sha256 == b.sha256 != c.sha256 and len(a.sha256) == 64 and a.name == a.sha256[:8]


def test_judge_of_colour_pictures(cache, monkeypatch, capsys):
    """CIFAR-10's is tested on its published images, and learns from all of the others, though a run takes a part of them."""
    monkeypatch.setattr(lessons, "EPOCHS", 1)
    monkeypatch.setattr(lessons, "load_dataset", load)
    monkeypatch.setattr(
        real,
        "load_test",
        lambda name, data_dir, shape, fit: (pictures(50, shape, seed=1), np.arange(50) % 10),
    )
    learnt = []
    monkeypatch.setattr(
        lessons,
        "train_judge",
        lambda parts, *more: learnt.append(parts) or train_classifier(parts, *more),
    )
    assert (
        run(
            "judge",
            "--preset",
            "color32",
            "--dataset",
            "cifar10",
            "--image-size",
            SIZE,
            "--limit",
            60,
        )
        == 0
    )
    assert "of 50 images that were new to it" in capsys.readouterr().out
    (parts,) = learnt
    assert parts.published and len(parts.train) == COUNT and parts.train.chosen is None


def test_judge_on_the_cupy_backend(cache, monkeypatch):
    """One epoch through the strict stand-in for CuPy: what it sees is what NumPy's sees."""
    import sys

    from tests.support.strict_cupy import make_module

    monkeypatch.setitem(sys.modules, "cupy", make_module())
    parts = split(load("strokes"), None, "crop")
    seen = [
        load_classifier(file_in(cache), parts, mg.get_backend(name)).look(parts.test)
        for name in ("numpy", "cupy")
    ]
    for a, b in zip(*seen, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    monkeypatch.setattr(lessons, "EPOCHS", 1)
    train_classifier(parts, mg.get_backend("cupy"), 0, log=lambda line: None)


# ---- evaluate


def test_evaluate(cache, tmp_path, capsys):
    out = tmp_path / "a"
    assert run(*TRAIN, "--out", out) == 0
    capsys.readouterr()
    assert run("evaluate", out) == 0
    text = capsys.readouterr().out
    record = json.loads((out / "evaluation.json").read_text())
    assert record["n"] == 120 and record["held_out"] and len(record["judge"]["sha256"]) == 64
    assert (
        f"judge {record['judge']['name']}, which is right about" in text
        and record["judge"]["accuracy"] >= 0.95
    )
    figures = {
        "frechet",
        "kid",
        "kid_spread",
        "classifier_score",
        "confidence",
        "entropy",
        "classes_missed",
        "two_sample_real",
        "two_sample_fake",
        "precision",
        "recall",
        "density",
        "coverage",
        "train_distance",
        "closest",
    }
    assert set(record["samples"]) == set(record["floor"]) == figures
    assert record["floor"]["frechet"] < record["samples"]["frechet"] / 5  # G has hardly begun
    assert record["floor"]["classifier_score"] > 8 and record["floor"]["classes_missed"] == 0
    assert set(record["classes"]) == set(DIGITS) and sum(
        c["samples"] for c in record["classes"].values()
    ) == pytest.approx(1)
    with Image.open(out / "nearest.png") as picture:
        assert picture.size == (16 * (SIZE + 2) + 2, 6 * (SIZE + 2) + 2)
    assert run("evaluate", out, "--n", 30, "--out", tmp_path / "b.json") == 0
    again = json.loads((tmp_path / "b.json").read_text())
    assert again["n"] == 30 and again["judge"] == {
        **record["judge"],
        "accuracy": again["judge"]["accuracy"],
    }
    assert (tmp_path / "nearest.png").exists()


def test_samples_that_are_real_images_reach_the_floor(cache):
    parts = split(load("strokes"), None, "crop")
    classifier = load_classifier(file_in(cache), parts, mg.get_backend("numpy"))
    found = evaluate(parts.some_train(100), parts, classifier, labels=parts.some_train_labels(100))
    different = {name for name in found.samples if found.samples[name] != found.floor[name]}
    assert different == {"train_distance", "closest"}  # of these the floor is of test images
    assert (
        found.samples["train_distance"] == found.samples["closest"] == 0
        and found.floor["closest"] > 0
    )
    assert found.samples["labels_obeyed"] > 0.95
    assert (
        evaluate(parts.some_train(100), parts, classifier, np.zeros(100, int)).samples[
            "labels_obeyed"
        ]
        < 0.2
    )
    assert found.table()[0].endswith(
        f"judge {classifier.name}, which is right about {found.classifier['accuracy']:.1%}"
    )


def test_without_labels_pixels_remain(cache, tmp_path, capsys, monkeypatch):
    def unlabelled(name, data_dir=None, **options):
        return Dataset(name, pictures(COUNT), None, (), "0" * 16, None)

    monkeypatch.setattr(minigan.training.loop, "load_dataset", unlabelled)
    assert run(*TRAIN, "--out", tmp_path / "a") == 0
    assert run("evaluate", tmp_path / "a", "--n", 50) == 0
    assert "has no labels" in capsys.readouterr().out
    record = json.loads((tmp_path / "a/evaluation.json").read_text())
    assert record["judge"] is None and record["classes"] == {}
    assert set(record["samples"]) == {
        "two_sample_real",
        "two_sample_fake",
        "train_distance",
        "closest",
    }
    assert run(*JUDGE) == 2 and "has no labels" in one_line(capsys)
    assert run(*TRAIN, "--evaluate-every", 4, "--out", tmp_path / "b") == 2
    assert "--evaluate-every 0" in one_line(capsys) and not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    "options, words",
    (
        (("--n", 121), "large enough to hold out 120 images"),
        (("--n", 19), "at least 20"),
        (("--n", "x"), "invalid int value"),
        (("--out", "a.txt"), "must end in .json"),
        (("--best",), "best-generator.npz"),
    ),
)
def test_mistakes_of_evaluate(options, words, cache, tmp_path, capsys):
    assert run(*TRAIN, "--steps", 1, "--out", tmp_path / "a") == 0
    assert run("evaluate", tmp_path / "a", *options) == 2 and words in one_line(capsys)


def test_more_mistakes(cache, tmp_path, capsys, monkeypatch):
    assert run("evaluate", tmp_path) == 2 and "not the folder of a run" in one_line(capsys)
    assert run(*TRAIN, "--evaluate-every", -1) == 2 and "--evaluate-every must be" in one_line(
        capsys
    )
    assert run("judge", "--flip") == 2 and "unrecognized" in one_line(capsys)
    monkeypatch.setattr(real, "LEAST", 500)
    assert run(*JUDGE) == 2 and "it takes 2,500 images" in one_line(capsys)
    monkeypatch.setattr(real, "LEAST", 50)
    assert run(*TRAIN, "--out", tmp_path / "a") == 0
    monkeypatch.setattr(
        minigan.training.loop,
        "load_dataset",
        lambda *a, **b: Dataset("strokes", pictures(COUNT), None, (), "1" * 16, None),
    )
    assert run(
        "evaluate", tmp_path / "a"
    ) == 2 and "not those that the run was trained on" in one_line(capsys)


# ---- while training


def test_a_run_is_the_same_with_and_without(cache, tmp_path):
    for name, options in (("a", ()), ("b", ("--evaluate-every", 5))):
        assert run(*TRAIN, *options, "--out", tmp_path / name) == 0
    for step in (0, 12):
        name = f"checkpoints/step-{step:08d}.npz"
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
        assert (tmp_path / f"a/samples/step-{step:08d}.png").read_bytes() == (
            tmp_path / f"b/samples/step-{step:08d}.png"
        ).read_bytes()
    assert (tmp_path / "a/generator.npz").read_bytes() == (
        tmp_path / "b/generator.npz"
    ).read_bytes()
    mine = ("frechet", "classifier_score", "classes_missed", "images_per_s")
    for a, b in zip(rows(tmp_path / "a"), rows(tmp_path / "b"), strict=True):
        assert {name: a[name] for name in a if name not in mine} == {
            name: b[name] for name in b if name not in mine
        }
        assert all(
            bool(b[name]) == (int(b["step"]) in (5, 10, 12)) and not a[name] for name in mine[:3]
        )


def test_the_best_is_kept_and_a_resumed_run_keeps_it(cache, tmp_path, capsys, monkeypatch):
    out = tmp_path / "a"
    distances = iter([50.0, 20.0, 30.0, 25.0, 10.0])
    monkeypatch.setattr(
        watch_module, "frechet_distance", lambda a, b: next(distances)
    )  # the first is the floor's
    assert run(*TRAIN, "--evaluate-every", 5, "--out", out) == 0
    assert "best LeNet Fréchet distance 20.00" in capsys.readouterr().out
    sections, record = unpack(load_arrays(out / "checkpoints/best.npz"), "")
    assert record["step"] == 5 and record["best"]["frechet"] == 20 and "optimizer D" in sections
    generator = load_arrays(out / "best-generator.npz")
    assert all(np.array_equal(generator[name], sections["G average"][name]) for name in generator)
    kept = (out / "best-generator.npz").read_bytes()
    assert kept != (out / "generator.npz").read_bytes()
    assert [path.name for path in sorted((out / "checkpoints").iterdir())] == [
        "best.npz",
        "step-00000000.npz",
        "step-00000012.npz",
    ]
    for options in ((), ("--best",)):
        assert (
            run("sample", out, "--n", 4, "--out", tmp_path / f"s{len(options)}.npy", *options) == 0
        )
    assert not np.array_equal(np.load(tmp_path / "s0.npy"), np.load(tmp_path / "s1.npy"))

    name = json.loads((out / "config.json").read_text())["judge"]
    distances = iter([1.0, 22.0, 19.0])
    assert run("train", "--resume", out, "--steps", 20) == 0
    assert "best LeNet Fréchet distance 19.00" in capsys.readouterr().out
    assert unpack(load_arrays(out / "checkpoints/best.npz"), "")[1]["step"] == 20
    assert [row["frechet"] for row in rows(out) if row["frechet"]] == [
        "20.0",
        "30.0",
        "25.0",
        "22.0",
        "19.0",
    ]
    assert json.loads((out / "config.json").read_text())["judge"] == name
    distances = iter([1.0, 1000.0, 1000.0])
    assert run("train", "--resume", out, "--steps", 25) == 0
    assert unpack(load_arrays(out / "checkpoints/best.npz"), "")[1]["step"] == 20

    monkeypatch.undo()
    small(monkeypatch, cache)
    assert (
        run("evaluate", out, "--best") == 0
        and (out / "evaluation-best.json").exists()
        and (out / "nearest-best.png").exists()
    )


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
def test_a_best_that_is_none_counts_as_none(best, tmp_path):
    run = Run(tmp_path)
    run.checkpoints.mkdir()
    assert run.load_best() is None
    save_arrays(run.best_file, pack({}, {"best": best}))
    assert run.load_best() is None
    save_arrays(run.best_file, pack({}, {"best": {"frechet": 3}}))
    assert run.load_best() == {"frechet": 3.0}


def test_a_run_from_before_there_were_judges_goes_on(cache, tmp_path):
    out = tmp_path / "a"
    assert run(*TRAIN, "--out", out) == 0
    record = json.loads((out / "config.json").read_text())
    del record["options"]["evaluate_every"]
    (out / "config.json").write_text(json.dumps(record))
    old = [line.rsplit(",", 3)[0] for line in (out / "metrics.csv").read_text().splitlines()]
    (out / "metrics.csv").write_text("\n".join(old) + "\n")
    assert run("train", "--resume", out, "--steps", 14, "--evaluate-every", 14) == 0
    assert [bool(row["frechet"]) for row in rows(out)] == 13 * [False] + [
        True
    ] and None not in rows(out)[0]
    assert run("evaluate", out, "--n", 20) == 0


def test_no_judge_no_run(cache, tmp_path, capsys):
    file_in(cache).unlink()
    assert run(*TRAIN, "--evaluate-every", 5, "--data-dir", tmp_path, "--out", tmp_path / "a") == 2
    line = one_line(capsys)
    assert not (tmp_path / "a").exists() and f"--data-dir {tmp_path}" in line
    command = line.split("train it before, with: minigan ")[1].split()
    assert run(*command) == 0  # what it says helps
    assert run(*TRAIN, "--evaluate-every", 5, "--out", tmp_path / "a") == 0


def test_another_judge_than_at_the_start_is_refused(cache, tmp_path, capsys):
    out = tmp_path / "a"
    assert run(*TRAIN, "--evaluate-every", 5, "--out", out) == 0
    assert run(*JUDGE, "--seed", 1) == 0
    assert run("train", "--resume", out, "--steps", 15) == 2
    assert "not the one that the run began with" in one_line(capsys)
    assert run("train", "--resume", out, "--steps", 15, "--evaluate-every", 0) == 0


def test_the_budget_is_kept(monkeypatch):
    """By a clock of the test's own: of 1,000 s, at most a twentieth and the last measurement's share."""
    now = [0.0]
    monkeypatch.setattr(watch_module, "monotonic", lambda: now[0])
    parts = Real("x", Part(pictures(100)), Part(pictures(100)), None, None, (), False)

    class Slow:
        def look(self, images):
            now[0] += 1.5
            rng = np.random.default_rng(0)
            return rng.standard_normal((len(images), 4)), rng.dirichlet(np.ones(10), len(images))

    evaluation = PeriodicEvaluation(Slow(), parts, every=10)
    assert (
        evaluation.spent == 3.0 and not evaluation.due(5, 1000) and not evaluation.due(10, 1000)
    )  # prepared, and so nothing left
    spent, steps = now[0], []
    for step in range(1, 1001):
        now[0] += 1.0
        if evaluation.due(step, 1000):
            steps.append(step)
            start = now[0]
            with evaluation.counted():
                evaluation.measure(pictures(100))
            spent += now[0] - start
            assert spent <= 0.05 * now[0]
    assert all(step % 10 == 0 for step in steps) and spent > 0.045 * now[0]


# ---- files of strangers


def false_file(file, change):
    """Put another judge into the file, hash and all; change(sections, record) -> None, or what takes the record's place."""
    sections, record = unpack(load_arrays(file), file)
    sections = {
        part: {name: array.copy() for name, array in arrays.items()}
        for part, arrays in sections.items()
    }
    other = change(sections, record)
    save_arrays(file, pack(sections, record if other is None else other))


def everything(value):
    def change(sections, record):
        for arrays in sections.values():
            for array in arrays.values():
                array[...] = value

    return change


FALSE = {
    "NaN": everything(np.nan),
    "infinite": everything(np.inf),
    "huge": everything(3e38),
    "negative variance": everything(-1),
    "a layer less": lambda sections, record: sections["body"].pop("0.W") is None,
    "another shape": lambda sections, record: sections["head"].update(
        {"1.W": np.zeros((1, 1), np.float32)}
    ),
    "another kind": lambda sections, record: sections["head"].update(
        {"1.W": np.zeros((128, 10), np.float64)}
    ),
    "no nets": lambda sections, record: sections.clear(),
    "no record": lambda sections, record: {},
    "a list": lambda sections, record: [1, 2],
    "accuracy in words": lambda sections, record: record.update(accuracy="very good"),
    "a seed in words": lambda sections, record: record.update(seed=[]),
    "tested on nothing": lambda sections, record: record.pop("tested_on") is None,
}


@pytest.mark.parametrize("what", (*FALSE, "cut", "text", "empty"))
def test_a_judge_that_is_damaged_or_false(what, cache, tmp_path, capsys, monkeypatch):
    """Refused in one line where a run would be measured by it, and replaced in words where it may be trained."""
    file, monkey = file_in(cache), monkeypatch
    monkey.setattr(lessons, "EPOCHS", 1)
    good = file.read_bytes()
    if what in FALSE:
        false_file(file, FALSE[what])
    else:
        file.write_bytes({"cut": good[:-100], "text": b"PK\x03\x04 nothing", "empty": b""}[what])
    assert run(*TRAIN, "--evaluate-every", 5, "--out", tmp_path / "a") == 2
    assert file.name in one_line(capsys) and not (tmp_path / "a").exists()
    assert run(*JUDGE) == 0
    out = capsys.readouterr().out.splitlines()
    assert (
        out[0].startswith("passing over a judge: ")
        and out[1].startswith("training a judge")
        and "right about" in out[-1]
    )


def test_a_judge_that_boasts_is_not_believed(cache, tmp_path, capsys):
    """The accuracy beside the figures is of the judge as it is, and its name is of its numbers."""

    def change(sections, record):
        sections["head"]["1.W"] *= -1
        record["accuracy"], record["name"], record["note"] = 1.0, "c0ffee", "\x1b[31m"

    honest = judge_of(file_in(cache))
    false_file(file_in(cache), change)
    assert run(*TRAIN, "--steps", 1, "--out", tmp_path / "a") == 0
    assert run("evaluate", tmp_path / "a") == 0
    record = json.loads((tmp_path / "a/evaluation.json").read_text())["judge"]
    assert record["accuracy"] < 0.2 and set(record) == {"name", "sha256", "seed", "accuracy"}
    assert record["sha256"] != honest.sha256 and "\x1b" not in capsys.readouterr().out


def judge_of(file):
    return load_classifier(file, split(load("strokes"), None, "crop"), mg.get_backend("numpy"))
