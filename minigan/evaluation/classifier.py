"""The judge: a small classifier of the real images, whose eyes the figures are seen with.

Distances of pixels say little: a stroke that is moved by one pixel is far away. The activations before the last
layer of a classifier, its features, are near where images mean the same. Others take a large network that was trained on
photographs, for digits too; here the classifier is trained on the very set (lessons.py), in a few minutes, and
nothing is downloaded.

    body   strided convolutions down to less than 8 pixels, and 128 features: the descendant of LeNet
    head   one Linear layer: features -> a logit for each class

Every judge sees differently. So each has a name, the first 8 digits of the SHA-256 of its numbers, and figures that
were measured by different judges do not compare. It lies in the cache folder.
Source: LeCun et al. 1998, "Gradient-based learning applied to document recognition"
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from minigan.arrays import Backend
from minigan.data import TESTED, Dataset, to_floats
from minigan.data.files.locations import cache_folder
from minigan.data.files.npz import load_arrays, pack, save_arrays, unpack
from minigan.errors import RunError
from minigan.evaluation.neighbours import Rows
from minigan.evaluation.reference_images import Real
from minigan.initializers import he
from minigan.layers import BatchNorm, Conv2d, Dropout, Flatten, Layer, Linear, ReLU, Sequential

VERSION = 1  # of the nets and the lessons: with another, judges in the cache are none
FEATURES = 128
SMALLEST = 8  # pixels on the shorter side that are still halved
DETAILED = 32  # pixels on it up to which colour images get a second convolution
BATCH = 250  # images at a time, for its verdicts
LARGEST = 1e6  # of a feature: they are about 1, for BatchNorm makes them


def body_layers(image_shape: tuple[int, int, int]) -> list[Layer]:
    """-> layers from images (h, w, c) to features.

    28 -> 14 -> 7     channels 1 -> 32 -> 64
    32 -> 16 -> 8 -> 4     3 -> 24 -> 48 -> 48 -> 96 -> 96 -> 192: before each halving a convolution that keeps
                           the size, since photographs have textures, which digits have not
    """
    h, w, c = image_shape
    layers: list[Layer] = []
    channels = 16 if c == 1 else 24

    def convolution(channels: int, kernel_size: int, stride: int) -> list[Layer]:
        return [
            Conv2d(channels, kernel_size, stride, "same", bias=False, initializer=he()),
            BatchNorm(),
            ReLU(),
        ]

    while min(h, w) >= SMALLEST:
        if min(h, w) > DETAILED:
            layers += convolution(channels, 5, 2)
        elif c == 1:
            channels *= 2
            layers += convolution(channels, 5, 2)
        else:
            layers += convolution(channels, 3, 1) + convolution(2 * channels, 4, 2)
            channels *= 2
        h, w = -(-h // 2), -(-w // 2)
    return [*layers, Flatten(), Linear(FEATURES, bias=False, initializer=he()), BatchNorm(), ReLU()]


class Classifier:
    """Judge(image_shape, classes, backend, rng): as yet it has learnt nothing.

    rng     draws the first weights
    record  the seed of its lessons, what share of the images of its test it was right about, and how many those were
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        classes: int,
        backend: Backend,
        rng: np.random.Generator,
    ):
        self.image_shape, self.classes, self.backend = image_shape, classes, backend
        self.body = Sequential(body_layers(image_shape), name="judge body")
        self.head = Sequential([Dropout(0.3), Linear(classes)], name="judge head")
        self.body.setup(image_shape, backend=backend, rng=rng)
        self.head.setup((FEATURES,), backend=backend, rng=rng)
        self.record: dict[str, Any] = {"seed": 0, "accuracy": 0.0, "tested_on": 0}

    @property
    def nets(self) -> dict[str, Sequential]:
        return {"body": self.body, "head": self.head}

    def look(self, images: Rows) -> tuple[np.ndarray, np.ndarray]:
        """images (n, h, w, c) uint8 -> features (n, 128), probabilities of the classes (n, classes); float64, on the host.

        Raises RunError where they are no finite numbers.
        """
        features, probabilities = (
            np.empty((len(images), FEATURES)),
            np.empty((len(images), self.classes)),
        )
        floats = np.empty((BATCH, *self.image_shape), np.float32)
        with np.errstate(all="ignore"):  # numbers that make no sense are told in words
            for start in range(0, len(images), BATCH):
                part = images[start : start + BATCH]
                to_floats(part, floats[: len(part)])
                seen = self.body.forward(self.backend.asarray(floats[: len(part)]), train=False)
                logits = self.backend.to_host(self.head.forward(seen, train=False)).astype(
                    np.float64
                )
                features[start : start + BATCH] = self.backend.to_host(seen)
                p = np.exp(logits - logits.max(axis=1, keepdims=True))
                probabilities[start : start + BATCH] = p / p.sum(axis=1, keepdims=True)
        if not (
            np.abs(features).max() < LARGEST and np.isfinite(probabilities).all()
        ):  # NaN is not below it either
            raise RunError(
                f"judge {self.name} sees no sensible numbers: its file is damaged or false: delete it, and train another"
            )
        return features, probabilities

    @property
    def sha256(self) -> str:
        """-> hash of all its numbers, and of nothing else."""
        digest = hashlib.sha256()
        for part, net in self.nets.items():
            for name, array in net.ready().state().items():
                digest.update(f"{part}/{name} {array.shape} ".encode() + array.tobytes())
        return digest.hexdigest()

    @property
    def name(self) -> str:
        """-> what figures are labelled with."""
        return self.sha256[:8]

    def save(self, path: Path) -> None:
        """Raises RunError."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(
                f"cannot make the folder {path.parent}: {error.strerror}: choose another with $XDG_CACHE_HOME"
            ) from error
        save_arrays(
            path, pack({part: net.ready().state() for part, net in self.nets.items()}, self.record)
        )


def classifier_file(data: Dataset, fit: str) -> Path:
    """-> where the judge of a set's images lies, if there is one.

    Of a set whose files are known by their hashes its name stands for them, however many of them a run takes;
    of any other, the fingerprint of its pixels.
    """
    shape = data.images.shape[1:]
    key = json.dumps(
        [VERSION, data.name, shape, fit, None if data.name in TESTED else data.fingerprint]
    )
    size = "x".join(map(str, shape))
    return (
        cache_folder()
        / "judges"
        / f"{data.name}-{size}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz"
    )


def load_classifier(path: Path, real: Real, backend: Backend) -> Classifier | None:
    """-> the judge of these images, from its file; None where there is no such file. Raises RunError where it is damaged."""
    if not path.exists():
        return None
    sections, record = unpack(load_arrays(path), path)
    classifier = Classifier(real.image_shape, len(real.classes), backend, np.random.default_rng(0))
    for part, net in classifier.nets.items():
        net.ready().load_state(sections.get(part, {}), path)
    if not isinstance(record, dict) or any(
        type(record.get(name)) is not type(value) for name, value in classifier.record.items()
    ):
        raise RunError(
            f"{path} is damaged, or not written by minigan (it lacks what is to be known of a judge): delete it"
        )
    classifier.record = {name: record[name] for name in classifier.record}
    try:
        classifier.look(real.test[:BATCH])
    except RunError as error:
        raise RunError(f"{path}: {error}") from error
    return classifier
