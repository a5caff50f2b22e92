"""Chunks of a batch, and sums over them."""

import numpy as np
import pytest

import minigan as mg
from minigan.backends.cpu import chunks
from minigan.backends.workspace import Workspace


@pytest.fixture
def backend():
    return mg.get_backend("numpy", "float64")


@pytest.mark.parametrize("n", (1, 2, 7, 64, 100))
@pytest.mark.parametrize("images", (1, 3, 1000))
@pytest.mark.parametrize("workers", (1, 2, 3))
def test_chunks_cover_the_batch_in_order(n, images, workers):
    parts = chunks.chunks(n, images, workers)
    assert [i for part in parts for i in range(part.start, part.stop)] == list(range(n))
    sizes = [part.stop - part.start for part in parts]
    assert max(sizes) <= images and min(sizes) >= 1 and max(sizes) - min(sizes) <= 1
    assert len(parts) % workers == 0 or len(parts) == n, "equally many for each worker"


def test_a_frame_is_zero_where_nobody_writes(backend):
    workspace = chunks.ThreadWorkspace(backend)
    frame = workspace.frame("a", (2, 4, 4), np.float64)
    frame[:, 1:3, 1:3] = 7
    smaller = workspace.frame("a", (1, 4, 4), np.float64)
    assert np.shares_memory(frame, smaller) and smaller.sum() == 4 * 7
    larger = workspace.frame("a", (3, 4, 4), np.float64)
    assert not larger.any()
    assert not np.shares_memory(workspace.frame("a", (1, 4, 5), np.float64), larger)


def test_sums_over_rows(backend):
    rows, out = np.random.default_rng(0).standard_normal((50, 3)), np.empty(3)
    workspace = chunks.ThreadWorkspace(backend)
    for count in (7, 50, 20):
        chunks.column_sums(rows[:count], out, workspace)
        np.testing.assert_allclose(out, rows[:count].sum(axis=0), rtol=1e-12)
        chunks.column_sums(rows[:count:3], out, workspace)
        np.testing.assert_allclose(out, rows[:count:3].sum(axis=0), rtol=1e-12)


@pytest.mark.parametrize("m", (1, 511, 512, 1023, 1024, 1025, 40_001, 300_007))
@pytest.mark.parametrize("c", (1, 3, 8))
def test_long_columns_keep_the_digits_of_float32(m, c):
    """A product with ones alone loses three of them, as a float32 sum of NumPy over rows does."""
    workspace = chunks.ThreadWorkspace(mg.get_backend("numpy"))
    for rows in (
        np.full((m, c), 100.3, np.float32),
        np.random.default_rng(0).exponential(1, (m, c)).astype(np.float32),
    ):
        out = np.full(c, np.nan)
        chunks.column_sums(rows, out, workspace)
        eps = np.finfo(np.float32).eps
        np.testing.assert_allclose(out, rows.sum(axis=0, dtype=np.float64), rtol=32 * eps)


def test_rows_and_copies_in_the_memory_of_a_block(backend):
    memory, vector = Workspace(backend), np.array([1.0, 2.0])
    assert chunks.tile_row(vector, "row", 3, memory).tolist() == [1, 2, 1, 2, 1, 2]
    array = np.arange(12.0).reshape(3, 4)
    assert chunks.contiguous(array, "x", memory) is array
    copy = chunks.contiguous(array.T, "x", memory)
    assert copy.flags.c_contiguous and copy.tolist() == array.T.tolist()
    assert np.shares_memory(copy, chunks.contiguous(array.T, "x", memory))
