"""All metrics of a set of samples, each next to its floor, the score of real images.

    samples   G's images compared with real test images
    floor     as many real training images compared with the same, as if G had made them

A metric without its floor says little. The Fréchet distance of real images to real images is not 0:
there are few of them, and the classifier's features of the images that it was trained on differ a
little from those of test images. Metrics are comparable only for the same data, n and classifier;
all three are in the table and in the record.
"""

from dataclasses import dataclass
from textwrap import wrap
from typing import Any

import numpy as np

from minigan.checks import expect_size, ignore_float_errors
from minigan.errors import ConfigError
from minigan.evaluation.classifier import Classifier
from minigan.evaluation.frechet import frechet_distance, moments
from minigan.evaluation.kid import kernel_distance
from minigan.evaluation.memorization import nearest_picture, nearest_training_images
from minigan.evaluation.precision_recall import precision_recall, two_sample_accuracy
from minigan.evaluation.reference_images import MIN_TEST, SEED, ReferenceImages
from minigan.evaluation.scores import class_shares, classifier_score, confidence, entropies, missed
from minigan.parallel.group import ALONE, Group

USUAL_N = 10_000
MAX_CLASSES = 20  # whose shares are listed one by one

TABLE = {  # metric: its title, its format, the better direction or value
    "frechet": ("LeNet Fréchet distance", "{frechet:.2f}", "down"),
    "kid": ("KID", "{kid:.4f} ± {kid_spread:.4f}", "down, to 0"),
    "classifier_score": ("classifier score", "{classifier_score:.3f}", "up"),
    "confidence": ("mean confidence", "{confidence:.1%}", "up"),
    "entropy": ("mean entropy, in nats", "{entropy:.3f}", "down"),
    "classes_missed": ("missed classes", "{classes_missed:.0f}", "0"),
    "labels_obeyed": ("samples of the requested class", "{labels_obeyed:.1%}", "up"),
    "two_sample_real": ("1-NN accuracy, real images", "{two_sample_real:.1%}", "50%"),
    "two_sample_fake": ("1-NN accuracy, samples", "{two_sample_fake:.1%}", "50%"),
    "precision": ("precision", "{precision:.1%}", "up"),
    "recall": ("recall", "{recall:.1%}", "up"),
    "density": ("density", "{density:.3f}", "up, to 1"),
    "coverage": ("coverage", "{coverage:.1%}", "up"),
    "train_distance": ("distance to training set", "{train_distance:.2f}", "not below the floor"),
    "closest": ("the smallest of these", "{closest:.2f}", "not far below the floor"),
}


@dataclass(frozen=True)
class Evaluation:
    """What was measured."""

    data: str
    n: int  # samples, and real images that they are compared with
    held_out: bool  # from the training images? Otherwise they are the set's own test images
    classifier: dict[str, Any] | None  # its name, hash, seed, accuracy
    samples: dict[str, float]
    floor: dict[str, float]
    classes: dict[str, dict[str, float]]  # class -> its share of "samples" and "floor", if known
    picture: np.ndarray  # samples above their nearest training images, see memorization.py

    def record(self) -> dict[str, Any]:
        """-> all but the picture, for a JSON file."""
        keys = {"classifier": "judge"}  # as in the files of 0.1.0
        return {keys.get(key, key): value for key, value in vars(self).items() if key != "picture"}

    def table(self) -> list[str]:
        """-> lines for a reader."""
        against, space = "held out" if self.held_out else "its test images", "in pixel space"
        if self.classifier:
            name, accuracy = self.classifier["name"], self.classifier["accuracy"]
            space = f"in the features of classifier {name}, {accuracy:.1%} correct"
        head = f"{self.n:,} samples against {self.n:,} real images of {self.data} ({against}), "
        lines = [head + space, "", f"{'':<32}{'samples':>19}{'floor':>19}   better"]
        for name, (title, form, better) in TABLE.items():
            if name in self.samples:
                cells = [form.format(**metrics) for metrics in (self.samples, self.floor)]
                lines.append(f"{title:<32}{cells[0]:>19}{cells[1]:>19}   {better}")
        shares = {name: share["samples"] for name, share in self.classes.items()}
        if 0 < len(shares) <= MAX_CLASSES:
            listed = ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
            lines += ["", *wrap(f"classes: {listed}", 100)]
        if gone := [list(shares)[i] for i in missed(list(shares.values()))]:
            lines += wrap(f"missed: {', '.join(gone)}", 100)
        return lines


