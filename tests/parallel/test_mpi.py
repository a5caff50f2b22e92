"""A process group of MPI: real ranks where the package mpich is installed, and how it is chosen."""

import os
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

import minigan as mg
from minigan.parallel import mpi
from minigan.parallel.group import Group
from minigan.parallel.mpi import fail, launched, world
from minigan.stop_signals import Stopped
from tests.support.noise_games import SYSTEMS
from tests.support.ranks import ROOT, job, needs_mpi, processes_with

GAMES = ROOT / "tests/support/rank_games.py"


# ---- real ranks


def play_on_ranks(size, rounds, *games, **options):
    """Play games on ranks, which must be equal to one process."""
    done = job(size, GAMES, rounds, *games, **options)
    assert done.returncode == 0, done.stderr
    assert all(f"rank {rank} is done" in done.stdout for rank in range(size))


@needs_mpi
def test_two_ranks_are_one_process():
    """Whole batches in uneven shards, and a smaller batch."""
    play_on_ranks(2, 4, "mnist:15")


@needs_mpi
@pytest.mark.slow
@pytest.mark.parametrize("size, batch_size", ((2, 15), (3, 14), (4, 14)))
def test_all_systems_are_one_process(size, batch_size):
    games = [f"{preset}:{batch_size}" for preset in (*SYSTEMS, "switched")]
    play_on_ranks(size, 4, *games, seconds=300)


@needs_mpi
def test_ranks_look_at_the_same_images_for_r1_as_one_process():
    play_on_ranks(2, 4, "color32:15")


@needs_mpi
@pytest.mark.slow
def test_mutants_are_caught():
    play_on_ranks(2, 3, "mutants", seconds=120)


@needs_mpi
@pytest.mark.slow
def test_a_collective_that_a_rank_leaves_out_is_caught():
    done = job(2, GAMES, 3, "left out", seconds=120)
    assert done.returncode


@needs_mpi
@pytest.mark.slow
def test_a_rank_that_waits_forever_is_found_and_ended():
    """By the helper that starts jobs."""
    mark = f"MINIGAN_TEST_WAITING={os.getpid()}"
    waiting = "import time; from mpi4py import MPI; MPI.COMM_WORLD.rank and time.sleep(600)"
    with pytest.raises((AssertionError, subprocess.TimeoutExpired)):
        job(2, "-c", waiting, seconds=5, environment=dict([mark.split("=")]))
    assert processes_with(mark) == []


def test_a_rank_that_waits_gives_the_cpu_away(monkeypatch):
    """The time counts as spent in collectives."""
    given, group = [], mpi.MpiGroup.__new__(mpi.MpiGroup)
    monkeypatch.setattr(mpi, "give_way", lambda: given.append(time.sleep(0.001)))
    group.wait(SimpleNamespace(Test=lambda: len(given) == 3))
    assert len(given) == 3 and group.seconds >= 0.003


def test_processes_are_found_by_their_environment():
    mark = f"MINIGAN_TEST_SLEEPING={os.getpid()}"
    environment = {**os.environ, **dict([mark.split("=")])}
    with subprocess.Popen(["sleep", "60"], env=environment) as process:
        until = time.monotonic() + 10
        while not (found := processes_with(mark, patience=0)) and time.monotonic() < until:
            time.sleep(0.01)  # its environment is not there yet
        assert found == [process.pid]
        assert processes_with(mark, "no such mark", patience=0) == []
        process.kill()
    assert processes_with(mark) == []


# ---- which processes there are

VARIABLES = [name for pair in mpi.LAUNCHERS for name in pair]


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    world.cache_clear()
    yield
    world.cache_clear()


def set_launcher(monkeypatch, **variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))


def test_without_a_launcher_nothing_of_mpi_is_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    assert launched() == (0, 1) and type(world()) is Group
    set_launcher(monkeypatch, PMI_RANK=0, PMI_SIZE=1)
    world.cache_clear()
    assert type(world()) is Group, "mpiexec -n 1"


@pytest.mark.parametrize("rank, size", mpi.LAUNCHERS)
def test_the_launcher_says_how_many(rank, size, monkeypatch):
    set_launcher(monkeypatch, **{rank: 2, size: 5})
    assert launched() == (2, 5)


