"""The kernels of kernels.cu: selection, compilation and checked launches.

CuPy's own elementwise kernels take more than a second each to compile; a kernel without headers
takes a twentieth of that. So all of minigan's are in one file, as templates, and a variant is
compiled for each geometry: its sizes are constants, so that dividing by them is almost free. Blocks
name what they need at setup; at the first launch everything named so far is compiled as one module.
CuPy keeps it on the disk: later runs load it.

A launch copies its arguments into a block of memory that nothing checks. So each is checked here,
by the signature in kernels.cu: dtype, contiguous or not, a whole number or not.
"""

import re
from collections import namedtuple
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from math import gcd
from typing import Any

import numpy as np

from minigan.errors import ArrayTypeError, BackendError, ShapeError

BLOCK = 256  # threads in one
PACK = 16  # bytes that a thread reads at once
MOST_BLOCKS = 2**15  # beyond that, threads take several numbers each
# numbers in an array: indices have 32 bits, and a loop looks one step beyond
LARGEST = 2**31 - 1 - BLOCK * MOST_BLOCKS
OPTIONS = ("--std=c++17",)
SOURCES = ("kernels.cu", "implicit.cu")
SIGNATURE = re.compile(r"template <([^>]*)>\s*__global__ void (?:__launch.*\n)?(\w+)\(([^)]*)\)")
ALWAYS = (  # in every training step
    "fold", "squares", "root_of_sum", "probabilities", "collect", "adam", "adam_tick", "ema_update",
)  # fmt: skip
DTYPES = {  # of array arguments, except T*
    "double*": "float64", "int*": "int32", "unsignedchar*": "uint8", "unsignedlonglong*": "uint64",
}  # fmt: skip
TYPES = {"float32": "float", "float64": "double"}
Activation = tuple[str, float]  # a name in kernels.cu, and its constant
IDENTITY: Activation = ("Identity", 0.0)


class Geometry(namedtuple("Geometry", "H W C P Q D KH KW SH SW TOP LEFT")):
    """G of kernels.cu: of a convolution, or of the one that a transposed convolution transposes."""

    @property
    def name(self) -> str:
        return "G" + "_".join(map(str, self))

    def struct(self) -> str:
        """-> its definition in C++."""
        values = ", ".join(f"{k} = {v}" for k, v in self._asdict().items())
        return f"struct {self.name} {{ static constexpr int {values}; }};\n"


@cache
def source() -> str:
    """-> the text of kernels.cu and implicit.cu."""
    folder = files("minigan.backends.gpu")
    return "".join(folder.joinpath(name).read_text("utf-8") for name in SOURCES)


@cache
def signatures() -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    """-> kernel -> its template parameters ("T", "G", "F"), argument types ("T*", "int")."""
    found = {}
    for parameters, name, arguments in SIGNATURE.findall(source()):
        names = tuple(parameter.split()[-1] for parameter in parameters.split(","))
        types = (re.sub(r"\bconst\b|\w+$|\s", "", each) for each in arguments.split(","))
        found[name] = (names, tuple(types))
    return found


