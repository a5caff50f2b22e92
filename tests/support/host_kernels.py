"""kernels.cu on the CPU: compiled by this machine's C++ compiler, and run thread by thread.

The kernels of kernels.cu use no shared memory and no barriers. So a loop over all threads does what
a GPU does, in one of the orders that it may choose: here forward and backward alternately, which
exposes a kernel whose threads overwrite one another's results. The kernel of implicit.cu runs in
blocks: host_blocks.py. The text is the same, with a few lines before and after it. One difference:
on a GPU the numbers of a geometry are constants, and here they are variables, which are set before
each launch.
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
from tests.support import host_blocks

BEFORE = """
extern "C" {  // not <cmath>, which takes longer to compile than the kernels
float expf(float); float log1pf(float); float tanhf(float); float sqrtf(float);
double exp(double); double log1p(double); double tanh(double); double sqrt(double);
double log(double); double cos(double); double sin(double); double pow(double, double);
}
#define __global__ static
#define __device__
#define __shared__
#define __align__(bytes)
#define __launch_bounds__(threads)
struct Dim { int x, z; };
static Dim threadIdx, blockIdx, blockDim, gridDim;
static unsigned round_to_tf32(float);  // these and the next: host_blocks.py
static void copy_async(float *, const float *, bool);
static void end_group();
template <int LAST> static void await_groups();
static void __syncthreads();
static void multiply_add(float (&)[4], const unsigned (&)[4], const unsigned (&)[2]);
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
COMPILE[3:3] = ["-U_FORTIFY_SOURCE"]  # longjmp goes from one stack to another
IN_BLOCKS = ("implicit",)
MOST_SHARED = 163 * 1024  # bytes of a block, of an A100
ROUNDS = True  # factors of tensor cores, as a GPU does; False: the float32 product, for tests


def compiler() -> str | None:
    """-> path of a C++ compiler, or None."""
    names = (os.environ.get("CXX"), "c++", "g++", "clang++")
    return next(filter(None, (shutil.which(name) for name in names if name)), None)


def symbol(expression: str) -> str:
    return "launch_" + re.sub(r"\W+", "_", expression).strip("_")


def variants() -> Iterator[str]:
    """-> every expression that the kernels of kernels.cu can be requested by."""
    for name, (parameters, _) in signatures().items():
        if name in IN_BLOCKS:
            continue
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
    in_blocks = [e for e in expressions if e.partition("<")[0] in IN_BLOCKS]
    whole += [host_blocks.BLOCKS] if in_blocks else []
    for e in expressions:
        if e in in_blocks:
            whole.append(host_blocks.ENTRY.format(symbol(e), e))
        else:
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
        text = source() if mutate is None else mutate(source())
        requested = dict.fromkeys(GEOMETRY.sub("G", e) for e in name_expressions)
        in_blocks = [e for e in requested if e.partition("<")[0] in IN_BLOCKS]
        plain = variants() if mutate is None else [e for e in requested if e not in in_blocks]
        self.compiled = compiled(text, tuple(plain))
        self.blocks = {e: compiled(text, (e,)) for e in in_blocks}

    def get_function(self, expression: str) -> Callable[..., None]:
        assert expression in self.expressions, f"{expression} was not named at compile time"
        name = GEOMETRY.sub("G", expression)
        library = self.blocks.get(name, self.compiled)
        function = getattr(library, symbol(name))
        geometry, values = GEOMETRY.search(expression), None
        if geometry:
            values = (ctypes.c_int * len(Geometry._fields))(*self.geometries[geometry[0]])
        _, types = signatures()[expression.partition("<")[0]]

        def launch(
            grid: tuple[int, ...], block: tuple[int], arguments: Sequence[Any], shared_mem: int = 0
        ) -> None:
            assert 1 <= grid[0] < 2**31 and 1 <= block[0] <= 1024
            assert shared_mem <= launch.max_dynamic_shared_size_bytes <= MOST_SHARED
            places = [place(value, kind) for value, kind in zip(arguments, types, strict=True)]

            def run() -> None:
                if values is not None:
                    library.set_geometry(values)
                addresses = (ctypes.c_void_p * len(places))(*map(ctypes.addressof, places))
                if name not in self.blocks:
                    function(grid[0], block[0], addresses)
                    return
                function.restype = ctypes.c_char_p
                sizes = (ctypes.c_int * 3)(*grid)
                failure = function(sizes, block[0], shared_mem, int(ROUNDS), addresses)
                assert failure is None, f"{expression}: {failure.decode()}"

            # keep the memory for as long as this may run; not the arrays, which no launch keeps
            run.kept = [getattr(value, "held", None) for value in arguments]
            self.do(run, *(value for value in arguments if hasattr(value, "held")))

        launch.max_dynamic_shared_size_bytes = 48 * 1024
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
