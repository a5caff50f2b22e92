"""Nearest neighbors against a plain loop: exact, including ties, for any tile size."""

import tracemalloc

import numpy as np
import pytest

import minigan as mg
from minigan.evaluation import neighbors
from minigan.evaluation.neighbors import balls_around, nearest
from tests.support.refusals import refusal


def brute(queries, corpus, k):
    """Every distance in float64, sorted by distance and then by index."""
    squares = np.array(
        [[((q.astype(float) - c.astype(float)) ** 2).sum() for c in corpus] for q in queries]
    )
    order = np.lexsort((np.broadcast_to(np.arange(len(corpus)), squares.shape), squares))[:, :k]
    return np.sqrt(np.take_along_axis(squares, order, axis=1)), order


@pytest.fixture(params=(None, (1, 1), (3, 7), (5, 64)), ids=str)
def tiles(request, monkeypatch):
    """Tiles with this many rows of queries and of the corpus; None: the usual ones."""
    if request.param:
        monkeypatch.setattr(neighbors, "QUERIES", request.param[0])
        monkeypatch.setattr(neighbors, "CORPUS", request.param[1])
        monkeypatch.setattr(neighbors, "PAIRS", 100)


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
    for query, found, distance in zip(few, indices, distances, strict=True):
        copies = np.flatnonzero((corpus == query).all(axis=(1, 2, 3)))
        assert found.tolist() == copies[:4].tolist() and not distance.any()
    _, indices = nearest(few * 0, np.zeros((30, 2, 2, 1), np.uint8), 30)
    np.testing.assert_array_equal(indices, [range(30)] * 3)


@pytest.mark.parametrize("k", (1, 3, 20))
def test_differences_that_float32_cannot_see(k, tiles):
    """Norms of 8,000 and distances of 0.001: the product alone would choose at random.

    Rows on both sides of 0, so that no center makes them shorter.
    """
    rng = np.random.default_rng(0)
    base = 1000 + rng.standard_normal(64)
    steps = rng.permutation(40)
    near = np.stack([base + 1e-4 * step for step in steps])
    distances, indices = nearest(base[None] - 1e-5, np.concatenate([near, -near]), k)
    np.testing.assert_array_equal(steps[indices[0]], np.arange(k))
    np.testing.assert_allclose(distances[0], 8 * (1e-4 * np.arange(k) + 1e-5), rtol=1e-6)


def test_memory_does_not_grow_with_the_corpus(monkeypatch):
    monkeypatch.setattr(neighbors, "CORPUS", 256)
    rng, peaks = np.random.default_rng(0), []
    for count in (1000, 8000):
        corpus = rng.integers(0, 256, (count, 50), np.uint8)
        tracemalloc.start()
        nearest(corpus[:50], corpus)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0] + 10_000, peaks


def test_no_queries():
    distances, indices = nearest(np.zeros((0, 3)), np.zeros((5, 3)), 2)
    assert distances.shape == indices.shape == (0, 2)


ZEROS = np.zeros((4, 3))


@pytest.mark.parametrize("queries, corpus", ((np.nan, 0), (0, np.inf), (1e25, 0)))
def test_numbers_that_cannot_be_compared(queries, corpus):
    line = refusal(nearest, ZEROS + queries, ZEROS + corpus, kind=mg.ArrayTypeError)
    assert "expected finite numbers of sensible size" in line and "more than 1e18" in line


@pytest.mark.parametrize("kind", ("uint8", "float64"))
def test_balls_as_a_plain_loop(kind, tiles):
    """On a coarse grid many lie on a surface, which belongs to the ball."""
    rng = np.random.default_rng(0)
    queries, corpus = (rng.integers(0, 4, (n, 5)).astype(kind) for n in (30, 50))
    radii = np.sqrt(rng.integers(0, 20, 50).astype(float))
    squares = ((queries[:, None].astype(float) - corpus[None].astype(float)) ** 2).sum(axis=2)
    assert (np.sqrt(squares) == radii).any()
    np.testing.assert_array_equal(
        balls_around(queries, corpus, radii), (np.sqrt(squares) <= radii).sum(axis=1)
    )


def test_a_ball_contains_the_neighbor_that_defines_its_radius():
    """And no longer if it is smaller by the last bit, for norms that are 10,000 times distances."""
    rows = 100 + 0.01 * np.random.default_rng(0).standard_normal((100, 64))
    rows = np.concatenate([rows, -rows])  # no center makes these shorter
    distances, indices = nearest(rows, rows, 4)
    for smaller, radii in ((0, distances[:, -1]), (1, np.nextafter(distances[:, -1], 0))):
        counts = np.zeros(200, int)
        for found in indices:
            counts[found[: 4 - smaller]] += 1  # the center of a ball, and its neighbors
        np.testing.assert_array_equal(balls_around(rows, rows, radii), counts)
