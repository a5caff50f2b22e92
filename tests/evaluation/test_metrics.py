"""All metrics of a set of samples, their table and their record."""

import json
import re

import numpy as np
import pytest

import minigan as mg
from minigan.evaluation import evaluate, expect_n, metrics
from minigan.evaluation.classifier import load_classifier
from minigan.evaluation.metrics import TABLE, Evaluation, feature_metrics
from minigan.evaluation.reference_images import Subset
from tests.support import squares
from tests.support.refusals import refusal

PIXEL_SPACE = {"two_sample_real", "two_sample_fake", "train_distance", "closest"}


@pytest.fixture
def real(cache):
    return squares.reference()


@pytest.fixture
def classifier(real):
    return load_classifier(real, mg.get_backend("numpy"))


def test_other_real_images_reach_the_floor(real, classifier):
    """They are images that the floor is not computed of, and copies of training images."""
    train, drawn = real.train, real.train.draw(100)
    others = np.setdiff1d(train.indices, drawn.indices)[:100]
    some = Subset(train.images, train.all_labels, others)
    found = evaluate(some[:], real, classifier, some.labels)
    for name in ("frechet", "classifier_score", "confidence", "density"):
        assert found.samples[name] == pytest.approx(found.floor[name], rel=0.3)
    for name in ("kid", "two_sample_real", "two_sample_fake", "precision", "recall", "coverage"):
        assert found.samples[name] == pytest.approx(found.floor[name], abs=0.3)
    assert found.samples["train_distance"] == found.samples["closest"] == 0
    assert found.floor["closest"] > 0 and found.floor["classifier_score"] > 8
    for part, subset in (("samples", some), ("floor", drawn)):
        assert getattr(found, part)["labels_obeyed"] > 0.95
        shares = [share[part] for share in found.classes.values()]
        np.testing.assert_allclose(shares, np.bincount(subset.labels) / 100, atol=0.03)


def test_each_metric_is_what_its_name_says():
    """Of samples that keep to the middle of the real ones."""
    rng = np.random.default_rng(0)
    samples, real = 0.1 * rng.standard_normal((60, 4)), rng.standard_normal((60, 4))
    p = rng.dirichlet(np.ones(5), 60)
    labels = p.argmax(axis=1)
    found, _ = feature_metrics(samples, p, real, labels)
    assert found["precision"] > 0.9 and found["recall"] < 0.1
    assert found["confidence"] == pytest.approx(p.max(axis=1).mean())
    assert found["entropy"] == pytest.approx(-(p * np.log(p)).sum(axis=1).mean())
    assert found["labels_obeyed"] == 1
    wrong, _ = feature_metrics(samples, p, real, (labels + 1) % 5)
    assert wrong == found | {"labels_obeyed": 0}, "all others are the same every time"


def test_mirrored_images_count_if_g_was_trained_on_them(real):
    mirrored = real.train[:50][:, :, ::-1]
    plain, flipped = (evaluate(mirrored, real, None, flip=flip) for flip in (False, True))
    assert plain.samples["train_distance"] > flipped.samples["train_distance"] == 0
    assert plain.floor["train_distance"] > flipped.floor["train_distance"] > 0


def test_noise_is_far_from_the_floor(real, classifier):
    noise = np.random.default_rng(0).integers(0, 256, (120, 8, 8, 1), np.uint8)
    found = evaluate(noise, real, classifier)
    for name, factor in (("frechet", 5), ("kid", 5), ("train_distance", 2)):
        assert found.samples[name] > factor * max(found.floor[name], 0.01)
    assert found.samples["coverage"] < 0.2 < found.floor["coverage"]


def test_the_record_has_the_keys_of_0_1_0(real, classifier):
    found = evaluate(real.train[:120], real, classifier)
    record = json.loads(json.dumps(found.record()))
    assert list(record) == ["data", "n", "held_out", "judge", "samples", "floor", "classes"]
    assert record["data"] == "strokes" and record["n"] == 120 and record["held_out"] is True
    assert record["judge"]["sha256"] == classifier.sha256 and record["judge"]["accuracy"] >= 0.95
    metrics = {*TABLE, "kid_spread"} - {"labels_obeyed"}
    assert set(record["samples"]) == set(record["floor"]) == metrics
    assert list(record["classes"]) == list(squares.load("x").classes)
    for part in ("samples", "floor"):
        assert sum(share[part] for share in record["classes"].values()) == pytest.approx(1)


def test_without_a_classifier_pixel_space_remains(real):
    found = evaluate(real.train[:50], real, None)
    assert set(found.samples) == set(found.floor) == PIXEL_SPACE
    assert found.record()["judge"] is None and found.record()["classes"] == {}
    lines = found.table()
    assert lines[0].endswith("(held out), in pixel space") and len(lines) == 3 + len(PIXEL_SPACE)


def test_the_table_names_the_classifier_and_the_missed_classes():
    names = [chr(ord("a") + i) for i in range(20)]
    classes = {name: {"samples": 0.05, "floor": 0.05} for name in names}
    classes["c"]["samples"], classes["d"]["samples"] = 0.004, 0.006
    metrics = dict.fromkeys(TABLE, 0.25) | {"kid_spread": 0.125}
    known = {"name": "c0ffee00", "accuracy": 0.987}
    found = Evaluation("mnist", 10_000, False, known, metrics, metrics, classes, np.zeros(0))
    lines = found.table()
    assert lines[0] == (
        "10,000 samples against 10,000 real images of mnist (its test images), "
        "in the features of classifier c0ffee00, 98.7% correct"
    )
    assert lines[4].split() == ["KID", *["0.2500", "±", "0.1250"] * 2, "down,", "to", "0"]
    assert "classes: a 5.0%, b 5.0%, c 0.4%" in "\n".join(lines) and lines[-1] == "missed: c"
    classes["u"] = {"samples": 0.0, "floor": 0.0}
    assert found.table()[-1] == "missed: c, u"
    assert "classes:" not in "\n".join(found.table())  # more than 20 are not listed


def test_each_row_of_the_table_shows_its_own_numbers():
    samples = {name: float(i) for i, name in enumerate([*TABLE, "kid_spread"], 1)}
    floor = {name: 20 + value for name, value in samples.items()}
    found = Evaluation("mnist", 10_000, False, None, samples, floor, {}, np.zeros(0))
    down = []
    for name, line in zip(TABLE, found.table()[3:], strict=True):
        _, *cells, better = re.split("  +", line)
        cells = [cell.split(" ± ")[0] for cell in cells]
        shown = [float(cell.rstrip("%")) / (100 if "%" in cell else 1) for cell in cells]
        assert shown == [samples[name], floor[name]], line
        down += [name] * better.startswith("down")
    assert down == ["frechet", "kid", "entropy"]


def test_how_many_samples_are_compared(real):
    assert expect_n(None, real) == 120 and expect_n(20, real) == 20
    for n, words in ((121, "large enough to hold out 120 images"), (19, "at least 20")):
        assert words in refusal(expect_n, n, real, kind=mg.ConfigError)


@pytest.mark.parametrize("n", (None, 20))
def test_too_few_training_images_are_refused(n, real, monkeypatch):
    """As of a published set with a small --limit."""
    monkeypatch.setattr(metrics, "MIN_TEST", 121)
    words = "strokes has 120 images here, and an evaluation takes 121: train with a larger --limit"
    assert words in refusal(expect_n, n, real, kind=mg.ConfigError)
