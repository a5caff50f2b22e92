"""Initial values of the weights.

Each function here returns an initializer: initializer(rng, shape, fan_in, fan_out) -> host array,
float64. The layer passes the fans: it alone knows which axes of its weight face the input.

All draw from one host numpy.random.Generator in float64 and are cast later, so that every backend
and dtype starts from the same weights.
"""

from collections.abc import Callable

import numpy as np

from minigan.arrays import Shape
from minigan.checks import expect_number

Initializer = Callable[[np.random.Generator, Shape, int, int], np.ndarray]


def normal(std: float = 0.02, mean: float = 0.0) -> Initializer:
    """N(mean, std²). DCGAN's is N(0, 0.02²), and N(1, 0.02²) for BatchNorm's gain.

    Raises ConfigError.
    """
    std = expect_number("normal: std", std, "[0, inf)")

    return lambda rng, shape, fan_in, fan_out: rng.normal(mean, std, shape)


def glorot_uniform() -> Initializer:
    """U(-a, a), a = √(6 / (fan_in + fan_out)): nearly preserves the variance in both passes.

    Source: Glorot & Bengio 2010. The default of Keras.
    """

    def initialize(rng: np.random.Generator, shape: Shape, fan_in: int, fan_out: int) -> np.ndarray:
        limit = (6.0 / (fan_in + fan_out)) ** 0.5
        return rng.uniform(-limit, limit, shape)

    return initialize


def he() -> Initializer:
    """N(0, 2 / fan_in): preserves the variance in the forward pass of a layer before ReLU.

    Source: He et al. 2015, arXiv:1502.01852
    """

    return lambda rng, shape, fan_in, fan_out: rng.normal(0.0, (2.0 / fan_in) ** 0.5, shape)


def zeros() -> Initializer:
    """All 0. The default of biases."""

    return lambda rng, shape, fan_in, fan_out: np.zeros(shape)


def ones() -> Initializer:
    """All 1. The default of BatchNorm's gain."""

    return lambda rng, shape, fan_in, fan_out: np.ones(shape)
