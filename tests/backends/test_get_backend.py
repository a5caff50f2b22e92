"""The switch between backends, and the tables of what is faster on them.

tests/arrays/test_backend.py has the interface that all share, and options that cannot be.
"""

import inspect
import sys
from types import ModuleType

import numpy as np
import pytest

import minigan as mg
from minigan.arrays import Backend
from minigan.backends.cpu import trace
from minigan.backends.cpu.backend import CpuBackend
from minigan.backends.cpu.table import OPERATIONS as CPU
from minigan.backends.cpu.threads import available_cpus, get_team
from minigan.backends.gpu.backend import GpuBackend
from minigan.backends.gpu.table import OPERATIONS as GPU
from minigan.layers import sequential
from minigan.optimizers import Optimizer
from tests.support.strict_cupy import make_module

try:
    from minigan.backends.cpu.compiled.table import OPERATIONS as COMPILED
except ImportError:
    COMPILED = {}

FAST = [*CPU.items(), *GPU.items(), (sequential.plan, trace.plan), *COMPILED.items()]


def parameters(function):
    """-> names, kinds and defaults of its arguments"""
    found = inspect.signature(function).parameters.values()
    return [(p.name, p.kind, p.default) for p in found]


@pytest.mark.parametrize(
    "definition, fast", FAST, ids=lambda function: f"{function.__module__}.{function.__name__}"
)
def test_a_fast_version_takes_the_arguments_of_its_definition(definition, fast):
    expected, found = parameters(definition), parameters(fast)
    if "." in definition.__qualname__:  # the object of a method comes first, by any name
        owner = next(iter(inspect.signature(fast).parameters.values())).annotation
        assert issubclass(owner, (Backend, Optimizer))
        assert hasattr(owner, definition.__name__)
        expected, found = expected[1:], found[1:]
    assert found == expected


def test_each_name_gives_a_new_backend_with_its_table(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", make_module())
    for name, kind, table in (
        ("plain", Backend, {}),
        ("numpy", CpuBackend, CPU),
        ("cupy", GpuBackend, GPU),
    ):
        backend = mg.get_backend(name, compile=False)
        assert type(backend) is kind and not backend.compiled and backend.name == name
        assert backend.operations == table and backend.dtype == np.float32
        assert mg.get_backend(name) is not backend
    assert type(mg.get_backend()) is CpuBackend


@pytest.mark.skipif(not COMPILED, reason="numba is not installed")
def test_kernels_are_compiled_where_numba_is():
    for backend in (mg.get_backend(), mg.get_backend("numpy", "float64", compile=True)):
        assert backend.compiled and backend.operations == COMPILED


def test_without_numba(hide_numba):
    hide_numba()
    backend = mg.get_backend("numpy")
    assert not backend.compiled and backend.operations == CPU
    with pytest.raises(mg.BackendError, match=r"need numba .*: pip install numba, or"):
        mg.get_backend("numpy", compile=True)


def test_numba_that_may_not_compile(hide_numba, monkeypatch):
    numba = pytest.importorskip("numba", reason="numba is not installed", exc_type=ImportError)
    hide_numba()
    monkeypatch.setitem(sys.modules, "numba", numba)
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    assert not mg.get_backend("numpy").compiled
    with pytest.raises(mg.BackendError, match="NUMBA_DISABLE_JIT is set"):
        mg.get_backend("numpy", compile=True)


@pytest.mark.parametrize(
    "error",
    (
        OSError("libllvmlite.so: cannot open shared object file"),
        ImportError("Numba needs NumPy 2.5 or less"),
    ),
    ids=("broken", "another NumPy"),
)
def test_numba_that_is_there_and_cannot_be_used(error, hide_numba, monkeypatch, caplog):
    """A slower run with other bits is no secret."""

    class Broken(ModuleType):
        def __getattr__(self, name):
            raise error

    hide_numba()
    monkeypatch.setitem(sys.modules, "numba", Broken("numba"))
    assert not mg.get_backend("numpy").compiled
    assert f"numba cannot be used ({error})" in caplog.text
    with pytest.raises(mg.BackendError, match=rf"compiled kernels need numba \({error}"):
        mg.get_backend("numpy", compile=True)


def test_threads_are_by_default_all_cpus():
    assert mg.get_backend("numpy").team is get_team(available_cpus())
    assert mg.get_backend("numpy", threads=3).team is get_team(3)


def test_a_plain_network_consists_of_its_layers():
    net = mg.Sequential([mg.Conv2d(2, 3), mg.BatchNorm(), mg.ReLU()])
    net.setup((5, 5, 1), backend=mg.get_backend("plain"), rng=np.random.default_rng(0))
    assert net.steps is net.layers


def test_fast_backends_draw_the_same_uniform_numbers(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", make_module())
    for dtype in ("float32", "float64"):
        expected = np.random.default_rng(1).random((5, 3), dtype)
        for name in ("numpy", "cupy"):
            backend = mg.get_backend(name, dtype=dtype)
            out = backend.scratch("drawn", (5, 3))
            backend.draw_uniform(np.random.default_rng(1), out)
            np.testing.assert_array_equal(backend.to_host(out), expected)
