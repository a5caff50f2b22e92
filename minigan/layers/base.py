"""The interface of a layer: setup once, then forward and backward.

    class Layer:
        setup(in_shape, *, backend, rng, store) -> out_shape
        forward(x, train=True)                  -> y
        backward(dy, need_dx=True, need_dw=True) -> dx or None; ADDS into the gradients

Shapes at setup have no batch axis: (28, 28, 1), or (100,). In forward they have: (n, 28, 28, 1).

A layer calls the definition in its file: y, saved = linear_forward(...). `saved` is all that the
backward pass needs; the layer keeps it in self.saved and hands it to linear_backward.

A network asks its backend for the steps of its passes (`plan` in sequential.py). The plain backend
answers with the layers themselves, so the code in these files is the code that runs. A fast
backend may answer with steps that replace a layer, or several in a row: each must compute the same
as the layers. It is asked once, at setup: replace a layer's forward before that.

dx and dW can be requested separately, because a GAN needs this: the generator's update
sends a gradient through the discriminator for dx alone, and in the discriminator's own update
nothing needs dx of the first layer.

To write a layer, derive from Layer, declare parameters in `setup`, and check the backward pass with
minigan.check_gradients. linear.py is a short example.
"""

from copy import deepcopy
from typing import Any

from numpy.random import Generator

from minigan.arrays import Array, Backend, Shape
from minigan.arrays.views import ArrayHolder
from minigan.parameters import Store

__all__ = ["Array", "Backend", "Generator", "Layer", "Shape", "Store"]


class Layer(ArrayHolder):
    """Base of all layers."""

    not_copied: tuple[str, ...] = ("saved",)
    takes_labels = False  # is forward called as forward(x, train, labels)? Then set classes, too
    saved: Any = None  # from forward, for backward
    # set by the Sequential that contains the layer: itself, the layer's place ("D.0"), its output
    container: "Layer | None" = None
    path = "?"
    out_shape: Shape
    has_parameters: bool

    def setup(self, in_shape: Shape, *, backend: Backend, rng: Generator, store: Store) -> Shape:
        """Check in_shape, declare parameters and buffers -> out_shape, without the batch axis.

        A derived setup calls this one first:
        super().setup(in_shape, backend=backend, rng=rng, store=store)

        backend  where the arrays live and the arithmetic runs
        rng      numpy.random.Generator for initial values
        store    store.parameter(self, "W", shape, initializer, fan_in, fan_out) makes self.W and
                 self.dW; store.buffer and store.generator likewise: see parameters.py
        Raises ShapeError if the layer cannot take in_shape.
        """
        self.backend = backend
        self.in_shape = tuple(in_shape)
        return self.in_shape

    def forward(self, x: Array, train: bool = True) -> Array:
        """x (n, *in_shape) -> y (n, *out_shape). Keeps what backward needs; does not change x."""
        raise NotImplementedError

    def backward(self, dy: Array, need_dx: bool = True, need_dw: bool = True) -> Array | None:
        """dy (n, *out_shape), gradient of the mean loss -> dx (n, *in_shape), or None.

        Adds into the gradients if need_dw; otherwise leaves them unchanged, bit for bit.
        """
        raise NotImplementedError

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """A copy; of a layer in a network, with a copy of the network around it."""
        if self.container is not None and id(self.container) not in memo:
            deepcopy(self.container, memo)
            return memo[id(self)]
        return super().__deepcopy__(memo)

    def describe(self) -> str:
        """-> the layer in a few words, for messages and tables: "Conv2d 64->128, k4 s2"."""
        return type(self).__name__

    @property
    def label(self) -> str:
        """-> which layer this is, for the start of a message: "D.2 (Conv2d 64->128, k4 s2)"."""
        return f"{self.path} ({self.describe()})"
