"""A process group: processes that compute the same step, each on its rows of the batch.

Every process holds the whole network and takes the same step. They communicate where a number
depends on the whole batch:

    BatchNorm          mean and variance; in the backward pass the two sums      2c per layer
    the loss           its mean                                                  two numbers
    the optimizer      gradients are sums over the batch: add up the parts       one per parameter

Then all have the same gradients, take the same step, and have the same parameters, bit for bit.

An engine implements the operations, named as in MPI: all_reduce, all_gather, barrier and abort.
Everything built on them is written here, once. This class is the group of one process, where there
is nothing to do. Engines: shared_memory.py.
"""

from typing import Any, NoReturn

import numpy as np

from minigan.arrays import Array
from minigan.errors import BackendError


class Group:
    """`size` processes; this one is number `rank`."""

    rank, size = 0, 1

    # -- the operations of an engine --------------------------------------------------------

    def all_reduce(self, array: np.ndarray) -> None:
        """array = Σ over all processes, in place, with the same bits in each."""

    def all_gather(self, values: np.ndarray) -> np.ndarray:
        """values (k,) of each process -> (size, k); read it before the next call."""
        return values[None]

    def barrier(self) -> None:
        """Return when every process has arrived here."""

    def abort(self, reason: str) -> NoReturn:
        """End the job: no process may wait forever. Raises BackendError."""
        raise BackendError(reason)

    # -- built on these operations -----------------------------------------------------------

    def shard(self, batch: Array) -> Array:
        """batch (n, ...) -> this process's rows, a view; shard sizes differ by at most one."""
        n = len(batch)
        return batch[self.rank * n // self.size : (self.rank + 1) * n // self.size]

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
