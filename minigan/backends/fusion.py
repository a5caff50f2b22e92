"""Which layers a backend may run as one step: [convolution or Linear] [BatchNorm] [activation].

Each part may be missing. Reshape and Flatten before and between them only give the axes other names. A layer of
a class derived from these stays alone: it may mean something else.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from minigan.layers import (
    AppendLabels,
    BatchNorm,
    Conv2d,
    ConvTranspose2d,
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

Core = Conv2d | ConvTranspose2d | Linear
ROLES: tuple[tuple[str, tuple[type[Layer], ...]], ...] = (
    ("core", (Conv2d, ConvTranspose2d, Linear)),
    ("norm", (BatchNorm,)),
    ("activation", (LeakyReLU, ReLU, Sigmoid, Tanh)),
)


def find_runs(layers: list[Layer]) -> Iterator[tuple[list[Layer], dict[str, Any]]]:
    """-> yields layers that stand together, and "core", "norm", "activation" -> the one of them; a layer that stays alone with {}."""
    i = 0
    while i < len(layers):
        run: dict[str, Any] = {}
        end = i
        for role, kinds in ROLES:
            j = end
            while j < len(layers) and type(layers[j]) in (Reshape, Flatten):
                j += 1
            if j < len(layers) and type(layers[j]) in kinds:
                run[role], end = layers[j], j + 1
        end = max(end, i + 1)
        yield layers[i:end], run
        i = end


def can_take_both(D: Sequential, block: type, real: Any, fake: Any, labels: Any) -> bool:
    """Can both batches of D's update go through it at once, each with statistics of its own? Not where anything about them is wrong:
    the definition says what."""
    arrays = [real, fake] if labels is None else [real, fake, labels]
    backend = D.backend
    return (
        type(D) is Sequential
        and all(backend.is_array(array) and array.dtype == backend.dtype for array in arrays)
        and real.shape == fake.shape == (len(real), *D.in_shape)
        and (labels is None or len(labels) == len(real))
        and see_parts(D.steps, block)
    )


def see_parts(steps: Iterable[Any], block: type) -> bool:
    """Do all steps of a net see each sample alone, or are they blocks (of a backend's class), which know of a batch's parts? And draw
    nothing, as Dropout does."""
    return all(
        isinstance(step, block)
        or type(step) in (Reshape, Flatten, AppendLabels)
        or (type(step) is Sequential and see_parts(step.steps, block))
        for step in steps
    )
