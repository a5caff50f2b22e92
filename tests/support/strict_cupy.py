"""A strict stand-in for CuPy: `--backend cupy` runs without a GPU, and mistakes are found.

Its arrays hold a NumPy array and refuse what fails or hurts on a real device: implicit conversion
to NumPy, mixing with NumPy arrays or scalars, float(), bool() and iteration (each waits for the
GPU), and float32 results that silently became float64. New memory is NaN.

Everything that would run on the device goes through Device.do. It runs at once or, while a graph is
recorded, is only noted, as CUDA does; launching the graph runs the notes. So the rules of recording
hold here too: no new memory, no copies from or to the host, no cuBLAS through CuPy, not on the null
stream; and memory that a graph uses must still exist when it is launched. Two streams that use the
same memory must wait for each other. `cupy.device` counts
synchronizations, allocations, uploads and launches. kernels.cu runs on the CPU (host_kernels.py),
and so does cuBLAS, which is called through the same C interface. NCCL is played by MPI.
"""

import contextlib
import ctypes
import operator
import os
import sys
import types
import weakref
from collections import Counter
from functools import partial, partialmethod
from threading import RLock

import numpy as np
import pytest

from minigan.backends.gpu import gemm
from minigan.parallel.mpi import world
from tests.support.host_kernels import HostModule, compiler


class CUDARuntimeError(RuntimeError):
    """As cupy.cuda.runtime's."""


class Device:
    """What the stand-in counts, and what it is recording."""

    def __init__(self):
        self.counts = Counter()  # allocations, synchronizations, uploads, launches
        self.elementwise = set()  # CuPy's own kernels that were used: each compiles for a second
        self.recording = None  # notes of the graph that is being recorded
        self.owners = {}  # id -> weak reference to an array that owns memory
        self.streams = []  # those entered by `with`
        self.pools = []
        self.free = 2**32  # bytes
        self.pinned = {}  # address -> bytes of host memory that a GPU reads and writes by itself
        self.most_pinned = 0  # bytes at any time
        self.finishing = RLock()
        self.in_flight = {}  # address of pinned memory -> the memory, and what was copied from it
        self.number = 0  # of the GPU that is used
        self.used_by = {}  # id of memory -> the stream that used it since the last wait
        self.reduced = []  # size and dtype of every array that NCCL has added up, in order

    def do(self, operation, *arrays):
        """Run operation() now, or note it; arrays are what it reads or writes."""
        self.counts["launches"] += 1
        owners = [array if array.base is None else array.base for array in arrays]
        if self.recording is None:
            self.expect_order(owners)
            operation()
        else:  # a graph keeps addresses, not arrays
            self.recording.append((operation, [weakref.ref(owner) for owner in owners]))

    def expect_order(self, owners):
        """Streams that do not block each other take turns, with a wait between them."""
        stream = current_stream()
        for owner in owners:
            before = self.used_by.setdefault(id(owner), stream)
            assert before is stream, "memory is used on two streams, and nobody waited in between"

    def owner_of(self, address):
        """-> the array in whose memory an address lies"""
        alive = (reference() for reference in list(self.owners.values()))
        return next(
            owner
            for owner in alive
            if owner is not None and 0 <= address - owner.held.ctypes.data < max(1, owner.nbytes)
        )

    def refuse_while_recording(self, what):
        if self.recording is not None:
            raise CUDARuntimeError(
                f"cudaErrorStreamCaptureUnsupported: {what} while a graph is recorded"
            )

    def allocate(self, memory):
        """NumPy array -> StrictArray that owns it"""
        self.refuse_while_recording("new memory")
        self.counts["allocations"] += 1
        for pool in self.pools:
            pool.bytes += memory.nbytes
        owner = StrictArray(memory)
        key = id(owner)
        self.owners[key] = weakref.ref(owner, lambda _: self.forget(key))
        return owner

    def forget(self, key):
        self.owners.pop(key, None)
        self.used_by.pop(key, None)

    def is_pinned(self, values):
        address = values.ctypes.data
        return any(0 <= address - start < size for start, size in self.pinned.items())

    def synchronize(self):
        self.refuse_while_recording("waiting for the device")
        self.counts["synchronizations"] += 1
        self.used_by.clear()
        self.finish_copies(list(self.in_flight))

    def finish_copies(self, addresses):
        """Copies from pinned memory end; it must still hold what it held when they began."""
        with self.finishing:  # another thread that waits for the same copy may write afterwards
            for address in addresses:
                if address in self.in_flight:
                    memory, copied = self.in_flight.pop(address)
                    unchanged = memory.tobytes() == copied.tobytes()  # also NaN, in rows not used
                    assert unchanged, "pinned memory was written while it was copied to the device"


