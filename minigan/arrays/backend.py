"""The backend: every primitive that the layers stand on, in plain array code.

A backend owns an array module (`xp`: numpy, or cupy with the same names), one
dtype for all that is trained, and the scratch memory. Layers write their
formulas with `xp` and with the methods here. This class is complete and slow:
it is the definition, and the oracle that a faster override is tested against.

A method is here only if two backends need different code for it, or if its
definition is an idea of its own (im2col and col2im).
"""

from collections.abc import Callable, Iterator
from math import prod
from sys import getrefcount
from typing import Any, TypeVar
from weakref import WeakSet

import numpy as np

from minigan.arrays.philox import Philox
from minigan.arrays.staging import Inbox
from minigan.errors import ArrayTypeError, ConfigError, ShapeError

DTYPES = ("float32", "float64")
Shape = tuple[int, ...]
Pair = tuple[int, int]  # (vertical, horizontal)
Padding = tuple[Pair, Pair]  # ((top, bottom), (left, right))
Array = Any  # numpy.ndarray or cupy.ndarray: the one kind that the backend has
Operation = TypeVar("Operation", bound=Callable[..., Any])


class Workspace:
    """Named memory that is allocated once and reused: nothing is allocated in a step.

    A name's memory grows to the largest size asked for and never shrinks, so
    that a smaller last batch is a leading view of the same memory. Under another
    `backend.scope` every name has other memory.
    """

    def __init__(self, backend: "Backend"):
        self.backend = backend
        self.memory: dict[tuple[str, str], Array] = {}  # (scope, name) -> memory
        self.given: dict[tuple[str, str], list[Array]] = {}

    def get(self, name: str, shape: Shape, dtype: Any = None) -> Array:
        """-> array `shape` with whatever was last written to this name's memory."""
        dtype = self.backend.dtype if dtype is None else np.dtype(dtype)
        size, key = prod(shape), (self.backend.scope, name)
        flat = self.memory.get(key)
        if flat is None or flat.size < size or flat.dtype != dtype:
            flat = self.memory[key] = self.backend.empty((size,), dtype)
        return self.backend.lent(flat[:size].reshape(shape))

    def fresh(self, name: str, shape: Shape) -> Array:
        """-> array `shape` that nobody else holds, to be given away.

        The memory of an earlier one is taken again as soon as nobody holds it or a view of
        it: views keep their owner alive, so its references tell. In a training loop two take
        turns, or a few single numbers; whoever keeps results simply keeps them, and others are allocated.
        """
        size = prod(shape)
        given = self.given.setdefault((self.backend.scope, name), [])
        for i in range(len(given)):
            if getrefcount(given[i]) == ALONE and given[i].size >= size:
                return given[i][:size].reshape(shape)
        flat = self.backend.empty((size,))
        given[:] = [*given[-1 if size > 1 else -FEW :], flat]
        return flat[:].reshape(shape)


FEW = 8  # single numbers that one round keeps at a time, at most
_list_of_one = [np.empty(1)]
ALONE = getrefcount(
    _list_of_one[0]
)  # references to an array that only a list holds, while it is looked at


