"""Counters on the device, and what needs them: Adam and Philox.

A recorded step launches the same kernels with the same arguments again and again. So what changes from step to step (how many
there were, the learning rate) lies in the GPU's memory, where a kernel of one thread moves it on. The host knows what is there,
and writes only where it wants something else: at the first step, after a checkpoint was loaded, when the rate falls.
"""

from typing import Any

import numpy as np

from minigan.arrays.backend import Array
from minigan.arrays.philox import Philox
from minigan.backends.gpu.backend import CupyBackend
from minigan.optimizers import Adam


class Counter:
    """Numbers on the device, of which the host knows the first ones."""

    def __init__(self, backend: CupyBackend, size: int, dtype: Any):
        self.numbers = backend.xp.zeros((size,), dtype)
        self.current_stream = backend.xp.cuda.get_current_stream
        self.known: tuple[float, ...] | None = None

    def set(self, *values: float) -> None:
        """Write them to the device, unless they are there."""
        if values != self.known:
            stream = self.current_stream()  # the one on which kernels read them
            self.numbers[: len(values)].set(np.array(values, self.numbers.dtype), stream=stream)
            self.known = values


def adam(optimizer: Adam, p: Array, g: Array) -> None:
    """As Adam.apply, in one pass over the network; optimizer.steps counts this step already."""
    o, backend = optimizer, optimizer.backend
    assert isinstance(backend, CupyBackend)
    if type(o).definition is not Adam.definition:  # a descendant with another formula
        o.apply(p, g)
        return
    if o not in backend.counters:
        backend.counters[o] = Counter(backend, 5, np.float64)
    counter: Counter = backend.counters[o]

    def before() -> None:
        counter.set(o.steps, o.lr)

    def after() -> None:
        o.steps += 1
        o.store.version += 1
        counter.known = (o.steps, o.lr)

    if backend.recording is None:
        counter.set(o.steps - 1, o.lr)
        counter.known = (o.steps, o.lr)
    else:
        backend.recording.at_launch(before, after)
    backend.kernels.get("adam_tick")(1, counter.numbers, o.beta1, o.beta2, o.eps, int(o.eps_hat))
    backend.kernels.get("adam")(
        p.size, p, g, o.m, o.v, counter.numbers, p.size, o.beta1, o.beta2, o.l2
    )


def approach(mean: Array, new: Array, share: float, backend: CupyBackend) -> None:
    """As approach in averaging.py. It is not recorded, for the share is another one after each step."""
    backend.kernels.get("approach")(mean.size, mean, new, mean.size, share)


class DevicePhilox(Philox):
    """Philox by a kernel."""

    backend: CupyBackend

    def __init__(self, backend: CupyBackend, seed: int, stream: int = 0):
        super().__init__(backend, seed, stream)
        self.counter = Counter(backend, 2, np.uint64)
        backend.owners.add(self)

    def kept(self) -> list[Array]:
        """-> the arrays that outlive a step: none that `steps` does not tell."""
        return []

    def draw(self, out: Array, normal: bool) -> None:
        backend, counter = self.backend, self.counter

        def before() -> None:
            counter.set(self.seed, self.steps)

        def after() -> None:
            self.steps += 1
            counter.known = (self.seed, self.steps)

        if backend.recording is None:
            before()
            after()
        else:
            backend.recording.at_launch(before, after)
        each = 16 // backend.dtype.itemsize
        backend.kernels.get("random_numbers")(
            -(-out.size // each), out, counter.numbers, out.size, self.stream, int(normal)
        )
        backend.kernels.get("random_tick")(1, counter.numbers)
