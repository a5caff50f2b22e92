"""Where a run went astray: the layer in which a number first stopped being finite.

Training shows NaN in a loss steps after it arose, and one step later it is everywhere. But a run can be
repeated bit for bit: so from the last checkpoint the steps are played again, and the fatal one with a probe around
every layer, which looks at all that goes in and comes out.
"""

from typing import Any

from minigan.backends import Array
from minigan.data import Batches
from minigan.layers import Layer, Sequential
from minigan.layers.sequential import Step


class Astray(Exception):
    """The place, in words."""


class Probe:
    """A step of a network (a layer, or several fused ones) that says when it gives numbers that are not finite."""

    def __init__(self, step: Step, net: Sequential):
        self.step, self.net = step, net
        self.layers: list[Layer] = getattr(step, "layers", None) or [step]
        self.has_parameters = step.has_parameters

    def forward(self, x: Array, train: bool = True) -> Array:
        for layer in self.layers:  # the optimizer may have made them so in the last step
            for name in ("W", "b", "gain", "bias"):
                if not self.finite(getattr(layer, name, None)):
                    raise Astray(f"{layer.label}: its {name} is no longer finite")
        y = self.step.forward(x, train)
        if not self.finite(y):
            self.within(x, train)
            raise Astray(f"{self.label}: forward")
        return y

    def within(self, x: Array, train: bool) -> None:
        """Of fused layers, one by one, which was it?"""
        for layer in self.layers:
            x = layer.forward(x, train)
            if not self.finite(x):
                raise Astray(f"{layer.label}: forward")

    def backward(self, dy: Array, need_dx: bool = True, need_dw: bool = True) -> Array | None:
        dx = self.step.backward(dy, need_dx=need_dx, need_dw=need_dw)
        for layer in self.layers:
            for name in ("dW", "db", "dgain", "dbias"):
                if need_dw and not self.finite(getattr(layer, name, None)):
                    raise Astray(f"{layer.label}: backward, in {name}")
        if not self.finite(dx):
            raise Astray(f"{self.label}: backward")
        return dx

    @property
    def label(self) -> str:
        return (
            self.layers[0].label
            if len(self.layers) == 1
            else f"{self.layers[0].label} to {self.layers[-1].label}"
        )

    def finite(self, array: Array | None) -> bool:
        # a sum is finite only if all of its terms are (or it overflows, which is as bad)
        backend = self.net.backend
        return array is None or abs(float(backend.to_host(backend.xp.sum(array)))) < float("inf")


def find_astray(game: Any, batches: Batches, steps: int) -> str:
    """-> ", first in D.3 (BatchNorm 64): forward", or "" where it cannot be found.

    game, batches  as they were at the last checkpoint (they are used up)
    steps          from there to the step with a number that is not finite, which is the last of them
    """
    game.recorded = None  # step by step: what is recorded would pass the probes by
    for _ in range(steps - 1):
        game.round(batches)
    for net in (game.G, game.D):
        net.steps = [Probe(step, net) for step in net.steps]
    try:
        game.round(batches)
    except Astray as place:
        return f", first in {place}"
    return ""
