"""The interface of a backend, on each of them."""

import inspect
import sys

import numpy as np
import pytest

import minigan as mg
from minigan.arrays import Backend
from minigan.backends.cpu.backend import CpuBackend
from minigan.backends.gpu.backend import GpuBackend
from tests.support.strict_cupy import StrictArray, make_module


@pytest.mark.parametrize("backend", (CpuBackend, GpuBackend))
def test_overrides_have_the_signature_of_the_plain_backend(backend):
    def parameters(method):
        found = inspect.signature(method).parameters.values()
        return [(p.name, p.kind, p.default) for p in found]

    for name, method in inspect.getmembers(backend, inspect.isfunction):
        if name != "__init__" and hasattr(Backend, name):
            assert parameters(method) == parameters(getattr(Backend, name)), name


@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_arrays_in_and_out(dtype, make_backend):
    backend = make_backend(dtype)
    assert backend.dtype == dtype
    values = np.arange(6.0).reshape(2, 3)
    array = backend.asarray(values.copy())
    assert backend.is_array(array) and array.dtype == dtype
    assert isinstance(backend.to_host(array), np.ndarray)
    np.testing.assert_array_equal(backend.to_host(array), values)
    backend.put(values + 1, array)
    np.testing.assert_array_equal(backend.to_host(array), values + 1)
    copy = backend.copy_out(array, "y")
    copy.fill(0)
    np.testing.assert_array_equal(backend.to_host(array), values + 1)
    assert not backend.is_array([1.0]) and not backend.is_array(1.0)


def test_a_faster_version_is_found_by_its_definition(make_backend):
    def definition():
        return "plain"

    def faster():
        return "fast"

    backend = make_backend()
    assert backend.operation_for(definition) is definition
    backend.operations = {**backend.operations, definition: faster}
    assert backend.operation_for(definition) is faster
    assert mg.get_backend("plain").operation_for(definition) is definition  # its own table only


def test_the_plain_backend_replaces_nothing():
    assert mg.get_backend("plain").operations == {}


def test_a_captured_step_is_the_step_without_a_graph():
    backend, calls = mg.get_backend("plain"), []
    step = backend.capture(lambda given: lambda: calls.append(given) or len(calls), [])
    assert [step(), step()] == [1, 2] and calls == [backend, backend]


def test_one_process_computes_all_rows(make_backend):
    backend = make_backend()
    x = backend.asarray(np.ones((4, 2)))
    assert backend.shard(x).shape == (4, 2)
    backend.all_reduce(x)
    np.testing.assert_array_equal(backend.to_host(x), np.ones((4, 2)))


@pytest.mark.parametrize("pixel_min", (0.0, -1.0))
def test_gather_images(pixel_min, make_backend):
    """Bytes become floats; -1 - i is image i mirrored."""
    backend, rng = make_backend("float32"), np.random.default_rng(0)
    pixels = rng.integers(0, 256, (5, 3, 4, 2), np.uint8)
    pixels[0, 0, 0] = 0, 255
    chosen = np.array([3, -1, 0, -5, 2], np.int32)
    on_device = [backend.xp.empty(a.shape, a.dtype) for a in (pixels, chosen)]
    for array, values in zip(on_device, (pixels, chosen), strict=True):
        backend.put(values, array)
    out = backend.xp.empty((5, 3, 4, 2), backend.dtype)
    backend.gather_images(*on_device, out, pixel_min)
    found = backend.to_host(out)
    expected = pixels[[3, 0, 0, 4, 2]].astype(np.float32)
    expected[[1, 3]] = expected[[1, 3], :, ::-1]
    expected = expected / 127.5 - 1 if pixel_min else expected / 255
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)
    assert found[2, 0, 0].tolist() == [pixel_min, 1.0]


def test_collect_puts_scalars_in_a_row(make_backend):
    backend = make_backend("float32")
    scalars = [backend.asarray(value) for value in (1.5, -2.0, 7.0)]
    out = backend.xp.zeros(3, backend.dtype)
    backend.collect(scalars, out)
    np.testing.assert_array_equal(backend.to_host(out), [1.5, -2.0, 7.0])


