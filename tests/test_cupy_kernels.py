"""The pieces that the CuPy backend stands on: kernels and their arguments, products, random numbers; and that mistakes are found.

On a GPU where there is one; else on the strict stand-in, where the kernels run on the CPU.
"""

import sys

import numpy as np
import pytest

import minigan as mg
from minigan.arrays import philox
from minigan.arrays.backend import windows
from minigan.arrays import Backend
from minigan.backends.gpu import convolution as cupy_convolution
from minigan.backends.gpu import gemm as cupy_gemm
from minigan.backends.gpu import kernels as cupy_kernels
from minigan.backends.gpu import reductions as cupy_sums
from minigan.optimizers import adam_step
from tests import strict_cupy
from tests.support.strict_cupy import make_module
from tests.test_cupy_device import test_nearest_pictures_are_those_of_the_definition as nearest_test
from tests.test_cupy_fused import test_a_chain_of_layers as chain_test
from tests.test_cupy_fused import test_real_and_fake_at_once_is_one_after_the_other as pair_test

TOLERANCE = {"float32": 1e-5, "float64": 1e-13}


def poisoned(backend, shape):
    return backend.asarray(np.full(shape, np.nan))


def off(found, wanted):
    return np.linalg.norm(found - wanted) / max(np.linalg.norm(wanted), 1e-30)


