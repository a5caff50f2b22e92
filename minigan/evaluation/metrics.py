"""All figures of a set of samples, each beside its floor: what real images would get.

    samples   G's images against the real images for the test
    floor     as many real training images against the same, as though G had made them

A figure without its floor says little: the Fréchet distance of real images to real images is not 0, since
they are few, and since the judge knows the training images, and sees them a little otherwise than those for the test.
Figures compare where data, n and judge are the same; they are in the table and in the record.
"""

from dataclasses import dataclass
from textwrap import wrap
from typing import Any

import numpy as np

from minigan.checks import expect_size
from minigan.errors import ConfigError
from minigan.evaluation.classifier import Classifier
from minigan.evaluation.frechet import frechet_distance, moments
from minigan.evaluation.kid import kernel_distance
from minigan.evaluation.memorisation import nearest_picture, nearest_training_images
from minigan.evaluation.precision_recall import overlap_figures, two_sample_accuracy
from minigan.evaluation.reference_images import LEAST, SEED, Real
from minigan.evaluation.scores import class_shares, classifier_score, confidence, entropies, missed

USUAL = 10_000  # samples, where there are as many real images
MOST_CLASSES = 20  # whose shares are listed one by one

TABLE = {  # figure: what it is, how it is written, what is good
    "frechet": ("LeNet Fréchet distance", "{:.2f}", "down"),
    "kid": ("KID, kernel distance", "{:.4f}", "down, to 0"),
    "classifier_score": ("classifier score", "{:.3f}", "up"),
    "confidence": ("mean confidence", "{:.1%}", "up"),
    "entropy": ("mean entropy, in nats", "{:.3f}", "down"),
    "classes_missed": ("classes missed", "{:.0f}", "0"),
    "labels_obeyed": ("samples of the class asked for", "{:.1%}", "up"),
    "two_sample_real": ("1-NN accuracy, real images", "{:.1%}", "50%"),
    "two_sample_fake": ("1-NN accuracy, samples", "{:.1%}", "50%"),
    "precision": ("precision", "{:.1%}", "up"),
    "recall": ("recall", "{:.1%}", "up"),
    "density": ("density", "{:.3f}", "up, to 1"),
    "coverage": ("coverage", "{:.1%}", "up"),
    "train_distance": ("to the nearest training image", "{:.2f}", "not below the floor"),
    "closest": ("the same, closest of all", "{:.2f}", "not far below the floor"),
}


@dataclass(frozen=True)
class Evaluation:
    """What was measured."""

    data: str
    n: int  # samples, and real images that they are compared with
    published: bool  # are these the set's own test images?
    classifier: dict[str, Any] | None  # its name, hash, accuracy
    classes: tuple[str, ...]
    samples: dict[str, float]
    floor: dict[str, float]
    shares: dict[str, list[float]]  # of the classes, in "samples" and "floor"; {} without a judge
    picture: np.ndarray  # samples over their nearest training images, see memorisation.py

    def record(self) -> dict[str, Any]:
        """-> all of it but the picture, for a JSON file."""
        rows = zip(self.classes, *self.shares.values(), strict=True) if self.shares else ()
        classes = {name: dict(zip(self.shares, values, strict=True)) for name, *values in rows}
        return {
            "data": self.data,
            "n": self.n,
            "held_out": not self.published,
            "judge": self.classifier,
            "samples": self.samples,
            "floor": self.floor,
            "classes": classes,
        }

    def table(self) -> list[str]:
        """-> lines for a reader."""
        against = "its test images" if self.published else "images held out"
        lines = [
            f"{self.n:,} samples against {self.n:,} real images of {self.data} ({against}), seen by {self.eyes}"
        ]
        lines += ["", f"{'':<32}{'samples':>19}{'floor':>19}   good is"]
        for name, (title, form, good) in TABLE.items():
            if name in self.samples:
                cells = [written(name, form, of) for of in (self.samples, self.floor)]
                lines.append(f"{title:<32}{cells[0]:>19}{cells[1]:>19}   {good}")
        return [*lines, *self.histogram()]

    @property
    def eyes(self) -> str:
        """-> in which space distances were taken."""
        if self.classifier is None:
            return "their pixels alone"
        return f"judge {self.classifier['name']}, which is right about {self.classifier['accuracy']:.1%}"

    def histogram(self) -> list[str]:
        """-> lines on the classes."""
        if not self.shares:
            return []
        pairs = list(zip(self.classes, self.shares["samples"], strict=True))
        gone = [self.classes[i] for i in missed(np.array(self.shares["samples"]))]
        lines = (
            []
            if len(pairs) > MOST_CLASSES
            else wrap("classes: " + ", ".join(f"{name} {share:.1%}" for name, share in pairs), 100)
        )
        return ["", *lines, *wrap("missed: " + ", ".join(gone) if gone else "", 100)]


