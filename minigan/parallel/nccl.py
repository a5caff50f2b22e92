"""A process group on GPUs: NCCL, by CuPy. Each rank of MPI computes on one GPU of its machine.

Numbers on a GPU are added up by kernels of NCCL, on the stream of the other kernels: so they are
part of a recorded step (backends/gpu/graph.py), and nothing of them passes through the host. What
the host knows, such as numbers of rows, goes by MPI (mpi.py), while a step is recorded.

NCCL has rules that a CPU has not:

    - All processes launch the same sums in the same order: else they wait for each other forever.
    - The first sums make the connections. They must not be recorded, but run on the same stream:
      the steps that warm up before a recording do so.
    - A graph that holds its kernels must be gone before the communicator: see Replay in graph.py.
"""

from typing import Any, NoReturn

import numpy as np

from minigan.arrays import Array
from minigan.concurrency import without_warnings
from minigan.errors import BackendError
from minigan.parallel.group import Group


class NcclGroup(Group):
    """The ranks of another group, on GPUs. Create it before any other use of this rank's GPU, and
    use it in the same thread: CuPy chooses a GPU for a thread.

    hosts  the same processes, connected by MPI
    xp     CuPy
    Raises BackendError without NCCL, without a GPU for this rank, or if they cannot connect.
    """

    def __init__(self, hosts: Group, xp: Any):
        self.hosts, self.xp = hosts, xp
        self.rank, self.size, self.rank_on_node = hosts.rank, hosts.size, hosts.rank_on_node
        with without_warnings():  # CuPy's, about what is reported here
            from cupy.cuda import nccl
        if not nccl.available:
            raise BackendError(
                f"backend cupy on {self.size} ranks needs NCCL: pip install nvidia-nccl-cu13 (or "
                "nvidia-nccl-cu12, to match CuPy), or conda install -c conda-forge nccl"
            )
        devices = xp.cuda.runtime.getDeviceCount()
        if self.rank_on_node >= devices:
            raise BackendError(
                f"backend cupy: this machine has more ranks than GPUs, of which it shows {devices} "
                f"to rank {self.rank}: start one rank for each GPU, and show all GPUs to each rank"
            )
        xp.cuda.Device(self.rank_on_node).use()
        self.dtypes = {"float32": nccl.NCCL_FLOAT32, "float64": nccl.NCCL_FLOAT64}
        self.sum = nccl.NCCL_SUM
        name = nccl.get_unique_id() if self.rank == 0 else bytes(128)  # of the communicator
        name = hosts.all_gather(np.frombuffer(name, np.uint8))[0].tobytes()
        try:
            self.communicator = nccl.NcclCommunicator(self.size, name, self.rank)
        except nccl.NcclError as error:
            raise BackendError(
                f"backend cupy: NCCL cannot connect {self.size} ranks ({error}): "
                "NCCL_DEBUG=INFO shows why"
            ) from error

    def all_reduce(self, array: Array) -> None:
        """As in Group: an array on the GPU, contiguous; launched on the current stream."""
        assert array.flags.c_contiguous
        place, stream = array.data.ptr, self.xp.cuda.get_current_stream().ptr
        dtype = self.dtypes[array.dtype.name]
        self.communicator.allReduce(place, place, array.size, dtype, self.sum, stream)

    # -- by MPI: arrays of the host ------------------------------------------------------------

    def all_gather(self, values: np.ndarray) -> np.ndarray:
        return self.hosts.all_gather(values)

    def barrier(self) -> None:
        self.hosts.barrier()

    def abort(self, reason: str, code: int = 1) -> NoReturn:
        self.hosts.abort(reason, code)
