"""Each figure against a formula, a plain loop, and scikit-learn or SciPy where they are installed."""

from math import exp, log, sqrt

import numpy as np
import pytest

from minigan.evaluation import kid as kernel
from minigan.evaluation.frechet import frechet_distance, moments
from minigan.evaluation.kid import kernel_distance, unbiased_mmd
from minigan.evaluation.memorisation import nearest_picture, nearest_training_images
from minigan.evaluation.precision_recall import nearest_others, overlap_figures, two_sample_accuracy
from minigan.evaluation.reference_images import Part
from minigan.evaluation.scores import class_shares, classifier_score, confidence, entropies, missed


def covariance(rng, d, rank=None):
    a = rng.standard_normal((d, rank or d))
    return a @ a.T


# ---- Fréchet


def test_frechet_of_gaussians_whose_covariances_commute():
    """Then it is |m1 - m2|² + Σ (√a - √b)² over the eigenvalues; turned by any rotation, the same."""
    rng = np.random.default_rng(0)
    q, _ = np.linalg.qr(rng.standard_normal((20, 20)))
    a, b, m = rng.uniform(0, 3, 20), rng.uniform(0, 3, 20), rng.standard_normal(20)
    a[:5] = b[3:8] = 0
    wanted = m @ m + np.sum((np.sqrt(a) - np.sqrt(b)) ** 2)
    found = frechet_distance((q @ m, q * a @ q.T), (np.zeros(20), q * b @ q.T))
    assert found == pytest.approx(wanted, rel=1e-6)


def test_frechet_in_two_dimensions():
    """The root of a 2x2 matrix M has the trace √(Tr M + 2√det M)."""
    rng = np.random.default_rng(1)
    for _ in range(20):
        a, b = covariance(rng, 2), covariance(rng, 2)
        root = sqrt(np.trace(a @ b) + 2 * sqrt(np.linalg.det(a) * np.linalg.det(b)))
        wanted = np.trace(a) + np.trace(b) - 2 * root
        assert frechet_distance((np.zeros(2), a), (np.zeros(2), b)) == pytest.approx(
            wanted, rel=1e-9, abs=1e-9
        )


def test_frechet_is_a_distance():
    rng = np.random.default_rng(2)
    x, y = moments(rng.standard_normal((300, 50))), moments(1 + 2 * rng.standard_normal((300, 50)))
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(y, x), rel=1e-9)
    assert 0 <= frechet_distance(x, x) < 1e-6 * np.trace(x[1])
    few = moments(
        rng.standard_normal((10, 50))
    )  # fewer than dimensions: no covariance of full rank
    assert 0 <= frechet_distance(few, few) < 1e-6 * np.trace(few[1])


@pytest.mark.parametrize("rank", (None, 5))
def test_frechet_as_scipy_has_it(rank):
    linalg = pytest.importorskip("scipy.linalg")
    rng = np.random.default_rng(3)
    a, b, m = covariance(rng, 12), covariance(rng, 12, rank), rng.standard_normal(12)
    root = linalg.sqrtm(a @ b)
    wanted = m @ m + np.trace(a) + np.trace(b) - 2 * np.trace(root).real
    assert frechet_distance((m, a), (np.zeros(12), b)) == pytest.approx(wanted, rel=1e-6)


