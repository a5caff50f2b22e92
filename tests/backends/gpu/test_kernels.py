"""Kernels and their arguments; and that a mistake in kernels.cu is found by the tests here."""

import sys

import numpy as np
import pytest

import minigan as mg
from minigan.backends.gpu import kernels
from tests.support import gpu_cases
from tests.support.gpu_cases import filled
from tests.support.strict_cupy import make_module


def test_signatures_are_read_from_the_text():
    found = kernels.signatures()
    assert found["fold"] == (("T",), ("T*", "T*", "int", "int", "int", "int", "double", "int"))
    assert found["few_forward"][0] == ("T", "G", "F", "V")
    assert found["gather_images"][1][:3] == ("unsignedchar*", "int*", "T*")
    assert set(kernels.ALWAYS) < set(found)
    assert len(found) == kernels.source().count("__global__")


def test_a_variant_per_width(make_cupy):
    single, double = make_cupy().kernels, make_cupy("float64").kernels
    assert [single.width(c) for c in (1, 2, 3, 4, 6, 8, 12)] == [1, 1, 1, 4, 1, 4, 4]
    assert [single.width(c, packs=2) for c in (1, 4, 8, 12, 16)] == [1, 4, 8, 4, 8]
    assert [double.width(c) for c in (1, 2, 3, 4)] == [1, 2, 1, 2]
    assert single.get("activate", width=4) is single.get("activate", width=4)
    assert single.get("activate", width=4) is not single.get("activate", kind="Tanh", width=4)


def test_a_launch_takes_no_wrong_argument(make_cupy):
    backend = make_cupy()
    x, kernel = filled(backend, (4, 4), 1.0), backend.kernels.get("activate_backward")
    for wrong in (x.T[:2], backend.xp.zeros((4, 4), np.float64)):
        with pytest.raises(mg.ArrayTypeError, match="expected a contiguous array of float32"):
            kernel(16, wrong, x, x, 16, 0.0)
    unaligned = filled(backend, 8, 1.0)[1:5]
    with pytest.raises(mg.ArrayTypeError, match="aligned to 16 bytes"):
        backend.kernels.get("activate", width=4)(1, unaligned, None, x, 1, 4, 0.0)
    for beyond in (2**31, -(2**31), 1.5):
        with pytest.raises(mg.ShapeError, match="use a smaller batch"):
            kernel(16, x, x, x, beyond, 0.0)
    with pytest.raises(ValueError, match="zip"):
        kernel(16, x, x)


def test_more_numbers_than_threads(make_cupy, monkeypatch):
    """Then each thread takes several."""
    monkeypatch.setattr(kernels, "MOST_BLOCKS", 2)
    backend = make_cupy("float64")
    x, y = np.random.default_rng(0).standard_normal((2, 3000))
    dx = filled(backend, 3000)
    kernel = backend.kernels.get("activate_backward", kind="Tanh")
    kernel(3000, backend.asarray(x), backend.asarray(y), dx, 3000, 0.0)
    np.testing.assert_allclose(backend.to_host(dx), x * (1 - y * y), rtol=1e-13)


def test_what_is_named_before_the_first_launch_is_one_module(stand_in):
    backend = mg.get_backend("cupy")
    layers = [mg.Conv2d(4, 3), mg.BatchNorm(), mg.ReLU(), mg.Flatten(), mg.Linear(1)]
    net = mg.Sequential(layers)
    net.setup((6, 6, 2), backend=backend, rng=np.random.default_rng(0))
    assert backend.kernels.modules == 0
    net.backward(net.forward(filled(backend, (3, 6, 6, 2), 1.0)))
    assert backend.kernels.modules == 1
    backend.kernels.get("gather_images").kernels.compile()
    assert backend.kernels.modules == 2


class Broken:
    """RawModule where NVRTC is missing or too old."""

    def __init__(self, **arguments):
        raise RuntimeError("CuPy failed to load libnvrtc.so.13:\nno such file")


