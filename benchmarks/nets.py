"""The nets that are measured: the library's presets, all by the same rules of the game.

A net is read as a list of minigan's layers; every contender builds its twin from that
list, layer by layer, with the same first weights. So any preset can be measured.
"""

from dataclasses import dataclass

import numpy as np

from minigan.errors import ConfigError
from minigan.gan import Rules
from minigan.layers import Sequential
from minigan.presets import MODULES, get_preset

RULES = Rules(first="D", same_z=True)  # of every contender
NAMES = tuple(
    name for name in MODULES if not get_preset(name).classes
)  # without labels, which the twins know nothing of

SEED_G, SEED_D, SEED_DATA = 0, 1, 2
RATE = 2e-4  # of Adam, in both players
BETA1 = 0.5
PROBE = 251  # every so many-th pixel is compared, when sampling


def expect_known(preset):
    """Raises ConfigError for a preset that cannot be measured, with those that can."""
    if preset not in NAMES:
        raise ConfigError(f"unknown preset {preset!r}: choose one of {', '.join(NAMES)}")


@dataclass
class Nets:
    """Both nets of a system, set up, and what a step needs besides."""

    G: Sequential
    D: Sequential
    z_dim: int
    z: str
    image_shape: tuple
    batch: int

    def images(self):
        """-> the batch of "real" images, (batch, h, w, c) float32 in [-1, 1): the same in every process."""
        rng = np.random.default_rng(SEED_DATA)
        return rng.uniform(-1, 1, (self.batch, *self.image_shape)).astype(np.float32)

    def noise(self, steps):
        """-> z for the first steps, (steps, batch, z_dim) float32: the same in every process."""
        rng = np.random.default_rng(SEED_DATA + 1)
        shape = (steps, self.batch, self.z_dim)
        values = rng.standard_normal(shape) if self.z == "normal" else rng.uniform(-1, 1, shape)
        return values.astype(np.float32)


def build(preset, batch, backend, width=None, image=None):
    """-> Nets, with the same first weights at every call.

    width  of the net, or None for the preset's own;  image  edge in pixels, likewise
    """
    expect_known(preset)
    system = get_preset(preset)
    shape = (image, image, system.image_shape[2]) if image else tuple(system.image_shape)
    width = width or system.width
    G = Sequential(system.generator(width, system.z_dim, shape), name="G")
    D = Sequential(system.discriminator(width, shape), name="D")
    G.setup((system.z_dim,), backend=backend, rng=np.random.default_rng(SEED_G))
    D.setup(shape, backend=backend, rng=np.random.default_rng(SEED_D))
    if tuple(G.out_shape) != shape:
        raise ConfigError(
            f"preset {preset} makes no images of {shape[0]}x{shape[1]}: G gives {tuple(G.out_shape)}"
        )
    return Nets(G, D, system.z_dim, system.z, shape, batch)
