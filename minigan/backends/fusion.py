"""Which layers a fast backend may fuse: [convolution or Linear] [BatchNorm] [activation].

Each part may be missing. Reshape and Flatten before and between them only rename axes. A layer
whose class overrides the forward or backward of one of these is left alone: it may mean something
else.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from minigan.backends.steps import AppendLabelsStep, DropoutStep
from minigan.backends.workspace import FastBackend
from minigan.layers import (
    AppendLabels,
    BatchNorm,
    Conv2d,
    ConvTranspose2d,
    Dropout,
    Flatten,
    Layer,
    LeakyReLU,
    Linear,
    ReLU,
    Reshape,
    Sequential,
    Sigmoid,
    Tanh,
)
from minigan.layers.sequential import Step

Core = Conv2d | ConvTranspose2d | Linear
ROLES: tuple[tuple[str, tuple[type[Layer], ...]], ...] = (
    ("core", (Conv2d, ConvTranspose2d, Linear)),
    ("norm", (BatchNorm,)),
    ("activation", (LeakyReLU, ReLU, Sigmoid, Tanh)),
)


def fuse(
    layers: Sequence[Layer], backend: FastBackend, make_block: Callable[..., Step]
) -> list[Step]:
    """-> steps for the layers, with make_block(layers, core=, norm=, activation=) for each run."""
    steps: list[Step] = []
    for part, roles in find_runs(layers):
        if roles:
            steps.append(make_block(part, **roles))
        elif isinstance(part[0], AppendLabels) and is_exactly(part[0], AppendLabels):
            steps.append(AppendLabelsStep(part[0], backend))
        elif isinstance(part[0], Dropout) and is_exactly(part[0], Dropout):
            steps.append(DropoutStep(part[0], backend))
        else:
            steps += part
    return steps


def find_runs(layers: Sequence[Layer]) -> Iterator[tuple[Sequence[Layer], dict[str, Any]]]:
    """-> yields consecutive layers, and "core", "norm", "activation" -> layer; {} for others."""
    i = 0
    while i < len(layers):
        run: dict[str, Any] = {}
        end = i
        for role, kinds in ROLES:
            j = end
            while j < len(layers) and is_exactly(layers[j], Reshape, Flatten):
                j += 1
            if j < len(layers) and is_exactly(layers[j], *kinds):
                run[role], end = layers[j], j + 1
        end = max(end, i + 1)
        yield layers[i:end], run
        i = end


def is_exactly(layer: Any, *kinds: type[Layer]) -> bool:
    """Is it a layer of one of these classes, or of one derived from it with the same passes?"""
    return any(
        isinstance(layer, kind)
        and type(layer).forward is kind.forward
        and type(layer).backward is kind.backward
        for kind in kinds
    )


def sees_samples_alone(steps: Iterable[Any], block: type) -> bool:
    """Do all steps treat each sample by itself, except blocks, which know of the whole batch?

    And does no step draw random numbers?
    """
    return all(
        isinstance(step, (block, AppendLabelsStep))
        or is_exactly(step, Reshape, Flatten)
        or (isinstance(step, Sequential) and sees_samples_alone(step.steps, block))
        for step in steps
    )
