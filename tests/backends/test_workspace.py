"""Memory that the fast backends reuse, and results that they give away."""

import numpy as np
import pytest

import minigan as mg
from minigan.backends.workspace import FEW, OutputPool, Workspace


@pytest.fixture
def backend():
    return mg.get_backend("numpy")


def test_a_name_keeps_its_memory_and_grows(backend):
    workspace = Workspace(backend)
    large = workspace.get("a", (4, 6))
    assert large.dtype == np.float32
    assert np.shares_memory(large, workspace.get("a", (2, 3)))
    assert np.shares_memory(large, workspace.get("a", (4, 6)))
    assert not np.shares_memory(large, workspace.get("b", (4, 6)))
    larger = workspace.get("a", (5, 6))
    assert not np.shares_memory(large, larger)
    assert np.shares_memory(larger, workspace.get("a", (4, 6)))
    assert workspace.get("a", (2, 3), bool).dtype == bool
    assert workspace.get("c", ()).shape == ()


def test_results_are_recycled_once_nobody_holds_them(backend):
    pool = OutputPool(backend)
    address = pool.new_output("y", (3, 2)).ctypes.data
    again = pool.new_output("y", (2, 2))  # a smaller batch fits
    assert again.ctypes.data == address
    view = again[1:]
    del again
    other = pool.new_output("y", (3, 2))
    assert not np.shares_memory(other, view), "a view keeps its memory"
    assert pool.new_output("dx", (3, 2)).ctypes.data not in (address, other.ctypes.data)


def test_results_that_are_kept_stay(backend):
    pool = OutputPool(backend)
    kept = []
    for i in range(2 * FEW):
        for shape in ((3, 2), ()):
            array = pool.new_output("y", shape)
            array[...] = i
            kept.append((array, i))
    assert all((array == i).all() for array, i in kept)


def test_two_results_in_a_loop_alternate(backend):
    net = mg.Sequential([mg.Linear(4)])
    net.setup((3,), backend=backend, rng=np.random.default_rng(0))
    x, addresses, y = np.ones((5, 3), np.float32), set(), None
    for _ in range(6):
        y = net.forward(x)  # while the last y is still held
        addresses.add(y.ctypes.data)
    assert len(addresses) == 2
    assert not np.shares_memory(net.forward(x), y)
