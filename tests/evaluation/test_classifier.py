"""The classifier: its features, its file in the cache, and files that are damaged or fake."""

import sys

import numpy as np
import pytest

import minigan as mg
from minigan import RunError
from minigan.data import Dataset
from minigan.data.files.npz import load_arrays, pack, save_arrays, unpack
from minigan.evaluation import classifier as module
from minigan.evaluation import evaluate, get_classifier, split, train_classifier
from minigan.evaluation.classifier import Classifier, classifier_file, load_classifier
from tests.support import squares
from tests.support.refusals import refusal
from tests.support.strict_cupy import make_module

NUMPY = mg.get_backend("numpy")


def new_classifier(shape=(8, 8, 1), classes=10):
    return Classifier(shape, classes, NUMPY, np.random.default_rng(0))


def test_features_and_probabilities_do_not_depend_on_the_batch(monkeypatch):
    images, classifier = squares.squares(23), new_classifier()
    features, p = classifier.classify(images)
    assert features.shape == (23, 128) and p.shape == (23, 10)
    assert features.dtype == p.dtype == np.float64
    assert features.min() == 0, "they are behind a ReLU"
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-12)
    logits = classifier.head.forward(NUMPY.asarray(features), train=False)
    np.testing.assert_allclose(np.log(p) - np.log(p[:, :1]), logits - logits[:, :1], atol=1e-5)
    monkeypatch.setattr(module, "BATCH", 5)
    for batched, whole in zip(classifier.classify(images), (features, p), strict=True):
        np.testing.assert_allclose(batched, whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "shape, size", (((28, 28, 1), (7, 7)), ((32, 32, 3), (4, 4)), ((64, 48, 3), (8, 6)))
)
def test_convolutions_go_down_to_less_than_8_pixels(shape, size):
    body = new_classifier(shape).body
    flat = next(layer for layer in body.layers if isinstance(layer, mg.Flatten))
    assert flat.in_shape[:2] == size


def test_the_gpu_computes_the_same_features(cache, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", make_module())
    real = squares.reference()
    found = [
        load_classifier(real, mg.get_backend(name)).classify(real.test[:20])
        for name in ("numpy", "cupy")
    ]
    for numpys, cupys in zip(*found, strict=True):
        np.testing.assert_allclose(numpys, cupys, rtol=1e-3, atol=1e-4)


# ---- files


def test_files_of_version_0_1_0_are_found_and_fit():
    """Names and hashes as computed there: of the file, and of untrained weights."""
    mnist = Dataset("mnist", np.zeros((5, 28, 28, 1), np.uint8), None, (), "1" * 16)
    real = module.ReferenceImages(mnist, None, "crop", None, None, published=True)
    assert classifier_file(real).name == "mnist-28x28x1-9b11a4e71a3670bb.npz"
    hashes = {(28, 28, 1): "8263c0428363d3bd", (32, 32, 3): "dabafd931e4781b0"}
    for shape, start in hashes.items():
        assert new_classifier(shape).sha256.startswith(start)


def test_a_set_without_test_images_is_known_by_its_fingerprint(cache):
    data = squares.load("strokes")
    other = Dataset("strokes", data.images, data.labels, data.classes, "1" * 16)
    files = {
        classifier_file(split(data, None, "crop")),
        classifier_file(split(other, None, "crop")),
        classifier_file(split(data, None, "squash")),
    }
    assert len(files) == 3 and squares.classifier_in(cache) in files


def test_a_saved_classifier_is_the_same(cache):
    classifier = load_classifier(squares.reference(), NUMPY)
    classifier.save(classifier_file(squares.reference()))
    again = load_classifier(squares.reference(), NUMPY)
    assert again.sha256 == classifier.sha256 and len(again.sha256) == 64
    assert again.name == again.sha256[:8] and again.record == classifier.record


def test_a_cache_that_cannot_be_made_is_an_error_in_one_line(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    line = refusal(new_classifier().save, tmp_path / "file/judges/x.npz", kind=RunError)
    assert "$XDG_CACHE_HOME" in line


def write_fake(file, change):
    """Write another classifier into the file, hash and all.

    change  (sections, record) -> None, or another record
    """
    sections, record = unpack(load_arrays(file), file)
    sections = {
        part: {name: array.copy() for name, array in arrays.items()}
        for part, arrays in sections.items()
    }
    other = change(sections, record)
    save_arrays(file, pack(sections, record if other is None else other))


def filled(value):
    def change(sections, record):
        for arrays in sections.values():
            for array in arrays.values():
                array[...] = value

    return change


FAKES = {
    "NaN": filled(np.nan),
    "infinite": filled(np.inf),
    "huge": filled(3e38),
    "negative variance": filled(-1),
    "a layer less": lambda sections, record: sections["body"].pop("0.W") is None,
    "another shape": lambda sections, record: sections["head"].update(
        {"1.W": np.zeros((1, 1), np.float32)}
    ),
    "another dtype": lambda sections, record: sections["head"].update(
        {"1.W": np.zeros((128, 10), np.float64)}
    ),
    "no networks": lambda sections, record: sections.clear(),
    "no record": lambda sections, record: {},
    "a list": lambda sections, record: [1, 2],
    "accuracy in words": lambda sections, record: record.update(accuracy="very good"),
    "a list as seed": lambda sections, record: record.update(seed=[]),
    "an infinite seed": lambda sections, record: record.update(seed=float("inf")),
    "no count": lambda sections, record: record.pop("tested_on") is None,
}


@pytest.mark.parametrize("what", (*FAKES, "cut", "text", "empty"))
def test_a_damaged_or_fake_file_is_refused_and_replaced(what, cache, monkeypatch):
    file, real = squares.classifier_in(cache), squares.reference()
    good = file.read_bytes()
    if what in FAKES:
        write_fake(file, FAKES[what])
    else:
        file.write_bytes({"cut": good[:-100], "text": b"PK\x03\x04 nothing", "empty": b""}[what])
    assert file.name in refusal(load_classifier, real, NUMPY, kind=RunError)
    monkeypatch.setattr(train_classifier, "EPOCHS", 1)
    lines = []
    get_classifier(real, NUMPY, log=lines.append)
    assert lines[0].startswith("ignoring a classifier: ") and "\n" not in lines[0]
    assert lines[1].startswith("training a classifier") and "correct" in lines[-1]
    assert load_classifier(real, NUMPY) is not None


def test_a_file_cannot_claim_an_accuracy_or_a_name(cache):
    """Both are computed from the weights."""
    real = squares.reference()
    honest = load_classifier(real, NUMPY)

    def change(sections, record):
        sections["head"]["1.W"] *= -1
        record["accuracy"], record["name"], record["note"] = 1.0, "c0ffee", "\x1b[31m"

    write_fake(squares.classifier_in(cache), change)
    evaluation = evaluate(real.train[:50], real, load_classifier(real, NUMPY))
    record = evaluation.record()["judge"]
    assert record["accuracy"] < 0.2 and set(record) == {"name", "sha256", "seed", "accuracy"}
    assert record["sha256"] != honest.sha256
    assert "\x1b" not in "".join(evaluation.table())
