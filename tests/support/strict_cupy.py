"""A strict stand-in for CuPy, so that `--backend cupy` is tested where there is no GPU.

Arrays that hold a NumPy array and refuse what fails or hurts on a real device: implicit
conversion to NumPy, mixing with NumPy arrays or scalars, float(), bool() and iteration
(each waits for the GPU), and results that silently became float64. New memory is NaN.

All that would run on the device goes through Device.do. It runs at once, or, while a graph is recorded, it
is only noted down, as CUDA does; a launch of the graph runs the notes. So the rules of recording hold here too: no
new memory, no copies from or to the host, no cuBLAS by way of CuPy, not on the null stream; and a graph that is launched
when memory that it uses was given back is found out. Synchronisations, allocations and launches are counted in
`cupy.device`. The kernels of kernels.cu run on the CPU: see host_kernels.py; and so does cuBLAS, called through the same
C interface.
"""

import contextlib
import ctypes
import operator
import types
import weakref
from collections import Counter
from functools import partial, partialmethod

import numpy as np
import pytest

from minigan.backends.gpu import gemm as cupy_gemm
from tests.support.host_kernels import HostModule, compiler


class Device:
    """What the stand-in keeps count of, and what it is recording."""

    def __init__(self):
        self.counts = Counter()  # allocations, synchronisations, uploads, launches
        self.elementwise = (
            set()
        )  # CuPy's own kernels that were used: each takes a second to compile
        self.recording = None  # operations of the graph that is being recorded
        self.owners = {}  # id -> weak reference to an array that owns memory
        self.streams = []  # those entered by `with`
        self.pools = []
        self.free = 2**32  # bytes
        self.pinned = []  # host memory that a GPU reads by itself
        self.in_flight = {}  # address of pinned memory -> the memory, and what was copied from it

    def do(self, operation, *arrays):
        """arrays: StrictArrays that the operation reads or writes."""
        self.counts["launches"] += 1
        if self.recording is None:
            operation()
        else:  # a graph keeps addresses, not arrays
            self.recording.append(
                (operation, [weakref.ref(a if a.base is None else a.base) for a in arrays])
            )

    def owner_of(self, address):
        """-> the array in whose memory an address lies"""
        alive = (reference() for reference in list(self.owners.values()))
        return next(
            owner
            for owner in alive
            if owner is not None and 0 <= address - owner.held.ctypes.data < max(1, owner.nbytes)
        )

    def refuse_in_capture(self, what):
        if self.recording is not None:
            raise CUDARuntimeError(
                f"cudaErrorStreamCaptureUnsupported: {what} while a graph is recorded"
            )

    def allocate(self, memory):
        """memory: a NumPy array -> StrictArray"""
        self.refuse_in_capture("new memory")
        self.counts["allocations"] += 1
        for pool in self.pools:
            pool.bytes += memory.nbytes
        owner = StrictArray(memory)
        key = id(owner)
        self.owners[key] = weakref.ref(owner, lambda _: self.owners.pop(key, None))
        return owner

    def synchronise(self):
        self.refuse_in_capture("waiting for the device")
        self.counts["synchronisations"] += 1
        self.land(list(self.in_flight))

    def land(self, addresses):
        """Copies from pinned memory are over; it must hold what it held when they began."""
        for address in addresses:
            if address in self.in_flight:
                memory, copied = self.in_flight.pop(address)
                assert np.array_equal(memory, copied), (
                    "pinned memory was written while it was copied to the device"
                )


device = Device()


