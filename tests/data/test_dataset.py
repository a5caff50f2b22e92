"""load_dataset: names, shapes, limits, and what "auto" falls back on."""

import numpy as np
import pytest
from PIL import Image

import minigan as mg
from minigan.data import DATASETS, TESTED, Dataset, load_dataset
from minigan.data.dataset import CLASSES
from minigan.data.sets import mnist
from tests.support.idx import PIXELS, SMALL, put_idx
from tests.support.pictures import put
from tests.support.refusals import refusal


@pytest.fixture
def small_mnist(monkeypatch, no_network):
    monkeypatch.setitem(mnist.SETS, "mnist", mnist.SETS["mnist"]._replace(files=SMALL))


def test_names():
    names = "auto, mnist, fashion-mnist, kmnist, cifar10, svhn, celeba, folder, strokes"
    assert ", ".join(DATASETS) == names
    assert set(TESTED) < set(DATASETS)


CLOTHES = "T-shirt/top, Trouser, Pullover, Dress, Coat, Sandal, Shirt, Sneaker, Bag, Ankle boot"


@pytest.mark.parametrize(
    "name, classes",
    (
        ("mnist", "0, 1, 2, 3, 4, 5, 6, 7, 8, 9"),
        ("fashion-mnist", CLOTHES),
        ("kmnist", "o, ki, su, tsu, na, ha, ma, ya, re, wo"),
        ("cifar10", "airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck"),
    ),
)
def test_classes_are_in_the_order_of_their_numbers(name, classes):
    """Only the order says which number is a dog."""
    assert ", ".join(CLASSES[name]) == classes


def test_shapes_and_limits(small_mnist, tmp_path):
    put_idx(tmp_path)
    data = load_dataset("mnist", tmp_path, image_shape=(32, 32, 3), limit=3)
    assert data.images.shape == (3, 32, 32, 3) and data.labels.tolist() == [3, 1, 4]
    theirs = np.asarray(Image.fromarray(PIXELS[2]).resize((32, 32), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(data.images[2], np.repeat(theirs[..., None], 3, axis=2))
    native = load_dataset("mnist", tmp_path)
    assert native.images.shape == (5, 28, 28, 1) and np.array_equal(native.images[..., 0], PIXELS)
    assert load_dataset("mnist", tmp_path, limit=99).fingerprint == native.fingerprint
    left = {"fit": "box:0,0,20,28"}
    others = (
        {},
        {"limit": 4},
        {"image_shape": (28, 28, 3)},
        {"fit": "centre:20"},
        left,
        {**left, "image_shape": (28, 20, 1)},
    )
    prints = [load_dataset("mnist", tmp_path, **options).fingerprint for options in others]
    assert len(set(prints)) == 6 and all(len(each) == 16 for each in prints)


def test_fingerprints_are_those_of_every_version(small_mnist, tmp_path):
    """A run stores the fingerprint of its data, and is resumed by later versions."""
    assert load_dataset("mnist", put_idx(tmp_path / "m")).fingerprint == "d17aa93dbe2b27a4"
    assert load_dataset("strokes", limit=10).fingerprint == "82b981beee24cb8d"
    pictures = put(tmp_path / "p", ["b/2.png", "a/1.png", "a-b/1.png"])
    options = {"images": pictures, "image_shape": (4, 4, 3), "log": lambda line: None}
    assert load_dataset("folder", **options).fingerprint == "19a4f389aff6da7c"


def test_strokes_by_name():
    data = load_dataset("strokes", limit=10)
    images, labels = mg.data.strokes(10)
    np.testing.assert_array_equal(data.images, images)
    assert data.name == "strokes" and data.labels.tolist() == labels.tolist()
    assert data.classes == tuple("0123456789")


def test_auto_falls_back_only_if_mnist_cannot_be_found(small_mnist, tmp_path, monkeypatch):
    monkeypatch.setattr("minigan.data.dataset.STROKES", 20)
    data = load_dataset("auto")
    assert data.name == "strokes" and len(data.images) == 20
    assert "NOT on MNIST: MNIST is not in" in data.note
    data = load_dataset("auto", put_idx(tmp_path / "data"))
    assert data.name == "mnist" and data.note is None
    # A folder that was named is never replaced by something else, nor are damaged files.
    (tmp_path / "empty").mkdir()
    refusal(load_dataset, "auto", tmp_path / "empty")
    monkeypatch.setenv("MINIGAN_DATA", str(put_idx(tmp_path / "bad", labels=b"x")))
    refusal(load_dataset, "auto")
    pictures = put(tmp_path / "p", ["1.png"])
    assert load_dataset("auto", images=pictures, log=lambda line: None).name == "folder"


@pytest.mark.parametrize(
    "name, options, message",
    (
        ("cifar", {}, f"the data set must be one of {', '.join(DATASETS)}, got 'cifar'"),
        (
            "folder",
            {},
            'the data set "folder" needs a folder or .zip of pictures, and only it takes one: '
            "got 'folder' with None",
        ),
        ("mnist", {"images": "p"}, "got 'mnist' with 'p'"),
        ("strokes", {"fit": "stretch"}, "--fit must be crop, squash, center:SIZE or box:"),
        ("strokes", {"limit": 0}, "limit must be a whole number of at least 1, got 0"),
        ("strokes", {"image_shape": (28, 28, 4)}, "must be (h, w, 1 or 3), got (28, 28, 4)"),
        ("strokes", {"image_shape": (28, 28)}, "image_shape must be"),
        (
            "strokes",
            {"image_shape": (0, 28, 1)},
            "each number must be a whole number of at least 1",
        ),
    ),
)
def test_wrong_arguments(name, options, message):
    assert message in refusal(load_dataset, name, kind=mg.ConfigError, **options)


def test_a_box_that_is_larger_than_the_pictures():
    options = {"limit": 9, "fit": "centre:108", "kind": mg.ShapeError}
    message = refusal(load_dataset, "strokes", **options)
    assert message == "a picture of 28x28 is too small for center:108"


def test_a_dataset_cannot_be_changed():
    data = Dataset("x", PIXELS, None, (), "0")
    with pytest.raises(AttributeError):
        data.name = "y"
