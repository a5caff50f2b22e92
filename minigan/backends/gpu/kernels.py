"""The kernels of kernels.cu: which ones are needed, their compilation, and a launch that cannot go wrong silently.

CuPy's own elementwise kernels take more than a second each to compile, a kernel without headers a twentieth of
that. So all of minigan's stand in one file, as templates, and a variant is compiled for each geometry: its sizes are
constants, by which dividing costs next to nothing. Layers say at setup what they will need; at the first launch
everything that was asked for is compiled as one module. CuPy keeps that on the disk: later runs load it.

A launch puts its arguments into a block of memory that nobody checks. So each is checked here, by the signature
as it stands in kernels.cu: dtype, contiguous or not, a whole number or not.
"""

import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from math import gcd
from typing import Any, NamedTuple

import numpy as np

from minigan.arrays.backend import Padding, Pair, Shape
from minigan.errors import ArrayTypeError, BackendError, ShapeError

BLOCK = 256  # threads in one
PACK = 16  # bytes that a thread reads at once
MOST_BLOCKS = 2**15  # beyond that, threads take several numbers each
LARGEST = (
    2**31 - 1 - BLOCK * MOST_BLOCKS
)  # numbers in an array: indices have 32 bits, and a loop looks one step beyond
OPTIONS = ("--std=c++17",)
SIGNATURE = re.compile(r"template <([^>]*)>\s*__global__ void (\w+)\(([^)]*)\)")
ALWAYS = (
    "fold",
    "squares",
    "root_of_sum",
    "bce",
    "probabilities",
    "collect",
    "adam",
    "adam_tick",
    "approach",
)  # of a training step
DTYPES = {
    "double": "float64",
    "int": "int32",
    "unsigned char": "uint8",
    "unsigned long long": "uint64",
}  # of arrays, but for T
TYPES = {"float32": "float", "float64": "double"}


class Geometry(NamedTuple):
    """G of kernels.cu: of a convolution, or of the one that a transposed convolution transposes."""

    H: int
    W: int
    C: int
    P: int
    Q: int
    D: int
    KH: int
    KW: int
    SH: int
    SW: int
    TOP: int
    LEFT: int

    @property
    def name(self) -> str:
        return "G" + "_".join(map(str, self))

    def struct(self) -> str:
        """-> its definition in C++."""
        return f"struct {self.name} {{ static constexpr int {', '.join(f'{k} = {v}' for k, v in self._asdict().items())}; }};\n"


def find_geometry(
    x_shape: Shape, W_shape: Shape, y_shape: Shape, stride: Pair, padding: Padding
) -> Geometry:
    """Of x (h, w, c_in), W (k_h, k_w, c_in, c_out), y (h_out, w_out, c_out)."""
    (h, w, c_in), (h_out, w_out, c_out), (k_h, k_w) = x_shape, y_shape, W_shape[:2]
    return Geometry(
        h, w, c_in, h_out, w_out, c_out, k_h, k_w, *stride, padding[0][0], padding[1][0]
    )


@cache
def source() -> str:
    """-> the text of kernels.cu."""
    return files("minigan.backends.gpu").joinpath("kernels.cu").read_text("utf-8")


@cache
def signatures() -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    """-> name of a kernel -> its template parameters ("T", "G", "F", "V"), types of its arguments ("T*", "int", ...)."""
    found = {}
    for parameters, name, arguments in SIGNATURE.findall(source()):
        types = [
            re.sub(r"\b(const|\w+$)", "", " ".join(argument.split())).replace(" ", "")
            for argument in arguments.split(",")
        ]
        found[name] = (
            tuple(parameter.split()[-1] for parameter in parameters.split(",")),
            tuple(types),
        )
    return found


