"""Metrics of the classifier's outputs: is each sample clear, and do all classes appear?

The classifier gives each sample x the probabilities p(y|x) of the classes y. Their mean over the
samples is p(y).

    classifier score   exp E_x KL(p(y|x) ‖ p(y)) = exp(H(p(y)) - E_x H(p(y|x)))

with the entropy H(p) = -Σ p·log p. (KL = Σ p(y|x)·(log p(y|x) - log p(y)); the mean over x of the
second term is H(p(y)).) It is 1 if the classifier cannot tell samples apart. It is the number of
classes if every sample is certainly of one class, and all classes are equally frequent. It ignores
variety within a class: one perfect image of each class gets the highest score.

The mean of max p, and that of H(p(y|x)) in nats, measure clarity alone. The histogram of the most
probable classes measures variety alone: a class is missed if it has less than a tenth of an even
share of the samples, for ten classes 1%.

Source: Salimans et al. 2016, arXiv:1606.03498; that score takes another classifier, Inception
"""

from collections.abc import Sequence

import numpy as np

from minigan.checks import ignore_float_errors

MISSED = 0.1  # of an even share


@ignore_float_errors
def entropies(p: np.ndarray) -> np.ndarray:
    """p (n, classes) -> H of each row (n,), in nats; 0·log 0 is 0."""
    return np.asarray(-np.sum(p * np.log(np.where(p > 0, p, 1.0)), axis=1))


@ignore_float_errors
def classifier_score(p: np.ndarray) -> float:
    """p (n, classes) float64, rows that sum to 1 -> score, from 1 to classes."""
    return float(np.exp(entropies(p.mean(axis=0, keepdims=True))[0] - entropies(p).mean()))


def confidence(p: np.ndarray) -> float:
    """p (n, classes) -> mean probability of the most probable class."""
    return float(p.max(axis=1).mean())


def class_shares(p: np.ndarray) -> np.ndarray:
    """p (n, classes) -> share of rows in which each class is the most probable (classes,)."""
    return np.bincount(p.argmax(axis=1), minlength=p.shape[1]) / len(p)


def missed(shares: Sequence[float] | np.ndarray) -> list[int]:
    """shares (classes,) -> indices of the missed classes."""
    return [i for i, share in enumerate(shares) if share < MISSED / len(shares)]
