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
        """mean and biased variance (c,) of n rows here become those of all rows -> row count.

        One all-reduce of 2c + 1 numbers: n, n·mean and n·(var + mean²). In float64 the difference
        of the last two loses nothing that float32 could show.
        """
        if self.size == 1:
            return n
        c = len(mean)
        sums = np.empty(2 * c + 1)
        sums[0] = n
        sums[1 : c + 1] = mean
        sums[c + 1 :] = var
        sums[c + 1 :] += sums[1 : c + 1] ** 2
        sums[1:] *= n
        self.all_reduce(sums)
        total = sums[0]
        sums[1:] /= total
        mean[...] = sums[1 : c + 1]
        var[...] = np.maximum(sums[c + 1 :] - sums[1 : c + 1] ** 2, 0.0)
        return int(total)
