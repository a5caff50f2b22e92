"""NCCL on the stand-in for CuPy: real ranks where the package mpich is installed, and mistakes."""

import gc
import weakref

import numpy as np
import pytest

import minigan as mg
from minigan.backends.gpu.graph import Replay
from minigan.parallel.group import Group
from minigan.parallel.nccl import NcclGroup
from minigan.training.game import Game
from tests.support.ranks import ROOT, job, needs_mpi
from tests.support.strict_cupy import NcclCommunicator, NcclError, use_stand_in

GPUS = ROOT / "tests/support/rank_gpus.py"


# ---- real ranks


def play_on_gpus(size, rounds, dtype, *games, **options):
    """Play games on ranks with a GPU each, which must be equal to one process."""
    done = job(size, GPUS, rounds, dtype, *games, **options)
    assert done.returncode == 0, done.stderr
    assert all(f"rank {rank} is done" in done.stdout for rank in range(size))


@needs_mpi
def test_two_gpus_are_one():
    """Uneven shards; the sums are in the graph, the same in each launch, and a smaller batch."""
    play_on_gpus(2, 2, "float64", "sums", "mnist:7")


@needs_mpi
@pytest.mark.slow
@pytest.mark.parametrize(
    "size, games",
    [
        (2, ("mnist:15", "shibuya-mnist:15", "radford-mnist-conditional:15")),
        (3, ("fredriksson-mnist:14", "shibuya-fnn:14", "switched:14", "host", "mnist:14")),
    ],
)
def test_other_systems_are_one_gpu(size, games):
    """Two updates at once, labels, other rounds, several steps of D with another loss."""
    play_on_gpus(size, 4, "float64", *games, seconds=200)


@needs_mpi
@pytest.mark.slow
def test_gpus_look_at_the_same_images_for_r1_as_one_process():
    play_on_gpus(2, 4, "float64", "color32:15", seconds=120)


@needs_mpi
@pytest.mark.slow
def test_ranks_stay_equal_in_float32():
    play_on_gpus(3, 4, "float32", "sums", "mnist:14", "radford-mnist-conditional:14", seconds=200)


@needs_mpi
@pytest.mark.slow
def test_mutants_are_caught():
    play_on_gpus(2, 3, "float64", "mutants", seconds=120)


# ---- one process that takes itself for a rank


class Ranks(Group):
    """One of `size` ranks, of which three are on a machine; the others say the same."""

    def __init__(self, rank=0, size=2):
        self.rank, self.size, self.rank_on_node = rank, size, rank % 3

    def all_gather(self, values):
        return np.stack([values] * self.size)

    def broadcast(self, array, root):
        return array


def test_a_rank_takes_the_gpu_of_its_number_on_its_machine(monkeypatch):
    cupy = use_stand_in(monkeypatch, devices=3)
    monkeypatch.setattr(NcclCommunicator, "__init__", lambda self, *arguments: None)
    group = NcclGroup(Ranks(5, 6), cupy)
    assert (group.rank, group.size, cupy.device.number) == (5, 6, 2)


def test_more_ranks_than_gpus(monkeypatch):
    use_stand_in(monkeypatch, devices=2)
    line = "more ranks than GPUs, of which it shows 2 to rank 2: start one rank for each GPU"
    with pytest.raises(mg.BackendError, match=line):
        mg.get_backend("cupy", ranks=Ranks(2, 3))


def test_without_nccl(monkeypatch):
    use_stand_in(monkeypatch, devices=2, nccl=False)
    with pytest.raises(mg.BackendError, match=r"pip install nvidia-nccl-cu13 .*nvidia-nccl-cu12"):
        mg.get_backend("cupy", ranks=Ranks())
    mg.get_backend("cupy")  # one process needs none


def test_ranks_that_cannot_connect(monkeypatch):
    def fail(*arguments):
        raise NcclError("NCCL_ERROR_SYSTEM_ERROR: no route")

    use_stand_in(monkeypatch, devices=2)
    monkeypatch.setattr(NcclCommunicator, "__init__", fail)
    with pytest.raises(mg.BackendError, match=r"cannot connect 2 ranks .*no route.*NCCL_DEBUG"):
        mg.get_backend("cupy", ranks=Ranks())


@pytest.mark.parametrize("found_by", ("references", "the garbage collector"))
def test_a_graph_is_gone_before_its_communicator(found_by):
    """NCCL waits for this forever."""
    group, ended = Group(), []
    # like CuPy's, these do not belong to the garbage collector
    group.communicator, graph = np.empty(1), np.empty(1)
    weakref.finalize(group.communicator, ended.append, "communicator")
    weakref.finalize(graph, ended.append, "graph")
    replay = Replay(graph, [], None, group)
    if found_by == "the garbage collector":
        group.replay = replay  # a circle
    del graph, group, replay
    gc.collect()
    assert ended == ["graph", "communicator"]


def test_the_first_sum_on_a_stream_is_not_recorded(monkeypatch):
    """The stand-in notices it; NCCL would fail."""
    cupy = use_stand_in(monkeypatch)
    group, stream = NcclGroup(Group(), cupy), cupy.cuda.Stream(non_blocking=True)
    x = cupy.zeros((3,), np.float32)
    with stream, pytest.raises(AssertionError, match="first sum"):
        stream.begin_capture()
        group.all_reduce(x)
    stream.end_capture()


def test_samples_are_drawn_without_sums(monkeypatch):
    """Each batch of them by one rank."""
    cupy = use_stand_in(monkeypatch, devices=2)
    monkeypatch.setattr(NcclCommunicator, "__init__", lambda self, *arguments: None)
    monkeypatch.setattr(NcclCommunicator, "allReduce", None)
    config = mg.training.config.new_config(dict(preset="mnist", width=4, backend="cupy"))
    game = Game(config, Ranks())
    assert isinstance(game.backend.ranks, NcclGroup)
    assert len(game.sample(3, game.stream("sample"))) == 3
    assert cupy.device.reduced == []