class StrictArray:
    __slots__ = ("__weakref__", "base", "held")
    __module__ = "cupy"
    __array_ufunc__ = None  # a NumPy operand does not swallow this array, but gets NotImplemented
    __hash__ = None

    def __init__(self, held, base=None):
        self.held = held
        self.base = base  # as on the device, a view keeps the array alive whose memory it shows

    def view(self, held):
        if held.size and not np.may_share_memory(held, self.held):  # a reshape that had to copy
            return device.allocate(held)
        return StrictArray(held, self if self.base is None else self.base)

    def __array__(self, *arguments, **options):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    def refuse(self, *arguments):
        raise AssertionError("this would wait for the GPU: read values with backend.to_host alone")

    __float__ = __bool__ = __int__ = __index__ = __iter__ = item = tolist = refuse

    shape = property(lambda self: self.held.shape)
    strides = property(lambda self: self.held.strides)
    dtype = property(lambda self: self.held.dtype)
    ndim = property(lambda self: self.held.ndim)
    size = property(lambda self: self.held.size)
    nbytes = property(lambda self: self.held.nbytes)
    flags = property(lambda self: self.held.flags)
    data = property(lambda self: types.SimpleNamespace(ptr=self.held.ctypes.data))
    T = property(lambda self: self.view(self.held.T))

    def __len__(self):
        return len(self.held)

    def __getitem__(self, index):
        return self.view(self.held[as_tuple(index)])

    def __setitem__(self, index, value):
        if isinstance(index, StrictArray):
            index.refuse()
        target, source = self.held[as_tuple(index)], unwrap(value)
        if not (
            isinstance(source, np.ndarray)
            and source.shape == target.shape
            and source.dtype == target.dtype
            and source.flags.c_contiguous
            and target.flags.c_contiguous
        ):
            device.elementwise.add(("copy", self.dtype.name))
        device.do(
            lambda: np.copyto(target, source),
            self,
            *([value] if isinstance(value, StrictArray) else []),
        )

    def set(self, values, stream=None):
        """Copy from the host: at once, or in a while where the memory is pinned."""
        assert (
            isinstance(values, np.ndarray)
            and values.shape == self.shape
            and values.dtype == self.dtype
        )
        assert self.flags.c_contiguous and values.flags.c_contiguous
        device.refuse_in_capture("a copy from the host")
        device.counts["uploads"] += 1
        assert stream in (None, current_stream())
        address = values.ctypes.data
        assert address not in device.in_flight, (
            "pinned memory is used again before its last copy was waited for"
        )
        if stream is not None and any(
            0 <= address - memory.ctypes.data < memory.size for memory in device.pinned
        ):
            device.in_flight[address] = (values, values.copy())
        else:
            device.counts["pageable uploads"] += 1
        self.held[...] = values

    def reshape(self, *shape):
        return self.view(self.held.reshape(*shape))

    def transpose(self, *axes):
        return self.view(self.held.transpose(*axes))

    def copy(self):
        return device.allocate(self.held.copy())

    def fill(self, value):
        if value != 0:
            device.elementwise.add(("fill", self.dtype.name))
        held = self.held
        device.do(lambda: held.fill(unwrap(value)), self)

    def astype(self, dtype):
        return call(np.ndarray.astype, self, np.dtype(dtype))

    def __abs__(self):
        return call(np.absolute, self)

    def __neg__(self):
        return call(np.negative, self)


def as_tuple(index):
    """-> index by which NumPy gives an array, never a number."""
    index = index if isinstance(index, tuple) else (index,)
    return index if any(i is Ellipsis for i in index) else (*index, ...)


def unwrap(value):
    if isinstance(value, StrictArray):
        return value.held
    if isinstance(value, (np.ndarray, np.generic)):
        raise TypeError(f"Unsupported type {type(value)}: NumPy and CuPy arrays do not mix")
    return value


def call(function, *arguments, **options):
    used = [a for a in (*arguments, *options.values()) if isinstance(a, StrictArray)]
    arguments = [unwrap(argument) for argument in arguments]
    options = {name: unwrap(option) for name, option in options.items()}
    arrays = [a for a in (*arguments, *options.values()) if isinstance(a, np.ndarray)]
    device.elementwise.add((function.__name__, *(a.dtype.name for a in arrays)))
    if function in (np.matmul, np.dot):
        device.refuse_in_capture("CuPy's own cuBLAS")
    if isinstance(options.get("out"), np.ndarray):
        device.do(lambda: function(*arguments, **options), *used)
        return next(a for a in used if a.held is options["out"])
    result = function(*arguments, **options)
    if isinstance(result, (np.ndarray, np.generic)):
        result = np.asarray(result)
        if result.dtype == np.float64 and arrays:
            assert any(a.dtype == np.float64 for a in arrays), (
                f"{function.__name__} turned float32 into float64"
            )
        return device.allocate(result)
    return result


def call_method(array, function, *arguments, **options):
    return call(function, array, *arguments, **options)


def binary(function):
    return (lambda self, other: call(function, self, other)), (
        lambda self, other: call(function, other, self)
    )


for name in ("add", "sub", "mul", "truediv"):
    forward, reverse = binary(getattr(operator, name))
    setattr(StrictArray, f"__{name}__", forward)
    setattr(StrictArray, f"__r{name}__", reverse)
for name in ("gt", "ge", "lt", "le"):
    setattr(StrictArray, f"__{name}__", binary(getattr(operator, name))[0])
StrictArray.__matmul__ = binary(np.matmul)[0]
for name in ("sum", "mean", "max"):
    setattr(StrictArray, name, partialmethod(call_method, getattr(np, name)))


