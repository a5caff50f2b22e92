"""A net called layer by layer, with its statistics held still: what an image meets on the way depends on that image alone.

Some published nets take the statistics of the batch when they sample, too. Then a picture depends on the other z of
its batch: the same z looks different in other company, and a single one cannot be drawn at all. To look inside,
BatchNorm gets the statistics of one batch as in training, once and for all, each layer those of what comes
to it when all before it are held. That is the net which this batch met in training, and no picture depends on another.

D is always looked at so, through a batch of real images: it was trained on batches that were all real or all
generated, and the running statistics that it has kept are a mixture of both, which no batch had.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigan.errors import ConfigError, RunError
from minigan.layers import BatchNorm, Sequential
from minigan.layers.base import Array


def tell_labels(net: Sequential, labels: Array | None, n: int) -> None:
    """Labels (n, classes), or None, to where the layers of a net find them. Raises ConfigError where the net wants others."""
    store = net.ready()
    store.labels = net.expect_labels(labels, n, store.classes)


def hold_statistics(net: Sequential, x: Array, labels: Array | None = None) -> None:
    """Every BatchNorm of the net gets the statistics of this batch: forward(x, train=False) normalises by them from now on.

    x       (n, *in_shape) of the net's backend, n of 2 or more
    labels  (n, classes), of a conditional net
    """
    tell_labels(net, labels, len(x))
    for layer in net.layers:
        if isinstance(layer, BatchNorm):
            rows = x.reshape(-1, x.shape[-1])
            layer.running_mean[...] = rows.mean(axis=0)
            layer.running_var[...] = rows.var(axis=0)
            layer.sampling = "running"
        x = layer.forward(x, train=False)


def forward_to(net: Sequential, index: int, x: Array, labels: Array | None = None) -> Array:
    """x (n, *in_shape) -> what layer `index` gives, in sampling mode; in that layer's memory."""
    tell_labels(net, labels, len(x))
    for layer in net.layers[: index + 1]:
        x = layer.forward(x, train=False)
    return x


def backward_from(net: Sequential, index: int, dy: Array) -> Array:
    """dy of what forward_to gave -> dx (n, *in_shape). The gradients of parameters stay as they are."""
    for layer in reversed(net.layers[: index + 1]):
        dy = layer.backward(dy, need_dw=False)
    return dy


def activations(net: Sequential, x: Array, labels: Array | None = None) -> list[NDArray[Any]]:
    """x (n, *in_shape) -> what each layer gives, in sampling mode, on the host. Raises RunError where that is not finite."""
    tell_labels(net, labels, len(x))
    found = []
    for layer in net.layers:
        x = layer.forward(x, train=False)
        found.append(expect_finite(net.backend.to_host(x), net).copy())
    return found


def find_layer(nets: dict[str, Sequential], name: str) -> tuple[Sequential, int]:
    """The name "D.3" -> the net, and where in it the layer stands. Raises ConfigError with the names that there are."""
    there = {layer.path: (net, i) for net in nets.values() for i, layer in enumerate(net.layers)}
    if name not in there:
        names = ", ".join(
            f"{path} ({net.layers[i].describe()})" for path, (net, i) in there.items()
        )
        raise ConfigError(f"--layer: there is no {name!r} here: choose one of {names}")
    return there[name]


def expect_finite(values: NDArray[Any], net: Sequential) -> NDArray[Any]:
    """-> the same values. Raises RunError where they hold NaN or infinity."""
    if not np.isfinite(values).all():
        raise RunError(
            f"{net.name} gives numbers that are not finite: its training went astray; try a smaller --lr-g and --lr-d"
        )
    return values