class Backend:
    """Array module, dtype and primitives. Made by `minigan.get_backend`."""

    name = "base"
    precision = "fp32"  # of products of float32
    records = False  # does capture record?

    def __init__(self, xp: Any, dtype: Any = "float32"):
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
        self.scope = ""  # of the workspaces' memory: a recorded step has its own, see cupy_graph.py
        self.owners: WeakSet[Any] = (
            WeakSet()
        )  # of numbers that a step changes for good: each has kept() -> list of arrays, and steps
        self.workspace = Workspace(self)
        self.faster: dict[
            Callable[..., Any], Any
        ] = {}  # definition of an operation -> this backend's own version of it

    # -- arrays in and out ---------------------------------------------------

    def asarray(self, values: Any) -> Array:
        """values: host array, number or list -> array of this backend, of its dtype."""
        return self.xp.asarray(values, dtype=self.dtype)

    def to_host(self, array: Array) -> np.ndarray:
        """-> numpy array; on a GPU this waits for it."""
        return np.asarray(array)

    def put(self, values: np.ndarray, out: Array) -> None:
        """out = values, an array on the host of the same shape."""
        out[...] = self.xp.asarray(values, dtype=out.dtype)

    def is_array(self, value: Any) -> bool:
        """Is `value` an array of this backend?"""
        return isinstance(value, self.xp.ndarray)

    def empty(self, shape: Shape, dtype: Any = None) -> Array:
        """-> array with undefined content."""
        return self.xp.empty(shape, dtype=self.dtype if dtype is None else dtype)

    def lent(self, array: Array) -> Array:
        """array, on its way out of a Workspace -> what is handed out; see numpy_tape.py"""
        return array

    def zeros(self, shape: Shape, dtype: Any = None) -> Array:
        """-> array of zeros."""
        return self.xp.zeros(shape, dtype=self.dtype if dtype is None else dtype)

    def scratch(self, name: str, shape: Shape, dtype: Any = None) -> Array:
        """-> array from the workspace, for use until the operation that asked for it returns, or somebody asks for the name again."""
        return self.workspace.get(name, shape, dtype)

    def guard(self, value: Any, shape: Shape, label: str, what: str) -> None:
        """The door: raises unless `value` is an array of this backend and dtype, (n, *shape).

        who   the layer, for the message;  what  the argument's name
        Raises ArrayTypeError, ShapeError, each with the cure.
        """
        if not self.is_array(value):
            got = f"{type(value).__module__.split('.')[0]}.{type(value).__name__}"
            raise ArrayTypeError(
                f"{label}: got {got} as {what} on the {self.name} backend: call backend.asarray({what}) first"
            )
        if value.dtype != self.dtype:
            raise ArrayTypeError(
                f"{label}: expected {what} of dtype {self.dtype}, got {value.dtype}: call backend.asarray({what}) first"
            )
        wanted = "(" + ", ".join(["n", *map(str, shape)]) + ("" if shape else ",") + ")"
        if tuple(value.shape[1:]) != tuple(shape) or value.ndim == 0:
            hint = ""
            if (
                value.ndim == 4
                and len(shape) == 3
                and (*value.shape[2:], value.shape[1]) == tuple(shape)
            ):
                hint = f": minigan is channels-last, call {what}.transpose(0, 2, 3, 1)"
            elif (
                value.ndim == 4
                and len(shape) == 3
                and value.shape[1] in (1, 3)
                and value.shape[3] not in (1, 3)
            ):
                hint = f": this looks channels-first; minigan is channels-last, call {what}.transpose(0, 2, 3, 1)"
            elif tuple(value.shape) == tuple(shape):
                hint = f": the batch axis is missing, pass {what}[None]"
            raise ShapeError(f"{label}: expected {what} {wanted}, got {tuple(value.shape)}{hint}")
        if value.shape[0] == 0:
            raise ShapeError(
                f"{label}: expected {what} {wanted} with n of at least 1, got an empty batch"
            )

    def fill_uniform(self, generator: np.random.Generator, out: Array) -> None:
        """out = numbers from U[0, 1), drawn by a host numpy.random.Generator.

        From the host, so that every backend runs the same experiment.
        """
        out[...] = self.asarray(generator.random(out.shape, dtype=self.dtype))

    def philox(self, seed: int, stream: int = 0) -> Philox:
        """-> generator of random numbers that a GPU draws by itself; the same numbers on every backend. See philox.py."""
        return Philox(self, seed, stream)

    def capture(self, step: Callable[[], Any], rows: int = 0) -> Callable[[], Any]:
        """-> function without arguments that does what step() does, and gives what it gives; here it is `step`.

        rows  of the batches that it takes. It takes them from inboxes, by backend.share
        On a GPU the step is recorded, and launched as a whole at each call: see cupy_graph.py for what it may do. On a CPU several
        processes play it, each with its share of the rows: see numpy_crew.py.
        """
        return step

    def share(self, batch: Array) -> Array:
        """batch (n, ...) -> the rows of it that are for this process, within a captured step; all, where there is but one"""
        return batch

    def add_gradients(self, gradients: Array) -> None:
        """gradients (size,) of this process's share += those of the others', where there are others"""

    def inbox(self, shape: Shape, dtype: Any = None) -> Inbox:
        """-> array of at most shape[0] rows that is written from the host again and again; see inbox.py."""
        return Inbox(self, shape, dtype)

    def free_memory(self) -> int:
        """-> bytes of a device's own memory that are free; 0 where arrays lie in the host's."""
        return 0

    def gather_images(self, pixels: Array, chosen: Array, out: Array, low: float) -> None:
        """Pictures that stay on the device -> a batch of floats.

        pixels  (count, h, w, c) uint8
        chosen  (n,) int32   numbers of pictures; -1 - i is picture i mirrored left to right
        out     (n, h, w, c) written; 0 and 255 become low and 1
        low     -1 or 0
        """
        mirrored = chosen < 0
        out[...] = pixels[self.xp.where(mirrored, -1 - chosen, chosen)]
        out[mirrored] = out[mirrored][:, :, ::-1]
        self.xp.divide(out, 127.5 if low else 255, out=out)
        if low:
            self.xp.subtract(out, 1.0, out=out)

    def collect(self, scalars: list[Array], out: Array) -> None:
        """out (at most 8,) = scalars of this backend, in a row."""
        for i, scalar in enumerate(scalars):
            out[i] = scalar

    def synchronize(self) -> None:
        """Wait until all that was asked for is done; on a CPU it is, when a call returns."""

    def implementation(self, definition: Operation) -> Operation:
        """-> this backend's own version of an operation, or the definition itself.

        A layer asks once, at setup: `self.forward_op = backend.implementation(conv2d_forward)`.
        """
        operation: Operation = self.faster.get(definition, definition)
        return operation

    # -- primitives ----------------------------------------------------------

    def gemm(self, a: Array, b: Array, out: Array, accumulate: bool = False) -> None:
        """out = a @ b, or out += a @ b with `accumulate`.

        a    (m, k)   C-contiguous or the transpose of such an array
        b    (k, n)   the same
        out  (m, n)   C-contiguous
        Raises ArrayTypeError: a silent copy, or a change of dtype, would hide here.
        """
        self.expect_gemm(a, b, out)
        if accumulate:
            product = self.scratch("gemm", out.shape)
            self.xp.matmul(a, b, out=product)
            self.xp.add(out, product, out=out)
        else:
            self.xp.matmul(a, b, out=out)

    def expect_gemm(self, a: Array, b: Array, out: Array) -> None:
        """Raises ArrayTypeError unless gemm can take these without a copy or a change of dtype."""
        if not out.flags.c_contiguous or out.dtype != a.dtype or out.dtype != b.dtype:
            raise ArrayTypeError(
                f"gemm: expected a C-contiguous out of the operands' dtype {a.dtype}, "
                f"got {out.dtype}, contiguous: {out.flags.c_contiguous}"
            )

    def im2col(self, x: Array, cols: Array, stride: Pair, padding: Padding) -> None:
        """Copy the window of x under every output pixel into a row of its own.

        x        (n, h, w, c)
        cols     (n, h_out, w_out, k_h, k_w, c)   written; as a matrix, one window a row
        stride   (s_h, s_w)
        padding  ((top, bottom), (left, right))   pixels that are read as 0
        cols[n, p, q, i, j] = x[n, p*s_h + i - top, q*s_w + j - left], or 0 outside of x.
        """
        if padding != ((0, 0), (0, 0)):
            cols.fill(0)
        for i, j, outs, ins in windows(x.shape, cols.shape, stride, padding):
            cols[:, outs[0], outs[1], i, j] = x[:, ins[0], ins[1]]

    def col2im(self, cols: Array, x: Array, stride: Pair, padding: Padding) -> None:
        """The transpose of im2col, not its inverse: each pixel gets the sum of its copies.

        Arguments as im2col; x is overwritten. <im2col(x), c> == <x, col2im(c)>.
        """
        x.fill(0)
        for i, j, outs, ins in windows(x.shape, cols.shape, stride, padding):
            x[:, ins[0], ins[1]] += cols[:, outs[0], outs[1], i, j]