device = Device()


# ---- arrays


class StrictArray:
    __slots__ = ("__weakref__", "base", "held")
    __module__ = "cupy"
    __array_ufunc__ = None  # a NumPy operand gets NotImplemented and does not swallow this array
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
        raise AssertionError("this would wait for the GPU: read values with backend.to_host only")

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
        is_plain_copy = (
            isinstance(source, np.ndarray)
            and (source.shape, source.dtype) == (target.shape, target.dtype)
            and source.flags.c_contiguous
            and target.flags.c_contiguous
        )
        if not is_plain_copy:
            device.elementwise.add(("copy", self.dtype.name))
        used = [value] if isinstance(value, StrictArray) else []
        device.do(lambda: np.copyto(target, source), self, *used)

    def set(self, values, stream=None):
        """Copy from the host: at once, or some time later if the memory is pinned."""
        assert isinstance(values, np.ndarray)
        assert (values.shape, values.dtype) == (self.shape, self.dtype)
        assert self.flags.c_contiguous and values.flags.c_contiguous
        assert stream in (None, current_stream())
        device.refuse_while_recording("a copy from the host")
        device.counts["uploads"] += 1
        device.expect_order([self if self.base is None else self.base])
        address = values.ctypes.data
        assert address not in device.in_flight, "pinned memory is used before its copy has ended"
        if device.is_pinned(values) and stream is not None:
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

    def __deepcopy__(self, memo):
        return self.copy()

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
    """-> index for which NumPy returns an array, never a number."""
    index = index if isinstance(index, tuple) else (index,)
    return index if any(i is Ellipsis for i in index) else (*index, ...)


def unwrap(value):
    if isinstance(value, StrictArray):
        return value.held
    if isinstance(value, (np.ndarray, np.generic)):
        raise TypeError(f"Unsupported type {type(value)}: NumPy and CuPy arrays do not mix")
    return value


def call(function, *arguments, **options):
    """function of NumPy, of strict arrays -> its result as a strict array."""
    used = [a for a in (*arguments, *options.values()) if isinstance(a, StrictArray)]
    arguments = [unwrap(argument) for argument in arguments]
    options = {name: unwrap(option) for name, option in options.items()}
    arrays = [a for a in (*arguments, *options.values()) if isinstance(a, np.ndarray)]
    device.elementwise.add((function.__name__, *(a.dtype.name for a in arrays)))
    if function in (np.matmul, np.dot):
        device.refuse_while_recording("CuPy's own cuBLAS")
    if function is np.sum:
        device.refuse_while_recording("memory for a sum by CUB, even with out=")
    if isinstance(options.get("out"), np.ndarray):
        device.do(lambda: function(*arguments, **options), *used)
        return next(a for a in used if a.held is options["out"])
    result = function(*arguments, **options)
    if not isinstance(result, (np.ndarray, np.generic)):
        return result
    if result.dtype == np.float64 and arrays and "dtype" not in options:  # not requested
        has_double = any(a.dtype == np.float64 for a in arrays)
        assert has_double, f"{function.__name__} turned float32 into float64"
    return device.allocate(np.asarray(result))


def call_method(array, function, *arguments, **options):
    return call(function, array, *arguments, **options)


