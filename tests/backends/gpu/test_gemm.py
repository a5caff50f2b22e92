"""Products by cuBLAS: every form that layers request, and what is refused."""

import numpy as np
import pytest

import minigan as mg
from tests.support.gpu_cases import expect_near, filled

RTOL = {("float32", "fp32"): 1e-6, ("float32", "tf32"): 1e-3, ("float64", "fp32"): 1e-14}
SIZES = ((1, 1, 1), (1, 7, 3), (5, 1, 4), (33, 17, 9), (64, 128, 32), (127, 65, 31))


@pytest.mark.parametrize("dtype, precision", RTOL)
def test_either_factor_transposed_set_or_added(dtype, precision, make_cupy):
    """Sizes odd, one, and of whole tiles; the same bits every time."""
    backend, rng = make_cupy(dtype, precision), np.random.default_rng(0)
    for m, k, n in SIZES:
        a, b, start = (rng.standard_normal(shape) for shape in ((m, k), (k, n), (m, n)))
        a, b, start = (array.astype(dtype) for array in (a, b, start))
        for transposed in ((False, False), (False, True), (True, False), (True, True)):
            left, right = (
                backend.asarray(array.T.copy()).T if is_transposed else backend.asarray(array)
                for array, is_transposed in zip((a, b), transposed, strict=True)
            )
            for accumulate in (False, True):
                seen = []
                for _ in range(2):
                    out = backend.asarray(start) if accumulate else filled(backend, (m, n))
                    backend.gemm(left, right, out, accumulate=accumulate)
                    seen.append(backend.to_host(out))
                expected = a.astype(np.float64) @ b + start * float(accumulate)
                name = f"{m} {k} {n}, transposed {transposed}, accumulate {accumulate}"
                expect_near(seen[0], expected, RTOL[dtype, precision], name)
                assert seen[0].tobytes() == seen[1].tobytes(), name


def test_tf32_rounds_the_factors_of_float32_alone(make_cupy):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((32, 64)), rng.standard_normal((64, 16))
    errors = {}
    for dtype, precision in (("float32", "fp32"), ("float32", "tf32"), ("float64", "tf32")):
        backend = make_cupy(dtype, precision)
        assert backend.precision == precision
        out = filled(backend, (32, 16))
        backend.gemm(backend.asarray(a), backend.asarray(b), out)
        error = np.linalg.norm(backend.to_host(out) - a @ b) / np.linalg.norm(a @ b)
        errors[dtype, precision] = error
    assert errors["float32", "fp32"] < 1e-6 < 5e-5 < errors["float32", "tf32"] < 1e-3
    assert errors["float64", "tf32"] < 1e-15


def test_what_would_need_a_copy_is_refused(make_cupy):
    backend = make_cupy()
    x = filled(backend, (6, 6), 1.0)
    out = filled(backend, (6, 6))
    for a, b, result, message in (
        (x[:, :3], x[:3], out, "expected contiguous matrices, or their transposes, got strides"),
        (x, x, filled(backend, (6, 5)), r"\(6, 6\) times \(6, 6\) does not give \(6, 5\)"),
        (x, x[:3], out, "does not give"),
        (x, x, out.T[:, :], "expected a C-contiguous out of the operands' dtype float32"),
        (x, x, backend.xp.zeros((6, 6), np.float64), "expected a C-contiguous out of the operands"),
    ):
        with pytest.raises(mg.ArrayTypeError, match=message) as caught:
            backend.gemm(a, b, result)
        assert "\n" not in str(caught.value)


def test_a_missing_library_is_one_line(stand_in, monkeypatch):
    def missing(xp):
        raise OSError("libcublas.so.13: cannot open\nshared object")

    monkeypatch.setattr("minigan.backends.gpu.gemm.load_cublas", missing)
    backend = mg.get_backend("cupy")
    x = filled(backend, (4, 4), 1.0)
    line = r"cuBLAS was not found .*cannot open shared object.*pip install 'cupy-cuda13x\[ctk\]'"
    with pytest.raises(mg.BackendError, match=line) as caught:
        backend.gemm(x, x, filled(backend, (4, 4)))
    assert "\n" not in str(caught.value)


def test_a_failure_of_cublas_is_one_line(stand_in):
    backend = mg.get_backend("cupy")
    x = filled(backend, (4, 4), 1.0)
    backend.gemm(x, x, filled(backend, (4, 4)))
    backend.gemm.compute = 12
    line = "cublasGemmEx failed with cuBLAS status 7: is the GPU's memory full"
    with pytest.raises(mg.BackendError, match=line):
        backend.gemm(x, x, filled(backend, (4, 4)))


def test_the_handle_follows_the_current_stream(stand_in):
    """With its workspace, which a change of streams takes away: the stand-in checks both."""
    backend = mg.get_backend("cupy")
    x, out = filled(backend, (4, 4), 1.0), filled(backend, (4, 4))
    backend.gemm(x, x, out)
    backend.synchronize()
    with stand_in.cuda.Stream(non_blocking=True):
        backend.gemm(x, x, out, accumulate=True)
    backend.synchronize()
    backend.gemm(x, x, out, accumulate=True)
    np.testing.assert_array_equal(backend.to_host(out), np.full((4, 4), 12.0))


def test_a_product_works_after_one_that_had_no_memory(stand_in, monkeypatch):
    def full(shape, dtype):
        raise MemoryError

    backend = mg.get_backend("cupy")
    x, out = filled(backend, (4, 4), 1.0), filled(backend, (4, 4))
    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(stand_in, "empty", full)
        backend.gemm(x, x, out)
    backend.gemm(x, x, out)
    np.testing.assert_array_equal(backend.to_host(out), np.full((4, 4), 4.0))
