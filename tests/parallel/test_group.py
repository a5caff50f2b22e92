"""A process group: what follows from its verbs, and the group of one process."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

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


class Thread(Group):
    """One of several threads that take the part of processes."""

    def __init__(self, rank, size, meet, arrays):
        self.rank, self.size, self.meet, self.arrays = rank, size, meet, arrays

    def broadcast(self, array, root):
        if self.rank == root:
            self.arrays[0] = array
        self.meet.wait()
        received = self.arrays[0]
        self.meet.wait()
        return received


@pytest.mark.parametrize("size", (1, 2, 3, 5))
@pytest.mark.parametrize("count", (0, 1, 4, 6))
def test_jobs_are_done_once_and_all_have_the_results_in_order(size, count):
    meet, arrays, done, asked = Barrier(size), [None], [], [0] * size

    def work(rank):
        group, drawn = Thread(rank, size, meet, arrays), np.random.default_rng(7)

        def job(i, z):
            done.append((i, rank))
            return np.full(i + 1, z)  # of any shape

        def jobs():
            for i in range(count):
                asked[rank] += 1
                z = drawn.standard_normal()  # all go through one random stream
                yield lambda i=i, z=z: job(i, z)

        results = []
        for i, result in enumerate(group.in_order(jobs())):
            assert asked[rank] <= i + size, "no more than a round is on the way"
            results.append(result)
        return results

    with ThreadPoolExecutor(size) as pool:
        found = list(pool.map(work, range(size)))
    z = np.random.default_rng(7).standard_normal(count)
    for results in found:
        assert len(results) == count
        for i, result in enumerate(results):
            np.testing.assert_array_equal(result, np.full(i + 1, z[i]))
    assert sorted(done) == [(i, i % size) for i in range(count)]


@pytest.mark.parametrize("size", (1, 2, 3, 5))
@pytest.mark.parametrize("n", (5, 6, 17))
def test_shards_cover_the_batch_in_order(size, n):
    batch = np.arange(2 * n).reshape(n, 2)
    shards = [Simulated(rank, size).shard(batch) for rank in range(size)]
    np.testing.assert_array_equal(np.concatenate(shards), batch)
    assert all(np.shares_memory(shard, batch) for shard in shards)
    lengths = [len(shard) for shard in shards]
    assert max(lengths) - min(lengths) <= 1


def test_a_total_is_the_sum_of_uneven_parts():
    group = Group()
    group.size = 3
    group.all_gather = lambda values: np.stack([values, values + 1, values + 1])
    assert group.total(4) == 14


def test_a_mean_is_weighted_by_rows():
    group = Simulated(0, 2, [np.array([4, 4 * 5.0])])
    value, weight = group.mean(np.float32(2.0), 12)
    assert value == (12 * 2 + 4 * 5) / 16 and type(value) is np.float32
    assert weight == 12 / 16


class InThreads(Group):
    """One of several processes, played by threads; `table` and `meet` are common to all."""

    def __init__(self, rank, size, table, meet):
        self.rank, self.size, self.table, self.meet = rank, size, table, meet

    def all_reduce(self, array):
        self.table[self.rank] = array.copy()
        self.meet.wait()
        array[...] = sum(self.table)
        self.meet.wait()


def statistics_of(parts):
    """Shards of a batch -> mean and variance of all, as each process has them."""
    table, meet = [None] * len(parts), Barrier(len(parts), timeout=30)

    def work(rank):
        rows = parts[rank].astype(np.float64)
        mean, var, group = (
            rows.mean(axis=0),
            rows.var(axis=0),
            InThreads(rank, len(parts), table, meet),
        )
        assert group.sync_batchnorm(mean, var, len(rows)) == sum(map(len, parts))
        return mean, var

    with ThreadPoolExecutor(len(parts)) as pool:
        return list(pool.map(work, range(len(parts))))


@pytest.mark.parametrize("mean", (0.0, 3.0, 1e4, -1e6))
@pytest.mark.parametrize("cuts", ((7,), (1, 2, 15)))
def test_statistics_of_all_rows(mean, cuts):
    """Float64 loses no digit that float32 could show, however far from 0 the mean is."""
    x = np.random.default_rng(0).normal(mean, [1, 2, 0.01], (20, 3))
    for found_mean, found_var in statistics_of(np.split(x, cuts)):
        np.testing.assert_allclose(found_mean, x.mean(axis=0), rtol=1e-14, atol=1e-14)
        # a float64 near `mean` is rounded by eps·mean, and so are differences of these
        eps = np.finfo(np.float64).eps
        np.testing.assert_allclose(found_var, x.var(axis=0), rtol=1e-13, atol=8 * eps * abs(mean))


def test_a_constant_has_no_variance():
    x = np.random.default_rng(0).uniform(100, 1000, 500)  # of as many channels
    for mean, var in statistics_of([np.tile(x, (n, 1)) for n in (7, 6)]):
        np.testing.assert_allclose(mean, x, rtol=1e-15)
        assert var.min() >= 0 and var.max() < 1e-24, "the square of a rounding error"


def test_one_process_has_nothing_to_exchange():
    group, x = Group(), np.arange(3.0)
    assert (group.rank, group.size) == (0, 1)
    group.all_reduce(x)
    group.barrier()
    np.testing.assert_array_equal(x, [0, 1, 2])
    np.testing.assert_array_equal(group.all_gather(x), [[0, 1, 2]])
    np.testing.assert_array_equal(group.shard(x), [0, 1, 2])
    assert group.total(4) == 4
    assert group.mean(np.float32(2), 5) == (2, 1.0)
    mean, var = np.full(2, 3.0), np.full(2, 4.0)
    assert group.sync_batchnorm(mean, var, 9) == 9
    assert mean.tolist() == [3, 3] and var.tolist() == [4, 4]
    with pytest.raises(mg.BackendError, match="a reason"):
        group.abort("a reason")
