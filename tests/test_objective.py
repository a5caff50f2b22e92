"""The three losses of a GAN: values, gradients, extremes, against loops and PyTorch."""

import numpy as np
import pytest

import minigan as mg
from minigan.objective import GAN_LOSSES, Objective, hinge, least_squares, mean_negative
from tests.support.networks import assert_close
from tests.support.torch_or_skip import import_torch

LOSSES = {"lsgan": least_squares, "hinge": hinge}
LOGITS = np.array([[-1e4], [-1.0], [-0.999], [0.0], [0.25], [0.999], [1.0], [7.0], [1e4]])


def naive(name, logit, t):
    """-> loss and its derivative for one logit"""
    if name == "lsgan":
        return (logit - t) ** 2 / 2, logit - t
    loss = t * max(0, 1 - logit) + (1 - t) * max(0, 1 + logit)
    return loss, (1 - t) * (logit > -1) - t * (logit < 1)


@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("target", (0, 1, 0.9, np.float64(0.9), "array"))
@pytest.mark.parametrize("name", LOSSES)
def test_by_naive_loops(name, target, dtype, make_backend):
    backend = make_backend(dtype)
    logits = backend.asarray(LOGITS)
    each = np.full(LOGITS.shape, 0 if isinstance(target, str) else target)
    if isinstance(target, str):
        each = np.random.default_rng(0).uniform(0, 1, LOGITS.shape)
        target = backend.asarray(each)
    loss, dlogits = map(backend.to_host, LOSSES[name](logits, target, backend=backend))
    seen, t = backend.to_host(logits).astype(float)[:, 0], each[:, 0]
    wanted = [naive(name, *pair) for pair in zip(seen, t, strict=True)]
    eps = float(np.finfo(dtype).eps)
    assert loss.dtype == dlogits.dtype == dtype
    assert float(loss) == pytest.approx(np.mean([value for value, _ in wanted]), rel=8 * eps)
    expected = np.array([slope for _, slope in wanted]) / len(wanted)
    np.testing.assert_allclose(dlogits[:, 0], expected, rtol=8 * eps, atol=eps)


@pytest.mark.parametrize("target", (0.0, 0.9, 1.0))
@pytest.mark.parametrize("name", LOSSES)
def test_in_pytorch(name, target, make_backend):
    torch, backend = import_torch(), make_backend()
    logits = np.random.default_rng(1).normal(0, 2, (33, 1))
    theirs = torch.tensor(logits, requires_grad=True)
    relu = torch.nn.functional.relu
    if name == "lsgan":
        loss = torch.nn.functional.mse_loss(theirs, torch.full_like(theirs, target)) / 2
    else:
        loss = (target * relu(1 - theirs) + (1 - target) * relu(1 + theirs)).mean()
    loss.backward()
    found = LOSSES[name](backend.asarray(logits), target, backend=backend)
    assert float(backend.to_host(found[0])) == pytest.approx(loss.item(), rel=1e-12)
    assert_close(backend.to_host(found[1]), theirs.grad.numpy(), "dlogits")


def test_the_generators_part_of_the_hinge_loss_has_no_margin(make_backend):
    backend = make_backend()
    logits = backend.asarray(LOGITS)
    loss, dlogits = Objective("hinge").of_generator(logits, backend)
    assert float(backend.to_host(loss)) == pytest.approx(-LOGITS.mean())
    np.testing.assert_allclose(backend.to_host(dlogits), -1 / len(LOGITS))
    assert mean_negative(LOGITS, mg.get_backend("plain", "float64"))[0] == -LOGITS.mean()


@pytest.mark.parametrize("name", GAN_LOSSES)
def test_an_objective_hands_each_side_its_target(name, make_backend):
    backend = make_backend()
    logits = backend.asarray(np.random.default_rng(2).normal(0, 1, (6, 1)))
    mean_loss = {"bce": mg.bce_with_logits, **LOSSES}[name]
    objective = Objective(name, 0.9, 0.2)
    for found, target in ((objective.of_real, 0.9), (objective.of_fake, 0.2)):
        loss, dlogits = found(logits, backend)
        expected = mean_loss(logits, target, backend=backend)
        assert float(backend.to_host(loss)) == float(backend.to_host(expected[0]))
        np.testing.assert_array_equal(*map(backend.to_host, (dlogits, expected[1])))


def test_a_fake_that_is_real_by_far_is_pulled_back_by_least_squares_only():
    far = np.array([[9.0]])
    slopes = {
        name: float(Objective(name).of_generator(far, mg.get_backend("plain", "float64"))[1][0, 0])
        for name in GAN_LOSSES
    }
    assert slopes["lsgan"] == 8 and slopes["hinge"] == -1 and abs(slopes["bce"]) < 1e-3


@pytest.mark.parametrize("name", LOSSES)
def test_wrong_arguments_get_one_line(name):
    mean_loss, logits = LOSSES[name], np.zeros((3, 1), np.float32)
    label = mean_loss.__name__
    with pytest.raises(mg.ConfigError, match=rf"^{label}: target must be in \[0, 1\], got 2.0$"):
        mean_loss(logits, 2)
    with pytest.raises(mg.ShapeError, match=rf"^{label}: expected target of the logits' shape"):
        mean_loss(logits, np.zeros((2, 1), np.float32))
    with pytest.raises(mg.ShapeError, match=rf"^{label}: expected at least one logit"):
        mean_loss(logits[:0], 1)
    with pytest.raises(mg.ArrayTypeError, match=rf"^{label}: expected logits as a NumPy"):
        mean_loss([0.0], 1)


@pytest.mark.parametrize(
    "given, message",
    (
        (dict(loss="wgan"), "Objective: loss must be one of bce, lsgan, hinge, got 'wgan'"),
        (dict(real_target=2), "Objective: real_target must be at least 0 and at most 1, got 2"),
        (dict(fake_target=None), "Objective: fake_target must be"),
        (dict(loss_limit=-5), "Objective: loss_limit must be above 0, got -5"),
    ),
)
def test_an_objective_that_does_not_exist_is_refused(given, message):
    with pytest.raises(mg.ConfigError) as caught:
        Objective(**given)
    assert str(caught.value).startswith(message)
