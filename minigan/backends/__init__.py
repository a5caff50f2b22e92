"""Where the arithmetic runs: NumPy on the CPU or CuPy on an NVIDIA GPU, by one switch."""

from typing import Any

from minigan.backends.base import Array, Backend, Workspace
from minigan.errors import ConfigError

BACKENDS = ("numpy", "cupy")

__all__ = ["Array", "BACKENDS", "Backend", "Workspace", "get_backend"]


def get_backend(name: str = "numpy", dtype: Any = "float32") -> Backend:
    """-> a new backend instance; it is passed to `net.setup`, there is no global one.

    name   "numpy" or "cupy"
    dtype  "float32" for training, "float64" for gradient checks
    Raises ConfigError (unknown name or dtype), BackendError (no CuPy, no GPU).
    """
    if name == "numpy":
        from minigan.backends.numpy_backend import NumpyBackend

        return NumpyBackend(dtype)
    if name == "cupy":
        from minigan.backends.cupy_backend import CupyBackend

        return CupyBackend(dtype)
    raise ConfigError(f"unknown backend {name!r}: choose one of {', '.join(BACKENDS)}")
