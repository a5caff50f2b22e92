"""All metrics of a set of samples, their table and their record."""

import json

import numpy as np
import pytest

import minigan as mg
from minigan.evaluation import evaluate, expect_n, metrics
from minigan.evaluation.classifier import load_classifier
from minigan.evaluation.metrics import TABLE, Evaluation
from tests.support import squares
from tests.support.refusals import refusal

PIXEL_SPACE = {"two_sample_real", "two_sample_fake", "train_distance", "closest"}


@pytest.fixture
def real(cache):
    return squares.reference()


@pytest.fixture
def classifier(real):
    return load_classifier(real, mg.get_backend("numpy"))


def test_samples_that_are_real_images_reach_the_floor(real, classifier):
    some = real.train.draw(100)
    found = evaluate(some[:], real, classifier, labels=some.labels)
    different = {name for name in found.samples if found.samples[name] != found.floor[name]}
    assert different == {"train_distance", "closest"}  # their floor is that of test images
    assert found.samples["train_distance"] == found.samples["closest"] == 0
    assert found.floor["closest"] > 0 and found.floor["classifier_score"] > 8
    assert found.samples["labels_obeyed"] > 0.95
    assert all(share["samples"] == share["floor"] for share in found.classes.values())
    wrong = evaluate(some[:], real, classifier, np.zeros(100, int))
    assert wrong.samples["labels_obeyed"] < 0.2 < wrong.floor["labels_obeyed"]


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