def test_moments():
    x = np.random.default_rng(4).standard_normal((30, 4))
    mean, cov = moments(x.astype(np.float32))
    np.testing.assert_allclose(mean, x.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(cov, np.cov(x.T), rtol=1e-5, atol=1e-6)


# ---- KID


def test_mmd_as_a_plain_loop():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((7, 3)), 1 + rng.standard_normal((7, 3))

    def k(a, b):
        return (a @ b / 3 + 1) ** 3

    pairs = [(i, j) for i in range(7) for j in range(7)]
    apart = sum(k(x[i], x[j]) + k(y[i], y[j]) for i, j in pairs if i != j) / 42
    assert unbiased_mmd(x, y) == pytest.approx(
        apart - 2 * sum(k(x[i], y[j]) for i, j in pairs) / 49, rel=1e-12
    )


@pytest.mark.parametrize("shift", (0.0, 0.5))
def test_mmd_of_gaussians(shift):
    """x ~ N(0, I), y ~ N(m, I): with μ = |m|²/d, E k(x, x') = 1 + 3/d, E k(x, y) = 1 + 3(μ + 1)/d,
    E k(y, y') = (1 + μ)³ + 3(1 + μ)(2μ + 1)/d + 6μ/d²."""
    rng, d, times = np.random.default_rng(1), 4, 400
    mu = shift**2
    wanted = (
        (1 + 3 / d)
        + (1 + mu) ** 3
        + 3 * (1 + mu) * (2 * mu + 1) / d
        + 6 * mu / d**2
        - 2 * (1 + 3 * (mu + 1) / d)
    )
    found = [
        unbiased_mmd(rng.standard_normal((50, d)), shift + rng.standard_normal((50, d)))
        for _ in range(times)
    ]
    assert abs(np.mean(found) - wanted) < 4 * np.std(found) / sqrt(times)


def test_mmd_as_scikit_learn_has_the_kernel():
    pairwise = pytest.importorskip("sklearn.metrics.pairwise")
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((40, 16)), rng.standard_normal((40, 16)) * 2
    xx, yy, xy = (
        pairwise.polynomial_kernel(a, b, degree=3, gamma=1 / 16, coef0=1)
        for a, b in ((x, x), (y, y), (x, y))
    )
    wanted = (xx.sum() - np.trace(xx) + yy.sum() - np.trace(yy)) / (40 * 39) - 2 * xy.mean()
    assert unbiased_mmd(x, y) == pytest.approx(wanted, rel=1e-10)


def test_kernel_distance_has_a_spread(monkeypatch):
    monkeypatch.setattr(kernel, "SIZE", 200)
    rng = np.random.default_rng(3)
    x, y, z = (
        rng.standard_normal((1500, 8)),
        rng.standard_normal((1500, 8)),
        0.5 + rng.standard_normal((1500, 8)),
    )
    same, spread = kernel_distance(x, y, np.random.default_rng(0))
    other, _ = kernel_distance(x, z, np.random.default_rng(0))
    assert abs(same) < 2 * spread < other and spread > 0


# ---- scores


def test_scores_of_known_verdicts():
    even, unsure, one = (
        np.eye(10)[np.arange(50) % 10],
        np.full((50, 10), 0.1),
        np.eye(10)[np.zeros(50, int)],
    )
    assert classifier_score(even) == pytest.approx(10, rel=1e-12)
    assert classifier_score(unsure) == pytest.approx(1, rel=1e-12) and classifier_score(
        one
    ) == pytest.approx(1, rel=1e-12)
    p = np.array([[0.9, 0.1], [0.1, 0.9]])
    h = -0.9 * log(0.9) - 0.1 * log(0.1)
    assert classifier_score(p) == pytest.approx(exp(log(2) - h), rel=1e-12)
    assert confidence(p) == pytest.approx(0.9) and confidence(even) == 1
    np.testing.assert_allclose(entropies(np.vstack([p, [[1, 0]]])), [h, h, 0], rtol=1e-12)


def test_classes_that_are_missed():
    numbers = np.repeat(np.arange(10), [0, 9, 10, 200, 200, 200, 200, 81, 50, 50])  # of 1,000
    shares = class_shares(np.eye(10)[numbers])
    assert shares[1] == 0.009 and shares[2] == 0.01 and sum(shares) == pytest.approx(1)
    assert missed(shares).tolist() == [0, 1]  # less than 1%


def test_score_as_scipy_has_the_entropy():
    stats = pytest.importorskip("scipy.stats")
    p = np.random.default_rng(0).dirichlet(np.full(10, 0.3), 100)
    np.testing.assert_allclose(entropies(p), stats.entropy(p, axis=1), rtol=1e-12)
    assert classifier_score(p) == pytest.approx(
        exp(stats.entropy(p, p.mean(axis=0), axis=1).mean()), rel=1e-12
    )


# ---- overlap


def test_two_samples_of_one_distribution_of_two_and_copies():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 600, 5))
    assert two_sample_accuracy(x, x + 100) == (1, 1)
    for side in two_sample_accuracy(x, y):
        assert (
            abs(side - 0.5) < 4 * sqrt(0.25 / 600) * 1.5
        )  # they are not independent: nearest neighbours come in pairs
    assert two_sample_accuracy(x, x + 1e-9) == (0, 0)  # copies, all but exact
    real, fake = two_sample_accuracy(x, np.zeros((600, 5)) + x[0])  # collapsed onto one real image
    assert real >= 0.5 and fake == 0.5  # the fakes have a neighbour at 0 on either side


def test_two_samples_as_scikit_learn_has_it():
    neighbors = pytest.importorskip("sklearn.neighbors")
    model_selection = pytest.importorskip("sklearn.model_selection")
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((80, 3)), 0.7 + rng.standard_normal((80, 3))
    sides = np.repeat([0, 1], 80)
    guesses = model_selection.cross_val_predict(
        neighbors.KNeighborsClassifier(1),
        np.vstack([x, y]),
        sides,
        cv=model_selection.LeaveOneOut(),
    )
    right = guesses == sides
    assert two_sample_accuracy(x, y) == (right[:80].mean(), right[80:].mean())


