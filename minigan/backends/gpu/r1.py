"""R1 on the GPU: as r1.py, in memory that a recorded step can use again."""

from minigan import r1
from minigan.arrays import Array
from minigan.backends.gpu.backend import GpuBackend
from minigan.backends.gpu.reductions import fold
from minigan.layers import Sequential


def add_r1(D: Sequential, x: Array, labels: Array | None, gamma: float) -> None:
    """As add_r1 in r1.py."""
    backend = D.backend
    assert isinstance(backend, GpuBackend)
    xp, scratch, shape = backend.xp, backend.scratch, x.shape[1:]
    h = r1.STEP * x[0].size ** 0.5
    n = len(x[:: r1.SHARE])
    sides = scratch("sides", (2, n, *shape))
    of_sides = None if labels is None else scratch("labels of sides", (2, n, labels.shape[1]))
    sides[...] = x[None, :: r1.SHARE]
    if of_sides is not None:
        of_sides[...] = labels[None, :: r1.SHARE]
    D.forward(sides[0], labels=None if of_sides is None else of_sides[0])
    weights = scratch("weights of sides", (2, n, 1))
    weights.fill(1.0)
    u: Array = D.backward(weights[0], need_dw=False)
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
    xp.subtract(logits[0], logits[1], out=weights[0])
    weights[0] *= gamma * (0.5 / h) ** 2 / backend.group.total(n)
    xp.multiply(weights[0], -1.0, out=weights[1])
    D.backward(weights.reshape(2 * n, 1), need_dx=False)
