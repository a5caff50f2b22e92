"""Losses and probabilities on the GPU: the definitions' numbers, in few launches."""

import numpy as np
import pytest

import minigan as mg
from minigan.arrays import Backend
from minigan.losses import mean_sigmoid
from minigan.objective import hinge, least_squares
from tests.support.gpu_cases import expect_near

LOGITS = np.concatenate([np.random.default_rng(0).normal(0, 5, 37), [0.0, 800.0, -800.0]])[:, None]
TARGETS = (0, 0.9, 1, np.random.default_rng(1).uniform(0, 1, LOGITS.shape))
RTOL = {"float32": 1e-6, "float64": 1e-13}


@pytest.mark.parametrize("limit", (None, 2.0, 15.0))
@pytest.mark.parametrize("target", TARGETS, ids=("0", "0.9", "1", "array"))
@pytest.mark.parametrize("dtype", RTOL)
def test_binary_cross_entropy(dtype, target, limit, make_cupy):
    results = []
    for backend in (make_cupy(dtype), Backend("float64")):
        given = backend.asarray(target) if isinstance(target, np.ndarray) else target
        logits = backend.asarray(LOGITS)
        result = mg.bce_with_logits(logits, given, backend=backend, limit=limit)
        results.append([backend.to_host(array) for array in result])
    for found, expected in zip(*results, strict=True):
        assert found.dtype == dtype
        expect_near(found, np.asarray(expected), RTOL[dtype], limit)


@pytest.mark.parametrize("dtype", RTOL)
def test_mean_probability(dtype, make_cupy):
    backend = make_cupy(dtype)
    p = backend.operation_for(mean_sigmoid)(backend.asarray(LOGITS), backend)
    expected = mean_sigmoid(LOGITS, Backend("float64"))
    assert p.shape == () and backend.to_host(p) == pytest.approx(expected, rel=RTOL[dtype])


def test_results_stay_and_logits_need_not_be_contiguous(make_cupy):
    backend = make_cupy()
    wide = backend.asarray(np.random.default_rng(0).standard_normal((6, 4)))
    kept = [mg.bce_with_logits(wide[:, i : i + 1], 1.0, backend=backend) for i in range(4)]
    for i, (loss, dlogits) in enumerate(kept):
        logits = backend.to_host(wide)[:, i : i + 1]
        expected, d_expected = mg.bce_with_logits(logits, 1.0)
        assert backend.to_host(loss) == pytest.approx(float(expected), rel=1e-6)
        np.testing.assert_allclose(backend.to_host(dlogits), d_expected, rtol=1e-5)


@pytest.mark.parametrize("loss", (mg.bce_with_logits, least_squares, hinge))
@pytest.mark.parametrize("target", (0.0, 0.25, 1.0))
def test_nan_and_infinity_as_the_definition(loss, target, make_cupy):
    """A loss that ignored NaN would let a broken run go on."""
    backends = (make_cupy(), Backend("float32"))
    for logit in (np.nan, np.inf, -np.inf, 1.0, -1.0, 3.0):
        found = []
        for backend in backends:
            logits = backend.asarray(np.full((1, 1), logit, np.float32))
            found.append(
                [backend.to_host(each).item() for each in loss(logits, target, backend=backend)]
            )
        np.testing.assert_allclose(*found, rtol=1e-5)