def written(name: str, form: str, of: dict[str, float]) -> str:
    """-> a figure, with its spread where it has one."""
    text = form.format(of[name])
    return f"{text} ± {form.format(of['kid_spread'])}" if name == "kid" else text


def expect_n(n: int | None, real: Real) -> int:
    """-> how many samples are compared with as many real images. Raises ConfigError.

    n  as the user gave it; None: the usual number, or as many as there are real ones
    """
    most = min(len(real.train), len(real.test))
    if n is None:
        return min(USUAL, most)
    expect_size("--n", n, least=LEAST)
    if n > most:
        kind = "has" if real.published else "is large enough to hold out"
        raise ConfigError(
            f"--n {n}: {real.name} {kind} {most:,} images to compare with: give at most so many, or leave --n out"
        )
    return n


def evaluate(
    samples: np.ndarray,
    real: Real,
    classifier: Classifier | None,
    labels: np.ndarray | None = None,
    flip: bool = False,
) -> Evaluation:
    """All figures. Without a judge those alone that pixels can tell.

    samples  (n, h, w, c) uint8, n as from expect_n
    labels   (n,) the classes that they should be of, where G was told
    flip     G was shown each image mirrored, too
    """
    n, metadata = len(samples), None
    test, train = real.some_test(n), real.some_train(n)
    of_samples, of_test = (
        nearest_training_images(images, real.train, flip) for images in (samples, test)
    )
    picture = nearest_picture(samples, of_samples, test, of_test)
    if classifier is None:
        found, floor = pixel_figures(samples, test), pixel_figures(train, test)
        shares = {}
    else:
        seen_test, p_test = classifier.look(test)
        metadata = {
            "name": classifier.name,
            "sha256": classifier.sha256,
            "seed": classifier.record["seed"],
        }
        metadata["accuracy"] = float(
            np.mean(p_test.argmax(axis=1) == real.some_test_labels(n))
        )  # looked at, not believed
        found, shares_found = judged_figures(samples, seen_test, classifier, labels)
        floor, shares_floor = judged_figures(
            train, seen_test, classifier, None if labels is None else real.some_train_labels(n)
        )
        shares = {"samples": shares_found, "floor": shares_floor}
    for figures, (distances, _) in ((found, of_samples), (floor, of_test)):
        figures |= {"train_distance": float(distances.mean()), "closest": float(distances.min())}
    return Evaluation(
        real.name, n, real.published, metadata, real.classes, found, floor, shares, picture
    )


def judged_figures(
    images: np.ndarray, seen_test: np.ndarray, classifier: Classifier, labels: np.ndarray | None
) -> tuple[dict[str, float], list[float]]:
    """All figures of images (n, h, w, c) that need a judge, and the shares of the classes.

    seen_test  (n, 128) features of the real images that they are compared with
    """
    seen, p = classifier.look(images)
    shares = class_shares(p)
    kid, spread = kernel_distance(seen, seen_test, np.random.default_rng(SEED))
    figures = {
        "frechet": frechet_distance(moments(seen), moments(seen_test)),
        "kid": kid,
        "kid_spread": spread,
        "classifier_score": classifier_score(p),
        "confidence": confidence(p),
        "entropy": float(entropies(p).mean()),
        "classes_missed": float(len(missed(shares))),
        **overlap_figures(seen_test, seen),
    }
    if labels is not None:
        figures["labels_obeyed"] = float(np.mean(p.argmax(axis=1) == labels))
    return figures, shares.tolist()


def pixel_figures(images: np.ndarray, test: np.ndarray) -> dict[str, float]:
    """The two-sample test, which needs no judge."""
    real_side, own_side = two_sample_accuracy(test, images)
    return {"two_sample_real": real_side, "two_sample_fake": own_side}
