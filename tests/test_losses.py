"""Binary cross-entropy on logits: values, gradient, extremes."""

from math import exp, log1p

import numpy as np
import pytest

import minigan as mg


@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("target", (0.0, 1.0, 0.9))
def test_values_far_out(dtype, target, make_backend):
    """At |logit| = 100 a sigmoid is 0 or 1; the loss is still exact, and nothing overflows."""
    backend = make_backend(dtype)
    logits = np.array([[-1e4], [-100.0], [-1.0], [0.0], [2.0], [100.0], [1e4]])
    loss, dlogits = mg.bce_with_logits(backend.asarray(logits), target, backend=backend)
    wanted = [max(v, 0) - target * v + log1p(exp(-abs(v))) for v in logits[:, 0]]
    sigmoid = [exp(min(v, 0)) / (1 + exp(-abs(v))) for v in logits[:, 0]]
    rtol = 1e-6 if dtype == "float32" else 1e-14
    np.testing.assert_allclose(float(backend.to_host(loss)), np.mean(wanted), rtol=rtol)
    np.testing.assert_allclose(
        backend.to_host(dlogits)[:, 0],
        (np.array(sigmoid) - target) / 7,
        rtol=10 * rtol,
        atol=rtol / 100,
    )
    assert dlogits.dtype == dtype and backend.to_host(loss).dtype == dtype


def test_small_probabilities_keep_their_digits():
    _, dlogits = mg.bce_with_logits(np.array([[-80.0]]), 0.0)
    assert dlogits[0, 0] == pytest.approx(exp(-80), rel=1e-14)


def test_target_arrays():
    rng = np.random.default_rng(0)
    logits, target = rng.standard_normal((6, 1)), rng.random((6, 1))
    loss, dlogits = mg.bce_with_logits(logits, target)
    single = [mg.bce_with_logits(logits[i : i + 1], float(target[i, 0])) for i in range(6)]
    assert float(loss) == pytest.approx(np.mean([value for value, _ in single]), rel=1e-14)
    np.testing.assert_allclose(dlogits[:, 0], [d[0, 0] / 6 for _, d in single], rtol=1e-14)


@pytest.mark.parametrize(
    "logits, target, error",
    (
        (np.zeros((2, 1)), 1.5, mg.ConfigError),
        (np.zeros((2, 1)), float("nan"), mg.ConfigError),
        (np.zeros((2, 1)), np.zeros((2,)), mg.ShapeError),
        (np.zeros((2, 1)), [[1], [0]], mg.ArrayTypeError),
        (np.zeros((2, 1), np.float32), np.zeros((2, 1)), mg.ArrayTypeError),
        ([[0.0]], 1.0, mg.ArrayTypeError),
        (np.zeros((2, 1), int), 1.0, mg.ArrayTypeError),
    ),
)
def test_mistakes(logits, target, error):
    with pytest.raises(error, match=r"^bce_with_logits: .*got"):
        mg.bce_with_logits(logits, target)
