"""Where the arithmetic runs: NumPy on the CPU or CuPy on an NVIDIA GPU, by one switch."""

from typing import Any

from minigan.arrays import Array, Backend
from minigan.checks import expect_choice
from minigan.errors import ConfigError
from minigan.parallel.group import Group

BACKENDS = ("plain", "numpy", "cupy")
PRECISIONS = ("fp32", "tf32")

__all__ = ["BACKENDS", "PRECISIONS", "Array", "Backend", "get_backend"]


def get_backend(
    name: str = "numpy",
    dtype: Any = "float32",
    threads: int | None = None,
    precision: str = "fp32",
    ranks: Group | None = None,
) -> Backend:
    """-> a new backend; pass it to `net.setup`, there is no global one.

    name       "plain": every definition exactly as written, on NumPy;
               "numpy": the same numbers to rounding, fast; "cupy": on an NVIDIA GPU
    dtype      "float32" for training, "float64" for gradient checks
    threads    of the numpy backend; by default the number of CPUs that this process may use.
               The same number gives the same bits in every run; another, the same to rounding
    precision  of float32 products on a GPU: "fp32", or "tf32": tensor cores, 11-bit factors
    ranks      processes that run captured steps together, see parallel/mpi.py; None: this one
               alone, and those that it forks
    Raises ConfigError (unknown name, dtype or precision, impossible threads), BackendError (no
    CuPy, no GPU).
    """
    expect_choice("backend", name, BACKENDS)
    expect_choice("precision", precision, PRECISIONS)
    if precision != "fp32" and name != "cupy":
        raise ConfigError(
            f"precision {precision} is for tensor cores: leave it out, or use the cupy backend"
        )
    if ranks and ranks.size > 1 and name == "plain":
        raise ConfigError("several ranks are for numpy and cupy: start plain without mpiexec")
    if threads is not None and name != "numpy":
        raise ConfigError(f"threads are for the numpy backend: leave them out with {name}")
    if name == "numpy":
        from minigan.backends.cpu import table
        from minigan.backends.cpu.backend import CpuBackend

        return CpuBackend(dtype, threads, operations=table.OPERATIONS, ranks=ranks)
    if name == "cupy":
        from minigan.backends.gpu import table as gpu_table
        from minigan.backends.gpu.backend import GpuBackend

        return GpuBackend(dtype, precision, operations=gpu_table.OPERATIONS, ranks=ranks)
    return Backend(dtype)
