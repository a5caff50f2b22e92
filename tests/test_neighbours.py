"""Nearest neighbours against a plain loop: exact, ties and all, whatever the tiles."""

import tracemalloc

import numpy as np
import pytest

import minigan as mg
from minigan.evaluation import neighbours
from minigan.evaluation.neighbours import balls_around, nearest


def brute(queries, corpus, k):
    """Every distance in float64, sorted by distance and then by index."""
    squares = np.array(
        [[((q.astype(float) - c.astype(float)) ** 2).sum() for c in corpus] for q in queries]
    )
    order = np.lexsort((np.broadcast_to(np.arange(len(corpus)), squares.shape), squares))[:, :k]
    return np.sqrt(np.take_along_axis(squares, order, axis=1)), order


@pytest.fixture(params=(None, (1, 1), (3, 7), (5, 64)), ids=str)
def tiles(request, monkeypatch):
    """Tiles of these rows; None: as they are."""
    if request.param:
        monkeypatch.setattr(neighbours, "QUERIES", request.param[0])
        monkeypatch.setattr(neighbours, "CORPUS", request.param[1])
        monkeypatch.setattr(neighbours, "PAIRS", 100)


@pytest.mark.parametrize("k", (1, 2, 5))
@pytest.mark.parametrize("kind", ("uint8", "float32", "float64"))
@pytest.mark.parametrize("shape", ((6,), (5, 4, 3)))
def test_as_a_plain_loop(shape, kind, k, tiles):
    rng = np.random.default_rng(0)
    queries, corpus = (rng.integers(0, 256, (n, *shape)).astype(kind) for n in (11, 40))
    distances, indices = nearest(queries, corpus, k)
    wanted, order = brute(queries, corpus, k)
    assert distances.dtype == np.float64 and indices.dtype == np.int64
    np.testing.assert_array_equal(indices, order)
    np.testing.assert_array_equal(distances, wanted)  # whole numbers below 2**53: no rounding


def test_ties_go_to_the_lower_index(tiles):
    rng = np.random.default_rng(0)
    few = rng.integers(0, 256, (3, 2, 2, 1), np.uint8)
    corpus = few[rng.integers(0, 3, 50)]  # each image many times
    distances, indices = nearest(few, corpus, 4)
    for query, found, apart in zip(few, indices, distances, strict=True):
        assert (
            found.tolist() == np.flatnonzero((corpus == query).all(axis=(1, 2, 3)))[:4].tolist()
            and not apart.any()
        )
    _, indices = nearest(few[:, :, :, :] * 0, np.zeros((30, 2, 2, 1), np.uint8), 30)
    np.testing.assert_array_equal(indices, [range(30)] * 3)


def test_differences_that_float32_cannot_see(tiles):
    """Rows that are long and nearly the same: the product alone would put them in any order."""
    rng = np.random.default_rng(0)
    base = 1000 + rng.standard_normal(64)
    steps = rng.permutation(20)
    corpus = np.stack([base + 1e-4 * step for step in steps])
    distances, indices = nearest(base[None] - 1e-5, corpus, 20)
    np.testing.assert_array_equal(steps[indices[0]], np.arange(20))
    np.testing.assert_allclose(distances[0], 8 * (1e-4 * np.arange(20) + 1e-5), rtol=1e-6)


def test_memory_does_not_grow_with_the_corpus(monkeypatch):
    monkeypatch.setattr(neighbours, "CORPUS", 256)
    rng, peaks = np.random.default_rng(0), []
    for count in (1000, 16000):
        corpus = rng.integers(0, 256, (count, 100), np.uint8)
        tracemalloc.start()
        nearest(corpus[:50], corpus)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0] + 10_000, peaks


def test_no_queries():
    distances, indices = nearest(np.zeros((0, 3)), np.zeros((5, 3)), 2)
    assert distances.shape == indices.shape == (0, 2)


@pytest.mark.parametrize(
    "queries, corpus, k, error, words",
    (
        (
            np.zeros((2, 3)),
            np.zeros((4, 5)),
            1,
            mg.ShapeError,
            "of the same shape, got (2, 3) and (4, 5)",
        ),
        (np.zeros(3), np.zeros((4, 3)), 1, mg.ShapeError, "queries (n, ...)"),
        (np.zeros((2, 0)), np.zeros((4, 0)), 1, mg.ShapeError, "got (2, 0) and (4, 0)"),
        (np.zeros((2, 3)), np.zeros((4, 3)), 5, mg.ShapeError, "a corpus of 5 or more rows"),
        (
            np.zeros((2, 3)),
            np.zeros((4, 3)),
            0,
            mg.ConfigError,
            "k must be a whole number of at least 1",
        ),
        (
            np.zeros((2, 3)),
            np.zeros((4, 3), np.uint8),
            1,
            mg.ArrayTypeError,
            "got float64 and uint8",
        ),
        (
            np.zeros((2, 3), int),
            np.zeros((4, 3), int),
            1,
            mg.ArrayTypeError,
            "expected both as uint8, or both as floats",
        ),
        (
            np.full((2, 3), np.nan),
            np.zeros((4, 3)),
            1,
            mg.ArrayTypeError,
            "expected finite numbers",
        ),
        (
            np.zeros((2, 3)),
            np.full((4, 3), np.inf),
            1,
            mg.ArrayTypeError,
            "expected finite numbers",
        ),
        (np.full((2, 3), 1e25), np.zeros((4, 3)), 1, mg.ArrayTypeError, "expected finite numbers"),
    ),
)
def test_mistakes(queries, corpus, k, error, words):
    with pytest.raises(error) as caught:
        nearest(queries, corpus, k)
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ("uint8", "float64"))
def test_balls_as_a_plain_loop(kind, tiles):
    """On a coarse grid very many lie on a surface, which belongs to the ball."""
    rng = np.random.default_rng(0)
    queries, corpus = (rng.integers(0, 4, (n, 5)).astype(kind) for n in (30, 50))
    radii = np.sqrt(rng.integers(0, 20, 50).astype(float))
    squares = ((queries[:, None].astype(float) - corpus[None].astype(float)) ** 2).sum(axis=2)
    assert (np.sqrt(squares) == radii).any()
    np.testing.assert_array_equal(
        balls_around(queries, corpus, radii), (np.sqrt(squares) <= radii).sum(axis=1)
    )


def test_a_ball_reaches_the_neighbour_that_it_was_measured_by():
    """To the bit, for rows whose products are a thousand times as large as their distances."""
    rows = 100 + 0.01 * np.random.default_rng(0).standard_normal((200, 64))
    distances, indices = nearest(rows, rows, 4)
    counts = np.zeros(200, int)
    for i in range(200):
        counts[indices[i]] += 1  # itself, and the three that lie in its ball
    np.testing.assert_array_equal(balls_around(rows, rows, distances[:, -1]), counts)


@pytest.mark.parametrize("radii", (np.zeros(3), np.full(4, np.inf), np.full(4, np.nan)))
def test_balls_need_radii(radii):
    with pytest.raises(mg.ShapeError, match="a finite radius for each of 4 rows"):
        balls_around(np.zeros((2, 3)), np.zeros((4, 3)), radii)
