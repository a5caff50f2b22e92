"""The GPU backend: CuPy on an NVIDIA GPU. table.py lists its faster operations.

Kernels are in kernels.cu, products in gemm.py, captured steps in graph.py. This file moves
arrays to and from the GPU, and reports a missing GPU.
"""

from copy import copy
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from minigan.arrays import Array, Shape
from minigan.arrays.backend import Call, Operations
from minigan.arrays.staging import StagingBuffer
from minigan.backends.gpu.gemm import Gemm
from minigan.backends.gpu.kernels import Kernels
from minigan.backends.gpu.staging import PinnedStagingBuffer
from minigan.backends.workspace import FastBackend, ScratchMemory
from minigan.errors import BackendError
from minigan.parallel.group import Group
from minigan.parallel.nccl import NcclGroup


class GpuBackend(FastBackend):
    """GpuBackend(dtype, operations=table.OPERATIONS): made by get_backend.

    precision  of float32 products: "fp32", or "tf32", on tensor cores; see gemm.py
    ranks      as in FastBackend; each of them computes on another GPU
    implicit   convolutions in TF32 without columns, where implicit.py can; not measured yet
    Raises BackendError if there is no CuPy, no driver or no GPU, or no NCCL for ranks.
    """

    name = "cupy"
    captures_graphs = True
    # While a captured step is recorded: the host's work before and after each launch of the
    # graph, since the recorded Python does not run
    recording: list[tuple[Call, Call]] | None = None

    def __init__(
        self,
        dtype: Any = "float32",
        precision: str = "fp32",
        operations: Operations | None = None,
        ranks: Group | None = None,
        implicit: bool = False,
    ):
        try:
            import cupy
        except ImportError as error:
            reason = f"CuPy does not load ({error})"
            if isinstance(error, ModuleNotFoundError):
                reason = "CuPy is not installed"
            raise BackendError(
                f"backend cupy: {one_line(reason)}: install it with: pip install "
                "'cupy-cuda13x[ctk]' (or cupy-cuda12x, to match the driver); or use --backend numpy"
            ) from error
        try:
            devices = cupy.cuda.runtime.getDeviceCount()
        except cupy.cuda.runtime.CUDARuntimeError as error:
            raise BackendError(
                f"backend cupy: no usable NVIDIA driver or GPU ({one_line(error)}): check "
                "`nvidia-smi` and that CuPy's CUDA version is not newer than the driver's; "
                "or use --backend numpy"
            ) from error
        if devices == 0:
            raise BackendError(
                "backend cupy: CUDA sees no NVIDIA GPU on this machine: check `nvidia-smi`; "
                "or use --backend numpy"
            )
        if ranks is not None and ranks.size > 1:
            ranks = NcclGroup(ranks, cupy)
        super().__init__(dtype, cupy, ranks)
        self.precision, self.implicit = precision, implicit
        self.operations = operations or {}
        self.kernels = Kernels(cupy, self.dtype)
        self.gemm = Gemm(cupy, self.dtype, precision)
        self.step_states: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()  # see step_state.py

    def for_captured_step(self) -> "GpuBackend":
        """-> this backend with separate memory, which code outside the step cannot reuse."""
        other = copy(self)
        other.memory = ScratchMemory(other)
        return other

    def to_host(self, array: Array) -> np.ndarray:
        # pinned memory, which a GPU writes by itself; CuPy reuses it once the result is gone
        memory = self.xp.cuda.alloc_pinned_memory(max(1, array.nbytes))
        host = np.frombuffer(memory, array.dtype, array.size).reshape(array.shape)
        return self.xp.asnumpy(array, out=host)  # type: ignore[no-any-return]

    def put(self, values: np.ndarray, out: Array) -> None:
        out.set(np.ascontiguousarray(values, out.dtype), stream=self.xp.cuda.get_current_stream())

    def staging_buffer(self, shape: Shape, dtype: Any = None) -> StagingBuffer:
        return PinnedStagingBuffer(self, shape, dtype)

    def free_memory(self) -> int:
        unused = self.xp.get_default_memory_pool().free_bytes()  # what CuPy keeps for later arrays
        return int(self.xp.cuda.runtime.memGetInfo()[0] + unused)

    def gather_images(self, pixels: Array, chosen: Array, out: Array, pixel_min: float) -> None:
        self.kernels.get("gather_images")(out.size, pixels, chosen, out, *out.shape, pixel_min)

    def collect(self, scalars: list[Array], out: Array) -> None:
        padded = [*scalars, *[None] * (8 - len(scalars))]
        self.kernels.get("collect")(1, out, *padded, len(scalars))

    def synchronize(self) -> None:
        self.xp.cuda.Device().synchronize()


def one_line(message: object) -> str:
    """-> the message without line breaks."""
    return " ".join(str(message).split())