class Kernel:
    """One variant of a kernel; calling it launches it, and compiles it where that has not been done."""

    def __init__(self, kernels: "Kernels", expression: str, types: tuple[str, ...], aligned: int):
        self.kernels, self.expression, self.types, self.aligned = (
            kernels,
            expression,
            types,
            aligned,
        )
        self.function: Any = None

    def __call__(self, count: int, *arguments: Any) -> None:
        """Launch: count of threads that have something to do; the kernel's arguments: arrays, numbers, None for a null pointer."""
        if self.function is None:
            self.kernels.compile()
        checked = tuple(
            self.check(argument, kind) for argument, kind in zip(arguments, self.types, strict=True)
        )
        blocks = min(-(-expect_int(count) // BLOCK), MOST_BLOCKS)
        self.function((blocks,), (BLOCK,), checked)

    def check(self, argument: Any, kind: str) -> Any:
        """-> the argument as the kernel takes it. Raises ArrayTypeError, ShapeError."""
        if kind == "int":
            return np.int32(expect_int(argument))
        if kind == "double":
            return np.float64(argument)
        if argument is None:
            return np.uint64(0)
        dtype = self.kernels.dtypes[kind]
        if (
            argument.dtype != dtype
            or not argument.flags.c_contiguous
            or argument.data.ptr % self.aligned
        ):
            raise ArrayTypeError(
                f"{self.expression}: expected a contiguous array of {dtype}, aligned to {self.aligned} bytes, got {argument.dtype}, "
                f"contiguous: {argument.flags.c_contiguous}"
            )
        if dtype != np.uint8:
            expect_int(argument.size)
        return argument


class Kernels:
    """All kernels of one backend: get() makes a Kernel, compile() compiles those that are not yet."""

    def __init__(self, xp: Any, dtype: np.dtype[Any]):
        self.xp, self.dtype = xp, dtype
        self.dtypes = {
            "T*": dtype,
            **{f"{kind.replace(' ', '')}*": np.dtype(name) for kind, name in DTYPES.items()},
        }
        self.made: dict[str, Kernel] = {}
        self.pending: list[Kernel] = []
        self.geometries: set[Geometry] = set()
        self.modules = 0  # how many were compiled
        for name in ALWAYS:
            self.get(name)

    def width(self, channels: int, packs: int = 1) -> int:
        """-> V for so many channels, of so many packs at most."""
        wide = PACK // self.dtype.itemsize
        return next(
            (count * wide for count in range(packs, 0, -1) if channels % (count * wide) == 0), 1
        )

    def width_of_rows(self, geometry: Geometry) -> int:
        """-> V for what a window takes of one row of the image; every image must begin where so many can be read at once."""
        return self.width(gcd(geometry.KW * geometry.C, geometry.H * geometry.W * geometry.C))

    def get(
        self,
        name: str,
        geometry: Geometry | None = None,
        activation: str = "Identity",
        width: int = 1,
    ) -> Kernel:
        """-> the variant of a kernel; it is compiled at the first launch of any."""
        parameters, types = signatures()[name]
        values = {
            "T": TYPES[self.dtype.name],
            "G": geometry and geometry.name,
            "F": activation,
            "V": width,
        }
        expression = f"{name}<{', '.join(str(values[parameter]) for parameter in parameters)}>"
        if expression not in self.made:
            aligned = (
                min(PACK, width * self.dtype.itemsize) if "V" in parameters else self.dtype.itemsize
            )
            kernel = self.made[expression] = Kernel(
                self, expression, types, aligned if "T*" in types else 1
            )
            self.pending.append(kernel)
            if geometry is not None:
                self.geometries.add(geometry)
        return self.made[expression]

    def compile(self) -> None:
        """Compile everything that was asked for since the last time, as one module. Raises BackendError."""
        wanted = sorted(self.pending, key=lambda kernel: kernel.expression)
        text = source() + "".join(geometry.struct() for geometry in sorted(self.geometries))
        try:
            module = self.xp.RawModule(
                code=text,
                options=OPTIONS,
                name_expressions=tuple(kernel.expression for kernel in wanted),
            )
            functions = [module.get_function(kernel.expression) for kernel in wanted]
        except (MemoryError, KeyboardInterrupt):
            raise
        except Exception as error:  # CuPy has many, by what is missing
            first = " ".join(str(error).split())[:300] or type(error).__name__
            raise BackendError(
                f"backend cupy: the kernels do not compile ({first}): NVRTC must be there and know this GPU: "
                "pip install 'cupy-cuda13x[ctk]' (or cupy-cuda12x), by the driver's CUDA version; or use --backend numpy"
            ) from error
        for kernel, function in zip(wanted, functions, strict=True):
            kernel.function = function
        self.pending, self.modules = [], self.modules + 1


def expect_int(value: Any) -> int:
    """-> value; raises ShapeError where 32 bits cannot hold it."""
    if not -LARGEST <= value <= LARGEST or value != int(value):
        raise ShapeError(
            f"{value} is beyond the {LARGEST} numbers that an array can have on the cupy backend: take a smaller batch"
        )
    return int(value)


def strips(rows: int, lanes: int, least: int = 8, threads: int = 2**16) -> tuple[int, int]:
    """How to cut a sum over rows: enough strips to keep a GPU busy -> rows in a strip, number of strips.

    lanes  threads side by side, which a strip has anyway
    """
    count = max(1, min(rows // least, threads // lanes))
    strip = -(-rows // count)
    return strip, -(-rows // strip)


def geometry_names(text: str) -> Sequence[tuple[str, str]]:
    """-> (name, definition) of each geometry in a module's text: for whoever runs the kernels elsewhere."""
    return re.findall(r"struct (G[\d_]+) \{ static constexpr int ([^;]*); \};", text)
