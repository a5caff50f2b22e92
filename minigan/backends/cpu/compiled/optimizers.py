"""Adam in one pass: each number is read once and takes all operations in a register.

They are those of the definition, in its order: every number equals the definition's, bit for bit.
Shown by: benchmarks/step.py --against minigan-numba
"""

from math import sqrt
from typing import Any

from minigan.arrays import Array
from minigan.backends.cpu.backend import CpuBackend
from minigan.backends.cpu.compiled.kernel import kernel
from minigan.backends.cpu.optimizers import arrays_of, in_blocks
from minigan.optimizers import Adam


@kernel
def adam_update(p: Array, g: Array, m: Array, v: Array, constants: tuple[Any, ...]) -> None:
    """As adam_update in optimizers.py."""
    rate, beta1, rest1, beta2, rest2, scale, eps, l2 = constants
    for i in range(len(p)):
        gradient = p[i] * l2 + g[i] if l2 else g[i]
        m[i] = m[i] * beta1 + gradient * rest1
        v[i] = v[i] * beta2 + gradient * gradient * rest2
        p[i] -= m[i] / (sqrt(v[i] * scale) + eps) * rate


def adam(optimizer: Adam, backend: CpuBackend) -> None:
    """As Adam.apply."""
    lr, beta1, beta2, eps, correction1, correction2, l2 = optimizer.constants()
    rests = (beta1, 1.0 - beta1, beta2, 1.0 - beta2)
    numbers = (lr / correction1, *rests, 1.0 / correction2, eps, l2)
    in_blocks(adam_update, arrays_of(optimizer), backend, tuple(map(backend.dtype.type, numbers)))