def test_kernels_that_do_not_compile_are_one_line(stand_in):
    backend = mg.get_backend("cupy")
    x = filled(backend, (4, 4), 1.0)
    stand_in.RawModule = Broken
    line = r"kernels do not compile .*libnvrtc.so.13: no such file.*NVRTC must.*--backend numpy"
    with pytest.raises(mg.BackendError, match=line) as caught:
        backend.kernels.get("fold")(1, x, x, 1, 1, 1, 1, 1.0, 0)
    assert "\n" not in str(caught.value)


# -- mutants: mistakes in kernels.cu, and the check that must find each ------------------------


def joined(make):
    gpu_cases.check_joined_update("blocks", make)


def nearest(make):
    with pytest.MonkeyPatch.context() as monkeypatch:
        gpu_cases.check_nearest(3, 2, make, monkeypatch)


def far_from_zero(make):
    gpu_cases.check_far_from_zero("float32", make)


def pooled(make):
    gpu_cases.check_pooled_moments("float32", make)


def sums(make):
    gpu_cases.check_sums("float32", make)


MUTANTS = {  # name -> text, what replaces it, a chain of layers or a function that shows it
    "phase of the rows": ("int i = h % G::SH", "int i = (h + 1) % G::SH", "transposed k4 s2 p1"),
    "phase of the columns": ("q = w / G::SW; j", "q = (w + 1) / G::SW; j", "transposed k5 s2 same"),
    "a tap left out": ("i < G::KH && p", "i < G::KH - 1 && p", "transposed k4 s2 p1"),
    "padding before": (
        "h = p * G::SH + i - G::TOP, first = (q * G::SW - G::LEFT)",
        "h = p * G::SH + i - G::LEFT, first = (q * G::SW)",
        "k4 s2 p1",
    ),
    "pixels outside of the image": ("first >= 0 && first < G::W", "first < G::W", "k5 s2 same"),
    "a strip's last row left out": (
        "least(s / strips * rows + rows, first + strip)",
        "least(s / strips * rows + rows - 1, first + strip)",
        far_from_zero,
    ),
    "a sum of squares that is not about the mean": (
        "square[k] - sum[k] * off;", "square[k];", far_from_zero,
    ),
    "a biased running variance": ("var * unbias", "var", "norm alone"),
    "a tile's last pixel left out": (
        "if (first + r < pixels)", "if (first + r < pixels - 1)", "three channels in",
    ),
    "fold sets and does not add": (
        "out[t] = add ? T(out[t] + scale * sum)", "out[t] = add ? T(scale * sum)", "one channel in",
    ),
    "mean of g x_hat": (
        "x_hat * means[(part * 2 + 1) * c", "means[(part * 2 + 1) * c", "linear, norm, relu",
    ),
    "the gradient left out": (
        "      T g = gradient.at[k] * F::slope(y", "      T g = F::slope(y", "k4 s2 p1",
    ),
    "the first part's statistics for both": (
        "own = t / (c / V) / rows * 3 * c + lane;", "own = lane;", joined,
    ),
    "the last of equally near images": ("(value < least_yet)", "(value <= least_yet)", nearest),
    "the strip and not the image": (
        "numbers[s] < numbers[nearest])) nearest = s;", "s < nearest)) nearest = s;", nearest,
    ),
    "squares about a shard's own mean": ("rows * off * off", "0", pooled),
    "the first part's moments for both": ("t / c * 2 * c + t % c", "t % c", pooled),
    "sums into one place": ("sums[t] = T(sum);\n", "sums[0] += T(sum);\n", sums),
}  # fmt: skip


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mistake_in_a_kernel_is_found(mutant, monkeypatch):
    text, wrong, check = MUTANTS[mutant]
    assert kernels.source().count(text) == 1
    module = make_module(mutate=lambda source: source.replace(text, wrong))
    monkeypatch.setitem(sys.modules, "cupy", module)

    def make(dtype):
        return mg.get_backend("cupy", dtype=dtype)

    with pytest.raises(AssertionError):
        if isinstance(check, str):
            gpu_cases.check_chain(check, "float64", make)
        else:
            check(make)
