"""A process group on any number of machines: MPI, by mpi4py.

The processes, called ranks, are started by a launcher: mpiexec, srun, a Kubernetes MPIJob. It sets
environment variables, from which `world` knows that there are others; without them nothing of MPI
is imported. Only arrays are exchanged: mpi4py's methods for other objects pickle them.

If a process of a job ends, the others wait for it forever. So an error on any rank ends the job:
see `fail`. See docs/distributed.md.
"""

import os
import sys
import traceback
from contextlib import suppress
from functools import cache, partial
from time import perf_counter, sleep
from types import TracebackType
from typing import Any, NoReturn

import numpy as np

from minigan.concurrency import without_warnings
from minigan.errors import BackendError, MiniganError
from minigan.parallel.group import Group

LAUNCHERS = (  # variables with rank and size; the first that is there counts
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
)
OTHERS = ("MPICH", "Intel")  # how the libraries of other MPIs than Open MPI name themselves
give_way = getattr(os, "sched_yield", partial(sleep, 0))  # Windows has none
LONGEST_PAUSE = 0.01  # seconds asleep at a barrier
PASSING_ON = 0.3  # seconds in which the launcher passes a line on, before the job is gone
PATIENCE = 1.0  # seconds that an error of a lower rank has to end the job first


class MpiGroup(Group):
    """All ranks of the job. mpi: the module mpi4py.MPI"""

    def __init__(self, mpi: Any):
        self.mpi, self.comm = mpi, mpi.COMM_WORLD
        self.rank, self.size = self.comm.rank, self.comm.size
        self.rank_on_node = self.comm.Split_type(mpi.COMM_TYPE_SHARED).rank

    def wait(self, request: Any) -> None:
        """Return when a collective is done; until then any other process may have the CPU.

        MPI's own waiting keeps it. With more ranks than CPUs, those that wait then keep it from the
        one that they wait for: a sum that takes 1 ms took 300 ms.
        """
        start = perf_counter()
        while not request.Test():
            give_way()
        self.seconds += perf_counter() - start

    def all_reduce(self, array: np.ndarray) -> None:
        self.wait(self.comm.Iallreduce(self.mpi.IN_PLACE, array))

    def all_gather(self, values: np.ndarray) -> np.ndarray:
        table = np.empty((self.size, *values.shape), values.dtype)
        self.wait(self.comm.Iallgather(values, table))
        return table

    def broadcast(self, array: Any, root: int) -> np.ndarray:
        head = np.zeros(8, np.int64)  # dtype, number of axes, shape
        if self.rank == root:
            array = np.asarray(array, order="C")
            head[: 2 + array.ndim] = ord(array.dtype.char), array.ndim, *array.shape
        self.wait(self.comm.Ibcast(head, root))
        received = array if self.rank == root else np.empty(head[2 : 2 + head[1]], chr(head[0]))
        self.wait(self.comm.Ibcast(received, root))
        return np.asarray(received)

    def barrier(self) -> None:
        """As in Group, asleep: MPI's own barrier keeps a CPU busy, which another rank may need."""
        request, pause = self.comm.Ibarrier(), 0.0
        while not request.Test():
            sleep(pause)
            pause = min(pause + 1e-4, LONGEST_PAUSE)

    def abort(self, reason: str, code: int = 1) -> NoReturn:
        """Print the reason and end all ranks, with this exit code.

        The same mistake may come up on several ranks at once: then the lowest reports it.
        """
        sleep(min(self.rank, 3) * PATIENCE)
        print(reason, file=sys.stderr, flush=True)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # or MPI adds lines that say nothing more
        sleep(PASSING_ON)
        self.comm.Abort(code)
        raise SystemExit(code)


def launched() -> tuple[int, int]:
    """-> rank and number of the processes that a launcher started; 0, 1 without one."""
    for rank, size in LAUNCHERS:
        if (count := os.environ.get(size, "")).isdecimal():
            number = os.environ.get(rank, "")
            return int(number) if number.isdecimal() else 0, int(count)
    return 0, 1


@cache
def world() -> Group:
    """-> the group of all ranks that the launcher started; without one, the group of one process.

    Raises BackendError if they cannot find each other.
    """
    if (size := launched()[1]) < 2:
        return Group()
    try:
        with without_warnings():  # mpi4py's, about what is reported here
            import mpi4py

            mpi4py.rc(initialize=False, finalize=True)
            from mpi4py import MPI

            library = " ".join(MPI.Get_library_version().split()[:3]).rstrip(",")
            # under Open MPI's launcher these would end the program
            is_other = "OMPI_COMM_WORLD_SIZE" in os.environ and library.startswith(OTHERS)
            if not is_other and not MPI.Is_initialized():
                MPI.Init()
    except (ImportError, RuntimeError) as error:
        raise BackendError(
            f"{size} processes were started together, but mpi4py cannot be used ({error}): "
            "pip install mpi4py, and mpich where the machine has no MPI"
        ) from error
    if is_other or MPI.COMM_WORLD.size != size:
        raise BackendError(
            f"the launcher started {size} processes, but they are not connected: mpi4py uses "
            f"{library}; start them with the mpiexec of this MPI, or with srun --mpi=..."
        )
    sys.excepthook = fail_uncaught
    return MpiGroup(MPI)


def fail(program: str, message: str, code: int) -> int:
    """Report an error of a program in one line -> its exit code. All ranks of a job end with it."""
    rank, size = launched()
    try:
        group = world()
    except MiniganError:  # the same on all ranks, and they are not connected
        if rank:
            return code
        group = Group()
    if group.size > 1:
        step = "" if group.step is None else f", step {group.step}"
        group.abort(f"{program}: error: rank {rank} of {size}{step}: {message}", code)
    if sys.stderr is not None:  # else it is closed, and print would write to stdout
        with suppress(OSError):  # nobody reads it
            print(f"{program}: error: {message}", file=sys.stderr, flush=True)
    return code


def fail_uncaught(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """sys.excepthook of a rank: an error that nobody expected, where it was raised."""
    place = traceback.extract_tb(trace)[-1]
    text = " ".join(f"{kind.__name__}: {error} ({place.filename}:{place.lineno})".split())
    other = 130 if issubclass(kind, KeyboardInterrupt) else 1
    fail("minigan", text, getattr(error, "exit_code", other))
