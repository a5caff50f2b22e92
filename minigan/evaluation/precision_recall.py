"""Where samples and real images overlap: what their nearest neighbours say.

Two-sample test. Put real images and as many samples into one set, and guess each one's side from its nearest
neighbour, itself left out. Of one and the same distribution the guess is right half of the time. It is right
always where the two lie apart; and less than half of the time where each sample lies next to a real image of
its own, as copies do. The two sides are told apart: real images taken for samples are G's success in hitting
them, and collapsed samples have nothing but each other for neighbours.

Precision and recall. A ball around each real image that reaches to its k-th nearest real one; together they are where
real images are. So are the balls around samples where samples are.

    precision   share of the samples that lie in some real ball          are they realistic?
    recall      share of the real images that lie in some sample's ball  is everything covered?
    density     real balls that a sample lies in, mean over the samples, over k: one outlier's wide ball counts for little
    coverage    share of the real images whose ball holds a sample

Of equal distributions, n and m large, density is 1 in the mean, and coverage 1 - 2^-k: a ball is empty where the k nearest of the
pooled others are all real ones, each with probability 1/2. Precision and recall depend on the distribution; the floor tells.

Source: Lopez-Paz & Oquab 2017, arXiv:1610.06545; Xu et al. 2018, arXiv:1806.07755; Kynkäänniemi et al. 2019,
arXiv:1904.06991; Naeem et al. 2020, arXiv:2002.09797
"""

import numpy as np
from numpy.typing import NDArray

from minigan.evaluation.neighbours import Rows, balls_around, nearest

K = 3  # nearest neighbours


def nearest_others(rows: Rows, k: int) -> NDArray[np.float64]:
    """-> for each row the distances to the k nearest of the others (n, k), nearest first; n > k."""
    distances, indices = nearest(rows, rows, k + 1)
    itself = indices == np.arange(len(rows))[:, np.newaxis]
    itself[:, -1] |= ~itself.any(
        axis=1
    )  # of so many doubles that it is not among them, each is at a distance of 0
    return np.reshape(distances[~itself], (len(rows), k))


def two_sample_accuracy(real: Rows, fake: Rows) -> tuple[float, float]:
    """As many of each -> share of the real ones, and of the fakes, that their nearest neighbour puts on the right side."""
    own_real, own_fake = nearest_others(real, 1)[:, 0], nearest_others(fake, 1)[:, 0]
    return share_right(own_real, nearest(real, fake)[0][:, 0]), share_right(
        own_fake, nearest(fake, real)[0][:, 0]
    )


def share_right(own: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Distances to the nearest of the own and of the other side (n,) -> accuracy; where they are equal, half of it counts."""
    return float(np.mean((own < other) + 0.5 * (own == other)))


def overlap_figures(real: Rows, fake: Rows, k: int = K) -> dict[str, float]:
    """As many of each -> all six figures."""
    own_real, own_fake = nearest_others(real, k), nearest_others(fake, k)
    to_fake, to_real = nearest(real, fake)[0][:, 0], nearest(fake, real)[0][:, 0]
    in_real_balls = balls_around(fake, real, own_real[:, -1])
    in_fake_balls = balls_around(real, fake, own_fake[:, -1])
    return {
        "two_sample_real": share_right(own_real[:, 0], to_fake),
        "two_sample_fake": share_right(own_fake[:, 0], to_real),
        "precision": float(np.mean(in_real_balls > 0)),
        "recall": float(np.mean(in_fake_balls > 0)),
        "density": float(np.mean(in_real_balls) / k),
        "coverage": float(np.mean(to_fake <= own_real[:, -1])),
    }
