"""Linear layer: every output is a weighted sum of all inputs.

    y = x·W + b

With L the mean loss and dy = dL/dy, the chain rule gives, entry by entry,
    dL/dW[i, o] = Σ_n x[n, i]·dy[n, o]      dW = xᵀ·dy
    dL/db[o]    = Σ_n dy[n, o]              db = column sums of dy
    dL/dx[n, i] = Σ_o dy[n, o]·W[i, o]      dx = dy·Wᵀ

x (n, in)    W (in, out)    b (out,)    y (n, out)
"""

from minigan.checks import expect_size
from minigan.errors import ShapeError
from minigan.initializers import Initializer, glorot_uniform, zeros
from minigan.layers.base import Array, Backend, Generator, Layer, Shape, Store


def linear_forward(x: Array, W: Array, b: Array | None, y: Array, backend: Backend) -> None:
    """x (n, in), W (in, out), b (out,) or None -> y (n, out), written."""
    backend.gemm(x, W, out=y)
    if b is not None:
        backend.xp.add(y, b, out=y)


def linear_backward(
    dy: Array,
    x: Array,
    W: Array,
    dW: Array | None,
    db: Array | None,
    dx: Array | None,
    backend: Backend,
) -> None:
    """dy (n, out) -> dx (n, in), written unless None; dW (in, out) and db (out,) are added to unless None."""
    if dW is not None:
        backend.gemm(x.T, dy, out=dW, accumulate=True)
    if db is not None:
        add_column_sums(dy, db, backend)
    if dx is not None:
        backend.gemm(dy, W.T, out=dx)


def add_column_sums(dy: Array, db: Array, backend: Backend) -> None:
    """db (c,) += Σ over rows of dy (m, c): the gradient of any bias that is added to every row."""
    sums = backend.scratch("column sums", db.shape)
    backend.xp.sum(dy, axis=0, out=sums)
    backend.xp.add(db, sums, out=db)


class Linear(Layer):
    """Linear(out): vectors (n, in) -> (n, out).

    bias              add b or not
    initializer       of W; see initializers.py
    """

    W: Array
    dW: Array
    b: Array | None
    db: Array | None

    def __init__(self, out: int, *, bias: bool = True, initializer: Initializer | None = None):
        self.out = expect_size("Linear: out", out)
        self.use_bias = bias
        self.initializer = initializer or glorot_uniform()

    def setup(self, in_shape: Shape, *, backend: Backend, rng: Generator, store: Store) -> Shape:
        super().setup(in_shape, backend=backend, rng=rng, store=store)
        if len(in_shape) != 1:
            raise ShapeError(
                f"{self.label}: expected vectors (in,), got {tuple(in_shape)}: put Flatten() before it"
            )
        (inputs,) = in_shape
        self.b, self.db = None, None
        store.parameter(
            self, "W", (inputs, self.out), self.initializer, fan_in=inputs, fan_out=self.out
        )
        if self.use_bias:
            store.parameter(self, "b", (self.out,), zeros())
        self.forward_op = backend.implementation(linear_forward)
        self.backward_op = backend.implementation(linear_backward)
        return (self.out,)

    def forward(self, x: Array, train: bool = True) -> Array:
        self.x = x
        y = self.memory.get("y", (len(x), self.out))
        self.forward_op(x, self.W, self.b, y, self.backend)
        return y

    def backward(self, dy: Array, need_dx: bool = True, need_dw: bool = True) -> Array | None:
        dx = self.memory.get("dx", self.x.shape) if need_dx else None
        dW, db = (self.dW, self.db) if need_dw else (None, None)
        self.backward_op(dy, self.x, self.W, dW, db, dx, self.backend)
        return dx

    def describe(self) -> str:
        inputs = self.in_shape[0] if len(getattr(self, "in_shape", ())) == 1 else "?"
        return f"Linear {inputs}->{self.out}"
