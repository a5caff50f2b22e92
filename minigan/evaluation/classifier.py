"""A small classifier of the real images. All metrics are computed in its features.

Distances between pixels say little: a stroke that is moved by one pixel is far away. The features
of a classifier, the activations before its last layer, are close if two images mean the same. FID
takes them from a large network that was trained on photographs, even for digits. Here the
classifier is trained on the data set itself, in a few minutes (train_classifier.py), and nothing is
downloaded.

    body   strided convolutions down to less than 8 pixels, then 128 features: a descendant of LeNet
    head   one Linear layer: features -> one logit per class

Every classifier has different features, so metrics of different ones are not comparable.
Its name is the start of the SHA-256 of its weights, and all metrics are labeled with it.
It is stored in the cache folder.
Source: LeCun et al. 1998, "Gradient-based learning applied to document recognition"
"""

import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from minigan.arrays import Backend
from minigan.data import to_floats
from minigan.data.base import Shape
from minigan.data.files.locations import cache_folder
from minigan.data.files.npz import load_arrays, pack, save_arrays, unpack
from minigan.errors import RunError
from minigan.evaluation.reference_images import ReferenceImages, Rows
from minigan.files import as_run_errors
from minigan.initializers import he
from minigan.layers import BatchNorm, Conv2d, Dropout, Flatten, Layer, Linear, ReLU, Sequential
from minigan.parallel.group import ALONE, Group

VERSION = 1  # of the network and its training: a new one makes cached classifiers obsolete
FEATURES = 128
SMALLEST = 8  # the shorter side is halved while it has this many pixels or more
DETAILED = 32  # color images up to this many pixels on it get a second convolution
BATCH = 250  # images that are classified at a time
LARGEST = 1e6  # of a feature: BatchNorm keeps them near 1


def body_layers(image_shape: Shape) -> list[Layer]:
    """-> layers from images (h, w, c) to features.

    28 -> 14 -> 7          channels 1 -> 32 -> 64
    32 -> 16 -> 8 -> 4     channels 3 -> 24 -> 48 -> 48 -> 96 -> 96 -> 192: a convolution that keeps
                           the size before each halving, because photographs have textures
    """
    h, w, c = image_shape
    layers: list[Layer] = []
    channels = 16 if c == 1 else 24

    def add(channels: int, kernel_size: int, stride: int) -> None:
        layers.append(Conv2d(channels, kernel_size, stride, "same", bias=False, initializer=he()))
        layers.extend([BatchNorm(), ReLU()])

    while min(h, w) >= SMALLEST:
        if min(h, w) > DETAILED:
            add(channels, 5, 2)
        elif c == 1:
            channels *= 2
            add(channels, 5, 2)
        else:
            add(channels, 3, 1)
            channels *= 2
            add(channels, 4, 2)
        h, w = -(-h // 2), -(-w // 2)
    return [*layers, Flatten(), Linear(FEATURES, bias=False, initializer=he()), BatchNorm(), ReLU()]


class Classifier:
    """Classifier(image_shape, classes, backend, rng): untrained.

    rng     draws the initial weights
    record  the seed of its training, its accuracy on test images, and how many of those there were
    """

    def __init__(
        self, image_shape: Shape, classes: int, backend: Backend, rng: np.random.Generator
    ):
        self.image_shape, self.classes, self.backend = image_shape, classes, backend
        self.body = Sequential(body_layers(image_shape), name="classifier body")
        self.head = Sequential([Dropout(0.3), Linear(classes)], name="classifier head")
        self.body.setup(image_shape, backend=backend, rng=rng)
        self.head.setup((FEATURES,), backend=backend, rng=rng)
        self.nets = {"body": self.body, "head": self.head}
        self.record: dict[str, Any] = {"seed": 0, "accuracy": 0.0, "tested_on": 0}

    def classify(self, images: Rows, ranks: Group = ALONE) -> tuple[np.ndarray, np.ndarray]:
        """images (n, h, w, c) uint8 -> features (n, 128), probabilities (n, classes).

        Both float64, on the host. ranks: that share the work; each must call this, and has all.
        Raises RunError if they are not finite.
        """
        jobs = (partial(self.classify_batch, images, at) for at in range(0, len(images), BATCH))
        with np.errstate(all="ignore"):  # reported below, in words
            found = np.concatenate([*ranks.in_order(jobs)])
        features, probabilities = found[:, :FEATURES].copy(), found[:, FEATURES:].copy()
        sensible = np.abs(features).max() < LARGEST  # False for NaN too
        if not (sensible and np.isfinite(probabilities).all()):
            raise RunError(
                f"classifier {self.name} gives numbers that are not finite: its file is damaged "
                "or fake: delete it and train another"
            )
        return features, probabilities

    def classify_batch(self, images: Rows, start: int) -> np.ndarray:
        """-> features and probabilities of a batch of images, side by side"""
        part = images[start : start + BATCH]
        floats = np.empty(part.shape, np.float32)
        to_floats(part, floats)
        y = self.body.forward(self.backend.asarray(floats), train=False)
        logits = self.backend.to_host(self.head.forward(y, train=False)).astype(np.float64)
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.concatenate([self.backend.to_host(y), p / p.sum(axis=1, keepdims=True)], axis=1)

    @property
    def sha256(self) -> str:
        """-> hash of all its weights, and of nothing else."""
        digest = hashlib.sha256()
        for part, net in self.nets.items():
            for name, array in net.ready().state().items():
                digest.update(f"{part}/{name} {array.shape} ".encode() + array.tobytes())
        return digest.hexdigest()

    @property
    def name(self) -> str:
        """-> the label of its metrics."""
        return self.sha256[:8]

    def save(self, path: Path) -> None:
        """Raises RunError."""
        with as_run_errors(f"make the folder {path.parent}", "choose another with $XDG_CACHE_HOME"):
            path.parent.mkdir(parents=True, exist_ok=True)
        states = {part: net.ready().state() for part, net in self.nets.items()}
        save_arrays(path, pack(states, self.record))


def classifier_file(real: ReferenceImages) -> Path:
    """-> where the classifier of a set is stored, if there is one.

    If the set has published test images, its files are known by their hashes, so its name is
    enough, no matter how many of its images a run uses. Any other is known by its fingerprint.
    """
    name, shape = real.data.name, real.image_shape
    fingerprint = None if real.published else real.data.fingerprint
    key = json.dumps([VERSION, name, shape, real.fit, fingerprint])
    size, digest = "x".join(map(str, shape)), hashlib.sha256(key.encode()).hexdigest()
    return cache_folder() / "judges" / f"{name}-{size}-{digest[:16]}.npz"


def load_classifier(real: ReferenceImages, backend: Backend) -> Classifier | None:
    """-> the classifier of a set, or None if none is stored. Raises RunError if it is damaged."""
    path = classifier_file(real)
    if not path.exists():
        return None
    sections, record = unpack(load_arrays(path), path)
    rng = np.random.default_rng(0)
    classifier = Classifier(real.image_shape, len(real.data.classes), backend, rng)
    for part, net in classifier.nets.items():
        net.ready().load_state(sections.get(part, {}), path)
    try:
        classifier.record = {key: type(was)(record[key]) for key, was in classifier.record.items()}
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise RunError(
            f"{path} is damaged, or not written by minigan (it holds no record of a classifier): "
            "delete it"
        ) from error
    try:
        classifier.classify(real.test[:BATCH])
    except RunError as error:
        raise RunError(f"{path}: {error}") from error
    return classifier
