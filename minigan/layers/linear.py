"""Linear layer: every output is a weighted sum of all inputs.

    y = x·W + b

With L the mean loss and dy = dL/dy, the chain rule gives, entry by entry,
    dL/dW[i, o] = Σ_n x[n, i]·dy[n, o]      dW = xᵀ·dy
    dL/db[o]    = Σ_n dy[n, o]              db = column sums of dy
    dL/dx[n, i] = Σ_o dy[n, o]·W[i, o]      dx = dy·Wᵀ

x (n, in)    W (in, out)    b (out,)    y (n, out)
Fast versions: backends/cpu/convolution.py, backends/gpu/convolution.py (as a 1x1 convolution)
"""

from minigan.checks import expect_size
from minigan.errors import ShapeError
from minigan.initializers import Initializer, glorot_uniform, zeros
from minigan.layers.base import Array, Backend, Generator, Layer, Shape, Store


def linear_forward(x: Array, W: Array, b: Array | None) -> tuple[Array, Array]:
    """x (n, in), W (in, out), b (out,) or None -> y (n, out); saved: x."""
    y = x @ W
    if b is not None:
        y += b
    return y, x


def linear_backward(
    dy: Array, saved: Array, W: Array, dW: Array | None, db: Array | None, need_dx: bool
) -> Array | None:
    """Backward pass of the linear layer.

    dy      (n, out)             d(mean loss)/dy; 1/n already included
    saved   x (n, in)            from linear_forward
    dW, db  (in, out), (out,)    added to, unless None
    -> dx   (n, in), or None
    """
    x = saved
    if dW is not None:
        dW += x.T @ dy
    if db is not None:
        db += dy.sum(axis=0, dtype="float64")  # many rows: float32 would lose digits
    return dy @ W.T if need_dx else None


class Linear(Layer):
    """Linear(out): vectors (n, in) -> (n, out).

    bias         add b or not
    initializer  of W; see initializers.py
    """

    W: Array
    dW: Array
    b: Array | None
    db: Array | None

    def __init__(self, out: int, *, bias: bool = True, initializer: Initializer | None = None):
        self.out = expect_size("Linear: out", out)
        self.use_bias = bias
        self.initializer = glorot_uniform() if initializer is None else initializer

    def setup(self, in_shape: Shape, *, backend: Backend, rng: Generator, store: Store) -> Shape:
        super().setup(in_shape, backend=backend, rng=rng, store=store)
        if len(in_shape) != 1:
            raise ShapeError(
                f"{self.label}: expected vectors (in,), got {tuple(in_shape)}: "
                "put Flatten() before it"
            )
        (inputs,) = in_shape
        self.b, self.db = None, None
        store.parameter(self, "W", (inputs, self.out), self.initializer, inputs, self.out)
        if self.use_bias:
            store.parameter(self, "b", (self.out,), zeros())
        return (self.out,)

    def forward(self, x: Array, train: bool = True) -> Array:
        y, self.saved = linear_forward(x, self.W, self.b)
        return y

    def backward(self, dy: Array, need_dx: bool = True, need_dw: bool = True) -> Array | None:
        dW, db = (self.dW, self.db) if need_dw else (None, None)
        return linear_backward(dy, self.saved, self.W, dW, db, need_dx)

    def describe(self) -> str:
        inputs = self.in_shape[0] if len(getattr(self, "in_shape", ())) == 1 else "?"
        return f"Linear {inputs}->{self.out}"
