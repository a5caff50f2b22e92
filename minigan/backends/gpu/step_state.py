"""State that changes from step to step, on the device: for Adam and for Philox.

A recorded step launches the same kernels with the same arguments every time. So the values
that change from step to step (the step count, the learning rate) are in the GPU's memory, where a
kernel of one thread advances them. The host knows these values and writes only if it needs others:
at the first step, after loading a checkpoint, when the learning rate falls.
"""

from copy import copy
from typing import Any

import numpy as np

from minigan.arrays import Array
from minigan.arrays.philox import Philox
from minigan.backends.gpu.backend import GpuBackend
from minigan.optimizers import Adam


class StepState:
    """Numbers on the device; the host knows the first of them."""

    steps = 0

    def __init__(self, backend: GpuBackend, size: int, dtype: Any):
        self.numbers = backend.xp.zeros((size,), dtype)
        self.current_stream = backend.xp.cuda.get_current_stream
        self.known: tuple[float, ...] | None = None

    def set(self, *values: float) -> None:
        """Write them to the device, unless they are already there."""
        if values != self.known:
            stream = self.current_stream()  # the one on which kernels read them
            self.numbers[: len(values)].set(np.array(values, self.numbers.dtype), stream=stream)
            self.known = values


def adam(optimizer: Adam, backend: GpuBackend) -> None:
    """As Adam.apply, in one pass over the network; optimizer.steps already counts this step."""
    o, store = optimizer, optimizer.store
    if o not in backend.step_states:
        backend.step_states[o] = StepState(backend, 5, np.float64)
    state: StepState = backend.step_states[o]

    def before() -> None:
        state.set(o.steps, o.lr)

    def after() -> None:
        o.steps += 1
        store.version += 1
        state.known = (o.steps, o.lr)

    if backend.recording is None:
        state.set(o.steps - 1, o.lr)
        state.known = (o.steps, o.lr)
    else:  # at a launch no Python runs that would count the step
        backend.around_launch(before, after)
    tick, update = backend.kernels.get("adam_tick"), backend.kernels.get("adam")
    tick(1, state.numbers, o.beta1, o.beta2, o.eps, int(o.eps_hat))
    p, g = store.flat_params, store.flat_grads
    update(p.size, p, g, o.m, o.v, state.numbers, p.size, o.beta1, o.beta2, o.l2)


def ema_update(mean: Array, new: Array, weight: float, backend: GpuBackend) -> None:
    """As ema_update in averaging.py. Never recorded: the weight differs at each step."""
    backend.kernels.get("ema_update")(mean.size, mean, new, mean.size, weight)


class DevicePhilox(Philox):
    """Philox by a kernel."""

    backend: GpuBackend

    def __init__(self, backend: GpuBackend, seed: int, stream: int = 0):
        self.state = StepState(backend, 2, np.uint64)
        super().__init__(backend, seed, stream)

    @property
    def steps(self) -> int:  # shared with the generator of a captured step
        return self.state.steps

    @steps.setter
    def steps(self, steps: int) -> None:
        self.state.steps = steps

    def on(self, backend: GpuBackend) -> "DevicePhilox":
        """-> this generator on the backend of a captured step; both count together."""
        other = copy(self)
        other.backend = backend
        return other

    def state_arrays(self) -> list[Array]:
        """-> the arrays that survive a step: none that `steps` does not determine."""
        return []

    def draw(self, out: Array, normal: bool) -> None:
        backend, state = self.backend, self.state

        def before() -> None:
            state.set(self.seed, state.steps)

        def after() -> None:
            state.steps += 1
            state.known = (self.seed, state.steps)

        backend.around_launch(before, after)
        each = 16 // backend.dtype.itemsize
        draw = backend.kernels.get("random_numbers")
        draw(-(-out.size // each), out, state.numbers, out.size, self.stream, int(normal))
        backend.kernels.get("random_tick")(1, state.numbers)
