"""The plain backend: where arrays live and which dtype they have, without any speedups.

A backend owns an array module (`xp`: numpy, or cupy with the same names) and one dtype for
everything that is trained. It is passed to every network at setup; there is no global one. This
class is complete: it runs every definition exactly as written in its file, and `--backend plain`
trains with it. It is the specification that faster backends (backends/cpu, backends/gpu) are tested
against.

A method exists only if two backends need different code for it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np

from minigan.arrays.staging import StagingBuffer
from minigan.arrays.types import Array, Shape
from minigan.checks import ignore_float_errors
from minigan.copying import Copyable
from minigan.errors import ArrayTypeError, ConfigError, ShapeError

DTYPES = ("float32", "float64")
Operation = TypeVar("Operation", bound=Callable[..., Any])
Operations = Mapping[Callable[..., Any], Any]  # definition -> faster version
Call = Callable[[], Any]  # a step, or the host's work around its launch
MakeStep = Callable[["Backend"], Call]


class Stateful(Protocol):
    """An object whose numbers survive a step: a network's store, an optimizer."""

    def state_arrays(self) -> list[Array]: ...


class Backend(Copyable):
    """Array module, dtype, and what differs between a CPU and a GPU. Made by get_backend."""

    name = "plain"
    precision = "fp32"  # of float32 products
    compiled = False  # are there kernels that numba compiles?
    captures_graphs = False  # does capture record a CUDA graph?

    def __init__(self, dtype: Any = "float32", xp: Any = np):
        self.xp = xp
        try:
            known = np.dtype(dtype).name in DTYPES
        except TypeError:
            known = False
        if not known:
            raise ConfigError(
                f"backend {self.name}: dtype must be one of {', '.join(DTYPES)}, got {dtype!r}"
            )
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        self.operations: Operations = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> "Backend":
        """Itself: the copy of a network computes in the same place."""
        return self

    def operation_for(self, definition: Operation) -> Operation:
        """-> this backend's version of an operation: the definition itself, or a faster one.

        backends/cpu/table.py and backends/gpu/table.py list every operation that has one.
        """
        operation: Operation = self.operations.get(definition, definition)
        return operation

    # -- arrays in and out ---------------------------------------------------

    @ignore_float_errors
    def asarray(self, values: Any) -> Array:
        """values: host array, number or list -> array of this backend and dtype."""
        return self.xp.asarray(values, dtype=self.dtype)

    def to_host(self, array: Array) -> np.ndarray:
        """-> numpy array; on a GPU this waits for the result."""
        return np.asarray(array)

    def put(self, values: np.ndarray, out: Array) -> None:
        """out = values, a host array of the same shape."""
        out[...] = self.xp.asarray(values, dtype=out.dtype)

    def copy_out(self, array: Array, name: str) -> Array:
        """-> a copy for the caller to keep and change: a layer may still need the original.

        name  "y" or "dx": on a fast backend, results of the same name reuse each other's memory
        """
        return array.copy()

    def is_array(self, value: Any) -> bool:
        """Is `value` an array of this backend?"""
        return isinstance(value, self.xp.ndarray)

    def guard(self, value: Any, shape: Shape, label: str, name: str) -> None:
        """Validate an argument once, at the entry: an array (n, *shape) of this backend and dtype.

        label  the layer, for the message;  name  the argument
        Raises ArrayTypeError, ShapeError, each with its cure.
        """
        if not self.is_array(value):
            got = f"{type(value).__module__.split('.')[0]}.{type(value).__name__}"
            raise ArrayTypeError(
                f"{label}: got {got} as {name} on the {self.name} backend: "
                f"call backend.asarray({name}) first"
            )
        if value.dtype != self.dtype:
            scaled = " / 127.5 - 1" * (value.dtype == "uint8" and value.ndim == 4)  # images
            raise ArrayTypeError(
                f"{label}: expected {name} of dtype {self.dtype}, got {value.dtype}: "
                f"call backend.asarray({name}{scaled}) first"
            )
        expected = f"(n, {', '.join(map(str, shape))})" if shape else "(n,)"
        if value.ndim == 0 or tuple(value.shape[1:]) != tuple(shape):
            came, hint = tuple(value.shape), ""
            if len(came) == 4 and len(shape) == 3 and (*came[2:], came[1]) == tuple(shape):
                hint = f": minigan is channels-last, call {name}.transpose(0, 2, 3, 1)"
            elif len(came) == 4 and len(shape) == 3 and came[1] in (1, 3) and came[3] not in (1, 3):
                hint = f": this looks channels-first, call {name}.transpose(0, 2, 3, 1)"
            elif came == tuple(shape):
                hint = f": the batch axis is missing, pass {name}[None]"
            raise ShapeError(f"{label}: expected {name} {expected}, got {came}{hint}")
        if value.shape[0] == 0:
            raise ShapeError(
                f"{label}: expected {name} {expected} with n of at least 1, got an empty batch"
            )

    def synchronize(self) -> None:
        """Wait for everything that was launched. On a CPU it is done when a call returns."""

    # -- a step that runs as a whole -----------------------------------------

    def capture(self, make_step: MakeStep, stateful: Sequence[Stateful], rows: int = 0) -> Call:
        """-> function without arguments that runs a whole step; here simply the step.

        make_step  backend -> step(). The backend that it is given belongs to the captured step:
                   networks and optimizers join it by `on(backend)`. It may be called more than once
        stateful   the objects that the step changes permanently
        rows       of its batches, which it takes from staging buffers through backend.shard
        A GPU records the step as one graph: backends/gpu/graph.py. On a CPU several processes each
        run it on their rows: backends/cpu/parallel_step.py.
        """
        fast = self.operations.get(Backend.capture)
        return fast(self, make_step, stateful, rows) if fast else make_step(self)

    def staging_buffer(self, shape: Shape, dtype: Any = None) -> StagingBuffer:
        """-> array of at most shape[0] rows that the host rewrites before each step."""
        return StagingBuffer(self, shape, dtype)

    def shard(self, batch: Array) -> Array:
        """batch (n, ...) -> the rows that this process computes: all, if it is the only one."""
        return batch

    def all_reduce(self, array: Array) -> None:
        """array = its sum over all processes that run this step together."""

    # -- images that stay on the device --------------------------------------

    def free_memory(self) -> int:
        """-> free bytes of the device's own memory; 0 if arrays live in the host's."""
        return 0

    def gather_images(self, pixels: Array, chosen: Array, out: Array, pixel_min: float) -> None:
        """Images that stay on the device -> a batch of floats.

        pixels     (count, h, w, c) uint8
        chosen     (n,) int32, numbers of images; -1 - i is image i mirrored left to right
        out        (n, h, w, c), written: 0 becomes pixel_min, -1 or 0, and 255 becomes 1
        """
        mirrored = chosen < 0
        out[...] = pixels[self.xp.where(mirrored, -1 - chosen, chosen)]
        out[mirrored] = out[mirrored][:, :, ::-1]
        out /= 127.5 if pixel_min else 255
        if pixel_min:
            out -= 1.0

    def collect(self, scalars: list[Array], out: Array) -> None:
        """out (at most 8,) = scalars of this backend, in a row."""
        for i, scalar in enumerate(scalars):
            out[i] = scalar