def windows(
    x_shape: Shape, cols_shape: Shape, stride: Pair, padding: Padding
) -> Iterator[tuple[int, int, tuple[slice, slice], tuple[slice, slice]]]:
    """For each kernel position (i, j): which outputs read a real pixel there, and which pixels.

    -> yields i, j, (rows, columns) of the output, (rows, columns) of x, as slices
    """
    _, h, w, _ = x_shape
    _, h_out, w_out, k_h, k_w, _ = cols_shape
    for i in range(k_h):
        rows_out, rows_in = inside(i - padding[0][0], stride[0], h_out, h)
        for j in range(k_w):
            columns_out, columns_in = inside(j - padding[1][0], stride[1], w_out, w)
            yield i, j, (rows_out, columns_out), (rows_in, columns_in)


def inside(offset: int, stride: int, size_out: int, size_in: int) -> tuple[slice, slice]:
    """Which p of 0..size_out-1 have 0 <= p*stride + offset < size_in -> slices of p and of the pixels."""
    first = max(0, -(offset // stride))  # smallest p with p*stride + offset >= 0
    last = min(size_out, (size_in - 1 - offset) // stride + 1)
    if last <= first:
        return slice(0, 0), slice(0, 0)
    start = first * stride + offset
    return slice(first, last), slice(start, start + (last - first - 1) * stride + 1, stride)
