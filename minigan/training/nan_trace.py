"""Where a run diverged: the layer in which a number first stopped being finite.

Training notices a NaN in a loss some steps after it first appeared, and one step later it is
everywhere. But a run can be repeated bit for bit. So the steps since the last checkpoint are run
again, the fatal one layer by layer, with a probe around each layer that checks its parameters,
outputs and gradients. (Not in fused blocks: the output of one may be completed only by the next.)
"""

from typing import Any

import numpy as np

from minigan.arrays import Array, Backend
from minigan.data import Batches
from minigan.layers import Layer, Sequential
from minigan.layers.sequential import Step, plan


class NanFound(Exception):
    """The place, in words."""


class Probe:
    """A layer that reports when it is not finite; `step` is what the backend runs for it."""

    def __init__(self, layer: Layer, step: Step, backend: Backend):
        self.layer, self.step, self.backend = layer, step, backend
        self.has_parameters, self.takes_labels = step.has_parameters, step.takes_labels

    def forward(self, x: Array, train: bool, *labels: Array | None) -> Array:
        # the last update may have made the NaN, or an overflow of the last batch's variance
        for name in ("W", "b", "gain", "bias", "running_mean", "running_var"):
            if not self.is_finite(getattr(self.layer, name, None)):
                raise NanFound(f"{self.layer.label}: its {name} is no longer finite")
        y = self.step.forward(x, train, *labels)
        if not self.is_finite(y):
            raise NanFound(f"{self.layer.label}: forward")
        return y

    def backward(self, dy: Array, need_dx: bool, need_dw: bool) -> Array | None:
        dx = self.step.backward(dy, need_dx, need_dw)
        for name in ("dW", "db", "dgain", "dbias"):
            if need_dw and not self.is_finite(getattr(self.layer, name, None)):
                raise NanFound(f"{self.layer.label}: backward, in {name}")
        if not self.is_finite(dx):
            raise NanFound(f"{self.layer.label}: backward")
        return dx

    def is_finite(self, array: Array | None) -> bool:
        # a sum is finite only if all of its terms are (or it overflows, which is as bad)
        backend = self.backend
        return array is None or abs(float(backend.to_host(backend.xp.sum(array)))) < float("inf")


def broken_array(net: Sequential) -> str:
    """-> " (G.4.running_var is not finite)": the first such parameter or buffer; "" without one."""
    for name, array in {**net.params, **net.buffers}.items():
        if not np.all(np.isfinite(net.backend.to_host(array))):
            return f" ({net.name}.{name} is not finite)"
    return ""


def add_probes(net: Sequential) -> None:
    """From now on the network runs layer by layer, each in a probe."""
    backend = net.backend
    steps_of = backend.operation_for(plan)
    net.steps = [
        Probe(layer, step, backend) for layer in net.layers for step in steps_of([layer], backend)
    ]
    for layer in net.layers:
        if isinstance(layer, Sequential):
            add_probes(layer)


def locate_nan(game: Any, batches: Batches, steps: int) -> str:
    """-> ", first in D.3 (BatchNorm 64): forward", or "" if it cannot be found.

    game, batches  as they were at the last checkpoint (they cannot be used afterward)
    steps          from there to the step with a number that is not finite
    """
    game.captured = None  # a captured round would bypass the probes
    batches.shard = None  # what follows is played by one process
    for _ in range(steps - 1):
        game.round(batches)
    for net in (game.G, game.D):
        add_probes(net)
    try:
        game.round(batches)
    except NanFound as place:
        return f", first in {place}"
    return ""
