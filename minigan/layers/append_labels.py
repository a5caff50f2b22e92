"""AppendLabels: a conditional network is told the class, as further channels of its input.

    y = [x | label]          label: one number for each class, 1 for the sample's own, 0 for the others ("one-hot")

A vector gets the label behind its numbers; an image gets it behind the channels of every pixel, as
planes of one value each. So the layer that follows can weigh the class as any other feature.

    dx = dy[..., :c]         the label is given, not learnt: its part of dy has nowhere to go

The labels come in at the door of the network, net.forward(x, labels=labels), and stand in its store,
where every AppendLabels of the network finds the same ones.

x (n, c) or (n, h, w, c)    labels (n, classes)    y as x, with c + classes channels
Source: Mirza & Osindero 2014, arXiv:1411.1784; at every layer: Radford et al. 2016, arXiv:1511.06434
"""

from minigan.checks import expect_size
from minigan.errors import ShapeError
from minigan.layers.base import Array, Backend, Generator, Layer, Shape, Store


def append_labels_forward(x: Array, labels: Array, y: Array) -> None:
    """x (n, ..., c), labels (n, classes) -> y (n, ..., c + classes), written."""
    c = x.shape[-1]
    y[..., :c] = x
    y[..., c:] = labels.reshape(len(x), *[1] * (x.ndim - 2), -1)  # spread over all pixels


def append_labels_backward(dy: Array, dx: Array) -> None:
    """dy (n, ..., c + classes) -> dx (n, ..., c), written."""
    dx[...] = dy[..., : dx.shape[-1]]


class AppendLabels(Layer):
    """AppendLabels(classes): vectors (n, c) or images (n, h, w, c) -> the same with c + classes channels."""

    def __init__(self, classes: int):
        self.classes = expect_size("AppendLabels: classes", classes)

    def setup(self, in_shape: Shape, *, backend: Backend, rng: Generator, store: Store) -> Shape:
        super().setup(in_shape, backend=backend, rng=rng, store=store)
        if store.classes not in (0, self.classes):
            raise ShapeError(
                f"{self.label}: another layer of {store.name} has {store.classes} classes: a network has one set of labels"
            )
        self.store, store.classes = store, self.classes
        return (*self.in_shape[:-1], self.in_shape[-1] + self.classes)

    def forward(self, x: Array, train: bool = True) -> Array:
        y = self.memory.get("y", (len(x), *self.out_shape))
        append_labels_forward(x, self.store.labels, y)
        return y

    def backward(self, dy: Array, need_dx: bool = True, need_dw: bool = True) -> Array | None:
        if not need_dx:
            return None
        dx = self.memory.get("dx", (len(dy), *self.in_shape))
        append_labels_backward(dy, dx)
        return dx

    def describe(self) -> str:
        return f"AppendLabels {self.classes}"
