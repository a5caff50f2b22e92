"""Matrix products on the GPU: cuBLAS, through our own handle.

CuPy multiplies by cuBLAS too, but refuses to while a CUDA graph is recorded, because each of its
calls sets the handle's stream. cuBLAS itself can be recorded. So the library that CuPy has
loaded is called here, by ctypes: four functions of its C interface, each declared in full.
(NVIDIA's binding, nvmath-python, would save that, but brings 22 MB and four packages.)

We give the handle its workspace, and give it again after each change of stream, which resets it. So
a call allocates nothing, and with one workspace on one stream a product has the same bits in every
run.

Arrays here are row-major, cuBLAS reads column-major, which is the transpose: out = a·b is computed
as outᵀ = bᵀ·aᵀ. Nothing is copied: a flag makes cuBLAS read the transpose of a contiguous matrix.

Precision of float32: "fp32" multiplies in full; "tf32" rounds the factors to 11 bits, for tensor
cores, and adds in float32. Each call states it, so that no setting elsewhere changes it.
Source: NVIDIA, cuBLAS library, cublas_api.h: the numbers of its enumerations
"""

import ctypes
from typing import Any

import numpy as np

from minigan.arrays import Array
from minigan.errors import ArrayTypeError, BackendError

WORKSPACE = 32 * 2**20  # bytes, as many as cuBLAS itself takes on the largest GPUs
KEEP, TRANSPOSE = 0, 1  # cublasOperation_t
DATA = {"float32": 0, "float64": 1}  # cudaDataType_t
COMPUTE = {  # cublasComputeType_t
    ("float32", "fp32"): 68, ("float32", "tf32"): 77,
    ("float64", "fp32"): 70, ("float64", "tf32"): 70,
}  # fmt: skip
DEFAULT = -1  # cublasGemmAlgo_t: cuBLAS chooses

pointer, integer = ctypes.c_void_p, ctypes.c_int
SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cublasCreate_v2": (ctypes.POINTER(pointer),),
    "cublasSetStream_v2": (pointer, pointer),
    "cublasSetWorkspace_v2": (pointer, pointer, ctypes.c_size_t),
    # handle, two operations, m, n, k, alpha, A, its type, its leading dimension, B likewise, beta,
    # C likewise, compute type, algorithm
    "cublasGemmEx": (
        pointer, *[integer] * 5, pointer, pointer, integer, integer, pointer, integer, integer,
        pointer, pointer, *[integer] * 4,
    ),
}  # fmt: skip


def load_cublas(xp: Any) -> Any:
    """-> CuPy's cuBLAS library. Raises ImportError, OSError, RuntimeError."""
    from cuda import pathfinder  # installed with CuPy

    return ctypes.CDLL(pathfinder.load_nvidia_dynamic_lib("cublas").abs_path)


class Gemm:
    """Products of matrices of one dtype, in one precision; the first call loads the library."""

    def __init__(self, xp: Any, dtype: np.dtype[Any], precision: str):
        self.xp, self.dtype, self.compute = xp, dtype, COMPUTE[dtype.name, precision]
        number = {"float32": ctypes.c_float, "float64": ctypes.c_double}[dtype.name]
        self.zero, self.one = number(0), number(1)
        self.handle = pointer()
        self.cublas: Any = None
        self.stream: int | None = None  # the handle's

    def __call__(self, a: Array, b: Array, out: Array, accumulate: bool = False) -> None:
        """out = a @ b, or out += a @ b with `accumulate`.

        a, b  (m, k), (k, n)   contiguous, or the transpose of a contiguous array
        out   (m, n)           contiguous, of the same dtype: a silent copy would hide a mistake
        Raises ArrayTypeError, BackendError.
        """
        if not out.flags.c_contiguous or len({self.dtype, a.dtype, b.dtype, out.dtype}) > 1:
            raise ArrayTypeError(
                f"gemm: expected a C-contiguous out of the operands' dtype {a.dtype}, "
                f"got {out.dtype}, contiguous: {out.flags.c_contiguous}"
            )
        (m, k), n = a.shape, b.shape[1]
        if b.shape[0] != k or out.shape != (m, n):
            raise ArrayTypeError(f"gemm: {a.shape} times {b.shape} does not give {out.shape}")
        self.prepare()
        (op_a, lda), (op_b, ldb) = layout(a), layout(b)
        kind = DATA[self.dtype.name]
        alpha, beta = map(ctypes.addressof, (self.one, self.one if accumulate else self.zero))
        first, second = (b.data.ptr, kind, ldb), (a.data.ptr, kind, lda)
        result = (out.data.ptr, kind, n)
        self.call(
            "cublasGemmEx", self.handle, op_b, op_a, n, m, k, alpha, *first, *second, beta, *result,
            self.compute, DEFAULT,
        )  # fmt: skip

    def prepare(self) -> None:
        """Set the handle to the stream that CuPy uses now."""
        if self.cublas is None:
            self.open()
        stream = self.xp.cuda.get_current_stream().ptr
        if stream != self.stream:
            self.call("cublasSetStream_v2", self.handle, stream)
            self.call("cublasSetWorkspace_v2", self.handle, self.workspace.data.ptr, WORKSPACE)
            self.stream = stream

    def open(self) -> None:
        """Load the library and make the handle. Raises BackendError."""
        try:
            cublas = load_cublas(self.xp)
            for name, types in SIGNATURES.items():
                getattr(cublas, name).argtypes, getattr(cublas, name).restype = types, integer
        except (ImportError, OSError, RuntimeError, AttributeError) as error:
            raise BackendError(
                f"backend cupy: cuBLAS was not found ({' '.join(str(error).split())[:200]}): "
                "pip install 'cupy-cuda13x[ctk]' (or cupy-cuda12x), to match the driver; "
                "or use --backend numpy"
            ) from error
        self.workspace = self.xp.empty((WORKSPACE,), np.uint8)
        self.cublas = cublas
        self.call("cublasCreate_v2", ctypes.byref(self.handle))

    def call(self, name: str, *arguments: Any) -> None:
        """Raises BackendError if cuBLAS reports a failure."""
        status = getattr(self.cublas, name)(*arguments)
        if status:
            raise BackendError(
                f"backend cupy: {name} failed with cuBLAS status {status}: "
                "is the GPU's memory full? Lower --batch-size"
            )


def layout(matrix: Array) -> tuple[int, int]:
    """-> how cuBLAS reads the transpose of a matrix: operation, leading dimension.

    Raises ArrayTypeError.
    """
    if matrix.flags.c_contiguous:
        return KEEP, max(1, matrix.shape[1])
    if matrix.flags.f_contiguous:
        return TRANSPOSE, max(1, matrix.shape[0])
    raise ArrayTypeError(
        f"gemm: expected contiguous matrices, or their transposes, got strides {matrix.strides}"
    )
