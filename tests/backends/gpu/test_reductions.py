"""Sums over many rows: deterministic, and folded as often as needed."""

import numpy as np
import pytest

from minigan.backends.gpu import reductions
from tests.support.gpu_cases import check_sums, expect_close, filled


@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_sums_of_rows_and_a_norm(dtype, make_cupy):
    check_sums(dtype, make_cupy)


@pytest.mark.parametrize("count", (1, 5, 64, 65, 5000))
def test_fold(count, make_cupy):
    """Sets or adds, with a scale; several parts."""
    backend = make_cupy("float64")
    sums = np.random.default_rng(0).standard_normal((2, count, 3))
    out = filled(backend, (2, 3))
    reductions.fold(backend.asarray(sums), out, backend, scale=0.5)
    expect_close(backend.to_host(out), 0.5 * sums.sum(axis=1), 1e-12, "set")
    reductions.fold(backend.asarray(sums), out, backend, add=True)
    expect_close(backend.to_host(out), 1.5 * sums.sum(axis=1), 1e-12, "added")


def test_a_mean_is_a_new_scalar(make_cupy):
    backend = make_cupy("float64")
    values = np.random.default_rng(0).standard_normal((130, 2))
    first = reductions.mean(backend.asarray(values), "loss", backend)
    second = reductions.mean(backend.asarray(values + 1), "loss", backend)
    assert first.shape == ()
    assert backend.to_host(first) == pytest.approx(values.mean(), rel=1e-12)
    assert backend.to_host(second) == pytest.approx(values.mean() + 1, rel=1e-12)


@pytest.mark.parametrize("channels", (1, 3, 4, 8))
def test_the_gradient_of_a_bias_and_its_activation_in_one_pass(channels, make_cupy):
    backend, rng = make_cupy("float64"), np.random.default_rng(0)
    dy, y = rng.standard_normal((2, 301, channels))
    g, db = filled(backend, dy.shape), filled(backend, channels, 1.0)
    arrays = [backend.asarray(dy), backend.asarray(y), g, db]
    reductions.sum_rows(("LeakyReLU", 0.2), *arrays, backend)
    expected = dy * np.where(y > 0, 1, 0.2)
    expect_close(backend.to_host(g), expected, 1e-14, "g")
    expect_close(backend.to_host(db), 1 + expected.sum(axis=0), 1e-12, "db")
