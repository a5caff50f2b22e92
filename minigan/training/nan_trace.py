"""Where a run diverged: the layer in which a number first stopped being finite.

Training notices NaN in a loss steps after it arose, and one step later it is everywhere. But a run
can be repeated bit for bit. So the steps since the last checkpoint are played again, the fatal one
with a probe around every layer that checks all inputs and outputs.
"""

from typing import Any

from minigan.arrays import Array
from minigan.data import Batches
from minigan.layers import Layer, Sequential
from minigan.layers.sequential import Step


class NanFound(Exception):
    """The place, in words."""


class Probe:
    """A step of a network, a layer or several fused ones, that reports when it is not finite."""

    def __init__(self, step: Step, net: Sequential):
        self.step, self.net = step, net
        self.layers: list[Layer] = list(getattr(step, "layers", None) or [step])
        self.has_parameters, self.takes_labels = step.has_parameters, step.takes_labels

    def forward(self, x: Array, train: bool, *labels: Array | None) -> Array:
        for layer in self.layers:  # the optimizer may have done it in the last step
            for name in ("W", "b", "gain", "bias"):
                if not self.is_finite(getattr(layer, name, None)):
                    raise NanFound(f"{layer.label}: its {name} is no longer finite")
        y = self.step.forward(x, train, *labels)
        if not self.is_finite(y):
            for layer in self.layers[:-1]:  # of fused layers, which one was it?
                x = layer.forward(x, train)
                if not self.is_finite(x):
                    raise NanFound(f"{layer.label}: forward")
            raise NanFound(f"{self.layers[-1].label}: forward")
        return y

    def backward(self, dy: Array, need_dx: bool, need_dw: bool) -> Array | None:
        dx = self.step.backward(dy, need_dx, need_dw)
        for layer in self.layers:
            for name in ("dW", "db", "dgain", "dbias"):
                if need_dw and not self.is_finite(getattr(layer, name, None)):
                    raise NanFound(f"{layer.label}: backward, in {name}")
        if not self.is_finite(dx):
            labels = dict.fromkeys((self.layers[0].label, self.layers[-1].label))
            raise NanFound(f"{' to '.join(labels)}: backward")
        return dx

    def is_finite(self, array: Array | None) -> bool:
        # a sum is finite only if all of its terms are (or it overflows, which is as bad)
        backend = self.net.backend
        return array is None or abs(float(backend.to_host(backend.xp.sum(array)))) < float("inf")


def locate_nan(game: Any, batches: Batches, steps: int) -> str:
    """-> ", first in D.3 (BatchNorm 64): forward", or "" if it cannot be found.

    game, batches  as at the last checkpoint (they are used up)
    steps          from there to the step with a number that is not finite
    """
    game.captured = None  # a captured round would bypass the probes
    for _ in range(steps - 1):
        game.round(batches)
    for net in (game.G, game.D):
        net.steps = [Probe(step, net) for step in net.steps]
    try:
        game.round(batches)
    except NanFound as place:
        return f", first in {place}"
    return ""
