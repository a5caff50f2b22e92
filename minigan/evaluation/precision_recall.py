"""How samples and real images overlap, by their nearest neighbors in feature space.

Two-sample test. Pool real images and as many samples, and classify each as real or fake by its
nearest neighbor other than itself. If both have the same distribution, half of the answers are
right. All are right if they lie apart; fewer than half if each sample lies next to a real image, as
copies do. The two classes are reported separately: on real images the accuracy is low if samples
come close to them; collapsed samples have only each other as neighbors.

Precision and recall. Draw a ball around each real image that reaches its k-th nearest real one: the
union of the balls estimates where real images are. Balls around samples do the same for them.

    precision   share of samples that lie in any real ball: are they realistic?
    recall      share of real images that lie in any sample's ball: is everything covered?
    density     real balls that a sample lies in, divided by k, mean over the samples: unlike
                precision, it gives little weight to the wide ball of an outlier
    coverage    share of real images whose ball contains a sample

For equal distributions and large n, density is 1 on average, and coverage 1 - 2^-k: a ball is empty
if the k nearest of the pooled others are all real, each with probability 1/2. Precision and recall
depend on the distribution; the floor shows what real images get.

Source: Lopez-Paz & Oquab 2017, arXiv:1610.06545; Xu et al. 2018, arXiv:1806.07755;
Kynkäänniemi et al. 2019, arXiv:1904.06991; Naeem et al. 2020, arXiv:2002.09797
"""

import numpy as np

from minigan.checks import ignore_float_errors
from minigan.evaluation.neighbors import balls_around, nearest

K = 3  # nearest neighbors


def nearest_others(rows: np.ndarray, k: int) -> np.ndarray:
    """-> distances from each row to the k nearest others (n, k), nearest first; n > k."""
    distances, indices = nearest(rows, rows, k + 1)
    itself = indices == np.arange(len(rows))[:, np.newaxis]
    # a row with more than k copies may not be among them, but then all are at distance 0
    itself[:, -1] |= ~itself.any(axis=1)
    return np.reshape(distances[~itself], (len(rows), k))


@ignore_float_errors
def two_sample_accuracy(real: np.ndarray, fake: np.ndarray) -> dict[str, float]:
    """Equally many rows of each -> share of the real ones, and of the fakes, classified right."""
    to_fake, to_real = nearest(real, fake)[0][:, 0], nearest(fake, real)[0][:, 0]
    return {
        "two_sample_real": accuracy(nearest_others(real, 1)[:, 0], to_fake),
        "two_sample_fake": accuracy(nearest_others(fake, 1)[:, 0], to_real),
    }


def accuracy(same: np.ndarray, other: np.ndarray) -> float:
    """Distances to the nearest of the same and of the other class (n,); a tie counts as half."""
    return float(np.mean((same < other) + 0.5 * (same == other)))


@ignore_float_errors
def precision_recall(real: np.ndarray, fake: np.ndarray, k: int = K) -> dict[str, float]:
    """Equally many rows of each -> precision, recall, density, coverage and the two-sample test."""
    near_real, near_fake = nearest_others(real, k), nearest_others(fake, k)
    to_fake, to_real = nearest(real, fake)[0][:, 0], nearest(fake, real)[0][:, 0]
    in_real_balls = balls_around(fake, real, near_real[:, -1])
    in_fake_balls = balls_around(real, fake, near_fake[:, -1])
    return {
        "two_sample_real": accuracy(near_real[:, 0], to_fake),
        "two_sample_fake": accuracy(near_fake[:, 0], to_real),
        "precision": float(np.mean(in_real_balls > 0)),
        "recall": float(np.mean(in_fake_balls > 0)),
        "density": float(np.mean(in_real_balls) / k),
        "coverage": float(np.mean(to_fake <= near_real[:, -1])),
    }
