"""Sums over many rows on the GPU: strips side by side, then the strips, in a fixed order.

One thread that adds up 100,000 rows would take milliseconds, and threads that add into one place would do it in
another order at every run. So the rows are cut into strips (cupy_kernels.strips), each thread adds up one strip of one
channel, and the sums of the strips are folded, 32 at a time, until one is left.
"""

from minigan.backends.base import Array
from minigan.backends.cupy_backend import CupyBackend
from minigan.backends.cupy_kernels import strips

GROUP = 32  # strips that one thread folds
THREADS = 2**15  # of the sum of squares over a whole network


def fold(parts: Array, out: Array, backend: CupyBackend, scale: float = 1.0, add: bool = False) -> None:
    """out (...) = scale · Σ over the first axis of parts (count, ...), or += that with `add`."""
    kernel, width = backend.kernels.get("fold"), out.size
    parts = fold_down(parts.reshape(len(parts), width), backend)
    kernel(width, parts, out, len(parts), width, len(parts), scale, int(add))


def fold_down(parts: Array, backend: CupyBackend) -> Array:
    """parts (count, width) -> (at most 32, width) with the same sum, in scratch memory"""
    kernel, width, turn = backend.kernels.get("fold"), parts.shape[1], 0
    while len(parts) > GROUP:
        groups = -(-len(parts) // GROUP)
        folded = backend.scratch(f"fold {turn % 2}", (groups, width))
        kernel(groups * width, parts, folded, len(parts), width, GROUP, 1.0, 0)
        parts, turn = folded, turn + 1
    return parts


def add_row_sums(dy: Array, db: Array, backend: CupyBackend) -> None:
    """db (c,) += Σ over the rows of dy (m, c). As add_column_sums in layers/linear.py"""
    sum_rows("Identity", 0.0, dy, None, None, db, backend)


def sum_rows(activation: str, a: float, dy: Array, y: Array | None, g: Array | None, db: Array, backend: CupyBackend) -> None:
    """g (m, c) = dy·activation'(y), written unless None; db (c,) += Σ over the rows of g

    activation, a  a name in kernels.cu and its constant
    """
    rows, c = dy.shape
    width = backend.kernels.width(c)
    strip, count = strips(rows, c // width)
    sums = backend.scratch("sums of strips", (count, c))
    backend.kernels.get("sum_rows", activation=activation, width=width)(
        count * (c // width), dy, y, g, sums, rows, c, strip, a
    )  # fmt: skip
    fold(sums, db, backend, add=True)


def mean(values: Array, out: Array, backend: CupyBackend) -> None:
    """out () = mean of all values"""
    fold(values.reshape(-1, 1), out, backend, scale=1.0 / values.size)


def length(gradient: Array, backend: CupyBackend) -> Array:
    """As length in optimizers.py."""
    out, count = backend.workspace.fresh("norm", ()), min(THREADS, gradient.size)
    sums = backend.scratch("squares", (count, 1))
    backend.kernels.get("squares")(count, gradient, sums, gradient.size, count)
    sums = fold_down(sums, backend)
    backend.kernels.get("root_of_sum")(1, sums, out, len(sums))
    return out
