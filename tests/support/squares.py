"""Ten classes that are easy to tell apart, a classifier of them, and small runs on them."""

from importlib import import_module

import numpy as np

from minigan.evaluation import classifier, kid, metrics, reference_images, train_classifier
from tests.support.pictures import dataset

open_game = import_module("minigan.training.open_game")  # the package has a function of this name

SIZE, COUNT = 8, 600
RUN = dict(dataset="strokes", image_size="8x8", width=4, batch_size=16, z_dim=8, steps=12)


def squares(count, shape=(SIZE, SIZE, 1), seed=0):
    """-> images of ten classes in turn: a bright square in noise, at the place of its class."""
    images = np.random.default_rng(seed).integers(0, 100, (count, *shape), np.uint8)
    for i, image in enumerate(images):
        top, left = i % 10 // 5 * 4, i % 5 + i % 10 // 5
        image[top : top + 3, left : left + 3] += 130
    return images


def load(name, data_dir=None, *, image_shape=(SIZE, SIZE, 1), **options):
    """A replacement for load_dataset."""
    return dataset(squares(COUNT, image_shape), name)


def make_small(patch, cache):
    """Runs and evaluations on 600 squares, and classifiers in this folder."""
    patch.setattr(open_game, "load_dataset", load)
    patch.setattr(classifier, "cache_folder", lambda: cache)
    patch.setattr(train_classifier, "EPOCHS", 8)
    patch.setattr(train_classifier, "BATCH_SIZE", 32)
    patch.setattr(train_classifier, "MAX_SHIFT", {1: 0, 3: 1})
    patch.setattr(reference_images, "MIN_TEST", 50)
    patch.setattr(metrics, "MIN_TEST", 20)
    patch.setattr(kid, "SUBSETS", 5)


def reference():
    """-> ReferenceImages of squares: 480 to train on, 120 held out."""
    return reference_images.split(load("strokes"), None, "crop")


def classifier_in(cache):
    """-> the only classifier's file in a cache folder, without replaced ones."""
    (file,) = (each for each in (cache / "judges").iterdir() if "." not in each.stem)
    return file