def in_place(function):
    def method(self, other):
        held, more = self.held, unwrap(other)
        device.do(
            lambda: function(held, more), self, *([other] if isinstance(other, StrictArray) else [])
        )
        return self

    return method


for name in ("iadd", "isub", "imul", "itruediv"):
    setattr(StrictArray, f"__{name}__", in_place(getattr(operator, name)))


def new_memory(shape, dtype):
    memory = np.empty(shape, dtype)
    memory.fill(np.nan if memory.dtype.kind == "f" else 1)
    return device.allocate(memory)


def alloc_pinned_memory(size):
    device.pinned.append(np.empty(size, np.uint8))
    return device.pinned[-1]


def asarray(values, dtype=None):
    if isinstance(values, StrictArray) and dtype in (None, values.dtype):
        return values
    if not isinstance(values, StrictArray):
        device.refuse_in_capture("a copy from the host")
        device.counts["uploads"] += 1
    return device.allocate(
        np.array(values.held if isinstance(values, StrictArray) else values, dtype=dtype)
    )


def asnumpy(array):
    device.synchronise()
    return array.held.copy()


class CUDARuntimeError(RuntimeError):
    pass


# ---- streams, events, graphs


class Stream:
    def __init__(self, non_blocking=False, ptr=None):
        self.non_blocking, self.ptr = non_blocking, id(self) if ptr is None else ptr

    def __enter__(self):
        device.streams.append(self)
        return self

    def __exit__(self, *error):
        device.streams.pop()

    def synchronize(self):
        device.synchronise()

    def begin_capture(self):
        assert current_stream() is self, "begin_capture of a stream that is not the current one"
        if not self.non_blocking:
            raise CUDARuntimeError(
                "cudaErrorStreamCaptureImplicit: the null stream, or one that blocks it, cannot be recorded"
            )
        assert device.recording is None
        device.recording = []

    def end_capture(self):
        assert device.recording is not None, "end_capture without begin_capture"
        notes, device.recording = device.recording, None
        return Graph(notes)


class Graph:
    def __init__(self, notes):
        self.notes = notes

    def upload(self):
        device.refuse_in_capture("the upload of a graph")

    def launch(self):
        device.refuse_in_capture("a launch of a graph")
        device.counts["graphs"] += 1
        for operation, owners in self.notes:
            assert all(owner() is not None for owner in owners), (
                "a graph uses memory that was given back"
            )
            operation()


class Event:
    def __init__(self, disable_timing=False):
        self.waits_for = []

    def record(self):
        device.refuse_in_capture("an event")
        self.waits_for = list(device.in_flight)

    def synchronize(self):
        device.land(self.waits_for)
        self.waits_for = []


class MemoryPool:
    def __init__(self):
        self.bytes = 0

    def total_bytes(self):
        return self.bytes

    def free_all_blocks(self):
        pass

    def malloc(self, size):
        raise NotImplementedError


@contextlib.contextmanager
def using_allocator(malloc):
    device.pools.append(malloc.__self__)
    yield
    device.pools.pop()


null_stream = Stream(ptr=0)


def current_stream():
    return device.streams[-1] if device.streams else null_stream


# ---- cuBLAS: the same C functions, with NumPy behind them


def memory_at(address, rows, columns, dimension, kind):
    """-> view of a matrix that lies column by column, `dimension` numbers from one column to the next"""
    number = {0: ctypes.c_float, 1: ctypes.c_double}[kind]
    flat = np.ctypeslib.as_array(
        (number * (dimension * (columns - 1) + rows)).from_address(address)
    )
    return np.lib.stride_tricks.as_strided(
        flat, (rows, columns), (flat.itemsize, dimension * flat.itemsize)
    )


