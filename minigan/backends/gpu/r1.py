"""R1 on the GPU: as r1.py, in memory that a recorded step can use again."""

from minigan import r1
from minigan.arrays import Array
from minigan.backends.gpu.backend import GpuBackend
from minigan.backends.gpu.reductions import fold
from minigan.layers import Sequential


def add_r1(D: Sequential, x: Array, labels: Array | None, gamma: float) -> None:
    """As add_r1 in r1.py."""
    r1.expect_alone(D)
    backend = D.backend
    assert isinstance(backend, GpuBackend)
    first, weight = backend.operation_for(r1.chosen_rows)(len(x), backend)
    x = x[first :: r1.SHARE]
    xp, scratch, n, shape = backend.xp, backend.scratch, len(x), x.shape[1:]
    h = r1.STEP * x[0].size ** 0.5
    sides = scratch("sides", (2, n, *shape))
    sides[...] = x[None]
    of_sides: Array | None = None
    if labels is not None:
        of_sides = scratch("labels of sides", (2, n, labels.shape[1]))
        of_sides[...] = labels[None, first :: r1.SHARE]
    D.forward(sides[0], labels=None if of_sides is None else of_sides[0])
    d = scratch("weights of sides", (2, n, 1))
    d.fill(1.0)
    u: Array = D.backward(d[0], need_dw=False)
    squares, norm = scratch("squares", u.shape), scratch("norm", (n, 1, 1, 1))
    xp.multiply(u, u, out=squares)
    fold(squares.reshape(n, -1, 1), norm.reshape(n, 1), backend)
    xp.sqrt(norm, out=norm)
    norm += r1.TINY
    xp.divide(u, norm, out=u)
    u *= h
    sides[0] += u
    sides[1] -= u
    labels = None if of_sides is None else of_sides.reshape(2 * n, -1)
    logits = D.forward(sides.reshape(2 * n, *shape), labels=labels).reshape(2, n, 1)
    xp.subtract(logits[0], logits[1], out=d[0])
    d[0] *= gamma * weight * (0.5 / h) ** 2
    xp.multiply(d[0], -1.0, out=d[1])
    D.backward(d.reshape(2 * n, 1), need_dx=False)
