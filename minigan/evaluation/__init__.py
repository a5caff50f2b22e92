"""How good are the images? Figures that need no download, each beside the same figure of real images."""

from minigan.evaluation.figures import Evaluation, evaluate, expect_n
from minigan.evaluation.frechet import frechet_distance, moments
from minigan.evaluation.judge import Judge, judge_file, load_judge
from minigan.evaluation.lessons import cannot_be_judged, get_judge, train_judge
from minigan.evaluation.real import Real, split

__all__ = [
    "Evaluation", "Judge", "Real", "cannot_be_judged", "evaluate", "expect_n", "frechet_distance", "get_judge", "judge_file", "load_judge",
    "moments", "split", "train_judge",
]  # fmt: skip
