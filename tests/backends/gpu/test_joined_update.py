"""D's update with real and fake images in one pass: the numbers of two passes."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import minigan as mg
from minigan.backends.gpu.joined_update import update_discriminator
from tests.support.gpu_cases import DISCRIMINATORS, Unmoved, check_joined_update


@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_one_pass_is_two(name, make_cupy):
    check_joined_update(name, make_cupy)


@pytest.fixture
def D(make_cupy):
    layers = [mg.AppendLabels(3), mg.Flatten(), mg.Linear(1)]
    D = mg.Sequential(layers, name="D")
    D.setup((2, 2, 1), backend=make_cupy(), rng=np.random.default_rng(0))
    return D


@pytest.mark.parametrize(
    "real, fake, labels, error",
    (
        ((4, 2, 2, 2), (4, 2, 2, 2), (4, 3), mg.ShapeError),
        ((4, 2, 2, 1), (4, 2, 2, 2), (4, 3), mg.ShapeError),
        ((4, 2, 2, 1), (4, 2, 2, 1), None, mg.ConfigError),
        ((4, 2, 2, 1), (4, 2, 2, 1), (4, 2), mg.ShapeError),
        ((4, 2, 2, 1), (4, 2, 2, 1), (5, 3), mg.ShapeError),
    ),
)
def test_a_wrong_argument_is_one_line(real, fake, labels, error, D):
    asarray = D.backend.asarray
    arrays = [asarray(np.ones(shape)) for shape in (real, fake)]
    arrays.append(None if labels is None else asarray(np.ones(labels)))
    with pytest.raises(error, match=r"^D"):
        update_discriminator(D, Unmoved(), *arrays)


def test_batches_of_two_sizes_go_one_after_the_other(make_cupy):
    D = mg.Sequential([mg.Flatten(), mg.Linear(1)], name="D")
    D.setup((2, 2, 1), backend=make_cupy(), rng=np.random.default_rng(0))
    real, fake = (D.backend.asarray(np.ones((n, 2, 2, 1))) for n in (4, 3))
    result = update_discriminator(D, Unmoved(), real, fake)
    assert "joined x" not in D.backend.workspace.memory
    assert np.isfinite(D.backend.to_host(result["loss_d_fake"]))


def test_backward_does_not_follow_a_joined_pass(make_cupy):
    """What the layers saved is of both batches."""
    D = mg.Sequential([mg.Flatten(), mg.Linear(1)], name="D")
    D.setup((2, 2, 1), backend=make_cupy(), rng=np.random.default_rng(0))
    x = D.backend.asarray(np.ones((4, 2, 2, 1)))
    y = D.forward(x)
    update_discriminator(D, Unmoved(), x, x)
    with pytest.raises(mg.StateError, match="backward before forward"):
        D.backward(y)


def test_another_thread_must_not_use_D_meanwhile(D):
    x, labels = (D.backend.asarray(np.ones(shape)) for shape in ((4, 2, 2, 1), (4, 3)))
    with ThreadPoolExecutor(1) as other, D.in_use:
        running = other.submit(update_discriminator, D, Unmoved(), x, x, labels)
        with pytest.raises(mg.StateError, match=r"^D"):
            running.result()
