"""The engine for one machine: verbs with real processes, and barriers that are all needed."""

import inspect
import os
import signal
import textwrap
import time

import numpy as np
import pytest

import minigan as mg
from minigan.parallel import shared_memory
from minigan.parallel.shared_memory import SMALL, SharedMemoryGroup, can_fork
from tests.support import far_from_zero
from tests.support.processes import run_in_group, wait_for_end

pytestmark = pytest.mark.skipif(not can_fork(), reason="processes cannot be forked here")


@pytest.fixture(autouse=True)
def quick_checks(monkeypatch):
    """A process that is gone is noticed sooner."""
    monkeypatch.setattr(shared_memory, "SLEEP", 0.05)


def contribution(rank, call, size, dtype="float64"):
    return np.random.default_rng([rank, call]).standard_normal(size).astype(dtype)


CALLS = [  # shape, dtype: small arrays, which are exchanged as a whole, and large ones, in parts
    (shape, dtype)
    for shape in ((3,), (2, 5), (SMALL // 8 + 1,), (7, 3001), (1,))
    for dtype in ("float32", "float64")
]


@pytest.mark.parametrize("size", (2, 3, 4))
def test_sums_and_tables_are_the_same_everywhere(size):
    def work(group):
        found = []
        for call, (shape, dtype) in enumerate(CALLS):
            array = contribution(group.rank, call, shape, dtype)
            group.all_reduce(array)
            table = group.all_gather(contribution(group.rank, call, 4, dtype))
            found += [array.ravel(), table.flatten()]
        return np.concatenate(found)

    results = run_in_group(size, work)
    assert all(np.array_equal(result, results[0]) for result in results)
    at = 0
    for call, (shape, dtype) in enumerate(CALLS):
        arrays = [contribution(rank, call, shape, dtype) for rank in range(size)]
        table = np.stack([contribution(rank, call, 4, dtype) for rank in range(size)])
        total = np.sum(arrays, axis=0, dtype=np.float64).ravel()
        found, at = results[0][at : at + total.size], at + total.size
        np.testing.assert_allclose(found, total, rtol=0, atol=20 * np.finfo(dtype).eps)
        found, at = results[0][at : at + table.size], at + table.size
        np.testing.assert_array_equal(found, table.ravel())


class Slow(SharedMemoryGroup):
    """Process 1 comes late to every exchange, and is slow after every barrier."""

    def pause(self):
        if self.rank == 1:
            time.sleep(0.005)

    def barrier(self):
        super().barrier()
        self.pause()


def exchange(group):
    """Several exchanges in a row -> their results"""
    found = []
    for call in range(3):
        group.pause()
        found.append(group.all_gather(contribution(group.rank, call, 4)).ravel())
    # drawn before: while process 0 draws, process 1 would have the time to catch up
    for array in [contribution(group.rank, call, SMALL // 8) for call in range(3)]:
        group.pause()
        group.all_reduce(array)
        found.append(array[:: SMALL // 128])
    return np.concatenate(found)


def without(method, n, text="self.barrier()"):
    """-> method of SharedMemoryGroup without the n-th line that has this text"""
    lines = textwrap.dedent(inspect.getsource(getattr(SharedMemoryGroup, method))).splitlines()
    found = [i for i, line in enumerate(lines) if text in line]
    lines[found[n]] = lines[found[n]].replace(text, "pass")
    namespace = dict(vars(shared_memory))
    exec("\n".join(lines), namespace)
    return namespace[method]


MUTANTS = {
    "no barrier before a table is read": ("all_gather", 0, "self.barrier()"),
    "one table for all calls": ("all_gather", 0, "self.parity = 1 - self.parity"),
    "no barrier before parts are written": ("all_reduce", 0, "self.barrier()"),
    "no barrier before parts are added": ("all_reduce", 1, "self.barrier()"),
    "no barrier before the sum is read": ("all_reduce", 2, "self.barrier()"),
}


@pytest.mark.parametrize("mutant", [None, *MUTANTS])
def test_no_barrier_can_be_left_out(mutant, monkeypatch):
    if mutant:
        method, n, text = MUTANTS[mutant]
        monkeypatch.setattr(SharedMemoryGroup, method, without(method, n, text))
    results = run_in_group(2, exchange, make_group=Slow)
    monkeypatch.undo()
    tables = [np.stack([contribution(rank, call, 4) for rank in (0, 1)]) for call in range(3)]
    sums = [sum(contribution(rank, call, SMALL // 8) for rank in (0, 1)) for call in range(3)]
    expected = [*(table.ravel() for table in tables), *(each[:: SMALL // 128] for each in sums)]
    is_right = all(np.array_equal(result, np.concatenate(expected)) for result in results)
    assert is_right == (mutant is None)


@pytest.mark.parametrize("kind", far_from_zero.KINDS)
@pytest.mark.parametrize("fused", (pytest.param(False, marks=pytest.mark.slow), True))
def test_two_processes_normalize_numbers_far_from_zero(kind, fused):
    """Each has half of the batch; together they give what float64 does in one."""
    x, dy = far_from_zero.numbers(kind, (31, 8, 8, 3))

    def work(group):
        backend = mg.get_backend("numpy", threads=1)
        backend.group = group
        net = far_from_zero.network(x.shape[1:], backend, fused)
        found = far_from_zero.passes(net, group.shard(x), group.shard(dy))
        return np.concatenate([found[name].ravel() for name in sorted(found)])

    parts = run_in_group(2, work)
    net = far_from_zero.network(x.shape[1:], mg.get_backend("plain"), fused)
    found, at = far_from_zero.passes(net, x, dy), [0, 0]
    for name in sorted(found):  # replace what one process found by what the two did
        rows = []
        for rank, part in enumerate(parts):
            shape = found[name].shape
            if name in ("y", "dx"):
                shape = (len(x) * (rank + 1) // 2 - len(x) * rank // 2, *shape[1:])
            size = int(np.prod(shape))
            rows.append(part[at[rank] : at[rank] + size].reshape(shape))
            at[rank] += size
        if name in ("y", "dx"):
            found[name] = np.concatenate(rows)
        elif name.startswith("running"):
            found[name] = rows[0]
            np.testing.assert_array_equal(*rows)
        else:
            found[name] = sum(rows)
    far_from_zero.expect_exact(found, x, dy, fused)


@pytest.mark.parametrize("size", (2, 3))
def test_batchnorm_over_all_rows_far_from_zero(size):
    """Mean 10,000, deviation 0.01, of uneven shards: as exact as one process."""
    x = np.random.default_rng(0).normal(1e4, 0.01, (1000, 4))

    def work(group):
        rows = group.shard(x)
        mean, var = rows.mean(axis=0), rows.var(axis=0)
        assert group.sync_batchnorm(mean, var, len(rows)) == len(x)
        return np.concatenate([mean, var])

    results = run_in_group(size, work)
    assert all(np.array_equal(result, results[0]) for result in results)
    mean, var = np.split(results[0], 2)
    np.testing.assert_allclose(mean, x.mean(axis=0), rtol=1e-14)
    # float64 rounds the means by 1e-12, times twice their distance of about 1e-3
    np.testing.assert_allclose(var, x.var(axis=0), rtol=1e-9)


def test_a_group_starts_and_stops_again_and_again():
    group, children = SharedMemoryGroup(2, 100), []
    assert not group.is_alive()
    for _ in range(3):
        group.start(group.barrier)
        children += group.children
        assert group.is_alive() and len(group.children) == 1
        for _ in range(2):
            group.begin_step()
            group.barrier()
        group.stop()
        assert not group.children and not group.is_alive()
    assert len(set(children)) == 3 and all(wait_for_end(child) for child in children)


def test_a_process_that_is_gone_is_noticed_at_the_next_barrier():
    group = SharedMemoryGroup(2, 100)
    group.start(group.barrier)
    os.kill(group.children[0], signal.SIGKILL)
    group.begin_step()
    with pytest.raises(mg.BackendError, match="process 1 of 2 ended during a step"):
        group.barrier()
    group.stop()


def test_a_forked_child_leaves_its_parents_group_alone():
    """A user's own fork ends, and its copy of the group with it: the processes stay."""
    group = SharedMemoryGroup(2, 100)
    group.start(group.barrier)
    child = os.fork()
    if child == 0:
        group.stop()
        os._exit(0 if not group.children else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert group.is_alive()
    group.begin_step()
    group.barrier()
    group.stop()


def test_memory_starts_as_zeros():
    array = shared_memory.shared_memory((3, 2), np.float32)
    assert array.shape == (3, 2) and array.dtype == np.float32 and not array.any()
    assert shared_memory.shared_memory((0, 2), np.int32).shape == (0, 2)


@pytest.mark.parametrize("error", (FileNotFoundError(2, "No such file"), ImportError("no _sem")))
def test_without_semaphores_nothing_is_forked(error, monkeypatch):
    def refuse(*arguments, **options):
        raise error

    monkeypatch.setattr("multiprocessing.synchronize.SemLock.__init__", refuse)
    assert not can_fork()


@pytest.mark.parametrize("platform", ("darwin", "win32"))
def test_only_linux_forks(platform, monkeypatch):
    monkeypatch.setattr(shared_memory.sys, "platform", platform)
    assert not can_fork()
