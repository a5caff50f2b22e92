"""The GPU backend: arrays in and out, memory, and what is reported when there is none."""

from functools import reduce

import numpy as np
import pytest

import minigan as mg
from minigan.cli.main import main
from tests.support.gpu_cases import filled

SMALL = ["train", "--width", "2", "--batch-size", "4", "--dataset", "strokes", "--limit", "12"]


def test_put_takes_any_host_array(make_cupy):
    backend = make_cupy()
    out = filled(backend, (3, 2))
    backend.put(np.arange(6.0).reshape(2, 3).T, out)  # not contiguous, and of another dtype
    np.testing.assert_array_equal(backend.to_host(out), np.arange(6.0).reshape(2, 3).T)


def test_images_beyond_a_byte_of_rounding(make_cupy):
    """Every byte becomes the float that batches prepare on the host, bit for bit."""
    from minigan.data.batches import to_floats

    backend = make_cupy()
    pixels = np.arange(256, dtype=np.uint8).reshape(4, 4, 4, 4)
    for pixel_min in (-1.0, 0.0):
        expected, out = np.empty(pixels.shape, np.float32), filled(backend, pixels.shape)
        to_floats(pixels, expected, pixel_min)
        numbers = backend.xp.asarray(np.arange(4, dtype=np.int32))
        backend.gather_images(backend.xp.asarray(pixels), numbers, out, pixel_min)
        np.testing.assert_array_equal(backend.to_host(out), expected)


def test_a_captured_steps_backend_has_memory_of_its_own(make_cupy):
    backend = make_cupy()
    own = backend.for_captured_step()
    first = backend.scratch("a", (3,))
    assert own.scratch("a", (3,)).data.ptr != first.data.ptr
    assert own.kernels is backend.kernels and own.gemm is backend.gemm


def test_free_memory_is_the_devices(stand_in):
    stand_in.device.free = 12345
    assert mg.get_backend("cupy").free_memory() == 12345
    stand_in.get_default_memory_pool().unused = 5  # kept by CuPy, of arrays that are gone
    assert mg.get_backend("cupy").free_memory() == 12350
    assert mg.get_backend("numpy").free_memory() == 0


def test_a_full_gpu_is_reported_in_one_line(stand_in, capsys, tmp_path):
    class OutOfMemoryError(MemoryError):
        """As CuPy's."""

    def full(shape, dtype):
        raise OutOfMemoryError("Out of memory allocating 1,024 bytes (allocated so far: 99 bytes).")

    stand_in.empty = full
    options = ["--backend", "cupy", "--steps", "1", "--out", str(tmp_path / "a")]
    assert main([*SMALL, *options]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "not enough memory" in error and "--batch-size" in error


@pytest.mark.parametrize("call", ("zeros", "cuda.alloc_pinned_memory", "cuda.Event.record"))
def test_a_gpu_that_fails_is_reported_in_one_line(call, stand_in, capsys, monkeypatch, tmp_path):
    def fail(*arguments):
        raise stand_in.cuda.runtime.CUDARuntimeError("cudaErrorDevicesUnavailable: it is busy")

    *path, name = call.split(".")
    monkeypatch.setattr(reduce(getattr, path, stand_in), name, fail)
    options = ["--backend", "cupy", "--steps", "1", "--out", str(tmp_path / "a")]
    assert main([*SMALL, *options]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "it is busy" in error and "nvidia-smi" in error


def test_a_gpu_without_memory_for_kernels_is_full(stand_in):
    def full(**arguments):
        raise RuntimeError("CUDA_ERROR_OUT_OF_MEMORY: out of memory")

    stand_in.RawModule = full
    net = mg.Sequential([mg.Linear(7)])
    net.setup((5,), backend=mg.get_backend("cupy"), rng=np.random.default_rng(1))
    with pytest.raises(MemoryError, match="OUT_OF_MEMORY"):
        net.forward(net.backend.xp.zeros((2, 5), np.float32))


def test_the_precision_of_a_run_is_shown_and_kept(stand_in, tmp_path, capsys):
    out = str(tmp_path / "a")
    options = ["--backend", "cupy", "--precision", "tf32", "--steps", "2", "--out", out]
    assert main([*SMALL, *options]) == 0
    assert "cupy, tf32, seed 0" in capsys.readouterr().out
    assert main(["train", "--resume", out, "--steps", "3", "--precision", "fp32"]) == 2
    assert "--precision fp32 does not fit the run, which has tf32" in capsys.readouterr().err
    assert main(["sample", out, "--out", str(tmp_path / "a.png")]) == 0  # on the CPU


def test_mistakes_are_one_line(make_cupy):
    backend = make_cupy()
    net = mg.Sequential([mg.Linear(7)], name="net")
    net.setup((19,), backend=backend, rng=np.random.default_rng(0))
    for x, message in (
        (np.zeros((2, 19), np.float32), r"call backend.asarray\(x\)"),
        (backend.xp.zeros((2, 19), np.float64), "expected x of dtype float32, got float64"),
    ):
        with pytest.raises(mg.ArrayTypeError, match=message) as caught:
            net.forward(x)
        assert "\n" not in str(caught.value)
