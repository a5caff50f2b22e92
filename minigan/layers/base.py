"""What a layer is: setup once, then forward and backward.

    class Layer:
        setup(in_shape, *, backend, rng, store) -> out_shape
        forward(x, train=True)                  -> y
        backward(dy, need_dx=True, need_dw=True) -> dx or None; ADDS into the gradients

Shapes at setup have no batch axis: (28, 28, 1), or (100,). In forward they have: (n, 28, 28, 1).

dx and dW can be asked for apart, since a GAN wants exactly that: the generator's
update goes through the discriminator for dx alone, and the first layer of the
discriminator's own update has no one who wants its dx.

What forward returns lies in the layer's own memory and is overwritten by its next
forward: nothing is allocated in a training step. The Sequential around the layers
copies the last one out, so that what a user holds stays as it is.

To write a layer of your own, derive from Layer, declare parameters in `setup`, and
check the backward pass with `minigan.check_gradients`. layers/linear.py is a
short example.
"""

from numpy.random import Generator

from minigan.arrays.backend import Shape
from minigan.backends import Array, Backend, Workspace
from minigan.parameters import Store

__all__ = ["Array", "Backend", "Generator", "Layer", "Shape", "Store"]


class Layer:
    """Base of all layers."""

    # set by the Sequential that the layer stands in: itself, where in it ("D.0"), and what its setup came to
    container: "Layer | None" = None
    path = "?"
    out_shape: Shape
    has_parameters: bool

    def setup(self, in_shape: Shape, *, backend: Backend, rng: Generator, store: Store) -> Shape:
        """Check in_shape, declare parameters and buffers -> out_shape, without the batch axis.

        A layer's own setup calls this first: super().setup(in_shape, backend=backend, rng=rng, store=store)

        backend  where the arrays live and the arithmetic runs
        rng      numpy.random.Generator for initial values
        store    parameters.Store: store.parameter(self, "W", shape, initializer, fan_in, fan_out)
                 makes self.W and self.dW; store.buffer and store.generator likewise
        Raises ShapeError where the layer cannot take in_shape.
        """
        self.backend = backend
        self.in_shape = tuple(in_shape)
        self.memory = Workspace(backend)
        return self.in_shape

    def forward(self, x: Array, train: bool = True) -> Array:
        """x (n, *in_shape) -> y (n, *out_shape). Keeps what backward needs; x is not changed."""
        raise NotImplementedError

    def backward(self, dy: Array, need_dx: bool = True, need_dw: bool = True) -> Array | None:
        """dy (n, *out_shape), the gradient of the mean loss -> dx (n, *in_shape), or None without need_dx.

        Adds into the gradients where need_dw; leaves them bit for bit alone where not.
        """
        raise NotImplementedError

    def describe(self) -> str:
        """-> the layer in a few words, for messages and tables: "Conv2d 64->128, k4 s2"."""
        return type(self).__name__

    @property
    def label(self) -> str:
        """-> which layer this is, for the start of an error message."""
        return f"{self.path} ({self.describe()})"
