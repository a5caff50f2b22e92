"""Floating-point operations of a training step, counted from the layers.

A multiplication and an addition are two. Convolutions are counted as their definition has
them, every kernel position of every output pixel, whatever a contender really computes: a
faster algorithm then shows as a higher rate. All else (BatchNorm, activations, Adam, loss)
is left out; it is a percent of the whole.

One step of the game:
    G   its forward, its dW, its dx but for the first layer's (nobody wants dz)
    D   forward three times (real, fake, fake again after D's update), dW twice (real, fake),
        dx three times, of which the two in D's own update stop before the image
"""

from math import prod

from minigan.layers import Conv2d, ConvTranspose2d, Linear


def forward_flops(layer):
    """-> FLOPs of a layer's forward for one sample; its dW and its dx take as many each."""
    if isinstance(layer, Conv2d):
        return 2 * prod(layer.out_shape[:2]) * prod(layer.W.shape)
    if isinstance(layer, ConvTranspose2d):
        return 2 * prod(layer.in_shape[:2]) * prod(layer.W.shape)
    if isinstance(layer, Linear):
        return 2 * prod(layer.W.shape)
    return 0


def net_flops(net):
    """-> FLOPs of a net's forward for one sample, and those of its first layer that counts."""
    counts = [count for count in map(forward_flops, net.layers) if count]
    return sum(counts), counts[0]


def step_flops(G, D, batch):
    """-> FLOPs of one step, one update of each player."""
    g, g_first = net_flops(G)
    d, d_first = net_flops(D)
    return batch * (3 * g - g_first + 8 * d - 2 * d_first)


def sampling_flops(G, images):
    """-> FLOPs of drawing images."""
    return images * net_flops(G)[0]