def round_to_tf32(matrix):
    """-> the nearest numbers of 11 significant bits, which is what tensor cores multiply."""
    bits = matrix.astype(np.float32).view(np.uint32)
    return ((bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)


class Cublas:
    """Stands in for the library; every function is called through its C signature, as declared in cupy_gemm.py."""

    def __init__(self):
        self.stream = self.workspace = None
        for name, types_ in cupy_gemm.SIGNATURES.items():
            setattr(
                self,
                name,
                ctypes.CFUNCTYPE(ctypes.c_int, *types_)(getattr(self, name.removesuffix("_v2"))),
            )

    def cublasCreate(self, handle):
        handle[0] = 0x7FFF_0123_4567_89AB  # no pointer of 32 bits
        return 0

    def cublasDestroy(self, handle):
        return 0

    def cublasSetStream(self, handle, stream):
        self.stream, self.workspace = stream or 0, None
        return 0

    def cublasSetWorkspace(self, handle, workspace, size):
        self.workspace = workspace
        return 0

    def cublasGemmEx(
        self,
        handle,
        op_a,
        op_b,
        m,
        n,
        k,
        alpha,
        a,
        kind_a,
        lda,
        b,
        kind_b,
        ldb,
        beta,
        c,
        kind_c,
        ldc,
        compute,
        algorithm,
    ):
        right = (
            handle == 0x7FFF_0123_4567_89AB
            and self.stream == current_stream().ptr
            and self.workspace
            and algorithm == -1
            and kind_a == kind_b == kind_c
            and lda >= (k if op_a else m)
            and ldb >= (n if op_b else k)
            and ldc >= m
            and compute in {0: (68, 77), 1: (70,)}[kind_a]
        )
        if not right:
            return 7  # CUBLAS_STATUS_INVALID_VALUE
        number = {0: ctypes.c_float, 1: ctypes.c_double}[kind_a]
        alpha, beta = number.from_address(alpha).value, number.from_address(beta).value
        left = memory_at(a, k, m, lda, kind_a).T if op_a else memory_at(a, m, k, lda, kind_a)
        right = memory_at(b, n, k, ldb, kind_b).T if op_b else memory_at(b, k, n, ldb, kind_b)
        out = memory_at(c, m, n, ldc, kind_c)

        def multiply():
            factors = (
                [round_to_tf32(matrix) for matrix in (left, right)]
                if compute == 77
                else (left, right)
            )
            product = np.matmul(*factors)
            out[...] = product * number(alpha).value + out * beta if beta else product

        device.do(multiply, *(device.owner_of(address) for address in (a, b, c, self.workspace)))
        return 0


real_cublas = cupy_gemm.load_cublas
cupy_gemm.load_cublas = lambda xp: xp.cublas if xp.__version__ == "strict" else real_cublas(xp)


def raw_module(code, options, name_expressions, mutate=None):
    if compiler() is None:
        pytest.skip(
            "the CUDA kernels run here by a C++ compiler, and this machine has none: install g++ or clang++"
        )
    return HostModule(
        code, options, name_expressions, lambda *operation: device.do(*operation), mutate
    )


def make_module(devices=1, error=None, mutate=None):
    """-> a module to stand in sys.modules["cupy"]. Counts begin anew.

    devices, error  what asking for a GPU gives
    mutate          function: text of kernels.cu -> text with a mistake, which a test must find
    """
    global device  # noqa: PLW0603
    device = Device()

    def get_device_count():
        if error is not None:
            raise CUDARuntimeError(error)
        return devices

    module = types.ModuleType("cupy")
    module.__version__ = "strict"
    module.device, module.cublas = device, Cublas()
    module.ndarray = StrictArray
    module.RawModule = partial(raw_module, mutate=mutate)
    module.cuda = types.SimpleNamespace(
        runtime=types.SimpleNamespace(
            getDeviceCount=get_device_count,
            CUDARuntimeError=CUDARuntimeError,
            memGetInfo=lambda: (device.free, 2**33),
        ),
        Stream=Stream,
        Event=Event,
        MemoryPool=MemoryPool,
        using_allocator=using_allocator,
        get_current_stream=current_stream,
        Device=lambda: types.SimpleNamespace(synchronize=device.synchronise),
        alloc_pinned_memory=alloc_pinned_memory,
    )
    module.empty = new_memory
    module.empty_like = lambda array: new_memory(array.shape, array.dtype)
    module.zeros = lambda shape, dtype: device.allocate(np.zeros(shape, dtype))
    module.zeros_like = lambda array: device.allocate(np.zeros_like(array.held))
    module.concatenate = lambda arrays, axis: device.allocate(
        np.concatenate([array.held for array in arrays], axis)
    )
    module.broadcast_to = lambda array, shape: array.view(np.broadcast_to(array.held, shape))
    module.asarray, module.asnumpy = asarray, asnumpy
    module.copyto = lambda target, source: target.__setitem__(..., source)
    module.abs = module.absolute = partial(call, np.absolute)
    for name in (
        "add", "divide", "dot", "exp", "greater", "greater_equal", "log", "log1p", "matmul", "max",
        "maximum", "mean", "minimum", "multiply", "negative", "pad", "sqrt", "subtract", "sum",
        "tanh",
    ):  # fmt: skip
        setattr(module, name, partial(call, getattr(np, name)))
    return module
