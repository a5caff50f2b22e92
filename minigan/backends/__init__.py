"""Where the arithmetic runs: NumPy on the CPU or CuPy on an NVIDIA GPU, by one switch."""

from typing import Any

from minigan.arrays.backend import Array, Backend, Workspace
from minigan.errors import ConfigError

BACKENDS = ("numpy", "cupy")
PRECISIONS = ("fp32", "tf32")

__all__ = ["Array", "BACKENDS", "Backend", "PRECISIONS", "Workspace", "get_backend"]


def get_backend(
    name: str = "numpy", dtype: Any = "float32", threads: int | None = None, precision: str = "fp32"
) -> Backend:
    """-> a new backend instance; it is passed to `net.setup`, there is no global one.

    name   "numpy" or "cupy"
    dtype  "float32" for training, "float64" for gradient checks
    threads  of the NumPy backend; by default the number of CPUs that this process may use. As many
             threads give the same bits at every run, another number the same to rounding
    precision  of products of float32 on a GPU: "fp32", or "tf32": by tensor cores, factors rounded to 11 bits
    Raises ConfigError (unknown name, dtype or precision, threads that cannot be), BackendError (no CuPy, no GPU).
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"unknown precision {precision!r}: choose one of {', '.join(PRECISIONS)}")
    if name == "numpy":
        from minigan.backends.cpu.backend import NumpyBackend

        if precision != "fp32":
            raise ConfigError(
                f"precision {precision} is for tensor cores: leave it out, or take the cupy backend"
            )
        return NumpyBackend(dtype, threads)
    if name == "cupy":
        from minigan.backends.gpu.backend import CupyBackend

        if threads is not None:
            raise ConfigError("threads are the NumPy backend's: leave them out with cupy")
        return CupyBackend(dtype, precision)
    raise ConfigError(f"unknown backend {name!r}: choose one of {', '.join(BACKENDS)}")
