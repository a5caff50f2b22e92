"""The smallest G and D that have every kind of layer, and what a round of them needs."""

import numpy as np

import minigan as mg
from minigan.gan import Players

Z_DIM, IMAGE = 5, (8, 8, 1)


def make_nets(backend):
    """-> G, D"""
    rng = np.random.default_rng(0)
    G = mg.Sequential(
        [
            mg.Linear(4 * 4 * 4),
            mg.Reshape((4, 4, 4)),
            mg.BatchNorm(),
            mg.ReLU(),
            mg.ConvTranspose2d(1, 4, 2, 1),
            mg.Tanh(),
        ],
        name="G",
    )
    D = mg.Sequential(
        [
            mg.Conv2d(4, 4, 2, 1),
            mg.LeakyReLU(0.2),
            mg.Conv2d(8, 4, 2, 1),
            mg.BatchNorm(),
            mg.Flatten(),
            mg.Linear(1),
        ],
        name="D",
    )
    G.setup((Z_DIM,), backend=backend, rng=rng)
    D.setup(IMAGE, backend=backend, rng=rng)
    return G, D


def draw(backend, *shape, seed=1):
    """-> numbers from U(-1, 1)"""
    return backend.asarray(np.random.default_rng(seed).uniform(-1, 1, shape))


class Recorder:
    """An optimizer that does not move, but records the gradient at each step."""

    def __init__(self, net):
        self.net, self.seen = net, []

    def step(self):
        self.seen.append(self.net.backend.to_host(self.net.store.flat_grads).copy())


def make_players(backend, n=6, optimizer=mg.Adam):
    """-> Players whose draws are the same every time: n images, and z for as many as requested."""
    G, D = make_nets(backend)
    return Players(
        G,
        D,
        optimizer(G),
        optimizer(D),
        lambda: (draw(backend, n, *IMAGE), None),
        lambda count: draw(backend, count, Z_DIM, seed=2),
    )


def state(net):
    """-> host copies of the parameters, gradients and running statistics."""
    return {
        kind: {
            name: net.backend.to_host(array).copy() for name, array in getattr(net, kind).items()
        }
        for kind in ("params", "grads", "buffers")
    }


def unchanged(before, after, kind):
    """-> names of arrays that are the same, bit for bit."""
    return {
        name for name, array in before[kind].items() if np.array_equal(array, after[kind][name])
    }
