"""Losses on logits: values, gradients, extremes, against naive loops and PyTorch."""

from math import exp, log, log1p

import numpy as np
import pytest

import minigan as mg
from minigan.losses import mean_sigmoid
from tests.support import reference
from tests.support.networks import assert_close
from tests.support.torch_or_skip import import_torch


@pytest.mark.parametrize("target", (0.0, 1.0, 0.9))
def test_bce_far_out(target, make_backend):
    """At |logit| = 100 a sigmoid is 0 or 1; the loss is still exact, and nothing overflows."""
    logits = np.array([[-1e4], [-100.0], [-1.0], [0.0], [2.0], [100.0], [1e4]])
    wanted = [max(v, 0) - target * v + log1p(exp(-abs(v))) for v in logits[:, 0]]
    sigmoid = [exp(min(v, 0)) / (1 + exp(-abs(v))) for v in logits[:, 0]]
    for dtype, rtol in (("float32", 1e-6), ("float64", 1e-14)):
        backend = make_backend(dtype)
        with np.errstate(over="raise", invalid="raise", divide="raise"):
            loss, dlogits = mg.bce_with_logits(backend.asarray(logits), target, backend=backend)
        loss, dlogits = backend.to_host(loss), backend.to_host(dlogits)
        assert loss.dtype == dlogits.dtype == dtype
        np.testing.assert_allclose(float(loss), np.mean(wanted), rtol=rtol)
        expected = (np.array(sigmoid) - target) / 7
        np.testing.assert_allclose(dlogits[:, 0], expected, rtol=10 * rtol, atol=rtol / 100)


def test_small_probabilities_keep_their_digits():
    """Right by far costs e^-100, wrong by far costs 100."""
    for logit, target, wanted in (
        (100.0, 1.0, exp(-100)),
        (100.0, 0.0, 100.0),
        (-100.0, 0.0, exp(-100)),
        (-100.0, 1.0, 100.0),
        (100.0, 0.9, 10.0),
    ):
        loss, _ = mg.bce_with_logits(np.array([[logit]]), target)
        assert float(loss) == pytest.approx(wanted, rel=1e-12)
    _, dlogits = mg.bce_with_logits(np.array([[-80.0]]), 0.0)
    assert dlogits[0, 0] == pytest.approx(exp(-80), rel=1e-14)


@pytest.mark.parametrize("shape", ((1, 1), (7, 1), (2, 3)), ids=str)
@pytest.mark.parametrize("target", (0, 1, 0.9, np.float64(0.9), "array"))
def test_bce_by_naive_loops(shape, target, make_backend):
    backend, rng = make_backend(), np.random.default_rng(12)
    logits = rng.standard_normal(shape) * 3
    expected = target = rng.uniform(0, 1, shape) if isinstance(target, str) else target
    if isinstance(target, np.ndarray):
        target = backend.asarray(target)
    found = mg.bce_with_logits(backend.asarray(logits), target, backend=backend)
    loss, dlogits = map(backend.to_host, found)
    wanted_loss, wanted_dlogits = reference.bce_with_logits(logits, expected)
    assert float(loss) == pytest.approx(wanted_loss, rel=1e-10)
    assert_close(dlogits, wanted_dlogits, "dlogits")


@pytest.mark.parametrize("scale", (1, 30, 100))
def test_bce_in_pytorch(scale, make_backend):
    torch, backend, rng = import_torch(), make_backend(), np.random.default_rng(106)
    for shape in ((1, 1), (8, 1), (4, 3)):
        logits = rng.choice([-1.0, 1.0], shape) * scale + rng.standard_normal(shape)
        target = rng.uniform(0, 1, shape)
        theirs = torch.tensor(logits, requires_grad=True)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(theirs, torch.tensor(target))
        loss.backward()
        found = mg.bce_with_logits(
            backend.asarray(logits), backend.asarray(target), backend=backend
        )
        assert float(backend.to_host(found[0])) == pytest.approx(loss.item(), rel=1e-10)
        np.testing.assert_allclose(
            backend.to_host(found[1]), theirs.grad.numpy(), rtol=1e-9, atol=1e-17
        )


