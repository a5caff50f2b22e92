"""A network called layer by layer, with its BatchNorm statistics frozen: frozen_statistics.py."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigan.errors import ConfigError, RunError
from minigan.layers import Sequential
from minigan.layers.base import Array
from minigan.layers.sequential import forward_pass


def forward_to(net: Sequential, index: int, x: Array, labels: Array | None = None) -> Array:
    """x (n, *in_shape) -> the output of layer `index`, in sampling mode."""
    return forward_pass(net.layers[: index + 1], x, False, labels)


def activations(net: Sequential, x: Array, labels: Array | None = None) -> list[NDArray[Any]]:
    """x (n, *in_shape) -> the output of each layer, in sampling mode, on the host.

    Raises RunError if one is not finite.
    """
    found = []
    for layer in net.layers:
        x = forward_pass([layer], x, False, labels)
        found.append(expect_finite(net.backend.to_host(x), net))
    return found


def find_layer(nets: dict[str, Sequential], name: str) -> tuple[Sequential, int]:
    """ "D.3" -> the network, and the layer's index in it. Raises ConfigError."""
    there = {layer.path: (net, i) for net in nets.values() for i, layer in enumerate(net.layers)}
    if name not in there:
        names = [f"{path} ({net.layers[i].describe()})" for path, (net, i) in there.items()]
        raise ConfigError(f"--layer: there is no {name!r}: choose one of {', '.join(names)}")
    return there[name]


def expect_finite(values: NDArray[Any], net: Sequential) -> NDArray[Any]:
    """-> the same values. Raises RunError if one is NaN or infinite."""
    if not np.isfinite(values).all():
        raise RunError(
            f"{net.name} outputs NaN or infinity: its training diverged; "
            "try a smaller --lr-g and --lr-d"
        )
    return values
