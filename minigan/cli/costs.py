"""What a training step costs: operations and bytes, counted from the shapes of the layers.

Operations. A multiplication and an addition are two. Convolutions are counted as defined,
every kernel position of every output pixel, whatever a backend really computes: a faster algorithm
then shows as a higher rate. Everything else (BatchNorm, activations, optimizer, loss) is
left out; it is about a percent. With f for the forward pass of a layer, its dW takes f and its dx
takes f. The round itself is played once, by networks that count and compute nothing.

Bytes, 4 for each number: parameters, gradients and the optimizer's moments; for each sample of a
batch, y and dx of every layer with weights, x̂ and dx of every BatchNorm. A backend needs more: the
columns of im2col, transformed filters, scratch.
"""

from collections.abc import Callable
from math import prod
from types import SimpleNamespace
from typing import Any

import numpy as np

from minigan.arrays import Array, Backend, Shape
from minigan.gan import CROSS_ENTROPY, Players, Result, plain_round
from minigan.layers import BatchNorm, Conv2d, ConvTranspose2d, Layer, Linear, Sequential, Upsample
from minigan.layers.spectral_norm import unwrapped
from minigan.objective import Objective


def forward_flops(layer: Layer) -> int:
    """-> FLOPs of a layer's forward for one sample; its dW and its dx take as many each."""
    layer = unwrapped(layer)
    if isinstance(layer, Conv2d):
        return 2 * prod(layer.out_shape[:2]) * int(layer.W.size)
    if isinstance(layer, ConvTranspose2d):
        return 2 * prod(layer.in_shape[:2]) * int(layer.W.size)
    return 2 * int(layer.W.size) if isinstance(layer, Linear) else 0


def net_flops(net: Sequential) -> tuple[int, int]:
    """-> FLOPs of a network's forward for one sample, and those of its first layer with weights."""
    counts = [count for count in map(forward_flops, net.layers) if count]
    return sum(counts), counts[0]


class CountingNet:
    """Plays a network's part in a round: counts operations, and computes nothing."""

    def __init__(self, net: Sequential):
        self.backend, self.in_shape, self.out_shape = Backend(), net.in_shape, net.out_shape
        self.forward_flops, self.first_flops = net_flops(net)
        self.flat_grads = np.zeros(1)
        self.flops = 0

    def forward(self, x: Array, train: bool = True, labels: Array | None = None) -> Array:
        self.flops += len(x) * self.forward_flops
        return blank(len(x), self.out_shape)

    def backward(self, dy: Array, need_dx: bool = True, need_dw: bool = True) -> Array:
        dx_flops = self.forward_flops - (0 if need_dx else self.first_flops)
        self.flops += len(dy) * (dx_flops + (self.forward_flops if need_dw else 0))
        return blank(len(dy), self.in_shape)

    def zero_grads(self) -> None:
        """There are none."""

    def leaves(self) -> tuple[()]:
        """-> none, so that R1 finds no layer to refuse."""
        return ()

    def ready(self) -> "CountingNet":
        """-> itself, with flat_grads, instead of the store."""
        return self


def blank(n: int, shape: Shape) -> Array:
    """-> zeros (n, *shape) that take no memory."""
    return np.broadcast_to(np.float32(0), (n, *shape))


def step_flops(
    G: Sequential,
    D: Sequential,
    batch: int,
    play_round: Callable[[Players], Result] = plain_round,
    objective: Objective = CROSS_ENTROPY,
) -> int:
    """-> FLOPs of one round of the game.

    batch       images in a batch
    play_round  of a preset: partial(preset.round, **preset.round_options)
    objective   the loss; if its r1 is above 0, R1 is counted, too
    """
    g: Any = CountingNet(G)
    d: Any = CountingNet(D)
    optimizer, images = SimpleNamespace(step=lambda: None), (blank(batch, D.in_shape), None)
    draws = (lambda: images, lambda n: blank(n, G.in_shape))
    play_round(Players(g, d, optimizer, optimizer, *draws, objective=objective))
    return int(g.flops + d.flops)


def step_bytes(G: Sequential, D: Sequential, batch: int, moments: int = 2) -> int:
    """-> bytes that a training step needs, at the least.

    moments  arrays that the optimizer keeps for each network: 2 for Adam
    """
    numbers = 0
    for net in (G, D):
        trained, kept = net.count()
        numbers += (2 + moments) * trained + kept
        for before, layer in zip([None, *net.layers], net.layers, strict=False):
            if forward_flops(layer) or isinstance(layer, BatchNorm):
                # fast backends make no upsampled image: backends/upsampled.py
                first = before if isinstance(before, Upsample) else layer
                numbers += batch * (prod(first.in_shape) + prod(layer.out_shape))
    return 4 * numbers
