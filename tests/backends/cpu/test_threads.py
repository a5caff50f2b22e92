"""The team of threads: fixed shares, errors, forks, and BLAS held to one thread."""

import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import minigan as mg
from minigan.backends.cpu import threads


@pytest.mark.parametrize("size", (1, 2, 3, 5))
@pytest.mark.parametrize("count", (1, 2, 3, 7))
def test_shares_depend_on_numbers_alone(size, count):
    shares = []
    for _ in range(3):
        done = []
        threads.Team(size).run(lambda i, worker, done=done: done.append((i, worker)), count)
        assert sorted(i for i, _ in done) == list(range(count))
        shares.append(dict(done))
    assert shares[0] == shares[1] == shares[2]


def test_a_team_of_one_does_all_in_order():
    done = []
    threads.Team(1).run(lambda i, worker: done.append((i, worker)), 3)
    assert done == [(0, 0), (1, 0), (2, 0)]


@pytest.mark.parametrize("where", (0, 3))
def test_an_error_of_any_worker_is_raised_once_all_have_stopped(where):
    team, done = threads.Team(2), []

    def work(i, worker):
        if i == where:
            raise ValueError(f"in chunk {i}")
        done.append(i)

    for _ in range(2):
        with pytest.raises(ValueError, match=f"in chunk {where}"):
            team.run(work, 4)
    done.clear()
    team.run(lambda i, worker: done.append(i), 4)  # the team still works
    assert sorted(done) == [0, 1, 2, 3]


def test_of_two_errors_the_lowest_workers_is_raised():
    """Even if it comes last."""

    def work(i, worker):
        if worker == 1:
            time.sleep(0.02)
        if worker:
            raise ValueError(f"of worker {worker}")

    with pytest.raises(ValueError, match="of worker 1"):
        threads.Team(3).run(work, 3)


def test_ctrl_c_while_waiting_does_not_hang(monkeypatch):
    """It may come when an answer is taken from the queue, and not yet counted."""
    team, raised, interrupts = threads.Team(2), [], [KeyboardInterrupt]
    team.run(lambda i, worker: None, 2)

    class Interrupted(threads.SimpleQueue):
        def get(self):
            super().get()
            raise interrupts.pop()

    def run():
        with pytest.raises(KeyboardInterrupt):
            team.run(lambda i, worker: None, 2)
        raised.append(True)

    monkeypatch.setattr(threads, "SimpleQueue", Interrupted)
    runner = threading.Thread(target=run, daemon=True)
    runner.start()
    runner.join(20)
    assert raised


def test_a_run_that_ctrl_c_ended_leaves_the_team_at_full_size():
    team, workers = threads.Team(2), set()
    team.busy.acquire()  # as after a Ctrl-C just behind it
    team.run(lambda i, worker: workers.add(threading.get_ident()), 2)
    assert len(workers) == 2


