"""Initial values: their distributions, and the fans that layers pass."""

import numpy as np
import pytest

import minigan as mg
from minigan.initializers import glorot_uniform, he, normal, ones, zeros


def test_distributions():
    rng, shape = np.random.default_rng(0), (300, 200)
    values = normal(0.02, mean=1.0)(rng, shape, 300, 200)
    assert abs(values.mean() - 1) < 1e-3 and abs(values.std() - 0.02) < 1e-3
    values = glorot_uniform()(rng, shape, 300, 200)
    assert np.abs(values).max() <= (6 / 500) ** 0.5 and abs(values.std() - (2 / 500) ** 0.5) < 1e-3
    assert abs(he()(rng, shape, 300, 200).std() - (2 / 300) ** 0.5) < 1e-3
    assert np.all(zeros()(rng, shape, 1, 1) == 0) and np.all(ones()(rng, shape, 1, 1) == 1)


def test_fans_reach_the_initializers():
    seen = []

    def initializer(rng, shape, fan_in, fan_out):
        seen.append((shape, fan_in, fan_out))
        return np.zeros(shape)

    layers = [
        mg.ConvTranspose2d(4, (3, 2), initializer=initializer),
        mg.Conv2d(5, 3, initializer=initializer),
        mg.Flatten(),
        mg.Linear(7, initializer=initializer),
    ]
    rng = np.random.default_rng(0)
    mg.Sequential(layers).setup((3, 3, 2), backend=mg.get_backend("plain"), rng=rng)
    assert seen == [((3, 2, 4, 2), 12, 24), ((3, 3, 4, 5), 36, 45), ((30, 7), 30, 7)]


@pytest.mark.parametrize(
    "initializer, message",
    (
        (he, "the initializer fails .*: was it called, as he()?"),
        (3, "expected an initializer such as initializers.he(), got 3"),
        (lambda *arguments: np.zeros(2), "expected an array (3, 2) from the initializer"),
        (lambda *arguments: 0.5, "expected an array (3, 2) from the initializer, got 0.5"),
    ),
)
def test_mistakes(initializer, message):
    net = mg.Sequential([mg.Linear(2, initializer=initializer)])
    pattern = message.replace("(", r"\(").replace(")", r"\)").replace("?", r"\?")
    with pytest.raises(mg.ConfigError, match=f"^0.W: {pattern}"):
        net.setup((3,), backend=mg.get_backend("plain"), rng=np.random.default_rng(0))


def test_a_spread_below_0_is_refused():
    with pytest.raises(mg.ConfigError, match="normal: std must be at least 0, got -1"):
        normal(-1)
    with pytest.raises(mg.ConfigError, match="std must be at least 0, got '0"):
        normal("0.02")
