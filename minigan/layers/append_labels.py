"""AppendLabels: a conditional network gets the class as extra channels of its input.

    y = [x | label]      label: 1 for the class of the sample, 0 for all others ("one-hot")

A vector gets the label after its numbers. An image gets it after the channels of every pixel, as
planes of one value each. So the next layer can weigh the class like any other feature.

    dx = dy[..., :c]     the label is given, not learned: its part of dy is dropped

x (n, c) or (n, h, w, c)    labels (n, classes)    y as x, with c + classes channels
Source: Mirza & Osindero 2014, arXiv:1411.1784; at every layer: Radford et al. 2016,
arXiv:1511.06434
Fast version: backends/steps.py
"""

from typing import Any

from minigan.checks import expect_size
from minigan.layers.base import Array, Backend, Generator, Layer, Shape, Store


def append_labels_forward(x: Array, labels: Array, xp: Any) -> Array:
    """x (n, ..., c), labels (n, classes) -> y (n, ..., c + classes)."""
    planes = labels.reshape(len(x), *[1] * (x.ndim - 2), -1)
    return xp.concatenate([x, xp.broadcast_to(planes, (*x.shape[:-1], labels.shape[1]))], axis=-1)


def append_labels_backward(dy: Array, classes: int) -> Array:
    """dy (n, ..., c + classes) -> dx (n, ..., c)."""
    return dy[..., :-classes]


class AppendLabels(Layer):
    """AppendLabels(classes): vectors or images -> the same with c + classes channels."""

    takes_labels = True

    def __init__(self, classes: int):
        self.classes = expect_size("AppendLabels: classes", classes)

    def setup(self, in_shape: Shape, *, backend: Backend, rng: Generator, store: Store) -> Shape:
        super().setup(in_shape, backend=backend, rng=rng, store=store)
        return (*self.in_shape[:-1], self.in_shape[-1] + self.classes)

    def forward(self, x: Array, train: bool = True, labels: Array | None = None) -> Array:
        return append_labels_forward(x, labels, self.backend.xp)

    def backward(self, dy: Array, need_dx: bool = True, need_dw: bool = True) -> Array | None:
        return append_labels_backward(dy, self.classes) if need_dx else None

    def describe(self) -> str:
        return f"AppendLabels {self.classes}"
