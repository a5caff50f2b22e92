"""A process group: processes that compute the same step, each on its rows of the batch.

Every process holds the whole network and takes the same step. They communicate where a number
depends on the whole batch:

    BatchNorm          mean and variance; in the backward pass the two sums      2c per layer
    the loss           its mean                                                  two numbers
    the optimizer      gradients are sums over the batch: add up the parts       one per parameter

Then all have the same gradients, take the same step, and have the same parameters, bit for bit.

An engine implements the operations, named as in MPI: all_reduce, all_gather, barrier, abort, and
broadcast, which mpi.py alone has: samples need it, and no captured step does.
Everything built on them is written here, once. This class is the group of one process, where there
is nothing to do. Engines: shared_memory.py, mpi.py, nccl.py.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn, TypeVar

import numpy as np

from minigan.arrays import Array
from minigan.errors import BackendError

Result = TypeVar("Result")


class Group:
    """`size` processes; this one is number `rank`."""

    rank, size = 0, 1
    rank_on_node = 0  # among the processes on this machine
    seconds = 0.0  # spent in collectives, where they are measured
    step: int | None = None  # of the run, for the report of an error

    def __deepcopy__(self, memo: dict[int, Any]) -> "Group":
        return self  # in the copy of a game too

    # -- the operations of an engine --------------------------------------------------------

    def all_reduce(self, array: np.ndarray) -> None:
        """array = Σ over all processes, in place, with the same bits in each."""

    def all_gather(self, values: np.ndarray) -> np.ndarray:
        """values (k,) of each process -> (size, k); read it before the next call."""
        return values[None]

    def broadcast(self, array: Any, root: int) -> np.ndarray:
        """The array of process `root` -> the same in each; those of the others are not read."""
        assert self.size == 1
        return np.asarray(array)

    def barrier(self) -> None:
        """Return when every process has arrived here."""

    def abort(self, reason: str, code: int = 1) -> NoReturn:
        """End the job: no process may wait forever. Raises BackendError."""
        raise BackendError(reason)

    # -- built on these operations -----------------------------------------------------------

    def shard(self, batch: Array) -> Array:
        """batch (n, ...) -> this process's rows, a view; shard sizes differ by at most one."""
        n = len(batch)
        return batch[self.rank * n // self.size : (self.rank + 1) * n // self.size]

    def total(self, n: int) -> int:
        """n, such as a number of rows -> Σ n over all processes."""
        return int(self.all_gather(np.array([n])).sum())

    def mean(self, value: Any, n: int) -> tuple[Any, float]:
        """value, the mean over n rows here -> the mean over all rows; n as a fraction of them."""
        if self.size == 1:
            return value, 1.0
        sums = np.array([n, n * float(value)])
        self.all_reduce(sums)
        return value.dtype.type(sums[1] / sums[0]), n / float(sums[0])

    def sync_batchnorm(self, mean: np.ndarray, var: np.ndarray, n: int) -> int:
        """mean and biased variance (c,), float64, of n rows here become those of all -> row count.

        Two all-reduces: n and n·mean, then n·(var + (mean - mean of all)²). One, of mean² in place
        of the last square, would do; but far from 0 it subtracts large numbers from each other.
        """
        if self.size == 1:
            return n
        sums = np.append(mean, 1.0) * n
        self.all_reduce(sums)
        total, mean_of_all = sums[-1], sums[:-1] / sums[-1]
        squares = n * (var + (mean - mean_of_all) ** 2)
        self.all_reduce(squares)
        mean[...], var[...] = mean_of_all, squares / total
        return int(total)

    def in_order(self, jobs: Iterable[Callable[[], np.ndarray]]) -> Iterator[np.ndarray]:
        """Do each job on one process -> yields the results of all, in order, in each process.

        Every process goes through all jobs, and does every size-th as it comes. At most `size`
        results are held at once.
        """
        mine: np.ndarray | None = None
        count = 0
        for job in jobs:
            if count == self.rank:
                mine = job()
            count += 1
            if count == self.size:
                yield from (self.broadcast(mine, root) for root in range(count))
                count = 0
        yield from (self.broadcast(mine, root) for root in range(count))

    def in_turn(self, work: Callable[[], Result]) -> Result:
        """work() on rank 0, then on one rank of each machine, then on the others -> its result.

        Later ones find in a cache what earlier ones have put there. Those that wait are asleep.
        """
        turn = 0 if self.rank == 0 else 1 if self.rank_on_node == 0 else 2
        for _ in range(turn):
            self.barrier()
        result = work()
        for _ in range(turn, 3):
            self.barrier()
        return result

    def unlike_first(self, *contents: Any) -> list[int]:
        """bytes or arrays -> the ranks where they are not those of rank 0, the same list on all."""
        if self.size == 1:
            return []
        digest = hashlib.sha256()
        for content in contents:
            digest.update(content)
        table = self.all_gather(np.frombuffer(digest.digest(), np.uint8))
        return [rank for rank, row in enumerate(table) if (row != table[0]).any()]


ALONE = Group()
