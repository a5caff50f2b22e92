"""kernels.cu on the CPU: compiled by the C++ compiler of this machine, run block by block and thread by thread.

The kernels wait for nobody (no shared memory, no barriers), so that a loop over all threads is what a GPU does,
in one of the orders that it may take: here forwards and backwards in turn, so that a kernel whose threads
write over one another's results is found out. Their text is the same, but for a few words before and behind it: on a
GPU a geometry's numbers are constants, here variables that are set before each launch.
"""

import ctypes
import hashlib
import itertools
import os
import re
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import numpy as np

from minigan.backends.gpu.kernels import Geometry, geometry_names, signatures, source

BEFORE = r"""
#include <cmath>
#include <utility>
#define __global__ static
#define __device__
struct Dim { int x; };
static Dim threadIdx, blockIdx, blockDim, gridDim;
using std::exp; using std::log; using std::sqrt; using std::pow; using std::cos; using std::sin; using std::tanh; using std::log1p;
struct G { static int %s; };
""" % ", ".join(Geometry._fields)  # noqa: UP031
BEHIND = r"""
%s
extern "C" void set_geometry(const int *values) { %s }
static bool backwards = false;
template <class... A, std::size_t... I>
static void run(void (*kernel)(A...), int grid, int block, void **arguments, std::index_sequence<I...>) {
  gridDim.x = grid;
  blockDim.x = block;
  backwards = !backwards;
  for (int i = 0; i < grid * block; i++) {
    const int t = backwards ? grid * block - 1 - i : i;
    blockIdx.x = t / block;
    threadIdx.x = t %% block;
    kernel(*static_cast<A *>(arguments[I])...);
  }
}
template <class... A> static void launch(void (*kernel)(A...), int grid, int block, void **arguments) {
  run(kernel, grid, block, arguments, std::index_sequence_for<A...>());
}
"""
GEOMETRY = re.compile(r"\bG[\d_]+")
NUMBERS = {"int": ctypes.c_int, "double": ctypes.c_double}
ACTIVATIONS = ("Identity", "ReLU", "LeakyReLU", "Tanh", "Sigmoid")


def compiler():
    """-> path of a C++ compiler, or None."""
    return next(
        filter(
            None, map(shutil.which, filter(None, (os.environ.get("CXX"), "c++", "g++", "clang++")))
        ),
        None,
    )


def symbol(expression):
    return "launch_" + re.sub(r"\W+", "_", expression).strip("_")


def variants():
    """-> every expression that the kernels can be asked for."""
    for name, (parameters, _) in signatures().items():
        for kind, wide in (("float", 4), ("double", 2)):
            widths = ("1", str(wide), str(2 * wide)) if name == "few_forward" else ("1", str(wide))
            values = {"T": (kind,), "G": ("G",), "F": ACTIVATIONS, "V": widths}
            for chosen in itertools.product(*(values[parameter] for parameter in parameters)):
                yield f"{name}<{', '.join(chosen)}>"


@cache
def compiled(text, expressions=None):
    """-> the kernels of this text, compiled; kept in the folder for temporary files. expressions: those that are needed, or all."""
    fields = Geometry._fields
    behind = BEHIND % (
        "".join(f"int G::{f};\n" for f in fields),
        "".join(f"G::{f} = values[{i}]; " for i, f in enumerate(fields)),
    )
    behind += "".join(
        f'extern "C" void {symbol(e)}(int grid, int block, void **arguments) {{ launch({e}, grid, block, arguments); }}\n'
        for e in expressions or variants()
    )
    whole = BEFORE + text + behind
    command = [
        compiler(),
        "-x",
        "c++",
        "-std=c++17",
        "-O1",
        "-ffp-contract=off",
        "-shared",
        "-fPIC",
        "-w",
        "-",
    ]
    key = hashlib.sha256("\n".join([*command, whole]).encode()).hexdigest()[:20]
    path = own_folder() / f"{key}.so"
    if not path.exists():
        made = path.with_suffix(f".{os.getpid()}")
        subprocess.run([*command, "-o", str(made)], input=whole, text=True, check=True)
        os.replace(made, path)
    return ctypes.CDLL(str(path))


def own_folder():
    """-> folder for compiled kernels, into which nobody else can write"""
    user = os.getuid() if hasattr(os, "getuid") else 0
    folder = Path(tempfile.gettempdir()) / f"minigan-kernels-{user}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder if folder.stat().st_uid == user else Path(tempfile.mkdtemp())


class HostModule:
    """What cupy.RawModule is, on the CPU. do(function, *arrays) is called with each launch, to be done now or later."""

    def __init__(self, code, options, name_expressions, do, mutate=None):
        assert options == ("--std=c++17",)
        self.geometries = {
            name: [int(v.split("=")[1]) for v in text.split(",")]
            for name, text in geometry_names(code)
        }
        self.expressions, self.do = name_expressions, do
        assert code.startswith(source())
        if mutate is None:
            self.compiled = compiled(source())
        else:
            self.compiled = compiled(
                mutate(source()),
                tuple(dict.fromkeys(GEOMETRY.sub("G", e) for e in name_expressions)),
            )

    def get_function(self, expression):
        assert expression in self.expressions, (
            f"{expression} was not asked for when the module was compiled"
        )
        geometry = GEOMETRY.search(expression)
        function = getattr(self.compiled, symbol(GEOMETRY.sub("G", expression)))
        values = (
            (ctypes.c_int * len(Geometry._fields))(*self.geometries[geometry[0]])
            if geometry
            else None
        )
        _, types = signatures()[expression.split("<")[0]]

        def launch(grid, block, arguments):
            (grid,), (block,) = grid, block
            assert 1 <= grid < 2**31 and 1 <= block <= 1024 and len(arguments) == len(types)
            places = [
                place(argument, kind) for argument, kind in zip(arguments, types, strict=True)
            ]

            def run():
                if values is not None:
                    self.compiled.set_geometry(values)
                function(
                    grid,
                    block,
                    (ctypes.c_void_p * len(places))(*(ctypes.addressof(p) for p in places)),
                )

            # the memory, alive for as long as it may be launched; not the arrays: a recorded launch holds none either
            run.kept = [getattr(argument, "held", None) for argument in arguments]
            self.do(run, *(argument for argument in arguments if hasattr(argument, "held")))

        return launch


def place(argument, kind):
    """-> the argument where a kernel finds it; raises where it is not what the kernel reads there."""
    if kind in NUMBERS:
        assert type(argument) is {"int": np.int32, "double": np.float64}[kind], (
            f"{kind} expected, got {argument!r}"
        )
        return NUMBERS[kind](argument.item())
    if type(argument) is np.uint64:
        assert argument == 0
        return ctypes.c_void_p(None)
    return ctypes.c_void_p(argument.data.ptr)
