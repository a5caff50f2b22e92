"""Sums over many rows on the GPU: strips side by side, then the strips, in a fixed order.

One thread that adds up 100,000 rows leaves the rest of the GPU idle, and threads that add into one place would do it in
another order at every run. So the rows are cut into strips (cupy_kernels.strips), each thread adds up one strip of one
channel, and the sums of the strips are folded, 64 at a time, until one is left.
"""

from minigan.arrays.backend import Array
from minigan.backends.gpu.backend import CupyBackend
from minigan.backends.gpu.kernels import strips

GROUP = 64  # strips that one thread folds
THREADS = 2**17  # of the sum of squares over a whole network


def fold(
    parts: Array, out: Array, backend: CupyBackend, scale: float = 1.0, add: bool = False
) -> None:
    """out (...) = scale · Σ over the first axis of parts (count, ...), or += that with `add`."""
    fold_each(parts.reshape(1, len(parts), out.size), out, backend, scale, add)


def fold_each(
    sums: Array, out: Array, backend: CupyBackend, scale: float = 1.0, add: bool = False
) -> None:
    """out (parts, width) = scale · Σ over the second axis of sums (parts, count, width), or += that with `add`."""
    sums = fold_down(sums, backend)
    parts, count, width = sums.shape
    backend.kernels.get("fold")(
        parts * width, sums, out, parts, count, width, count, scale, int(add)
    )


def fold_down(sums: Array, backend: CupyBackend) -> Array:
    """sums (parts, count, width) -> (parts, at most GROUP, width) with the same sums, in scratch memory"""
    kernel, (parts, count, width), turn = backend.kernels.get("fold"), sums.shape, 0
    while count > GROUP:
        folds = -(-count // GROUP)
        folded = backend.scratch(f"fold {turn % 2}", (parts, folds, width))
        kernel(parts * folds * width, sums, folded, parts, count, width, GROUP, 1.0, 0)
        sums, count, turn = folded, folds, turn + 1
    return sums


def add_row_sums(dy: Array, db: Array, backend: CupyBackend) -> None:
    """db (c,) += Σ over the rows of dy (m, c). As add_column_sums in layers/linear.py"""
    sum_rows("Identity", 0.0, dy, None, None, db, backend)


def sum_rows(
    activation: str,
    a: float,
    dy: Array,
    y: Array | None,
    g: Array | None,
    db: Array,
    backend: CupyBackend,
) -> None:
    """g (m, c) = dy·activation'(y), written unless None; db (c,) += Σ over the rows of g

    activation, a  a name in kernels.cu and its constant
    """
    rows, c = dy.shape
    width = backend.kernels.width(c)
    count = strips(rows, c // width)[1]
    sums = backend.scratch("sums of strips", (count, c))
    backend.kernels.get("sum_rows", activation=activation, width=width)(
        count * (c // width), dy, y, g, sums, rows, c, count, a
    )
    fold(sums, db, backend, add=True)


def mean(values: Array, out: Array, backend: CupyBackend) -> None:
    """out () = mean of all values"""
    fold(values.reshape(-1, 1), out, backend, scale=1.0 / values.size)


def length(gradient: Array, backend: CupyBackend) -> Array:
    """As length in optimizers.py."""
    out, count = backend.workspace.fresh("norm", ()), min(THREADS, gradient.size)
    sums = backend.scratch("squares", (1, count, 1))
    backend.kernels.get("squares")(count, gradient, sums, gradient.size, count)
    sums = fold_down(sums, backend)
    backend.kernels.get("root_of_sum")(1, sums, out, sums.size)
    return out
