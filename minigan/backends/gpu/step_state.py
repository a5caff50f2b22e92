"""State that changes from step to step, on the device: Adam's step count and rate.

A recorded step launches the same kernels with the same arguments every time. So the values
that change from step to step (the step count, the learning rate) are in the GPU's memory, where a
kernel of one thread advances them. The host knows these values and writes only if it needs others:
at the first step, after loading a checkpoint, when the learning rate falls.
"""

from typing import Any

import numpy as np

from minigan.arrays import Array
from minigan.backends.gpu.backend import GpuBackend
from minigan.optimizers import Adam


class StepState:
    """Numbers on the device; the host knows the first of them."""

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

    def after() -> None:
        o.steps += 1
        store.version += 1
        state.known = (o.steps, o.lr)

    if backend.recording is None:
        state.set(o.steps - 1, o.lr)
        state.known = (o.steps, o.lr)
    else:  # at a launch no Python runs that would count the step
        backend.recording.append((lambda: state.set(o.steps, o.lr), after))
    tick, update = backend.kernels.get("adam_tick"), backend.kernels.get("adam")
    tick(1, state.numbers, o.beta1, o.beta2, o.eps, int(o.eps_hat))
    p, g = store.flat_params, store.flat_grads
    update(p.size, p, g, o.m, o.v, state.numbers, p.size, o.beta1, o.beta2, o.l2)


def ema_update(mean: Array, new: Array, weight: float, backend: GpuBackend) -> None:
    """As ema_update in averaging.py. Never recorded: the weight differs at each step."""
    backend.kernels.get("ema_update")(mean.size, mean, new, mean.size, weight)
