"""The CuPy backend: the definitions of `base.py` on an NVIDIA GPU, and what is faster than they are.

Kernels stand in kernels.cu, products in cupy_gemm.py, the recorded step in cupy_graph.py. This file has
how arrays come and go, and what is said when a GPU cannot be had.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from minigan.arrays.backend import Array, Backend, Padding, Pair, Shape
from minigan.arrays.philox import Philox
from minigan.arrays.staging import Inbox
from minigan.backends.gpu.gemm import Gemm
from minigan.backends.gpu.kernels import Geometry, Kernels, find_geometry
from minigan.errors import BackendError

if TYPE_CHECKING:
    from minigan.backends.gpu.convolution import Convolution
    from minigan.backends.gpu.graph import Recording

INSTALL = "install it with: pip install 'cupy-cuda13x[ctk]' (or cupy-cuda12x, by the driver's CUDA version)"


class CupyBackend(Backend):
    """Backend on CuPy. Raises BackendError where there is no CuPy, no driver or no GPU.

    precision  of products of float32: "fp32", or "tf32", which tensor cores do; see cupy_gemm.py
    """

    name = "cupy"
    records = True

    def __init__(self, dtype: Any = "float32", precision: str = "fp32"):
        try:
            import cupy
        except ImportError as error:
            reason = (
                "CuPy is not installed"
                if isinstance(error, ModuleNotFoundError)
                else f"CuPy does not load ({error})"
            )
            raise BackendError(
                f"backend cupy: {one_line(reason)}: {INSTALL}; or use --backend numpy"
            ) from error
        try:
            devices = cupy.cuda.runtime.getDeviceCount()
        except cupy.cuda.runtime.CUDARuntimeError as error:
            raise BackendError(
                f"backend cupy: no usable NVIDIA driver or GPU ({one_line(error)}): "
                "check `nvidia-smi` and that CuPy's CUDA version is not newer than the driver's; or use --backend numpy"
            ) from error
        if devices == 0:
            raise BackendError(
                "backend cupy: this machine shows no NVIDIA GPU: check `nvidia-smi`; or use --backend numpy"
            )
        super().__init__(cupy, dtype)
        self.precision = precision
        self.kernels = Kernels(cupy, self.dtype)
        self.multiply = Gemm(cupy, self.dtype, precision)
        self.convolutions: dict[tuple[Any, ...], Convolution] = {}  # by geometry
        self.faster = faster_operations()
        self.counters: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()  # optimizer -> its Counter
        self.recording: Recording | None = None  # while a graph is recorded
        self.graphs = 0  # how many were
        self.parts = 1  # of a batch; see in_parts in cupy_norm.py

    def to_host(self, array: Array) -> np.ndarray:
        host: np.ndarray = self.xp.asnumpy(array)
        return host

    def put(self, values: np.ndarray, out: Array) -> None:
        out.set(np.ascontiguousarray(values, out.dtype), stream=self.xp.cuda.get_current_stream())

    def philox(self, seed: int, stream: int = 0) -> Philox:
        from minigan.backends.gpu.step_state import DevicePhilox

        return DevicePhilox(self, seed, stream)

    def capture(self, step: Callable[[], Any], rows: int = 0) -> Callable[[], Any]:
        from minigan.backends.gpu.graph import capture

        return capture(self, step)

    def inbox(self, shape: Shape, dtype: Any = None) -> Inbox:
        from minigan.backends.gpu.staging import PinnedInbox

        return PinnedInbox(self, shape, dtype)

    def free_memory(self) -> int:
        free: int = self.xp.cuda.runtime.memGetInfo()[0]
        return free

    def gather_images(self, pixels: Array, chosen: Array, out: Array, low: float) -> None:
        self.kernels.get("gather_images")(out.size, pixels, chosen, out, *out.shape, low)

    def collect(self, scalars: list[Array], out: Array) -> None:
        padded = [*scalars, *[None] * (8 - len(scalars))]
        self.kernels.get("collect")(1, out, *padded, len(scalars))

    def synchronize(self) -> None:
        self.xp.cuda.Device().synchronize()

    def gemm(self, a: Array, b: Array, out: Array, accumulate: bool = False) -> None:
        self.expect_gemm(a, b, out)
        self.multiply(a, b, out, accumulate)

    def im2col(self, x: Array, cols: Array, stride: Pair, padding: Padding) -> None:
        geometry = geometry_of(x, cols, stride, padding)
        width = self.kernels.width_of_rows(geometry)
        self.kernels.get("im2col", geometry, width=width)(cols.size // width, x, cols, len(x))

    def col2im(self, cols: Array, x: Array, stride: Pair, padding: Padding) -> None:
        geometry, width = geometry_of(x, cols, stride, padding), self.kernels.width(x.shape[3])
        self.kernels.get("col2im", geometry, width=width)(
            x.size // width, cols, None, x, len(x), 0.0
        )


def faster_operations() -> dict[Callable[..., Any], Any]:
    """-> definition -> what takes its place. Imported here, since layers and optimizers import backends."""
    from minigan import averaging, gan, losses, optimizers
    from minigan.backends.gpu import blocks as cupy_fused
    from minigan.backends.gpu import convolution as cupy_convolution
    from minigan.backends.gpu import joined_update as cupy_pair
    from minigan.backends.gpu import losses as cupy_losses
    from minigan.backends.gpu import nearest as cupy_neighbours
    from minigan.backends.gpu import reductions as cupy_sums
    from minigan.backends.gpu import step_state as cupy_counters
    from minigan.evaluation import neighbours
    from minigan.layers import conv2d, conv_transpose2d, linear, sequential

    return {
        averaging.approach: cupy_counters.approach,
        conv2d.conv2d_forward: cupy_convolution.conv2d_forward,
        conv2d.conv2d_backward: cupy_convolution.conv2d_backward,
        conv_transpose2d.conv_transpose2d_forward: cupy_convolution.conv_transpose2d_forward,
        conv_transpose2d.conv_transpose2d_backward: cupy_convolution.conv_transpose2d_backward,
        gan.update_discriminator: cupy_pair.update_discriminator,
        linear.linear_forward: cupy_convolution.linear_forward,
        linear.linear_backward: cupy_convolution.linear_backward,
        losses.mean_bce: cupy_losses.mean_bce,
        losses.mean_sigmoid: cupy_losses.mean_sigmoid,
        neighbours.Nearest: cupy_neighbours.DeviceNearest,
        optimizers.length: cupy_sums.length,
        optimizers.Adam.apply: cupy_counters.adam,
        sequential.plan: cupy_fused.fused_plan,
    }


def geometry_of(x: Array, cols: Array, stride: Pair, padding: Padding) -> Geometry:
    """-> of x (n, h, w, c) and cols (n, h_out, w_out, k_h, k_w, c)"""
    _, p, q, k_h, k_w, c = cols.shape
    return find_geometry(x.shape[1:], (k_h, k_w, c, 1), (p, q, 1), stride, padding)


def one_line(message: object) -> str:
    """-> the message without line breaks."""
    return " ".join(str(message).split())