def test_a_limit_clips_the_reported_loss_and_not_the_gradient(make_backend):
    """Keras clips p to [1e-7, 1 - 1e-7], so that its losses reach 16.118 and no more."""
    backend, limit, p = make_backend(), log((1 - 1e-7) / 1e-7), 1e-7
    logits = backend.asarray(np.full((3, 1), -40.0))
    exact, gradient = mg.bce_with_logits(logits, 0.9, backend=backend)
    clipped, same = mg.bce_with_logits(logits, 0.9, backend=backend, limit=limit)
    assert float(backend.to_host(exact)) > 30
    wanted = -0.9 * log(p) - 0.1 * log(1 - p)
    assert float(backend.to_host(clipped)) == pytest.approx(wanted, rel=1e-9)
    np.testing.assert_array_equal(backend.to_host(same), backend.to_host(gradient))


def test_mean_sigmoid(make_backend):
    backend, logits = make_backend(), np.random.default_rng(1).standard_normal((50, 1)) * 9
    mean = backend.operation_for(mean_sigmoid)(backend.asarray(logits), backend)
    wanted = np.mean(1 / (1 + np.exp(-logits)))
    assert float(backend.to_host(mean)) == pytest.approx(wanted, rel=1e-12)


def test_float32_stays_float32():
    logits = np.zeros((5, 1), np.float32)
    for target in (1.0, np.float64(0.9), np.full((5, 1), 0.9, np.float32)):
        loss, dlogits = mg.bce_with_logits(logits, target)
        assert loss.dtype == dlogits.dtype == np.float32


def test_softmax_far_out(make_backend):
    """Where e^l overflows, and where it is 0, the loss is still exact."""
    logits = np.array([[1e4, 0, -1e4], [-1e4, 1e4, 1e4], [0, 0, 0], [200, 201, 202]])
    labels = np.eye(3)[[2, 0, 1, 2]]
    p = [[1, 0, 0], [0, 0.5, 0.5], [1 / 3] * 3, np.exp([-2, -1, 0]) / (1 + exp(-1) + exp(-2))]
    wanted = [2e4, 2e4 + log(2), log(3), log(1 + exp(-1) + exp(-2))]
    for dtype, rtol in (("float32", 1e-6), ("float64", 1e-14)):
        backend = make_backend(dtype)
        loss, dlogits = mg.softmax_cross_entropy(
            backend.asarray(logits), backend.asarray(labels), backend=backend
        )
        loss, dlogits = backend.to_host(loss), backend.to_host(dlogits)
        assert loss.dtype == dlogits.dtype == dtype
        np.testing.assert_allclose(float(loss), np.mean(wanted), rtol=rtol)
        np.testing.assert_allclose(dlogits, (p - labels) / 4, rtol=rtol, atol=rtol)


def test_softmax_gradient_by_central_differences():
    """With labels that are not one-hot, too."""
    rng = np.random.default_rng(0)
    logits, direction = rng.standard_normal((2, 6, 5))
    labels = rng.dirichlet(np.ones(5), 6)
    _, dlogits = mg.softmax_cross_entropy(logits, labels)
    above, below = (
        float(mg.softmax_cross_entropy(logits + h * direction, labels)[0]) for h in (1e-5, -1e-5)
    )
    assert (above - below) / 2e-5 == pytest.approx(np.sum(dlogits * direction), rel=1e-6)


def test_softmax_of_two_classes_is_binary_cross_entropy():
    logits = np.random.default_rng(1).standard_normal((8, 1)) * 5
    labels = np.tile([1.0, 0.0], (8, 1))
    loss, dlogits = mg.softmax_cross_entropy(np.hstack([logits, 0 * logits]), labels)
    binary, dbinary = mg.bce_with_logits(logits, 1.0)
    assert float(loss) == pytest.approx(float(binary), rel=1e-13)
    np.testing.assert_allclose(dlogits[:, :1], dbinary, rtol=1e-12)