def add_operators():
    for name in ("add", "sub", "mul", "truediv"):
        function = getattr(operator, name)
        setattr(StrictArray, f"__{name}__", lambda a, b, f=function: call(f, a, b))
        setattr(StrictArray, f"__r{name}__", lambda a, b, f=function: call(f, b, a))
    for name in ("gt", "ge", "lt", "le"):
        function = getattr(operator, name)
        setattr(StrictArray, f"__{name}__", lambda a, b, f=function: call(f, a, b))
    for name in ("iadd", "isub", "imul", "itruediv"):
        setattr(StrictArray, f"__{name}__", in_place(getattr(operator, name)))
    StrictArray.__matmul__ = lambda a, b: call(np.matmul, a, b)
    for name in ("sum", "mean", "max"):
        setattr(StrictArray, name, partialmethod(call_method, getattr(np, name)))


def in_place(function):
    def method(self, other):
        held, more = self.held, unwrap(other)
        used = [other] if isinstance(other, StrictArray) else []
        device.do(lambda: function(held, more), self, *used)
        return self

    return method


add_operators()


def new_memory(shape, dtype):
    memory = np.empty(shape, dtype)
    memory.fill(np.nan if memory.dtype.kind == "f" else 1)
    return device.allocate(memory)


def alloc_pinned_memory(size):
    memory = np.full(size, 255, np.uint8)  # NaN: what nobody wrote must not count
    device.pinned[memory.ctypes.data] = size
    device.most_pinned = max(device.most_pinned, sum(device.pinned.values()))
    weakref.finalize(memory, device.pinned.pop, memory.ctypes.data)
    return memory


def asarray(values, dtype=None):
    if isinstance(values, StrictArray):
        if dtype in (None, values.dtype):
            return values
        return device.allocate(np.array(values.held, dtype=dtype))
    device.refuse_while_recording("a copy from the host")
    device.counts["uploads"] += 1
    return device.allocate(np.array(values, dtype=dtype))


