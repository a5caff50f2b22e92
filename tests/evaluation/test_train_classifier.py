"""Training the classifier: what it learns, when it is trained again, and on which images."""

import sys

import numpy as np
import pytest

import minigan as mg
from minigan.data import Dataset
from minigan.evaluation import get_classifier, reference_images, split, why_no_classifier
from minigan.evaluation import train_classifier as module
from minigan.evaluation.train_classifier import shift, train_classifier
from tests.support import squares
from tests.support.refusals import refusal
from tests.support.strict_cupy import make_module

NUMPY = mg.get_backend("numpy")


def quiet(line):
    pass


@pytest.fixture
def shown(cache, monkeypatch):
    """-> list, to which training adds its images and options; it takes one epoch."""
    calls, batches = [], module.Batches

    def record(images, *more, **options):
        calls.append((images, options))
        return batches(images, *more, **options)

    monkeypatch.setattr(module, "EPOCHS", 1)
    monkeypatch.setattr(module, "Batches", record)
    return calls


def test_a_classifier_is_trained_once(cache):
    file, lines = squares.classifier_in(cache), []
    before = file.read_bytes()
    classifier = get_classifier(squares.reference(), NUMPY, log=lines.append)
    (line,) = lines  # of the cached one
    accuracy = float(line.split(": ")[1].split("%")[0])
    assert line.startswith(f"classifier {classifier.name}: ") and accuracy >= 95
    assert "120 images that it was not trained on" in line and line.endswith(f"in {file}")
    again = get_classifier(squares.reference(), NUMPY, classifier.record["seed"], quiet)
    assert again.sha256 == classifier.sha256 and file.read_bytes() == before


def test_another_seed_trains_another(cache, monkeypatch):
    monkeypatch.setattr(module, "EPOCHS", 2)
    before, lines = squares.classifier_in(cache).read_bytes(), []
    classifier = get_classifier(squares.reference(), NUMPY, 3, lines.append)
    assert sum("epoch" in line for line in lines) == 2 and classifier.record["seed"] == 3
    file = squares.classifier_in(cache)
    assert file.read_bytes() != before
    (old,) = set(file.parent.iterdir()) - {file}  # runs may have begun with it
    assert old.read_bytes() == before and str(old) in "\n".join(lines)
    again = get_classifier(squares.reference(), NUMPY, log=quiet)
    assert again.sha256 == classifier.sha256, "without a seed any will do"


def test_the_same_seed_gives_the_same_classifier(cache, monkeypatch):
    monkeypatch.setattr(module, "EPOCHS", 1)
    backend = mg.get_backend("numpy", threads=1)
    a, b, c = (train_classifier(squares.reference(), backend, seed, quiet) for seed in (0, 0, 1))
    assert a.sha256 == b.sha256 != c.sha256


