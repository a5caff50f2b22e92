"""Softmax cross-entropy: values, gradient, extremes."""

from math import exp, log

import numpy as np
import pytest

import minigan as mg


@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_values_far_out(dtype, make_backend):
    """Where e^l overflows, and where it is 0, the loss is still exact."""
    backend = make_backend(dtype)
    logits = np.array([[1e4, 0, -1e4], [-1e4, 1e4, 1e4], [0, 0, 0], [200, 201, 202]])
    labels = np.eye(3)[[2, 0, 1, 2]]
    loss, dlogits = mg.softmax_cross_entropy(
        backend.asarray(logits), backend.asarray(labels), backend=backend
    )
    p = [[1, 0, 0], [0, 0.5, 0.5], [1 / 3] * 3, np.exp([-2, -1, 0]) / (1 + exp(-1) + exp(-2))]
    wanted = [2e4, 2e4 + log(2), log(3), log(1 + exp(-1) + exp(-2))]
    rtol = 1e-6 if dtype == "float32" else 1e-14
    np.testing.assert_allclose(float(backend.to_host(loss)), np.mean(wanted), rtol=rtol)
    np.testing.assert_allclose(backend.to_host(dlogits), (p - labels) / 4, rtol=rtol, atol=rtol)
    assert dlogits.dtype == dtype and backend.to_host(loss).dtype == dtype


def test_gradient_by_central_differences():
    """Also with labels that are not one-hot."""
    rng = np.random.default_rng(0)
    logits, labels, direction = (
        rng.standard_normal((6, 5)),
        rng.dirichlet(np.ones(5), 6),
        rng.standard_normal((6, 5)),
    )
    _, dlogits = mg.softmax_cross_entropy(logits, labels)
    ends = [
        float(mg.softmax_cross_entropy(logits + h * direction, labels)[0]) for h in (1e-5, -1e-5)
    ]
    assert (ends[0] - ends[1]) / 2e-5 == pytest.approx(np.sum(dlogits * direction), rel=1e-6)


def test_two_classes_are_binary_cross_entropy():
    """With the logits l and 0: losses.py."""
    logits = np.random.default_rng(1).standard_normal((8, 1)) * 5
    loss, dlogits = mg.softmax_cross_entropy(
        np.hstack([logits, 0 * logits]), np.tile([1.0, 0.0], (8, 1))
    )
    binary, dbinary = mg.bce_with_logits(logits, 1.0)
    assert float(loss) == pytest.approx(float(binary), rel=1e-13)
    np.testing.assert_allclose(dlogits[:, :1], dbinary, rtol=1e-12)


def test_as_torch_has_it():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(2)
    logits, numbers = rng.standard_normal((40, 10)) * 10, rng.integers(0, 10, 40)
    theirs = torch.tensor(logits, requires_grad=True)
    wanted = torch.nn.functional.cross_entropy(theirs, torch.tensor(numbers))
    wanted.backward()
    loss, dlogits = mg.softmax_cross_entropy(logits, np.eye(10)[numbers])
    assert float(loss) == pytest.approx(wanted.item(), rel=1e-12)
    np.testing.assert_allclose(dlogits, theirs.grad.numpy(), rtol=1e-9, atol=1e-15)


def test_input_is_left_alone():
    logits, labels = np.random.default_rng(3).standard_normal((4, 3)), np.eye(3)[[0, 1, 2, 0]]
    before = logits.copy(), labels.copy()
    _, first = mg.softmax_cross_entropy(logits, labels)
    kept = first.copy()
    mg.softmax_cross_entropy(logits + 1, labels[::-1].copy())
    np.testing.assert_array_equal(first, kept)  # the caller's own
    np.testing.assert_array_equal(logits, before[0])
    np.testing.assert_array_equal(labels, before[1])


@pytest.mark.parametrize(
    "logits, labels, error",
    (
        (np.zeros((2, 3)), np.zeros((2, 2)), mg.ShapeError),
        (np.zeros(3), np.zeros(3), mg.ShapeError),
        (np.zeros((0, 3)), np.zeros((0, 3)), mg.ShapeError),
        (np.zeros((2, 3)), np.zeros(2, int), mg.ShapeError),
        (np.zeros((2, 3)), [[1, 0, 0]] * 2, mg.ArrayTypeError),
        (np.zeros((2, 3), np.float32), np.zeros((2, 3)), mg.ArrayTypeError),
        (np.zeros((2, 3), int), np.zeros((2, 3), int), mg.ArrayTypeError),
        ([[0.0]], np.zeros((1, 1)), mg.ArrayTypeError),
    ),
)
def test_mistakes(logits, labels, error):
    with pytest.raises(error, match=r"^softmax_cross_entropy: .*got") as caught:
        mg.softmax_cross_entropy(logits, labels)
    assert "\n" not in str(caught.value)
