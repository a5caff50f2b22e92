"""Where the arithmetic runs: NumPy on the CPU or CuPy on an NVIDIA GPU, by one switch."""

from typing import Any

from minigan.arrays import Array, Backend
from minigan.arrays.backend import Operations
from minigan.checks import expect_choice
from minigan.concurrency import warn
from minigan.errors import BackendError, ConfigError
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
    compile: bool | None = None,  # noqa: A002
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
    compile    kernels of the numpy backend by numba: faster, with other bits; None: where numba can
               be imported. backend.compiled says which
    Raises ConfigError (unknown name, dtype or precision, impossible threads), BackendError (no
    numba, no CuPy, no GPU).
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
    if compile and name != "numpy":
        raise ConfigError(f"compile is for the numpy backend: leave it out with {name}")
    if name == "numpy":
        from minigan.backends.cpu.backend import CpuBackend

        compiled, operations = choose_operations(compile)
        return CpuBackend(dtype, threads, True, operations, ranks, compiled)
    if name == "cupy":
        from minigan.backends.gpu import table as gpu_table
        from minigan.backends.gpu.backend import GpuBackend

        return GpuBackend(dtype, precision, operations=gpu_table.OPERATIONS, ranks=ranks)
    return Backend(dtype)


def choose_operations(compile: bool | None) -> tuple[bool, Operations]:  # noqa: A002
    """get_backend's compile -> are kernels compiled?, the table. Raises BackendError."""
    from minigan.backends.cpu import table

    if compile is not False:
        try:
            from minigan.backends.cpu.compiled import table as compiled_table

            return True, compiled_table.OPERATIONS
        except Exception as error:  # numba is not there, or it does not know this NumPy or CPU
            if compile:
                raise BackendError(
                    f"compiled kernels need numba ({error}): pip install numba, "
                    "or leave them out: --no-compile, compile=False"
                ) from error
            if not isinstance(error, ModuleNotFoundError):
                warn(f"minigan: numba cannot be used ({error}): NumPy does the work")
    return False, table.OPERATIONS