def test_softmax_in_pytorch():
    torch, rng = import_torch(), np.random.default_rng(2)
    logits, numbers = rng.standard_normal((40, 10)) * 10, rng.integers(0, 10, 40)
    theirs = torch.tensor(logits, requires_grad=True)
    wanted = torch.nn.functional.cross_entropy(theirs, torch.tensor(numbers))
    wanted.backward()
    loss, dlogits = mg.softmax_cross_entropy(logits, np.eye(10)[numbers])
    assert float(loss) == pytest.approx(wanted.item(), rel=1e-12)
    np.testing.assert_allclose(dlogits, theirs.grad.numpy(), rtol=1e-9, atol=1e-15)


def test_arguments_are_only_read_and_results_belong_to_the_caller(make_backend):
    backend, rng = make_backend(), np.random.default_rng(3)
    host = backend.to_host
    arrays = [
        backend.asarray(values) for values in (rng.standard_normal((4, 3)), np.eye(3)[[0, 1, 2, 0]])
    ]
    before = [host(array).copy() for array in arrays]
    for loss in (mg.bce_with_logits, mg.softmax_cross_entropy):
        _, first = loss(*arrays, backend=backend)
        kept = host(first).copy()
        loss(arrays[0] + 1.0, arrays[1], backend=backend)
        np.testing.assert_array_equal(host(first), kept)
        first.fill(7.0)
        np.testing.assert_array_equal(host(loss(*arrays, backend=backend)[1]), kept)
    for array, values in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(host(array), values)


ZEROS = np.zeros((2, 1))


@pytest.mark.parametrize(
    "loss, logits, other, error",
    (
        (mg.bce_with_logits, ZEROS, 1.5, mg.ConfigError),
        (mg.bce_with_logits, ZEROS, float("nan"), mg.ConfigError),
        (mg.bce_with_logits, ZEROS, np.zeros(2), mg.ShapeError),
        (mg.bce_with_logits, np.zeros((0, 1)), 1.0, mg.ShapeError),
        (mg.bce_with_logits, ZEROS, [[1], [0]], mg.ArrayTypeError),
        (mg.bce_with_logits, ZEROS.astype("f4"), ZEROS, mg.ArrayTypeError),
        (mg.bce_with_logits, [[0.0]], 1.0, mg.ArrayTypeError),
        (mg.bce_with_logits, np.zeros((2, 1), int), 1.0, mg.ArrayTypeError),
        (mg.softmax_cross_entropy, np.zeros((2, 3)), np.zeros((2, 2)), mg.ShapeError),
        (mg.softmax_cross_entropy, np.zeros(3), np.zeros(3), mg.ShapeError),
        (mg.softmax_cross_entropy, np.zeros((2, 3)), np.array([0, 2]), mg.ShapeError),
        (mg.softmax_cross_entropy, np.zeros((0, 3)), np.zeros((0, 3)), mg.ShapeError),
        (mg.softmax_cross_entropy, np.zeros((2, 3)), [[1, 0, 0]] * 2, mg.ArrayTypeError),
        (mg.softmax_cross_entropy, np.zeros((2, 3), "f4"), np.zeros((2, 3)), mg.ArrayTypeError),
        (mg.softmax_cross_entropy, np.zeros((2, 3), int), np.zeros((2, 3)), mg.ArrayTypeError),
    ),
)
def test_mistakes(loss, logits, other, error):
    with pytest.raises(error, match=rf"^{loss.__name__}: .*got") as caught:
        loss(logits, other)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("loss", (mg.bce_with_logits, mg.softmax_cross_entropy))
def test_a_list_beside_a_backend(loss, make_backend):
    with pytest.raises(mg.ArrayTypeError, match=rf"^{loss.__name__}: expected logits"):
        loss([[0.0]], [[1.0]], backend=make_backend())