def test_overlap_on_a_line():
    """Real 0, 1, 2, 3: balls (k = 1) of radius 1. Samples 0.5, 1, 9, 10: of 0.5, 0.5, 1, 1."""
    real, fake = np.array([[0.0], [1], [2], [3]]), np.array([[0.5], [1], [9], [10]])
    found = overlap_figures(real, fake, k=1)
    assert found["precision"] == 0.5  # 0.5 and 1
    assert found["density"] == (2 + 3 + 0 + 0) / 4  # surfaces belong to balls
    assert found["recall"] == 0.5  # 0 and 1
    assert found["coverage"] == 0.75  # the ball of 3 is empty
    assert (
        found["two_sample_real"] == (0 + 0 + 0.5 + 1) / 4
        and found["two_sample_fake"] == (0.5 + 0 + 1 + 1) / 4
    )


def test_overlap_of_a_set_with_itself():
    """Each ball holds its centre and k others, to the bit: density (k + 1)/k."""
    x = 10 + np.random.default_rng(0).standard_normal((500, 100))
    found = overlap_figures(x, x.copy(), k=3)
    assert found["precision"] == found["recall"] == found["coverage"] == 1
    assert found["density"] == pytest.approx(4 / 3, rel=1e-12)


def test_overlap_of_equal_distributions():
    rng = np.random.default_rng(1)
    found = overlap_figures(*rng.standard_normal((2, 2000, 2)), k=3)
    assert found["density"] == pytest.approx(1, abs=0.05) and found["coverage"] == pytest.approx(
        1 - 2**-3, abs=0.03
    )
    apart = overlap_figures(rng.standard_normal((100, 2)), 50 + rng.standard_normal((100, 2)))
    assert apart["precision"] == apart["recall"] == apart["density"] == apart["coverage"] == 0


def test_nearest_others_leaves_out_itself_and_no_double():
    rows = np.array(
        [[0.0], [0], [0], [0], [0], [1], [3]]
    )  # of the first, not the five lowest numbers are the others
    np.testing.assert_array_equal(nearest_others(rows, 2), [[0, 0]] * 5 + [[1, 1], [2, 3]])


def test_nearest_others_as_scikit_learn_has_it():
    neighbors = pytest.importorskip("sklearn.neighbors")
    x = np.random.default_rng(2).standard_normal((300, 20))
    distances, _ = neighbors.NearestNeighbors(n_neighbors=3).fit(x).kneighbors()
    np.testing.assert_allclose(nearest_others(x, 3), distances, rtol=1e-9)


# ---- memorisation


def test_a_copy_and_a_mirrored_copy():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 8, 8, 1), np.uint8)
    train, samples = (
        Part(images, np.arange(10, 60)),
        np.stack([images[20], images[30, :, ::-1], 255 - images[40]]),
    )
    distances, theirs = nearest_training_images(samples, train)
    assert distances[0] == 0 and (distances[1:] > 0).all()
    np.testing.assert_array_equal(theirs[0], images[20])
    distances, theirs = nearest_training_images(samples, train, flip=True)
    assert distances[:2].tolist() == [0, 0] and distances[2] > 0
    np.testing.assert_array_equal(theirs[1], samples[1])  # as G was shown it
    wanted = min(
        np.sqrt((((samples[2] / 1.0 - image[:, ::step]) / 255) ** 2).sum())
        for image in images[10:]
        for step in (1, -1)
    )
    assert distances[2] == pytest.approx(wanted, rel=1e-12)


def test_the_picture_shows_the_closest():
    rng = np.random.default_rng(1)
    train, samples, test = (rng.integers(0, 256, (n, 4, 4, 1), np.uint8) for n in (50, 40, 20))
    samples[33] = train[7]
    pairs = [nearest_training_images(images, Part(train)) for images in (samples, test)]
    picture = nearest_picture(samples, pairs[0], test, pairs[1])
    assert picture.shape == (6 * 6 + 2, 16 * 6 + 2, 1)
    cells = (
        picture[2:, 2:].reshape(6, 6, 16, 6, 1).transpose(0, 2, 1, 3, 4)[:, :, :4, :4]
    )  # rows, columns, pixels
    np.testing.assert_array_equal(cells[0], samples[:16])
    np.testing.assert_array_equal(cells[1], pairs[0][1][:16])
    np.testing.assert_array_equal(cells[2, 0], samples[33])
    np.testing.assert_array_equal(cells[3, 0], train[7])
    np.testing.assert_array_equal(cells[4, 0], test[pairs[1][0].argmin()])
