"""The backends: one interface, primitives by their definition, and clear words where one is missing."""

import inspect
import sys

import numpy as np
import pytest

import minigan as mg
from minigan.arrays import Backend
from minigan.backends.cpu.backend import NumpyBackend
from minigan.backends.gpu.backend import CupyBackend
from tests.support.strict_cupy import StrictArray, make_module


@pytest.mark.parametrize("backend", (NumpyBackend, CupyBackend))
def test_overrides_have_the_signature_of_the_base(backend):
    """Names, arguments and defaults are the same; no backend has a public method of its own."""

    def arguments(method):
        return [(p.name, p.kind, p.default) for p in inspect.signature(method).parameters.values()]

    for name, method in inspect.getmembers(backend, inspect.isfunction):
        if not name.startswith("_"):
            assert arguments(method) == arguments(getattr(Backend, name)), name


GEOMETRIES = [  # x (h, w, c), kernel, stride, padding, output (h, w)
    ((5, 6, 2), (3, 3), (1, 1), ((0, 0), (0, 0)), (3, 4)),
    ((5, 6, 2), (3, 2), (2, 1), ((1, 1), (0, 1)), (3, 6)),
    ((4, 3, 1), (5, 5), (2, 2), ((2, 2), (2, 2)), (2, 2)),  # kernel larger than the image
    ((7, 7, 3), (2, 2), (3, 3), ((0, 0), (0, 0)), (2, 2)),  # stride larger than the kernel
    ((2, 2, 1), (4, 4), (2, 2), ((3, 3), (3, 3)), (3, 3)),
]


@pytest.mark.parametrize("x_shape, kernel, stride, padding, out", GEOMETRIES)
def test_im2col_and_its_transpose(x_shape, kernel, stride, padding, out, make_backend):
    backend, rng = make_backend(), np.random.default_rng(0)
    x = rng.standard_normal((3, *x_shape))
    cols = backend.empty((3, *out, *kernel, x_shape[2]))
    backend.im2col(backend.asarray(x), cols, stride, padding)
    padded = np.pad(x, ((0, 0), *padding, (0, 0)))
    for p, q in np.ndindex(*out):
        top, left = p * stride[0], q * stride[1]
        window = padded[:, top : top + kernel[0], left : left + kernel[1]]
        np.testing.assert_array_equal(backend.to_host(cols)[:, p, q], window)
    c, folded = rng.standard_normal(cols.shape), backend.empty(x.shape)
    backend.col2im(backend.asarray(c), folded, stride, padding)
    assert np.sum(backend.to_host(cols) * c) == pytest.approx(
        np.sum(x * backend.to_host(folded)), rel=1e-12
    )


def test_gemm(make_backend):
    backend, rng = make_backend(), np.random.default_rng(0)
    a, b = rng.standard_normal((4, 3)), rng.standard_normal((3, 5))
    out = backend.empty((4, 5))
    backend.gemm(backend.asarray(a), backend.asarray(b), out=out)
    np.testing.assert_allclose(backend.to_host(out), a @ b, rtol=1e-14)
    backend.gemm(backend.asarray(a.T.copy()).T, backend.asarray(b), out=out, accumulate=True)
    np.testing.assert_allclose(backend.to_host(out), 2 * a @ b, rtol=1e-13)
    for wrong in (backend.empty((5, 4)).T, backend.empty((4, 5), "float32")):
        with pytest.raises(mg.ArrayTypeError, match="gemm: expected a C-contiguous out"):
            backend.gemm(backend.asarray(a), backend.asarray(b), out=wrong)


def test_every_backend_draws_the_same_numbers(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", make_module())
    for dtype in ("float32", "float64"):
        drawn = []
        for name in ("numpy", "cupy"):
            backend = mg.get_backend(name, dtype=dtype)
            out = backend.empty((5, 3))
            backend.fill_uniform(np.random.default_rng(1), out)
            assert out.dtype == dtype
            drawn.append(backend.to_host(out))
        np.testing.assert_array_equal(*drawn)


def test_workspace_reuses_its_memory():
    workspace = mg.get_backend("numpy").workspace
    large = workspace.get("a", (4, 6))
    assert np.shares_memory(large, workspace.get("a", (2, 3)))
    assert np.shares_memory(large, workspace.get("a", (4, 6)))
    assert not np.shares_memory(large, workspace.get("b", (4, 6)))
    assert workspace.get("a", (2, 3), bool).dtype == bool


def test_a_faster_version_is_found_by_its_definition():
    def definition():
        return "plain"

    def faster():
        return "fast"

    backend = mg.get_backend("numpy")
    assert backend.implementation(definition) is definition
    backend.faster[definition] = faster
    assert backend.implementation(definition) is faster


@pytest.mark.parametrize(
    "name, dtype, message",
    (
        ("nunpy", "float32", "unknown backend 'nunpy': choose one of numpy, cupy"),
        ("numpy", "float16", "dtype must be one of float32, float64"),
        ("numpy", "wide", "dtype must be one of float32, float64"),
    ),
)
def test_unknown_backend_or_dtype(name, dtype, message):
    with pytest.raises(mg.ConfigError, match=message):
        mg.get_backend(name, dtype=dtype)


def test_dtype_may_be_given_as_a_type():
    assert mg.get_backend("numpy", dtype=np.float64).dtype == np.float64


def test_without_cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(
        mg.BackendError,
        match=r"CuPy is not installed: install it with: pip install 'cupy-cuda13x\[ctk\]'",
    ) as caught:
        mg.get_backend("cupy")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "module, message",
    (
        (
            make_module(error="cudaErrorInsufficientDriver: CUDA driver version\nis insufficient"),
            "no usable NVIDIA driver",
        ),
        (make_module(devices=0), "shows no NVIDIA GPU"),
    ),
)
def test_without_a_gpu(monkeypatch, module, message):
    monkeypatch.setitem(sys.modules, "cupy", module)
    with pytest.raises(
        mg.BackendError, match=f"^backend cupy: .*{message}.*--backend numpy$"
    ) as caught:
        mg.get_backend("cupy")
    assert "\n" not in str(caught.value)


def test_arrays_of_another_backend_meet_the_cure(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", make_module())
    for name, wrong in (
        ("numpy", StrictArray(np.zeros((2, 3), np.float32))),
        ("cupy", np.zeros((2, 3), np.float32)),
    ):
        net = mg.Sequential([mg.Linear(2)], name="net")
        net.setup((3,), backend=mg.get_backend(name), rng=np.random.default_rng(0))
        kind = "numpy.ndarray" if name == "cupy" else "cupy.StrictArray"
        message = rf"^net\.0 \(Linear 3->2\): got {kind} as x on the {name} backend: call backend.asarray\(x\) first$"
        with pytest.raises(mg.ArrayTypeError, match=message):
            net.forward(wrong)