def test_it_is_trained_on_the_gpu(cache, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", make_module())
    monkeypatch.setattr(module, "EPOCHS", 1)
    real = squares.reference()
    cupys, numpys = (
        train_classifier(real, mg.get_backend(name), 0, quiet) for name in ("cupy", "numpy")
    )
    images = real.test[:20]
    for one, other in zip(cupys.classify(images), numpys.classify(images), strict=True):
        np.testing.assert_allclose(one, other, atol=0.02)


def test_color_images_with_a_published_test_set(cache, monkeypatch):
    """CIFAR-10's is trained on the whole set, even for a run that uses a part of it."""
    places = []

    def load(name, data_dir, **options):
        places.append(data_dir)
        return squares.load(name, **options)

    monkeypatch.setattr(module, "EPOCHS", 1)
    monkeypatch.setattr(module, "load_dataset", load)
    test = squares.squares(50, (8, 8, 3), seed=1), np.arange(50) % 10
    monkeypatch.setattr(reference_images, "load_test", lambda *arguments: test)
    whole = squares.load("cifar10", image_shape=(8, 8, 3))
    part = Dataset("cifar10", whole.images[:60], whole.labels[:60], whole.classes, "1" * 16)
    trained_on, train = [], module.train_classifier
    monkeypatch.setattr(
        module,
        "train_classifier",
        lambda real, *more: trained_on.append(real) or train(real, *more),
    )
    lines = []
    get_classifier(split(part, "there", "crop"), NUMPY, log=lines.append)
    (real,) = trained_on
    assert places == ["there"] and real.published and len(real.train) == squares.COUNT
    assert "50 images that it was not trained on" in lines[-1]


def test_an_epoch_of_a_large_set_is_a_part_of_it(shown, monkeypatch):
    monkeypatch.setattr(module, "MAX_IMAGES", 64)
    real = squares.reference()
    train_classifier(real, NUMPY, 0, quiet)
    ((images, options),) = shown
    pairs = zip(real.train[:], real.train.labels, strict=True)
    labels = {image.tobytes(): label for image, label in pairs}
    assert len(images) == 64
    assert [labels[image.tobytes()] for image in images] == options["labels"].tolist()


@pytest.mark.parametrize(
    "name, channels, flip", (("strokes", 1, False), ("folder", 3, True), ("svhn", 3, False))
)
def test_color_images_are_mirrored_but_no_digits(name, channels, flip, shown):
    data = squares.load(name, image_shape=(8, 8, channels))
    train_classifier(split(data, None, "crop"), NUMPY, 0, quiet)
    ((_, options),) = shown
    assert options["flip"] is flip


def test_the_rate_falls_to_nothing(cache, monkeypatch):
    monkeypatch.setattr(module, "EPOCHS", 2)
    rates, step = [], module.Adam.step
    monkeypatch.setattr(module.Adam, "step", lambda self: rates.append(self.lr) or step(self))
    train_classifier(squares.reference(), NUMPY, 0, quiet)
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == module.LEARNING_RATE > 20 * rates[-1]


def test_the_accuracy_is_that_of_images_that_were_held_out(cache, monkeypatch):
    monkeypatch.setattr(module, "EPOCHS", 1)
    real = squares.reference()
    classifier = train_classifier(real, NUMPY, 0, quiet)
    right = [
        np.mean(classifier.classify(part)[1].argmax(axis=1) == part.labels)
        for part in (real.test, real.train)
    ]
    assert classifier.record["accuracy"] == right[0] != right[1]


def test_a_loss_that_is_not_finite_is_an_error(cache, monkeypatch):
    monkeypatch.setattr(module, "LEARNING_RATE", 1e30)
    with np.errstate(all="ignore"):
        line = refusal(train_classifier, squares.reference(), NUMPY, 0, quiet, kind=mg.RunError)
    assert "the loss of strokes's classifier is not finite" in line


@pytest.mark.parametrize(
    "labels, words", ((None, "has no labels"), (np.zeros(600, int), "of one class"))
)
def test_images_without_classes_have_no_classifier(labels, words, cache):
    data = squares.load("strokes")
    real = split(Dataset("strokes", data.images, labels, ("0",), "1" * 16), None, "crop")
    assert words in why_no_classifier(real)
    assert words in refusal(get_classifier, real, NUMPY, kind=mg.ConfigError)
    assert why_no_classifier(squares.reference()) is None


def test_images_are_shifted_both_ways_and_their_edges_repeated():
    x = np.arange(30, dtype=np.float32).reshape(1, 5, 6, 1).repeat(200, axis=0)
    moved, seen = shift(x, 1, np.random.default_rng(0)), set()
    padded = np.pad(x[0], ((1, 1), (1, 1), (0, 0)), mode="edge")
    for image in moved:
        (place,) = [
            (top, left)
            for top in range(3)
            for left in range(3)
            if np.array_equal(image, padded[top : top + 5, left : left + 6])
        ]
        seen.add(place)
    assert len(seen) == 9
