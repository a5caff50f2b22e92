"""A process group: what follows from its verbs, and the group of one process."""

import numpy as np
import pytest

import minigan as mg
from minigan.parallel.group import Group


class Simulated(Group):
    """One of several processes; `others` are the arrays that these contribute."""

    def __init__(self, rank, size, others=()):
        self.rank, self.size, self.others = rank, size, list(others)

    def all_reduce(self, array):
        self.contributed = array.copy()
        for other in self.others:
            array += other


@pytest.mark.parametrize("size", (1, 2, 3, 5))
@pytest.mark.parametrize("n", (5, 6, 17))
def test_shards_cover_the_batch_in_order(size, n):
    batch = np.arange(2 * n).reshape(n, 2)
    shards = [Simulated(rank, size).shard(batch) for rank in range(size)]
    np.testing.assert_array_equal(np.concatenate(shards), batch)
    assert all(np.shares_memory(shard, batch) for shard in shards)
    lengths = [len(shard) for shard in shards]
    assert max(lengths) - min(lengths) <= 1


def test_a_mean_is_weighted_by_rows():
    group = Simulated(0, 2, [np.array([4, 4 * 5.0])])
    value, weight = group.mean(np.float32(2.0), 12)
    assert value == (12 * 2 + 4 * 5) / 16 and type(value) is np.float32
    assert weight == 12 / 16


@pytest.mark.parametrize("dtype, rtol", (("float32", 1e-6), ("float64", 1e-12)))
def test_statistics_of_all_rows(dtype, rtol):
    x = np.random.default_rng(0).normal(3, [1, 2, 0.5], (20, 3)).astype(dtype)
    parts = x[:7], x[7:]
    groups = [Simulated(0, 2), Simulated(1, 2)]
    for group, rows in zip(groups, parts, strict=True):  # what each contributes
        group.sync_batchnorm(rows.mean(axis=0), rows.var(axis=0), len(rows))
    for group, other, rows in zip(groups, groups[::-1], parts, strict=True):
        group.others = [other.contributed]
        mean, var = rows.mean(axis=0), rows.var(axis=0)
        assert group.sync_batchnorm(mean, var, len(rows)) == 20
        np.testing.assert_allclose(mean, x.mean(axis=0, dtype=np.float64), rtol=rtol)
        np.testing.assert_allclose(var, x.var(axis=0, dtype=np.float64), rtol=rtol)


def test_no_variance_is_negative():
    """A channel that is constant, far from 0: rounding must not make its variance negative."""
    x = np.random.default_rng(0).uniform(100, 1000, 500)  # of as many channels
    groups = [Simulated(0, 2), Simulated(1, 2)]
    for group, n in zip(groups, (7, 6), strict=True):
        group.sync_batchnorm(x.copy(), np.zeros_like(x), n)
    groups[0].others = [groups[1].contributed]
    mean, var = x.copy(), np.zeros_like(x)
    groups[0].sync_batchnorm(mean, var, 7)
    np.testing.assert_allclose(mean, x, rtol=1e-12)
    assert var.min() == 0 < var.max() < 1e-8, "half of them are rounded down"


def test_one_process_has_nothing_to_exchange():
    group, x = Group(), np.arange(3.0)
    assert (group.rank, group.size) == (0, 1)
    group.all_reduce(x)
    group.barrier()
    np.testing.assert_array_equal(x, [0, 1, 2])
    np.testing.assert_array_equal(group.all_gather(x), [[0, 1, 2]])
    assert group.shard(x) is not None and len(group.shard(x)) == 3
    assert group.mean(np.float32(2), 5) == (2, 1.0)
    mean, var = np.full(2, 3.0), np.full(2, 4.0)
    assert group.sync_batchnorm(mean, var, 9) == 9
    assert mean.tolist() == [3, 3] and var.tolist() == [4, 4]
    with pytest.raises(mg.BackendError, match="a reason"):
        group.abort("a reason")