def asnumpy(array, out):
    assert (out.shape, out.dtype) == (array.shape, array.dtype) and device.is_pinned(out)
    device.synchronize()
    out[...] = array.held
    return out


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
        device.synchronize()

    def begin_capture(self):
        assert current_stream() is self, "begin_capture of a stream that is not the current one"
        if not self.non_blocking:
            raise CUDARuntimeError(
                "cudaErrorStreamCaptureImplicit: the null stream, or one that blocks it, "
                "cannot be recorded"
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
        device.refuse_while_recording("the upload of a graph")

    def debug_dot_str(self, flags=0):
        nodes = [f'"graph_1_node_{i}"[label="{i}"];' for i in range(len(self.notes))]
        return "\n".join(["digraph dot {", *nodes, "}"])

    def launch(self):
        device.refuse_while_recording("a launch of a graph")
        device.counts["graphs"] += 1
        for operation, owners in self.notes:
            used = [owner() for owner in owners]
            assert None not in used, "a graph uses memory that was given back"
            device.expect_order(used)
            operation()


class Event:
    def __init__(self, disable_timing=False):
        self.waits_for = []

    def record(self):
        device.refuse_while_recording("an event")
        self.waits_for = list(device.in_flight)

    def synchronize(self):
        device.finish_copies(self.waits_for)
        self.waits_for = []


class MemoryPool:
    def __init__(self):
        self.bytes = self.unused = 0

    def total_bytes(self):
        return self.bytes

    def free_bytes(self):
        return self.unused

    def free_all_blocks(self):
        self.unused = 0

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


# ---- cuBLAS: the same C functions, computed by NumPy

HANDLE = 0x7FFF_0123_4567_89AB  # does not fit into 32 bits
INVALID_VALUE = 7  # CUBLAS_STATUS_INVALID_VALUE
COMPUTE = {0: (68, 77), 1: (70,)}  # allowed compute types, by cudaDataType_t
TF32 = 77


def memory_at(address, rows, columns, dimension, kind):
    """-> view of a column-major matrix, `dimension` numbers from one column to the next"""
    number = {0: ctypes.c_float, 1: ctypes.c_double}[kind]
    numbers = number * (dimension * (columns - 1) + rows)
    flat = np.ctypeslib.as_array(numbers.from_address(address))
    strides = (flat.itemsize, dimension * flat.itemsize)
    return np.lib.stride_tricks.as_strided(flat, (rows, columns), strides)


def round_to_tf32(matrix):
    """-> the nearest numbers of 11 significant bits, which is what tensor cores multiply."""
    bits = matrix.astype(np.float32).view(np.uint32)
    return ((bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)


class Cublas:
    """The library; every function is called through its C signature, as gemm.py declares it."""

    def __init__(self):
        self.handles = {}  # handle -> its stream, its workspace
        for name, arguments in gemm.SIGNATURES.items():
            function = getattr(self, name.removesuffix("_v2"))
            setattr(self, name, ctypes.CFUNCTYPE(ctypes.c_int, *arguments)(function))

    def cublasCreate(self, handle):
        handle[0] = HANDLE + len(self.handles)
        self.handles[handle[0]] = (None, None)
        return 0

    def cublasSetStream(self, handle, stream):
        self.handles[handle] = (stream or 0, None)
        return 0

    def cublasSetWorkspace(self, handle, workspace, size):
        self.handles[handle] = (self.handles[handle][0], workspace)
        return 0

    def cublasGemmEx(
        self, handle, op_a, op_b, m, n, k, alpha, a, kind_a, lda, b, kind_b, ldb, beta, c, kind_c,
        ldc, compute, algorithm,
    ):  # fmt: skip
        stream, owned = self.handles.get(handle, (None, None))
        is_valid = (
            stream == current_stream().ptr
            and owned
            and algorithm == -1
            and kind_a == kind_b == kind_c
            and lda >= (k if op_a else m)
            and ldb >= (n if op_b else k)
            and ldc >= m
            and compute in COMPUTE[kind_a]
        )
        if not is_valid:
            return INVALID_VALUE
        number = {0: ctypes.c_float, 1: ctypes.c_double}[kind_a]
        scale, keep = (number.from_address(address).value for address in (alpha, beta))
        left = memory_at(a, k, m, lda, kind_a).T if op_a else memory_at(a, m, k, lda, kind_a)
        right = memory_at(b, n, k, ldb, kind_b).T if op_b else memory_at(b, k, n, ldb, kind_b)
        out = memory_at(c, m, n, ldc, kind_c)

        def multiply():
            factors = (left, right)
            if compute == TF32:
                factors = (round_to_tf32(left), round_to_tf32(right))
            product = np.matmul(*factors) * scale
            out[...] = product + out * keep if keep else product

        try:
            device.do(multiply, *(device.owner_of(address) for address in (a, b, c, owned)))
        except AssertionError:  # ctypes would only print it
            return INVALID_VALUE
        return 0


real_cublas = gemm.load_cublas
gemm.load_cublas = lambda xp: xp.cublas if xp.__version__ == "strict" else real_cublas(xp)


# ---- NCCL: sums over the ranks of a job, by MPI, when the device comes to them


class NcclError(RuntimeError):
    """As cupy.cuda.nccl's."""


class NcclCommunicator:
    """It must be alive when a graph with its sums is launched."""

    base = None  # as of an array that owns memory: see Device.do

    def __init__(self, size, name, rank):
        assert type(name) is bytes and len(name) == 128
        self.size, self.rank, self.comm, self.streams = size, rank, None, set()
        if size > 1:
            from mpi4py import MPI

            self.comm = MPI.COMM_WORLD.Dup()
            assert (self.comm.size, self.comm.rank) == (size, rank)
            names = np.empty((size, 128), np.uint8)
            self.comm.Allgather(np.frombuffer(name, np.uint8), names)
            if (names != names[0]).any() or not names[0].any():
                raise NcclError("NCCL_ERROR_UNHANDLED_CUDA_ERROR: the names differ")

    def allReduce(self, source, target, count, kind, operation, stream):
        dtype = np.dtype({7: np.float32, 8: np.float64}[kind])
        owners = [device.owner_of(address) for address in (source, target)]
        assert operation == 0 and all(owner.dtype == dtype for owner in owners)
        assert stream == current_stream().ptr, "a sum on another stream than the kernels"
        if device.recording is None:
            self.streams.add(stream)
        assert stream in self.streams, "the first sum on a stream must not be recorded"
        given, array = (
            owner.held.reshape(-1)[(address - owner.held.ctypes.data) // dtype.itemsize :][:count]
            for owner, address in zip(owners, (source, target), strict=True)
        )
        assert given.size == array.size == count >= 1
        comm, reduced = self.comm, device.reduced

        def add_up():
            reduced.append((count, dtype.name))
            np.copyto(array, given)
            if comm is not None:
                world().wait(comm.Iallreduce(array.copy(), array))

        # of one rank in place, NCCL launches nothing
        if comm is not None or source != target:
            device.do(add_up, *owners, self)


def make_nccl(available):
    """-> a module for sys.modules["cupy.cuda.nccl"]"""
    nccl = types.ModuleType("cupy.cuda.nccl")
    nccl.available = available
    if available:
        nccl.get_unique_id = lambda: os.urandom(128)
        nccl.NcclCommunicator, nccl.NcclError = NcclCommunicator, NcclError
        nccl.NCCL_SUM, nccl.NCCL_FLOAT32, nccl.NCCL_FLOAT64 = 0, 7, 8
    return nccl


# ---- the module


class ChosenDevice:
    """As cupy.cuda.Device."""

    def __init__(self, number=None):
        self.number = device.number if number is None else number

    def use(self):
        empty = not device.owners
        assert empty or device.number == self.number, "another GPU, and memory is on the first one"
        device.number = self.number

    def synchronize(self):
        device.synchronize()


def use_stand_in(monkeypatch, **options):
    """Let the GPU backend find the stand-in for CuPy -> the module. options: as in make_module"""
    nccl = make_nccl(options.pop("nccl", True))
    module = make_module(**options)
    module.cuda.nccl = nccl
    for name, found in (("", module), (".cuda", module.cuda), (".cuda.nccl", nccl)):
        monkeypatch.setitem(sys.modules, f"cupy{name}", found)
    # new memory is filled with NaN, and this is much memory
    monkeypatch.setattr("minigan.backends.gpu.gemm.WORKSPACE", 1024)
    return module


def raw_module(code, options, name_expressions, mutate=None):
    if compiler() is None:
        pytest.skip("the CUDA kernels run here by a C++ compiler: install g++ or clang++")
    return HostModule(code, options, name_expressions, lambda *launch: device.do(*launch), mutate)


def make_module(devices=1, error=None, mutate=None):
    """-> a module for sys.modules["cupy"]; its device is new, and counts from 0.

    devices  how many GPUs there are
    error    what asking for them raises
    mutate   function: text of kernels.cu -> text with a mistake, which a test must find
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
    default_pool = MemoryPool()
    module.get_default_memory_pool = lambda: default_pool
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
        Device=ChosenDevice,
        alloc_pinned_memory=alloc_pinned_memory,
    )
    module.asarray, module.asnumpy = asarray, asnumpy
    module.empty = new_memory
    module.empty_like = lambda array: new_memory(array.shape, array.dtype)
    module.zeros = lambda shape, dtype: device.allocate(np.zeros(shape, dtype))
    module.ones = lambda shape, dtype: device.allocate(np.ones(shape, dtype))
    module.zeros_like = lambda array: device.allocate(np.zeros_like(array.held))
    module.concatenate = lambda arrays, axis: device.allocate(
        np.concatenate([array.held for array in arrays], axis)
    )
    module.broadcast_to = lambda array, shape: array.view(np.broadcast_to(array.held, shape))
    module.copyto = lambda target, source: target.__setitem__(..., source)
    for name in (
        "abs", "absolute", "add", "divide", "dot", "exp", "greater", "greater_equal", "log",
        "log1p", "matmul", "max", "maximum", "mean", "minimum", "multiply", "negative", "pad",
        "sqrt", "subtract", "sum", "tanh",
    ):  # fmt: skip
        setattr(module, name, partial(call, getattr(np, name)))
    return module
