"""How good are the images? Metrics without a download, each next to its value for real images."""

from minigan.evaluation.classifier import Classifier
from minigan.evaluation.frechet import frechet_distance, moments
from minigan.evaluation.metrics import evaluate, expect_n
from minigan.evaluation.reference_images import ReferenceImages, split
from minigan.evaluation.train_classifier import get_classifier, why_no_classifier

__all__ = [
    "Classifier", "ReferenceImages", "evaluate", "expect_n", "frechet_distance", "get_classifier",
    "moments", "split", "why_no_classifier",
]  # fmt: skip