def random_geometry(rng):
    """-> x (n, h, w, c), kernel, stride, padding, output (h, w); odd ones too."""
    while True:
        n, h, w, c = rng.integers(1, 4), *rng.integers(1, 10, 2), rng.choice([1, 2, 3, 4, 5, 8, 12])
        kernel, stride = (
            tuple(map(int, rng.integers(1, 6, 2))),
            tuple(map(int, rng.integers(1, 4, 2))),
        )
        padding = tuple(tuple(map(int, rng.integers(0, k, 2))) for k in kernel)
        out = [
            (size + sum(pad) - k) // s + 1
            for size, pad, k, s in zip((h, w), padding, kernel, stride, strict=True)
        ]
        if min(out) >= 1:
            return (int(n), int(h), int(w), int(c)), kernel, stride, padding, tuple(map(int, out))


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_convolutions_of_odd_shapes(seed, dtype, make_cupy, monkeypatch):
    """Each of the three products, into memory full of NaN, three times the same bits; also where few images fit into the cache."""
    rng, backend = np.random.default_rng(seed), make_cupy(dtype)
    (n, h, w, c), kernel, stride, padding, out = random_geometry(rng)
    d = int(rng.choice([1, 3, 4, 8]))
    if seed % 2:
        monkeypatch.setattr(cupy_convolution, "COLUMNS", 1)
    plain = Backend(np, "float64")
    convolution = cupy_convolution.Convolution(
        backend, (h, w, c), (*kernel, c, d), (*out, d), stride, padding
    )
    x, W, y, b = (
        rng.standard_normal(s).astype(dtype)
        for s in ((n, h, w, c), (*kernel, c, d), (n, *out, d), (max(c, d),))
    )
    cols = plain.empty((n, *out, *kernel, c))
    plain.im2col(x, cols, stride, padding)
    rows, W2, folded = (
        cols.reshape(-1, cols[0, 0, 0].size),
        W.reshape(-1, d).astype(float),
        np.empty(x.shape),
    )
    plain.col2im((y.reshape(-1, d) @ W2.T).reshape(cols.shape), folded, stride, padding)
    wanted = {
        "forward": np.tanh((rows @ W2).reshape(y.shape) + b[:d]),
        "transpose": np.maximum(folded + b[:c], 0),
        "gradient": 1 + (rows.T @ y.reshape(-1, d)).reshape(W.shape),
    }
    on_device = {
        name: backend.asarray(array)
        for name, array in dict(x=x, W=W, y=y, b_d=b[:d].copy(), b_c=b[:c].copy()).items()
    }
    for what, shape in (("forward", y.shape), ("transpose", x.shape), ("gradient", W.shape)):
        seen = set()
        for _ in range(3):
            result = poisoned(backend, shape)
            if what == "forward":
                convolution.forward(
                    on_device["x"], on_device["W"], on_device["b_d"], result, ("Tanh", 0.0)
                )
            elif what == "transpose":
                convolution.transpose(
                    on_device["y"], on_device["W"], on_device["b_c"], result, ("ReLU", 0.0)
                )
            else:
                result = backend.asarray(np.ones(shape))
                convolution.gradient(on_device["x"], on_device["y"], result)
            seen.add(backend.to_host(result).tobytes())
        assert len(seen) == 1
        assert off(backend.to_host(result), wanted[what]) <= TOLERANCE[dtype], what


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_sums_of_many_rows(dtype, make_cupy):
    """More strips than are folded at once, an odd number of rows, a mean far from 0, several numbers for each thread."""
    backend, rng = make_cupy(dtype), np.random.default_rng(0)
    rows = (1000 + rng.standard_normal((20_011, 3))).astype(dtype)
    total = backend.asarray(np.full(3, 5.0))
    cupy_sums.add_row_sums(backend.asarray(rows), total, backend)
    assert off(backend.to_host(total), 5 + rows.sum(axis=0, dtype=np.float64)) <= TOLERANCE[dtype]
    vector = rng.standard_normal(2 * cupy_sums.THREADS + 7).astype(dtype)
    norm = backend.to_host(
        backend.implementation(mg.optimizers.length)(backend.asarray(vector), backend)
    )
    assert norm == pytest.approx(np.linalg.norm(vector.astype(np.float64)), rel=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_batchnorm_of_numbers_far_from_zero(dtype, make_cupy):
    """Mean 1000, deviation 1: a sum of squares would keep no digit of the variance in float32."""
    backend, rng = make_cupy(dtype), np.random.default_rng(0)
    x = (1000 + rng.standard_normal((9_001, 8))).astype(dtype)
    net = mg.Sequential([mg.BatchNorm()])
    net.setup((8,), backend=backend, rng=rng)
    y = backend.to_host(net.forward(backend.asarray(x)))
    x = x.astype(np.float64)
    assert (
        np.abs(y - (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + 1e-5)).max()
        < {"float32": 2e-4, "float64": 1e-10}[dtype]
    )
    running = backend.to_host(net.buffers["0.running_var"])
    np.testing.assert_allclose(
        running, 0.9 + 0.1 * x.var(axis=0, ddof=1), rtol={"float32": 1e-5, "float64": 1e-12}[dtype]
    )


@pytest.mark.parametrize("eps_hat", (False, True))
def test_adam_is_the_definition(eps_hat, make_cupy):
    """Ten steps in float64, with a rate that changes; on the CPU the same bits."""
    backend, plain, rng = make_cupy("float64"), Backend(np, "float64"), np.random.default_rng(0)
    nets = []
    for engine in (backend, plain):
        net = mg.Sequential([mg.Linear(7)])
        net.setup((5,), backend=engine, rng=np.random.default_rng(1))
        nets.append((net, mg.Adam(net, 1e-2, eps_hat=eps_hat, l2=1e-3)))
    assert backend.implementation(adam_step) is adam_step  # what is faster is Adam.apply as a whole
    for step in range(10):
        g = rng.standard_normal(nets[0][0].store.flat_grads.shape)
        for net, optimizer in nets:
            net.backend.put(g, net.store.flat_grads)
            optimizer.lr = 1e-2 / (1 + step // 4)
            optimizer.step()
    for name in ("m", "v"):
        np.testing.assert_allclose(
            backend.to_host(getattr(nets[0][1], name)),
            getattr(nets[1][1], name),
            rtol=1e-14,
            atol=1e-18,
        )
    np.testing.assert_allclose(
        backend.to_host(nets[0][0].store.flat_params),
        nets[1][0].store.flat_params,
        rtol=1e-13,
        atol=1e-15,
    )


@pytest.mark.parametrize("limit", (None, 2.0))
def test_losses_are_the_definition(limit, make_cupy):
    backend, rng = make_cupy("float64"), np.random.default_rng(0)
    logits = np.concatenate([rng.normal(0, 5, 37), [0.0, 800.0, -800.0]])[:, None]
    for target in (0.9, rng.uniform(0, 1, logits.shape)):
        results = []
        for engine in (backend, Backend(np, "float64")):
            given = target if isinstance(target, float) else engine.asarray(target)
            results.append(
                [
                    engine.to_host(a)
                    for a in mg.bce_with_logits(
                        engine.asarray(logits), given, backend=engine, limit=limit
                    )
                ]
            )
        for found, wanted in zip(*results, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-13, atol=1e-17)
    p = backend.implementation(mg.losses.mean_sigmoid)(backend.asarray(logits), backend)
    assert backend.to_host(p) == pytest.approx(np.mean(0.5 + 0.5 * np.tanh(logits / 2)), rel=1e-13)


def test_images_are_gathered_as_batches_make_them(make_cupy):
    from minigan.data import to_floats

    backend, rng = make_cupy(), np.random.default_rng(0)
    pixels, chosen = rng.integers(0, 256, (9, 5, 4, 3), np.uint8), np.array([8, 0, 3, 3], np.int32)
    for low in (-1.0, 0.0):
        wanted = np.empty((5, 5, 4, 3), np.float32)
        to_floats(np.concatenate([pixels[chosen], pixels[2:3, :, ::-1]]), wanted, low)
        for engine in (backend, Backend(np)):
            out = poisoned(engine, (5, 5, 4, 3))
            engine.gather_images(
                engine.xp.asarray(pixels),
                engine.xp.asarray(np.append(chosen, [-1 - 2]).astype(np.int32)),
                out,
                low,
            )
            np.testing.assert_array_equal(engine.to_host(out), wanted)


# ---- random numbers


@pytest.mark.parametrize(
    "counter, key, answer",
    (  # Salmon et al.'s own, of the Random123 library
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ),
)
def test_philox_gives_the_published_words(counter, key, answer):
    words = philox.words([np.array([word], np.uint64) for word in counter], key[0] | key[1] << 32)
    assert tuple(map(int, words[0])) == answer


@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_philox_is_the_same_on_every_backend(dtype, make_cupy):
    """Uniform numbers bit by bit; normal ones too in float32, and to some units of the last place in float64."""
    fast, plain = make_cupy(dtype), Backend(np, dtype)
    seed = 2**63 + 12345
    generators = [backend.philox(seed, stream=7) for backend in (fast, plain)]
    for size in (1, 5, 1000):
        for kind in ("uniform", "normal"):
            drawn = []
            for generator in generators:
                out = poisoned(generator.backend, (size, 3))
                getattr(generator, kind)(out)
                drawn.append(generator.backend.to_host(out).copy())
            if kind == "uniform" or dtype == "float32":
                np.testing.assert_array_equal(*drawn)
            else:
                np.testing.assert_allclose(*drawn, rtol=1e-14, atol=1e-15)
    assert generators[0].steps == generators[1].steps == 6
    generators[0].steps = 5  # back to the last one
    again = poisoned(fast, (1000, 3))
    generators[0].normal(again)
    np.testing.assert_array_equal(fast.to_host(again), drawn[0])
    assert drawn[1].mean() == pytest.approx(0, abs=0.06) and drawn[1].std() == pytest.approx(
        1, abs=0.04
    )


def test_philox_in_a_recorded_step(make_cupy):
    backend = make_cupy()
    generator, out = backend.philox(3), backend.empty((4, 2))
    replay = backend.capture(lambda: generator.uniform(out))
    assert generator.steps == 0
    for step in range(3):
        replay()
        wanted = philox.numbers(8, 3, step, 0, np.float32, False).reshape(4, 2)
        np.testing.assert_array_equal(backend.to_host(out), wanted)


# ---- products


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_products(dtype, make_cupy):
    """Either factor transposed or not, also vectors; added to out or not."""
    backend, rng = make_cupy(dtype), np.random.default_rng(0)
    for m, k, n in ((4, 3, 5), (1, 7, 1), (1, 1, 6), (9, 1, 1), (16, 8, 4)):
        for a_turned in (False, True):
            for b_turned in (False, True):
                a, b = (
                    rng.standard_normal((m, k)).astype(dtype),
                    rng.standard_normal((k, n)).astype(dtype),
                )
                left = backend.asarray(a.T.copy()).T if a_turned else backend.asarray(a)
                right = backend.asarray(b.T.copy()).T if b_turned else backend.asarray(b)
                out = poisoned(backend, (m, n))
                backend.gemm(left, right, out=out)
                backend.gemm(left, right, out=out, accumulate=True)
                assert off(backend.to_host(out), 2 * a.astype(np.float64) @ b) <= TOLERANCE[dtype]


def test_precision_is_what_it_says(make_cupy):
    """Products of random numbers: fp32 to 1e-6, tf32 to some 1e-4 and no better; float64 is not touched by it."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((32, 64)), rng.standard_normal((64, 16))
    errors = {}
    for dtype, precision in (("float32", "fp32"), ("float32", "tf32"), ("float64", "tf32")):
        backend = make_cupy(dtype, precision)
        assert backend.precision == precision
        out = backend.empty((32, 16))
        backend.gemm(backend.asarray(a), backend.asarray(b), out=out)
        errors[dtype, precision] = off(backend.to_host(out), a @ b)
    assert errors["float32", "fp32"] < 1e-6 < 5e-5 < errors["float32", "tf32"] < 1e-3
    assert errors["float64", "tf32"] < 1e-15


def test_products_that_would_need_a_copy_are_refused(make_cupy):
    backend = make_cupy()
    x = backend.asarray(np.ones((6, 6)))
    with pytest.raises(mg.ArrayTypeError, match="contiguous, or transposes of such"):
        backend.gemm(x[:, :3], x[:3], out=backend.empty((6, 6)))
    with pytest.raises(mg.ArrayTypeError, match="does not give"):
        backend.gemm(x, x, out=backend.empty((6, 5)))


# ---- what goes wrong


def test_a_kernel_takes_no_wrong_argument(make_cupy):
    backend = make_cupy()
    x, kernel = backend.asarray(np.ones((4, 4))), backend.kernels.get("activate_backward")
    for wrong in (x.T[:2], backend.empty((4, 4), "float64")):
        with pytest.raises(mg.ArrayTypeError, match="expected a contiguous array of float32"):
            kernel(16, wrong, x, x, 16, 0.0)
    with pytest.raises(mg.ArrayTypeError, match="aligned to 16 bytes"):
        backend.kernels.get("activate", width=4)(
            1, backend.asarray(np.ones(8))[1:5], None, x, 1, 4, 0.0
        )
    for beyond in (2**31, 1.5):
        with pytest.raises(mg.ShapeError, match="take a smaller batch"):
            kernel(16, x, x, x, beyond, 0.0)


class Broken:
    """RawModule where NVRTC is missing or too old."""

    def __init__(self, **arguments):
        raise RuntimeError("CuPy failed to load libnvrtc.so.13:\nno such file")


def test_errors_of_an_installation_are_one_line(monkeypatch):
    module = make_module()
    monkeypatch.setitem(sys.modules, "cupy", module)
    backend = mg.get_backend("cupy")
    x = backend.asarray(np.ones((4, 4)))

    def missing(xp):
        raise OSError("libcublas.so.13: cannot open\nshared object")

    monkeypatch.setattr(cupy_gemm, "load_cublas", missing)
    with pytest.raises(
        mg.BackendError, match=r"cuBLAS is not there .*pip install 'cupy-cuda13x\[ctk\]'"
    ) as caught:
        backend.gemm(x, x, out=backend.empty((4, 4)))
    assert "\n" not in str(caught.value)
    module.RawModule = Broken
    with pytest.raises(
        mg.BackendError, match=r"kernels do not compile .*NVRTC.*--backend numpy"
    ) as caught:
        backend.kernels.get("fold")(1, x, x, 1, 1, 1, 1, 1.0, 0)
    assert "\n" not in str(caught.value)


def test_a_full_gpu_is_told_in_one_line(monkeypatch, capsys, tmp_path):
    from minigan.cli.main import main

    class OutOfMemoryError(MemoryError):
        """As CuPy's."""

    module = make_module()
    monkeypatch.setitem(sys.modules, "cupy", module)

    def full(shape, dtype):
        raise OutOfMemoryError("Out of memory allocating 1,024 bytes (allocated so far: 99 bytes).")

    module.empty = full
    assert (
        main(
            [
                "train",
                "--backend",
                "cupy",
                "--dataset",
                "strokes",
                "--width",
                "2",
                "--steps",
                "1",
                "--out",
                str(tmp_path / "a"),
            ]
        )
        == 2
    )
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "not enough memory" in error and "--batch-size" in error


@pytest.mark.parametrize(
    "precision, name, message",
    (
        ("fp16", "cupy", "unknown precision 'fp16': choose one of fp32, tf32"),
        ("tf32", "numpy", "precision tf32 is for tensor cores"),
    ),
)
def test_precisions_that_cannot_be(precision, name, message):
    with pytest.raises(mg.ConfigError, match=message):
        mg.get_backend(name, precision=precision)


def test_the_precision_of_a_run(monkeypatch, tmp_path, capsys):
    """It is said when the run starts, and kept: a run does not go on in another."""
    from minigan.cli.main import main

    monkeypatch.setitem(sys.modules, "cupy", make_module())
    small = [
        "train",
        "--width",
        "2",
        "--batch-size",
        "4",
        "--dataset",
        "strokes",
        "--limit",
        "12",
        "--steps",
    ]
    assert (
        main(
            [*small, "2", "--backend", "cupy", "--precision", "tf32", "--out", str(tmp_path / "a")]
        )
        == 0
    )
    assert any(
        "on strokes, cupy, tf32, seed 0" in line for line in capsys.readouterr().out.splitlines()
    )
    assert (
        main(["train", "--resume", str(tmp_path / "a"), "--steps", "3", "--precision", "fp32"]) == 2
    )
    assert "--precision fp32 does not fit the run, which has tf32" in capsys.readouterr().err
    assert main([*small, "1", "--precision", "tf32", "--out", str(tmp_path / "b")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert (
        main(["sample", str(tmp_path / "a"), "--out", str(tmp_path / "a.png")]) == 0
    )  # on the CPU


# ---- mutants: mistakes in kernels.cu, each of which must be found


def real_and_fake(dtype, make_cupy):
    pair_test("blocks", make_cupy)


def neighbours(dtype, make_cupy):
    with pytest.MonkeyPatch.context() as monkeypatch:
        nearest_test(3, 2, make_cupy, monkeypatch)


MUTANTS = {  # what is wrong: the text, what takes its place, and the test, or the chain of layers, that shows it
    "phase of the rows": (
        "for (int i = h % G::SH,",
        "for (int i = (h + 1) % G::SH,",
        "transposed k4 s2 p1",
    ),
    "phase of the columns": ("q = w / G::SW; j", "q = (w + 1) / G::SW; j", "transposed k5 s2 same"),
    "tap left out": ("i < G::KH && p >= 0", "i < G::KH - 1 && p >= 0", "transposed k4 s2 p1"),
    "padding before": (
        "i - G::TOP, first = (q * G::SW - G::LEFT)",
        "i - G::LEFT, first = (q * G::SW)",
        "k4 s2 p1, uneven image",
    ),
    "last rows left out": (
        "const int end = least(s / strips * rows + rows, first + strip);",
        "const int end = least(s / strips * rows + rows - 1, first + strip);",
        test_batchnorm_of_numbers_far_from_zero,
    ),
    "tile of few pixels": (
        "if (first + r < pixels)",
        "if (first + r < pixels - 1)",
        "three channels in",
    ),
    "fold sets, not adds": (
        "out[t] = add ? out[t] + T(scale) * sum",
        "out[t] = add ? T(scale) * sum",
        "one channel in",
    ),
    "mean of g x_hat": (
        "x_hat * means[(part * 2 + 1) * c",
        "means[(part * 2 + 1) * c",
        "Linear, BatchNorm, ReLU",
    ),
    "statistics of the first batch for both": (
        "own = t / (c / V) / rows * c + lane;",
        "own = lane;",
        real_and_fake,
    ),
    "the last of equally near pictures": (
        "if (value < least_yet)",
        "if (value <= least_yet)",
        neighbours,
    ),
    "the strip, not the picture": (
        "numbers[s] < numbers[nearest])) nearest = s;",
        "s < nearest)) nearest = s;",
        neighbours,
    ),
    "sums into one place": ("sums[t] = sum;\n", "sums[0] += sum;\n", test_sums_of_many_rows),
}


@pytest.mark.parametrize("what", MUTANTS)
def test_a_mistake_in_a_kernel_is_found(what, monkeypatch):
    text, wrong, where = MUTANTS[what]
    assert cupy_kernels.source().count(text) == 1

    def mutate(source):
        return source.replace(text, wrong)

    monkeypatch.setitem(sys.modules, "cupy", make_module(mutate=mutate))
    with pytest.raises(AssertionError):
        if isinstance(where, str):
            chain_test(where, "float64", lambda dtype: mg.get_backend("cupy", dtype=dtype))
        else:
            where("float32", lambda dtype: mg.get_backend("cupy", dtype=dtype))


def test_the_stand_in_finds_pinned_memory_that_is_written_too_early(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", make_module())
    backend = mg.get_backend("cupy")
    inbox = backend.inbox((3, 2))
    inbox.open(3)[...] = 1
    inbox.send()
    inbox.halves[inbox.turn][0] = 2  # without waiting
    with pytest.raises(AssertionError, match="pinned memory was written"):
        backend.synchronize()
    assert strict_cupy.device.in_flight == {}


def test_windows_and_geometry_agree():
    """The geometry of kernels.cu is that of base.windows: spot check of the sizes that go into it."""
    geometry = cupy_kernels.find_geometry(
        (5, 6, 2), (3, 2, 2, 7), (3, 6, 7), (2, 1), ((1, 1), (0, 1))
    )
    assert geometry._asdict() == dict(
        H=5, W=6, C=2, P=3, Q=6, D=7, KH=3, KW=2, SH=2, SW=1, TOP=1, LEFT=0
    )
    assert len(list(windows((1, 5, 6, 2), (1, 3, 6, 3, 2, 2), (2, 1), ((1, 1), (0, 1))))) == 6