def expect_n(n: int | None, real: ReferenceImages) -> int:
    """-> how many samples are compared with as many real images. Raises ConfigError.

    n  as the user gave it; None: 10,000, or as many as there are real images
    """
    most = min(len(real.train), len(real.test))
    if most < MIN_TEST:
        raise ConfigError(
            f"{real.data.name} has {most:,} images here, and an evaluation takes {MIN_TEST}: "
            "train with a larger --limit"
        )
    if n is None:
        return min(USUAL_N, most)
    expect_size("--n", n, least=MIN_TEST)
    if n > most:
        verb = "has" if real.published else "is large enough to hold out"
        raise ConfigError(
            f"--n {n}: {real.data.name} {verb} {most:,} images to compare with: "
            "use at most that many, or omit --n"
        )
    return n


@ignore_float_errors
def evaluate(
    samples: np.ndarray,
    real: ReferenceImages,
    classifier: Classifier | None,
    labels: np.ndarray | None = None,
    flip: bool = False,
    ranks: Group = ALONE,
) -> Evaluation | None:
    """All metrics; without a classifier, those of pixel space.

    samples  (n, h, w, c) uint8, n as from expect_n
    labels   (n,) their requested classes, if G is conditional
    flip     was G trained on mirrored images, too?
    ranks    that share the longest work, by equal arguments; -> None on all but rank 0
    """
    n = len(samples)
    test, train = real.test.draw(n), real.train.draw(n)
    near_samples = nearest_training_images(samples, real.train, flip, ranks)
    near_test = nearest_training_images(test[:], real.train, flip, ranks)
    seen = [classifier.classify(each, ranks) for each in (test, samples, train) if classifier]
    if ranks.rank:
        return None
    picture = nearest_picture(samples, near_samples, test[:], near_test)
    known: dict[str, Any] | None = None
    classes: dict[str, dict[str, float]] = {}
    if classifier is None:
        found, floor = (two_sample_accuracy(test[:], images) for images in (samples, train[:]))
    else:
        (features, p), of_samples, of_train = seen
        known = {
            "name": classifier.name,
            "sha256": classifier.sha256,
            "seed": classifier.record["seed"],
            # measured here, because a file can claim any accuracy
            "accuracy": float(np.mean(p.argmax(axis=1) == test.labels)),
        }
        true_labels = None if labels is None else train.labels
        found, shares = feature_metrics(*of_samples, features, labels)
        floor, shares_real = feature_metrics(*of_train, features, true_labels)
        for name, share, share_real in zip(real.data.classes, shares, shares_real, strict=True):
            classes[name] = {"samples": share, "floor": share_real}
    for metrics, (distances, _) in ((found, near_samples), (floor, near_test)):
        metrics |= {"train_distance": float(distances.mean()), "closest": float(distances.min())}
    name, held_out = real.data.name, not real.published
    return Evaluation(name, n, held_out, known, found, floor, classes, picture)


def feature_metrics(
    features: np.ndarray, p: np.ndarray, features_test: np.ndarray, labels: np.ndarray | None
) -> tuple[dict[str, float], list[float]]:
    """-> all metrics of classified images that need a classifier, and the shares of the classes.

    features, p    (n, 128), (n, classes): see Classifier.classify
    features_test  (n, 128), of the real images that they are compared with
    labels         (n,) the classes that they should have, or None
    """
    shares = class_shares(p)
    kid, spread = kernel_distance(features, features_test, np.random.default_rng(SEED))
    metrics = {
        "frechet": frechet_distance(moments(features), moments(features_test)),
        "kid": kid,
        "kid_spread": spread,
        "classifier_score": classifier_score(p),
        "confidence": confidence(p),
        "entropy": float(entropies(p).mean()),
        "classes_missed": float(len(missed(shares))),
        **precision_recall(features_test, features),
    }
    if labels is not None:
        metrics["labels_obeyed"] = float(np.mean(p.argmax(axis=1) == labels))
    return metrics, shares.tolist()
