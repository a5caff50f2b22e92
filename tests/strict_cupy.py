"""A strict stand-in for CuPy, so that `--backend cupy` is tested where there is no GPU.

Arrays that hold a NumPy array and refuse what fails or hurts on a real device: implicit
conversion to NumPy, mixing with NumPy arrays or scalars, float(), bool() and iteration
(each waits for the GPU), and results that silently became float64. New memory is NaN.
"""

import operator
import types
from functools import partial

import numpy as np


class StrictArray:
    __slots__ = ("base", "held")
    __module__ = "cupy"
    __array_ufunc__ = None  # a NumPy operand does not swallow this array, but gets NotImplemented
    __hash__ = None

    def __init__(self, held, base=None):
        self.held = held
        self.base = base  # as on the device, a view keeps the array alive whose memory it shows

    def view(self, held):
        return StrictArray(held, self if self.base is None else self.base)

    def __array__(self, *arguments, **options):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    def refuse(self, *arguments):
        raise AssertionError("this would wait for the GPU: read values with backend.to_host alone")

    __float__ = __bool__ = __int__ = __index__ = __iter__ = item = tolist = refuse

    shape = property(lambda self: self.held.shape)
    dtype = property(lambda self: self.held.dtype)
    ndim = property(lambda self: self.held.ndim)
    size = property(lambda self: self.held.size)
    flags = property(lambda self: self.held.flags)
    T = property(lambda self: self.view(self.held.T))

    def __len__(self):
        return len(self.held)

    def __getitem__(self, index):
        return self.view(self.held[index])

    def __setitem__(self, index, value):
        self.held[index] = unwrap(value)

    def reshape(self, *shape):
        return self.view(self.held.reshape(*shape))

    def transpose(self, *axes):
        return self.view(self.held.transpose(*axes))

    def copy(self):
        return StrictArray(self.held.copy())

    def fill(self, value):
        self.held.fill(unwrap(value))

    def __abs__(self):
        return call(np.absolute, self)


def unwrap(value):
    if isinstance(value, StrictArray):
        return value.held
    if isinstance(value, (np.ndarray, np.generic)):
        raise TypeError(f"Unsupported type {type(value)}: NumPy and CuPy arrays do not mix")
    return value


def call(function, *arguments, **options):
    arguments = [unwrap(argument) for argument in arguments]
    options = {name: unwrap(option) for name, option in options.items()}
    arrays = [a for a in (*arguments, *options.values()) if isinstance(a, np.ndarray)]
    result = function(*arguments, **options)
    if isinstance(result, (np.ndarray, np.generic)):
        result = np.asarray(result)
        if result.dtype == np.float64 and arrays:
            assert any(a.dtype == np.float64 for a in arrays), f"{function.__name__} turned float32 into float64"
        return StrictArray(result)
    return result


def binary(function):
    return (lambda self, other: call(function, self, other)), (lambda self, other: call(function, other, self))


for name in ("add", "sub", "mul", "truediv"):
    forward, reverse = binary(getattr(operator, name))
    setattr(StrictArray, f"__{name}__", forward)
    setattr(StrictArray, f"__r{name}__", reverse)


def in_place(function):
    def method(self, other):
        function(self.held, unwrap(other))
        return self

    return method


StrictArray.__iadd__ = in_place(operator.iadd)


def new_memory(shape, dtype):
    memory = np.empty(shape, dtype)
    memory.fill(np.nan if memory.dtype.kind == "f" else 1)
    return StrictArray(memory)


class CUDARuntimeError(RuntimeError):
    pass


def make_module(devices=1, error=None):
    """-> a module to stand in sys.modules["cupy"]; devices or error: what asking for a GPU gives."""

    def get_device_count():
        if error is not None:
            raise CUDARuntimeError(error)
        return devices

    module = types.ModuleType("cupy")
    module.__version__ = "strict"
    module.ndarray = StrictArray
    module.cuda = types.SimpleNamespace(
        runtime=types.SimpleNamespace(getDeviceCount=get_device_count, CUDARuntimeError=CUDARuntimeError)
    )
    module.empty = new_memory
    module.empty_like = lambda array: new_memory(array.shape, array.dtype)
    module.zeros = lambda shape, dtype: StrictArray(np.zeros(shape, dtype))
    module.asarray = lambda values, dtype=None: StrictArray(
        np.array(values.held if isinstance(values, StrictArray) else values, dtype=dtype)
    )
    module.asnumpy = lambda array: array.held.copy()
    for name in (
        "absolute", "add", "copyto", "divide", "dot", "exp", "greater", "greater_equal", "log", "log1p", "matmul", "max", "maximum", "mean",
        "minimum", "multiply", "negative", "sqrt", "subtract", "sum", "tanh",
    ):  # fmt: skip
        setattr(module, name, partial(call, getattr(np, name)))
    return module