class Kernel:
    """One variant of a kernel; calling it launches it, after compiling if necessary."""

    def __init__(self, kernels: "Kernels", expression: str, types: tuple[str, ...], aligned: int):
        self.kernels, self.expression = kernels, expression
        self.types, self.aligned = types, aligned
        self.function: Any = None

    def __call__(self, count: int, *arguments: Any) -> None:
        """Launch for `count` threads; arguments: arrays, numbers, None for a null pointer."""
        blocks = min(-(-expect_int(count) // BLOCK), MOST_BLOCKS)
        self.launch((blocks,), BLOCK, arguments)

    def launch(
        self, grid: tuple[int, ...], block: int, arguments: Sequence[Any], shared: int = 0
    ) -> None:
        """Launch blocks of `block` threads, each with `shared` bytes of memory."""
        if self.function is None:
            self.kernels.compile()
        pairs = zip(arguments, self.types, strict=True)
        checked = tuple(self.check(argument, kind) for argument, kind in pairs)
        if shared and self.function.max_dynamic_shared_size_bytes < shared:  # 48 KiB by default
            self.function.max_dynamic_shared_size_bytes = shared
        self.function(grid, (block,), checked, shared_mem=shared)

    def check(self, argument: Any, kind: str) -> Any:
        """-> the argument as the kernel takes it. Raises ArrayTypeError, ShapeError."""
        if kind == "int":
            return np.int32(expect_int(argument))
        if kind == "double":
            return np.float64(argument)
        if argument is None:
            return np.uint64(0)
        dtype, contiguous = self.kernels.dtypes[kind], argument.flags.c_contiguous
        if argument.dtype != dtype or not contiguous or argument.data.ptr % self.aligned:
            raise ArrayTypeError(
                f"{self.expression}: expected a contiguous array of {dtype}, aligned to "
                f"{self.aligned} bytes, got {argument.dtype}, contiguous: {contiguous}"
            )
        if dtype != np.uint8:
            expect_int(argument.size)
        return argument


class Kernels:
    """All kernels of one backend: get() makes a Kernel, compile() compiles all that are new."""

    def __init__(self, xp: Any, dtype: np.dtype[Any]):
        self.xp, self.dtype = xp, dtype
        self.dtypes = {"T*": dtype} | {kind: np.dtype(name) for kind, name in DTYPES.items()}
        self.made: dict[str, Kernel] = {}
        self.pending: list[Kernel] = []
        self.geometries: set[Geometry] = set()
        self.modules, self.source = 0, source()  # how many were compiled; of what
        for name in ALWAYS:
            self.get(name)
        self.get("loss_of_logits", kind="CrossEntropy")

    def width(self, channels: int, packs: int = 1) -> int:
        """-> V for this many channels, of at most this many packs."""
        pack = PACK // self.dtype.itemsize
        widths = range(packs * pack, 0, -pack)
        return next((width for width in widths if channels % width == 0), 1)

    def width_of_rows(self, geometry: Geometry) -> int:
        """-> V for a window's part of one row; each image must begin at a multiple of V numbers."""
        return self.width(gcd(geometry.KW * geometry.C, geometry.H * geometry.W * geometry.C))

    def get(
        self,
        name: str,
        geometry: Geometry | None = None,
        kind: str = "Identity",
        width: int = 1,
        **more: int,
    ) -> Kernel:
        """-> the variant of a kernel; compiled at the next launch.

        kind  of activation, or of loss
        more  template parameters of implicit.cu
        """
        parameters, types = signatures()[name]
        G = geometry and geometry.name
        values = {"T": TYPES[self.dtype.name], "G": G, "F": kind, "L": kind, "V": width, **more}
        expression = f"{name}<{', '.join(str(values[parameter]) for parameter in parameters)}>"
        if expression not in self.made:
            aligned = min(PACK, width * self.dtype.itemsize) if "T*" in types else 1
            self.made[expression] = Kernel(self, expression, types, aligned)
            self.pending.append(self.made[expression])
            if geometry is not None:
                self.geometries.add(geometry)
        return self.made[expression]

    def compile(self) -> None:
        """Compile everything named since the last time, as one module. Raises BackendError."""
        names = tuple(sorted(kernel.expression for kernel in self.pending))
        text = self.source + "".join(geometry.struct() for geometry in sorted(self.geometries))
        try:
            module = self.xp.RawModule(code=text, options=OPTIONS, name_expressions=names)
            for name in names:
                self.made[name].function = module.get_function(name)
        except MemoryError:
            raise
        except Exception as error:  # CuPy raises many kinds
            if "OUT_OF_MEMORY" in str(error):
                raise MemoryError(error) from error
            first = " ".join(str(error).split())[:300] or type(error).__name__
            raise BackendError(
                f"backend cupy: the kernels do not compile ({first}): NVRTC must be installed and "
                "know this GPU: pip install 'cupy-cuda13x[ctk]' (or cupy-cuda12x), to "
                "match the driver; or use --backend numpy"
            ) from error
        # another thread may have named more since
        self.pending, self.modules = [k for k in self.pending if not k.function], self.modules + 1


def expect_int(value: Any) -> int:
    """-> value; raises ShapeError if 32 bits cannot hold it."""
    if not -LARGEST <= value <= LARGEST or value != int(value):
        raise ShapeError(
            f"{value} exceeds the {LARGEST} numbers that an array can have on the cupy backend: "
            "use a smaller batch"
        )
    return int(value)


def strips(rows: int, lanes: int, least: int = 8, threads: int = 2**16) -> tuple[int, int]:
    """How to cut a sum over rows to keep a GPU busy -> rows in a strip, number of strips.

    lanes  threads that one strip occupies anyway
    """
    count = max(1, min(rows // least, threads // lanes))
    strip = -(-rows // count)
    return strip, -(-rows // strip)