def test_a_step_of_slurm_that_starts_mpiexec_does_not_count(monkeypatch):
    """Open MPI starts one helper on each node with srun, which leaves its variables."""
    names = dict(OMPI_COMM_WORLD_RANK=0, OMPI_COMM_WORLD_SIZE=1, SLURM_STEP_NUM_TASKS=2)
    set_launcher(monkeypatch, **names)
    assert launched() == (0, 1)


def test_a_batch_script_of_slurm_is_one_process(monkeypatch):
    set_launcher(monkeypatch, SLURM_NTASKS=8, SLURM_PROCID=0)
    assert launched() == (0, 1)


def fake_mpi(monkeypatch, size, library):
    """mpi4py of rank 2 of a job of this size, which is rank 1 on its machine."""
    node = SimpleNamespace(rank=1)
    communicator = SimpleNamespace(rank=2, size=size, Split_type={1: node}.get)
    module = SimpleNamespace(
        COMM_WORLD=communicator,
        COMM_TYPE_SHARED=1,
        Get_library_version=lambda: library,
        Is_initialized=lambda: False,
        Init=lambda: started.append(True),
    )
    package = SimpleNamespace(MPI=module, rc=lambda **options: None)
    monkeypatch.setitem(sys.modules, "mpi4py", package)
    started = []
    return started


@pytest.mark.parametrize("launcher", ("PMI", "OMPI_COMM_WORLD"))
@pytest.mark.parametrize("library", ("MPICH Version: 5.0", "Open MPI v5.0,"))
def test_two_kinds_of_mpi_are_refused_in_one_line(launcher, library, monkeypatch, capsys):
    """Each process would train the whole run; or MPI would end it in many lines."""
    set_launcher(monkeypatch, **{f"{launcher}_RANK": 0, f"{launcher}_SIZE": 4})
    started = fake_mpi(monkeypatch, 1, library)
    with pytest.raises(mg.BackendError, match=r"started 4 processes, but they are not connected"):
        world()
    assert bool(started) != (launcher[0] == "O" and library[0] == "M")
    assert fail("minigan", "why", 2) == 2
    assert capsys.readouterr().err == "minigan: error: why\n"
    monkeypatch.setenv(f"{launcher}_RANK", "1")
    assert fail("minigan", "why", 2) == 2
    assert capsys.readouterr().err == "", "one line for all"


def test_mpi4py_is_missing(monkeypatch):
    set_launcher(monkeypatch, PMI_RANK=0, PMI_SIZE=2)
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(mg.BackendError, match="pip install mpi4py, and mpich"):
        world()


def test_all_ranks_of_a_launcher_are_a_group(monkeypatch):
    set_launcher(monkeypatch, PMI_RANK=2, PMI_SIZE=3)
    fake_mpi(monkeypatch, 3, "MPICH Version: 5.0")
    group = world()
    assert (group.rank, group.size, group.rank_on_node) == (2, 3, 1)
    assert group is world() and sys.excepthook is mpi.fail_uncaught


@pytest.mark.parametrize(
    "error, code", ((KeyboardInterrupt(), 130), (ValueError(), 1), (Stopped(15), 143))
)
def test_an_error_that_nobody_expected_has_an_exit_code(error, code, monkeypatch):
    codes = []
    monkeypatch.setattr(mpi, "fail", lambda program, message, code: codes.append(code))
    with pytest.raises(type(error)) as caught:
        raise error
    mpi.fail_uncaught(caught.type, caught.value, caught.tb)
    assert codes == [code]


# ---- what is built on the operations


class Recorder(Group):
    """A rank that notes its barriers."""

    def __init__(self, rank, rank_on_node):
        self.rank, self.rank_on_node, self.size, self.seen = rank, rank_on_node, 4, []

    def barrier(self):
        self.seen.append("barrier")


@pytest.mark.parametrize("rank, rank_on_node, before", ((0, 0, 0), (2, 0, 1), (1, 1, 2), (3, 1, 2)))
def test_one_rank_of_each_machine_goes_first(rank, rank_on_node, before):
    group = Recorder(rank, rank_on_node)
    assert group.in_turn(lambda: group.seen.append("work") or "result") == "result"
    assert group.seen.index("work") == before and len(group.seen) == 4


def test_ranks_that_differ_are_named():
    group = Group()
    assert group.unlike_first(b"anything") == []
    group.size = 3
    group.all_gather = lambda values: np.stack([values, values ^ 1, values])
    assert group.unlike_first(b"a", np.ones(3)) == [1]
