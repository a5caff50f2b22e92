"""What a training step costs: operations counted from the layers, memory and time estimated from them.

Operations. A multiplication and an addition are two. Convolutions are counted as their definition has them,
every kernel position of every output pixel, whatever is really computed: a faster algorithm then shows as a
higher rate. All else (BatchNorm, activations, optimizer, loss) is left out; it is a percent of the whole.
With f the forward of a net, and f1 that of its first layer (whose dx nobody wants):

    an update of D    forward, dW and dx on real images and on fakes: 6 f - 2 f1, and G's forward for the fakes
    an update of G    3 f - f1 in G itself; through D forward and dx: 2 f

Memory. Of each net its parameters, gradients and two moments, and for each sample what the layers hold between
forward and backward. Time: the operations at the machine's GEMM rate, and a pass over that memory.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from time import perf_counter

import numpy as np

from minigan.gan import Rules
from minigan.layers import (
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

FREE = (
    Flatten,
    Reshape,
    LeakyReLU,
    ReLU,
    Sigmoid,
    Tanh,
)  # they work in the memory of the layer before


def forward_flops(layer: Layer) -> int:
    """-> FLOPs of a layer's forward for one sample; its dW and its dx take as many each."""
    if isinstance(layer, Conv2d):
        pixels = prod(layer.out_shape[:2])
    elif isinstance(layer, ConvTranspose2d):
        pixels = prod(layer.in_shape[:2])
    elif isinstance(layer, Linear):
        pixels = 1
    else:
        return 0
    weights: int = layer.W.size
    return 2 * pixels * weights


def net_flops(net: Sequential) -> tuple[int, int]:
    """-> FLOPs of a net's forward for one sample, and those of its first layer that counts."""
    counts = [count for count in map(forward_flops, net.layers) if count]
    return sum(counts), counts[0]


def step_flops(G: Sequential, D: Sequential, batch: int, rules: Rules) -> int:
    """-> FLOPs of one round of the game on batches of this size."""
    (g, g_first), (d, d_first) = net_flops(G), net_flops(D)
    of_generator = 3 * g - g_first + 2 * d
    of_discriminator = 6 * d - 2 * d_first
    if rules.first == "both":  # one forward of D on the fakes serves both losses
        return batch * (of_generator + of_discriminator - d)
    shared = (
        rules.same_z and not rules.running_statistics and rules.first == "D"
    )  # the fakes of D's update are G's own
    fakes = rules.d_steps * g - (g if shared else 0)
    return batch * (rules.d_steps * of_discriminator + fakes + rules.generator_batch * of_generator)


# -- estimates, fitted to what the presets took on two cores of a server: all of them within a third -------

INTERPRETER = 36 * 2**20  # bytes of a process before the first net
STATES = 6.5  # arrays as large as the parameters: themselves, gradients, two moments, transformed filters
HELD = 2.4  # times what the layers hold: Winograd's transforms and shared scratch come to it
PRODUCTS = 0.65  # of the time that one large matrix product of as many operations takes: Winograd saves some
PASSES = 25.0  # over memory, of the parameters and of what the layers hold
OVERHEAD = 0.002  # s of a step, whatever its size


@dataclass
class Machine:
    """Rates of this machine, measured."""

    flops: float  # float32 operations of a matrix product, a second
    bytes: float  # written by a pass over memory, a second


def measure_machine(edge: int = 1536, numbers: int = 2**22) -> Machine:
    """-> Machine, in about 0.2 s."""
    rng = np.random.default_rng(0)
    a, b = rng.random((2, edge, edge), dtype=np.float32)
    x = np.ones(numbers, np.float32)
    c, y = np.empty_like(a), np.empty_like(x)
    product = fastest(lambda: np.matmul(a, b, out=c))
    one_pass = fastest(lambda: np.multiply(x, 1.5, out=y))
    return Machine(2 * edge**3 / product, x.nbytes / one_pass)


def fastest(work: Callable[[], object], rounds: int = 5) -> float:
    """-> seconds of the fastest of a few rounds."""
    spent = []
    for _ in range(rounds):
        start = perf_counter()
        work()
        spent.append(perf_counter() - start)
    return min(spent)


def held_numbers(net: Sequential) -> int:
    """-> numbers that the layers of a net hold for one sample between forward and backward, about."""
    held = 0
    for layer in net.layers:
        if forward_flops(layer):
            held += prod(layer.in_shape) + prod(layer.out_shape)  # dx and y
        elif isinstance(layer, BatchNorm):
            held += 2 * prod(layer.out_shape)  # x̂ and the gradient
        elif not isinstance(layer, FREE):
            held += 3 * prod(layer.out_shape)
    return held


def step_bytes(G: Sequential, D: Sequential, batch: int) -> float:
    """-> peak memory of a process that trains the two, about."""
    return INTERPRETER + 4 * (
        STATES * (sum(G.count()) + sum(D.count()))
        + HELD * batch * (held_numbers(G) + held_numbers(D))
    )


def step_seconds(G: Sequential, D: Sequential, batch: int, rules: Rules, machine: Machine) -> float:
    """-> time of a round of the game on this machine's CPU, about."""
    passed = (
        4 * PASSES * (sum(G.count()) + sum(D.count()) + batch * (held_numbers(G) + held_numbers(D)))
    )
    return (
        PRODUCTS * step_flops(G, D, batch, rules) / machine.flops
        + passed / machine.bytes
        + OVERHEAD
    )