def test_runs_within_runs_and_side_by_side():
    team, sums = threads.get_team(2), np.zeros((4, 3))

    def outer(i, worker):
        team.run(lambda j, _: np.add(sums[i, j : j + 1], i + j, out=sums[i, j : j + 1]), 3)

    callers = [threading.Thread(target=team.run, args=(outer, 4)) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(20)
    np.testing.assert_array_equal(sums, 4 * np.add.outer(np.arange(4.0), np.arange(3.0)))


def test_threads_handle_floating_point_errors_as_their_caller_does():
    def divide(i, worker):
        np.divide(np.ones(3), np.zeros(3))

    team = threads.Team(2)
    with np.errstate(divide="ignore"):
        team.run(divide, 4)
    with np.errstate(divide="raise"), pytest.raises(FloatingPointError):
        team.run(divide, 4)


@pytest.mark.skipif(threads.blas.get is None, reason="NumPy here is not built on OpenBLAS")
def test_blas_is_restored():
    before, seen = threads.blas.get(), []
    threads.Team(2).run(lambda i, worker: seen.append(threads.blas.get()), 2)
    assert seen == [1, 1] and threads.blas.get() == before
    with pytest.raises(ZeroDivisionError):
        threads.Team(2).run(lambda i, worker: 1 / 0, 2)
    assert threads.blas.get() == before


class FakeBlas:
    """A BLAS library with 8 threads: for the whole process, or for each thread by itself."""

    def __init__(self, get_name, set_name, is_local=False):
        counts = threading.local() if is_local else SimpleNamespace()

        def set_count(count):
            counts.count = count

        setattr(self, get_name, lambda: getattr(counts, "count", 8))
        setattr(self, set_name, set_count)


@pytest.mark.parametrize(
    "get_name, set_name, is_local",
    (
        ("MKL_Get_Max_Threads", "MKL_Set_Num_Threads", False),
        ("bli_thread_get_num_threads", "bli_thread_set_num_threads", False),
        ("bli_thread_get_num_threads", "bli_thread_set_num_threads", True),
        ("flexiblas_get_num_threads", "flexiblas_set_num_threads", False),
        ("scipy_openblas_get_num_threads64_", "scipy_openblas_set_num_threads64_", False),
        ("openblas_get_num_threads", "openblas_set_num_threads", False),
    ),
)
def test_every_blas_that_can_be_held_is_held_in_each_worker(
    get_name, set_name, is_local, monkeypatch
):
    library = FakeBlas(get_name, set_name, is_local)
    monkeypatch.setattr(threads.ctypes, "CDLL", lambda file: library)
    blas, seen = threads.Blas(), []
    monkeypatch.setattr(threads, "blas", blas)
    team = threads.Team(3)
    for _ in range(2):
        team.run(lambda i, worker: seen.append((worker, blas.get())), 6)
        assert blas.get() == 8
    assert sorted(seen) == sorted(4 * [(0, 1), (1, 1), (2, 1)])


@pytest.mark.parametrize("missing", ("MKL_Set_Num_Threads", "MKL_Get_Max_Threads"))
def test_a_blas_with_one_of_both_functions_cannot_be_held(missing, monkeypatch):
    library = FakeBlas("MKL_Get_Max_Threads", "MKL_Set_Num_Threads")
    delattr(library, missing)
    monkeypatch.setattr(threads.ctypes, "CDLL", lambda file: library)
    assert threads.find_blas() == (None, None)


def test_a_blas_that_cannot_be_held_leaves_one_worker_and_one_line(monkeypatch, caplog):
    monkeypatch.setattr(threads.blas, "set", None)
    threads.warn_of_blas.cache_clear()
    assert mg.get_backend("numpy", threads=1).team.size == 1 and not caplog.messages
    for _ in range(2):
        backend = mg.get_backend("numpy", threads=4)
        assert backend.team.size == 1
    (line,) = caplog.messages
    assert "one thread works" in line and "\n" not in line
    net = mg.Sequential([mg.Conv2d(3, 3)])
    net.setup((5, 5, 2), backend=backend, rng=np.random.default_rng(0))
    assert net.forward(np.ones((2, 5, 5, 2), np.float32)).shape == (2, 3, 3, 3)


@pytest.mark.parametrize(
    "version, content, expected",
    (
        (2, "100000 100000", 1),
        (2, "50000 100000", 1),
        (2, "900000 100000", 6),
        (2, "max 100000", 6),
        (2, "nonsense", 6),
        (1, "250000 100000", 2),
        (1, "-1 100000", 6),
        (0, "", 6),
    ),
)
def test_cpus_of_a_container(version, content, expected, monkeypatch, tmp_path):
    v2, v1 = [[str(tmp_path / Path(file).name) for file in files] for files in threads.CGROUP_FILES]
    for file, text in zip(v1, content.split(), strict=True) if version == 1 else ():
        Path(file).write_text(text)
    if version == 2:
        Path(v2[0]).write_text(content)
    monkeypatch.setattr(threads, "CGROUP_FILES", (v2, v1))
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda pid: set(range(6)), raising=False)
    assert threads.available_cpus() == expected


PROGRAM = """
import os, warnings
import numpy as np, minigan as mg
def step():
    net.zero_grads(); y = net.forward(x); net.backward(y); return y.tobytes()
net = mg.Sequential([mg.Conv2d(8, 3), mg.BatchNorm(), mg.ReLU()])
net.setup((9, 9, 4), backend=mg.get_backend("numpy", threads=2), rng=np.random.default_rng(0))
x = np.random.default_rng(1).standard_normal((16, 9, 9, 4)).astype("float32")
before = step()
warnings.simplefilter("ignore")
child = os.fork()
assert step() == before
if child:
    assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(threads.os, "fork"), reason="no fork on this system")
def test_a_process_that_forks_or_exits_does_not_hang():
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, timeout=60)
