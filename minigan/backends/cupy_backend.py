"""The CuPy backend: the definitions of `base.py` on an NVIDIA GPU.

CuPy speaks NumPy's names, so all that differs is how arrays come and go, and
what is said when a GPU cannot be had.
"""

from typing import Any

import numpy as np

from minigan.backends.base import Array, Backend
from minigan.errors import BackendError

INSTALL = "install it with: pip install cupy-cuda13x (or cupy-cuda12x, by the driver's CUDA version)"


class CupyBackend(Backend):
    """Backend on CuPy. Raises BackendError where there is no CuPy, no driver or no GPU."""

    name = "cupy"

    def __init__(self, dtype: Any = "float32"):
        try:
            import cupy
        except ImportError as error:
            reason = "CuPy is not installed" if isinstance(error, ModuleNotFoundError) else f"CuPy does not load ({error})"
            raise BackendError(f"backend cupy: {one_line(reason)}: {INSTALL}; or use --backend numpy") from error
        try:
            devices = cupy.cuda.runtime.getDeviceCount()
        except cupy.cuda.runtime.CUDARuntimeError as error:
            raise BackendError(
                f"backend cupy: no usable NVIDIA driver or GPU ({one_line(error)}): "
                "check `nvidia-smi` and that CuPy's CUDA version is not newer than the driver's; or use --backend numpy"
            ) from error
        if devices == 0:
            raise BackendError("backend cupy: this machine shows no NVIDIA GPU: check `nvidia-smi`; or use --backend numpy")
        super().__init__(cupy, dtype)

    def to_host(self, array: Array) -> np.ndarray:
        host: np.ndarray = self.xp.asnumpy(array)
        return host


def one_line(message: object) -> str:
    """-> the message without line breaks."""
    return " ".join(str(message).split())
