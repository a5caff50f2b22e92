"""Reshape and Flatten: the same numbers in another shape.

y[n] = x[n] read in C order under the new shape;  dx is dy under the old one
"""

from math import prod

from minigan.checks import expect_size
from minigan.errors import ConfigError, ShapeError
from minigan.layers.base import Array, Backend, Generator, Layer, Shape, Store


class Reshape(Layer):
    """Reshape((7, 7, 128)): any shape of the same size, without the batch axis."""

    def __init__(self, shape: Shape):
        if not isinstance(shape, (tuple, list)):
            raise ConfigError(
                "Reshape: expected a shape without the batch axis such as (7, 7, 128), "
                f"got {shape!r}"
            )
        self.shape = tuple(expect_size("Reshape: each extent", extent) for extent in shape)

    def setup(self, in_shape: Shape, *, backend: Backend, rng: Generator, store: Store) -> Shape:
        super().setup(in_shape, backend=backend, rng=rng, store=store)
        if prod(self.in_shape) != prod(self.shape):
            raise ShapeError(
                f"{self.label}: {self.in_shape} has {prod(self.in_shape)} numbers, "
                f"{self.shape} needs {prod(self.shape)}"
            )
        return self.shape

    def forward(self, x: Array, train: bool = True) -> Array:
        return x.reshape(len(x), *self.shape)

    def backward(self, dy: Array, need_dx: bool = True, need_dw: bool = True) -> Array | None:
        return dy.reshape(len(dy), *self.in_shape) if need_dx else None

    def describe(self) -> str:
        return f"Reshape {self.shape}"


class Flatten(Reshape):
    """Flatten(): (n, h, w, c) -> (n, h·w·c)."""

    def __init__(self) -> None:
        pass

    def setup(self, in_shape: Shape, *, backend: Backend, rng: Generator, store: Store) -> Shape:
        self.shape = (prod(in_shape),)
        return super().setup(in_shape, backend=backend, rng=rng, store=store)

    def describe(self) -> str:
        return "Flatten"
