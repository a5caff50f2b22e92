"""Losses without new memory: the definitions' numbers."""

import numpy as np
import pytest

import minigan as mg
from minigan.arrays import Backend
from minigan.backends.cpu.losses import mean_sigmoid
from minigan.losses import mean_sigmoid as definition

EXTREMES = [0.0, 40.0, -40.0, 100.0, -100.0, 800.0, -800.0]


@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("limit", (None, 2.0, 16.1))
@pytest.mark.parametrize("target", (0.0, 0.9, 1.0, "array"))
def test_binary_cross_entropy(target, limit, dtype):
    rng = np.random.default_rng(0)
    logits = np.concatenate([rng.normal(0, 5, 57), EXTREMES]).astype(dtype)[:, None]
    if target == "array":
        target = rng.uniform(0, 1, logits.shape).astype(dtype)
    before = logits.copy()
    (loss, dlogits), (expected, d_expected) = (
        mg.bce_with_logits(logits, target, backend=backend, limit=limit)
        for backend in (mg.get_backend("numpy", dtype), Backend(dtype))
    )
    eps = float(np.finfo(dtype).eps)
    assert loss.dtype == dtype and loss == pytest.approx(expected, rel=4 * eps)
    np.testing.assert_array_equal(dlogits, d_expected)
    np.testing.assert_array_equal(logits, before)


@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_mean_probability(dtype):
    logits = np.random.default_rng(0).normal(0, 5, (64, 1)).astype(dtype)
    p = mean_sigmoid(logits, mg.get_backend("numpy", dtype))
    assert p.dtype == dtype
    assert p == pytest.approx(
        definition(logits, Backend(dtype)), rel=4 * float(np.finfo(dtype).eps)
    )


def test_gradients_are_the_callers_to_keep():
    backend = mg.get_backend("numpy")
    logits = np.linspace(-2, 2, 6, dtype=np.float32)[:, None]
    kept = [mg.bce_with_logits(logits, target, backend=backend)[1] for target in (0.0, 0.5, 1.0)]
    for one, target in zip(kept, (0.0, 0.5, 1.0), strict=True):
        np.testing.assert_array_equal(one, mg.bce_with_logits(logits, target)[1])
