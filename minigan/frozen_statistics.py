"""Frozen statistics: a sample depends on its z and its class, and on nothing else.

Some published programs normalize samples by the statistics of their own batch. Then the same z
gives different images in different batches and none alone; in a batch of one class, BatchNorm even
subtracts the label. So images are drawn, and networks inspected, with the BatchNorm statistics of
one fixed batch; those of a layer are measured after all layers before it are frozen. For this batch
the network computes what it computes in training. They replace the running ones:

    running = (1 - running_rate)·running + running_rate·batch      with running_rate = 1

Everything else stays in sampling mode: Dropout draws nothing.

The statistics of a generator belong to its present weights. They are computed before each draw, one
more batch, and not saved: they cannot be stale, and any run folder has all that they need.
"""

from copy import copy

from minigan.arrays import Array
from minigan.errors import ShapeError
from minigan.layers import BatchNorm, Sequential, SpectralNorm
from minigan.layers.sequential import forward_pass, plan


def norms(net: Sequential) -> list[BatchNorm]:
    """-> every BatchNorm, in networks within the network too."""
    return [layer for layer in net.leaves() if isinstance(layer, BatchNorm)]


def samples_by_batch(net: Sequential) -> bool:
    """Does forward(x, train=False) normalize by the batch's own statistics?"""
    return any(layer.sampling == "batch" for layer in norms(net))


def with_own_statistics(net: Sequential) -> Sequential:
    """-> the same network, with separate statistics and passes. Parameters are the same arrays.

    Except for the parameters, and what a forward in training changes elsewhere (u of SpectralNorm,
    the generator of Dropout), neither affects the other.
    """
    other = copy(net)
    other.parts = tuple(
        with_own_statistics(layer) if isinstance(layer, Sequential) else copy(layer)
        for layer in net.layers
    )
    for layer in other.layers:
        layer.container = other
        if isinstance(layer, SpectralNorm):
            layer.layer = copy(layer.layer)  # which keeps what its passes save
        if isinstance(layer, BatchNorm):
            layer.held = {}  # an assignment makes new arrays
            layer.running_mean = layer.running_mean.copy()
            layer.running_var = layer.running_var.copy()
    other.steps = net.backend.operation_for(plan)(other.layers, net.backend)
    return other


def freeze_statistics(net: Sequential, x: Array, labels: Array | None = None) -> None:
    """From now on forward(x, train=False) normalizes by the statistics of this batch.

    x       (n, *in_shape), n of 2 or more
    labels  (n, classes), if the network is conditional
    Raises ShapeError, also for a batch of 1; ArrayTypeError, ConfigError. Then nothing changes.
    """
    frozen = norms(net)
    net.backend.guard(x, net.in_shape, net.name, "x")
    net.expect_labels(labels, len(x))
    if len(x) < 2:
        raise ShapeError(f"{net.name}: a batch of 1 has no statistics: expected n of at least 2")
    kept = [(layer.sampling, layer.running_rate, layer.unbiased) for layer in frozen]
    running = [a for layer in frozen for a in (layer.running_mean, layer.running_var)]
    before, is_done = [a.copy() for a in running], False
    for layer in frozen:
        layer.sampling, layer.running_rate, layer.unbiased = "measure", 1.0, False
    for a in running:
        a.fill(0)  # so that nothing is left of it, not even rounding or NaN
    try:
        forward_pass(net.steps, x, False, labels)
        is_done = True
    finally:  # Ctrl-C, or an error of a layer: as before
        for layer, (sampling, rate, unbiased) in zip(frozen, kept, strict=True):
            layer.sampling = "running" if is_done else sampling
            layer.running_rate, layer.unbiased = rate, unbiased
        if not is_done:
            for a, old in zip(running, before, strict=True):
                a[...] = old