@pytest.mark.parametrize(
    "options, message",
    (
        (dict(name="nunpy"), "must be one of plain, numpy, cupy, got 'nunpy': did you mean numpy?"),
        (dict(name="numpy", dtype="float16"), "dtype must be one of float32, float64, got"),
        (dict(name="plain", dtype="wide"), "backend plain: dtype must be one of float32, float64"),
        (dict(name="numpy", precision="tf32"), "precision tf32 is for tensor cores"),
        (dict(name="cupy", precision="bf16"), "precision must be one of fp32, tf32, got 'bf16'"),
        (dict(name="plain", threads=2), "threads are for the numpy backend"),
        (dict(name="plain", compile=True), "compile is for the numpy backend"),
        *(
            (
                dict(threads=threads),
                "threads must be a whole number of at least 1( and at most 1024)?, got",
            )
            for threads in (0, -1, 1.5, True, 10**6)
        ),
    ),
)
def test_options_out_of_range(options, message):
    with pytest.raises(mg.ConfigError, match=message):
        mg.get_backend(**options)


def test_the_dtype_may_be_given_as_a_type():
    assert mg.get_backend("plain", dtype=np.float64).dtype == np.float64


@pytest.mark.parametrize(
    "module, message",
    (
        (None, r"CuPy is not installed: install it with: pip install 'cupy-cuda13x\[ctk\]'.*"),
        (dict(error="cudaErrorInsufficientDriver: CUDA driver version\nis old"), ".*no usable"),
        (dict(devices=0), ".*sees no NVIDIA GPU"),
    ),
)
def test_without_a_gpu(module, message, monkeypatch):
    stand_in = None if module is None else make_module(**module)
    monkeypatch.setitem(sys.modules, "cupy", stand_in)
    with pytest.raises(
        mg.BackendError, match=f"^backend cupy: {message}.*--backend numpy$"
    ) as caught:
        mg.get_backend("cupy")
    assert "\n" not in str(caught.value)


def network(layer, in_shape, backend):
    net = mg.Sequential([layer], name="net")
    net.setup(in_shape, backend=backend, rng=np.random.default_rng(0))
    return net


def test_arrays_of_another_backend_meet_the_cure(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", make_module())
    for name, wrong in (
        ("plain", StrictArray(np.zeros((2, 3), np.float32))),
        ("numpy", StrictArray(np.zeros((2, 3), np.float32))),
        ("cupy", np.zeros((2, 3), np.float32)),
    ):
        kind = "numpy.ndarray" if name == "cupy" else "cupy.StrictArray"
        message = (
            rf"^net\.0 \(Linear 3->2\): got {kind} as x on the {name} backend: "
            r"call backend.asarray\(x\) first$"
        )
        with pytest.raises(mg.ArrayTypeError, match=message):
            network(mg.Linear(2), (3,), mg.get_backend(name)).forward(wrong)


IMAGE = (4, 5, 3)


@pytest.mark.parametrize(
    "in_shape, x, error, message",
    (
        ((3,), [[1.0, 2.0, 3.0]], mg.ArrayTypeError, "got builtins.list as x"),
        ((3,), np.zeros((2, 3)), mg.ArrayTypeError, "expected x of dtype float32, got float64"),
        ((3,), np.zeros((2, 4), "f4"), mg.ShapeError, r"expected x \(n, 3\), got \(2, 4\)"),
        ((3,), np.zeros(3, "f4"), mg.ShapeError, r"the batch axis is missing, pass x\[None\]"),
        ((3,), np.zeros((0, 3), "f4"), mg.ShapeError, "n of at least 1, got an empty batch"),
        (
            IMAGE,
            np.zeros((2, 3, 4, 5), "f4"),
            mg.ShapeError,
            r"minigan is channels-last, call x.transpose\(0, 2, 3, 1\)",
        ),
        (IMAGE, np.zeros((2, 3, 9, 9), "f4"), mg.ShapeError, "this looks channels-first"),
        (IMAGE, np.zeros(IMAGE, "f4"), mg.ShapeError, "the batch axis is missing"),
        (
            IMAGE,
            np.zeros((2, *IMAGE), "u1"),
            mg.ArrayTypeError,
            r"of dtype float32, got uint8: call backend.asarray\(x / 127.5 - 1\) first",
        ),
    ),
)
def test_the_entry_is_guarded_with_the_cure_in_the_message(in_shape, x, error, message):
    layer = mg.Linear(2) if len(in_shape) == 1 else mg.Tanh()
    net = network(layer, in_shape, mg.get_backend("plain"))
    with pytest.raises(error, match=message) as caught:
        net.forward(x)
    assert str(caught.value).startswith("net.0 (") and "\n" not in str(caught.value)
