"""Adam in blocks that stay in cache.

The definition (adam_step in optimizers.py) goes over the parameters thirteen times, and
over five arrays as long as the network. Here the same thirteen operations run on one block
of 32,768 numbers after the other: each block is read from memory once. The blocks are
shared out to the threads. Each number is computed as by the definition, with the same bits.
Shown by: benchmarks/step.py
"""

from minigan.arrays.backend import Array, Backend, Workspace
from minigan.backends.cpu.backend import NumpyBackend
from minigan.backends.cpu.chunks import chunks
from minigan.optimizers import adam_step as definition

BLOCK = 32_768  # numbers; five arrays of them fill 640 KiB


class Desk:
    """What the definition asks of a backend, with the scratch memory of one thread."""

    def __init__(self, backend: Backend, workspace: Workspace):
        self.xp, self.scratch = backend.xp, workspace.get


def adam_step(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    correction1: float,
    correction2: float,
    l2: float,
    backend: NumpyBackend,
) -> None:
    """As adam_step in optimizers.py."""
    parts = chunks(len(p), BLOCK, backend.team.size)
    desks = [Desk(backend, workspace) for workspace in backend.desks]

    def block(i: int, worker: int) -> None:
        part = parts[i]
        definition(
            p[part],
            g[part],
            m[part],
            v[part],
            lr,
            beta1,
            beta2,
            eps,
            correction1,
            correction2,
            l2,
            desks[worker],
        )

    backend.team.run(block, len(parts))
