"""What the judge's own verdicts say: are the samples clear, and are all classes among them?

The judge gives each sample x its probabilities p(y|x) of the classes y. Their mean over the samples is p(y).

    classifier score   exp E_x KL(p(y|x) ‖ p(y)) = exp(H(p(y)) - E_x H(p(y|x)))

with the entropy H(p) = -Σ p·log p. (KL = Σ p(y|x)·(log p(y|x) - log p(y)); the mean over x of the second part is H(p(y)).)
It is 1 where all samples are alike to the judge, and the number of classes where each is surely of one class and
all are equally many. It sees no difference within a class: one perfect picture of each has the highest score.

The mean of max p and of H(p(y|x)), in nats, tell of the first alone; the histogram of the most probable class of the second. A class is
missed if it has less than a tenth of an even share of the samples: 1% with ten classes.

Source: Salimans et al. 2016, arXiv:1606.03498, with another classifier and so another score than theirs
"""

import numpy as np

MISSED = 0.1  # of an even share


def entropies(p: np.ndarray) -> np.ndarray:
    """p (n, classes) -> H of each row (n,), in nats; 0·log 0 is 0."""
    entropy: np.ndarray = -np.sum(p * np.log(np.where(p > 0, p, 1.0)), axis=1)
    return entropy


def classifier_score(p: np.ndarray) -> float:
    """p (n, classes) float64, each row's sum 1 -> score, 1 to classes."""
    return float(np.exp(entropies(p.mean(axis=0, keepdims=True))[0] - entropies(p).mean()))


def confidence(p: np.ndarray) -> float:
    """p (n, classes) -> mean probability of the most probable class."""
    return float(p.max(axis=1).mean())


def class_shares(p: np.ndarray) -> np.ndarray:
    """p (n, classes) -> share of the rows in which each class is the most probable, (classes,)."""
    return np.bincount(p.argmax(axis=1), minlength=p.shape[1]) / len(p)


def missed(shares: np.ndarray) -> np.ndarray:
    """shares (classes,) -> numbers of the classes that are all but missing."""
    return np.flatnonzero(shares < MISSED / len(shares))
