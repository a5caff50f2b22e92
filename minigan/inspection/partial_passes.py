"""A network called layer by layer, with its BatchNorm statistics frozen.

Some published networks use batch statistics for sampling too. Then an image depends on the other z
of its batch: the same z gives different images in different batches, and cannot be drawn alone. To
inspect such a network, every BatchNorm is frozen at the statistics of one batch, layer by layer:
those of its input once all layers before it are frozen. For this batch the network computes what it
computes in training, and no image depends on another.

D is always inspected in this way, with a batch of real images: it was trained on batches that were
all real or all generated, and its running statistics mix the two, which no batch did.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigan.errors import ConfigError, RunError
from minigan.layers import BatchNorm, Sequential
from minigan.layers.base import Array
from minigan.layers.batchnorm import batch_statistics
from minigan.layers.sequential import forward_pass


def freeze_statistics(net: Sequential, x: Array, labels: Array | None = None) -> None:
    """From now on forward(x, train=False) normalizes with the statistics of this batch.

    x       (n, *in_shape), n of 2 or more
    labels  (n, classes), if the network is conditional
    """
    for layer in net.layers:
        if isinstance(layer, BatchNorm):
            layer.running_mean[...], layer.running_var[...] = batch_statistics(x)
            layer.sampling = "running"
        x = forward_pass([layer], x, False, labels)


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
