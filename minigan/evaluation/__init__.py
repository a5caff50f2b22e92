"""How good are the images? Figures that need no download, each beside the same figure of real images."""

from minigan.evaluation.classifier import Classifier, classifier_file, load_classifier
from minigan.evaluation.frechet import frechet_distance, moments
from minigan.evaluation.metrics import Evaluation, evaluate, expect_n
from minigan.evaluation.reference_images import Real, split
from minigan.evaluation.train_classifier import get_classifier, train_classifier, why_no_classifier

__all__ = [
    "Evaluation",
    "Judge",
    "Real",
    "cannot_be_judged",
    "evaluate",
    "expect_n",
    "frechet_distance",
    "get_judge",
    "judge_file",
    "load_judge",
    "moments",
    "split",
    "train_judge",
]
