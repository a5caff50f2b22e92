"""Sums over many rows on the GPU: over strips in parallel, then over the strips, in a fixed order.

One thread that adds up 100,000 rows leaves the rest of the GPU idle, and threads that add into one
place would do so in a different order in every run. So the rows are cut into strips
(kernels.strips), each thread adds up one strip of one channel, and the sums of the strips are
folded, 64 at a time, until one is left.
"""

from minigan.arrays import Array
from minigan.backends.gpu.backend import GpuBackend
from minigan.backends.gpu.kernels import Activation, strips

GROUP = 64  # strips that one thread folds
THREADS = 2**17  # for the sum of squares over a whole network


def fold(
    sums: Array, out: Array, backend: GpuBackend, scale: float = 1.0, add: bool = False
) -> None:
    """out (parts, width) = scale · Σ over the second axis of sums (parts, count, width), or +=."""
    sums = fold_down(sums, backend)
    parts, count, width = sums.shape
    kernel = backend.kernels.get("fold")
    kernel(parts * width, sums, out, parts, count, width, count, scale, int(add))


def fold_down(sums: Array, backend: GpuBackend) -> Array:
    """sums (parts, count, width) -> (parts, at most GROUP, width), in scratch memory."""
    kernel, (parts, count, width), parity = backend.kernels.get("fold"), sums.shape, 0
    while count > GROUP:
        folds = -(-count // GROUP)
        folded = backend.scratch(f"fold {parity}", (parts, folds, width))
        kernel(parts * folds * width, sums, folded, parts, count, width, GROUP, 1.0, 0)
        sums, count, parity = folded, folds, 1 - parity
    return sums


def sum_rows(
    f: Activation, dy: Array, y: Array | None, g: Array | None, db: Array, backend: GpuBackend
) -> None:
    """g (m, c) = dy·f'(y), written unless None; db (c,) += Σ over the rows of g"""
    (rows, c), (kind, a) = dy.shape, f
    width = backend.kernels.width(c)
    count = strips(rows, c // width)[1]
    sums = backend.scratch("sums of strips", (1, count, c))
    kernel = backend.kernels.get("sum_rows", kind=kind, width=width)
    kernel(count * (c // width), dy, y, g, sums, rows, c, count, a)
    fold(sums, db, backend, add=True)


def mean(values: Array, name: str, backend: GpuBackend) -> Array:
    """-> mean of all values, those of other processes too; a new scalar"""
    out = backend.outputs.new_output(name, ())
    fold(values.reshape(1, -1, 1), out, backend, scale=1.0 / backend.group.total(values.size))
    backend.group.all_reduce(out)
    return out


def l2_norm(gradient: Array, backend: GpuBackend) -> Array:
    """As l2_norm in optimizers.py."""
    out, count = backend.outputs.new_output("norm", ()), min(THREADS, gradient.size)
    sums = backend.scratch("squares", (1, count, 1))
    backend.kernels.get("squares")(count, gradient, sums, gradient.size, count)
    sums = fold_down(sums, backend)
    backend.kernels.get("root_of_sum")(1, sums, out, sums.size)
    return out
