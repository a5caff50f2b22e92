"""kernels.cu on the CPU: compiled by this machine's C++ compiler, and run thread by thread.

The kernels use no shared memory and no barriers. So a loop over all threads does what a GPU does,
in one of the orders that it may choose: here forward and backward alternately, which exposes a
kernel whose threads overwrite one another's results. The text is the same, with a few lines before
and after it. One difference: on a GPU the numbers of a geometry are constants, and here they are
variables, which are set before each launch.
"""

import ctypes
import hashlib
import itertools
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from minigan.backends.gpu.kernels import Geometry, signatures, source

BEFORE = """
extern "C" {  // not <cmath>, which takes longer to compile than the kernels
float expf(float); float log1pf(float); float tanhf(float); float sqrtf(float);
double exp(double); double log1p(double); double tanh(double); double sqrt(double);
double log(double); double cos(double); double sin(double); double pow(double, double);
}
#define __global__ static
#define __device__
struct Dim { int x; };
static Dim threadIdx, blockIdx, blockDim, gridDim;
"""
AFTER = """
static bool backward = false;
struct Call {
  template <class... A> Call(void (*kernel)(A...), A... values) { kernel(values...); }
};
template <class... A>
static void launch(void (*kernel)(A...), int grid, int block, void **arguments) {
  gridDim.x = grid;
  blockDim.x = block;
  backward = !backward;
  for (int i = 0; i < grid * block; i++) {
    const int t = backward ? grid * block - 1 - i : i;
    blockIdx.x = t / block;
    threadIdx.x = t % block;
    int a = 0;  // braces: in order
    Call{kernel, *static_cast<A *>(arguments[a++])...};
  }
}
"""
ENTRY = 'extern "C" void {}(int grid, int block, void **arguments) {{ {}; }}\n'
GEOMETRY = re.compile(r"\bG[\d_]+")
STRUCT = re.compile(r"struct (G[\d_]+) \{ static constexpr int ([^;]*); \};")  # Geometry.struct
NUMBERS = {"int": (np.int32, ctypes.c_int), "double": (np.float64, ctypes.c_double)}
ACTIVATIONS = ("Identity", "ReLU", "LeakyReLU", "Tanh", "Sigmoid")
LOSSES = ("CrossEntropy", "LeastSquares", "Hinge", "Negative")
COMPILE = ["-x", "c++", "-std=c++17", "-O1", "-ffp-contract=off", "-shared", "-fPIC", "-w", "-"]


def compiler() -> str | None:
    """-> path of a C++ compiler, or None."""
    names = (os.environ.get("CXX"), "c++", "g++", "clang++")
    return next(filter(None, (shutil.which(name) for name in names if name)), None)


def symbol(expression: str) -> str:
    return "launch_" + re.sub(r"\W+", "_", expression).strip("_")


def variants() -> Iterator[str]:
    """-> every expression that the kernels can be requested by."""
    for name, (parameters, _) in signatures().items():
        for kind, pack in (("float", 4), ("double", 2)):
            widths = ["1", str(pack), str(2 * pack)][: 3 if name == "few_forward" else 2]
            values = {"T": (kind,), "G": ("G",), "F": ACTIVATIONS, "L": LOSSES, "V": widths}
            for chosen in itertools.product(*(values[parameter] for parameter in parameters)):
                yield f"{name}<{', '.join(chosen)}>"


@cache
def compiled(text: str, expressions: tuple[str, ...]) -> ctypes.CDLL:
    """-> the kernels of this text, compiled; kept in the folder for temporary files."""
    fields = Geometry._fields
    assignments = "".join(f"G::{field} = values[{i}]; " for i, field in enumerate(fields))
    whole = [BEFORE, f"struct G {{ static int {', '.join(fields)}; }};\n", text, AFTER]
    whole += [f"int G::{field};\n" for field in fields]
    whole += [f'extern "C" void set_geometry(const int *values) {{ {assignments}}}\n']
    for e in expressions:
        whole.append(ENTRY.format(symbol(e), f"launch({e}, grid, block, arguments)"))
    content, command = "".join(whole), [str(compiler()), *COMPILE]
    key = hashlib.sha256(f"{command}\n{content}".encode()).hexdigest()[:20]
    path = private_folder() / f"{key}.so"
    if not path.exists():
        made = path.with_suffix(f".{os.getpid()}")
        subprocess.run([*command, "-o", str(made)], input=content, text=True, check=True)
        os.replace(made, path)
    return ctypes.CDLL(str(path))


def private_folder() -> Path:
    """-> folder for compiled kernels that nobody else can write to."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    folder = Path(tempfile.gettempdir()) / f"minigan-kernels-{user}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder if folder.stat().st_uid == user else Path(tempfile.mkdtemp())


class HostModule:
    """As cupy.RawModule, on the CPU.

    do(run, *arrays)  receives each launch as a function, to run now or later
    mutate            text -> text with a mistake; only what is requested is then compiled
    """

    def __init__(
        self,
        code: str,
        options: Sequence[str],
        name_expressions: Sequence[str],
        do: Callable[..., None],
        mutate: Callable[[str], str] | None = None,
    ):
        assert options == ("--std=c++17",)
        assert code.startswith(source())
        self.geometries = {
            name: [int(value.split("=")[1]) for value in values.split(",")]
            for name, values in STRUCT.findall(code)
        }
        self.expressions, self.do = name_expressions, do
        if mutate is None:
            self.compiled = compiled(source(), tuple(variants()))
        else:
            requested = dict.fromkeys(GEOMETRY.sub("G", e) for e in name_expressions)
            self.compiled = compiled(mutate(source()), tuple(requested))

    def get_function(self, expression: str) -> Callable[..., None]:
        assert expression in self.expressions, f"{expression} was not named at compile time"
        function = getattr(self.compiled, symbol(GEOMETRY.sub("G", expression)))
        geometry, values = GEOMETRY.search(expression), None
        if geometry:
            values = (ctypes.c_int * len(Geometry._fields))(*self.geometries[geometry[0]])
        _, types = signatures()[expression.partition("<")[0]]

        def launch(grid: tuple[int], block: tuple[int], arguments: Sequence[Any]) -> None:
            assert 1 <= grid[0] < 2**31 and 1 <= block[0] <= 1024
            places = [place(value, kind) for value, kind in zip(arguments, types, strict=True)]

            def run() -> None:
                if values is not None:
                    self.compiled.set_geometry(values)
                addresses = (ctypes.c_void_p * len(places))(*map(ctypes.addressof, places))
                function(grid[0], block[0], addresses)

            # keep the memory for as long as this may run; not the arrays, which no launch keeps
            run.kept = [getattr(value, "held", None) for value in arguments]
            self.do(run, *(value for value in arguments if hasattr(value, "held")))

        return launch


def place(value: Any, kind: str) -> Any:
    """-> the argument where a kernel finds it, which must be of the kind that it reads there."""
    if kind in NUMBERS:
        expected, number = NUMBERS[kind]
        assert type(value) is expected, f"expected {kind}, got {value!r}"
        return number(value.item())
    if type(value) is np.uint64:
        assert value == 0
        return ctypes.c_void_p(None)
    return ctypes.c_void_p(value.data.ptr)
