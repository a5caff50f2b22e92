"""The nets that are measured: presets of the library, all played by the plain round, without R1.

A net is read as a list of minigan's layers. Each contender builds its twin from that list, layer by
layer, with the same first weights. So any preset can be measured.
"""

from dataclasses import dataclass

import numpy as np

from minigan.arrays import Backend
from minigan.errors import ConfigError
from minigan.layers import Sequential
from minigan.presets import MODULES, get_preset
from minigan.training.config import new_config
from minigan.training.switches import switched_preset

NAMES = tuple(name for name in MODULES if not get_preset(name).classes)  # twins know no labels
SEED_G, SEED_D, SEED_DATA = 0, 1, 2
RATE = 2e-4  # of Adam, for both players
BETA1 = 0.5
PROBE = 251  # sampled images are compared at each pixel whose number is a multiple of this


@dataclass
class Nets:
    """Both nets of a preset, set up, and what else a step needs."""

    G: Sequential
    D: Sequential
    z_dim: int
    z: str
    image_shape: tuple[int, int, int]
    batch: int

    def take(self) -> tuple[Sequential, Sequential]:
        """-> G, D, which are not kept: after the twins are built, their memory is freed."""
        G, D = self.G, self.D
        del self.G, self.D
        return G, D

    def images(self) -> np.ndarray:
        """-> the "real" images (batch, h, w, c) float32 in [-1, 1): the same in every process."""
        rng = np.random.default_rng(SEED_DATA)
        return rng.uniform(-1, 1, (self.batch, *self.image_shape)).astype(np.float32)

    def noise(self, steps: int) -> np.ndarray:
        """-> z of the first steps (steps, batch, z_dim) float32: the same in every process."""
        rng = np.random.default_rng(SEED_DATA + 1)
        return shared_z(rng, self.z, (steps, self.batch, self.z_dim))


def shared_z(rng: np.random.Generator, z: str, shape: tuple[int, ...]) -> np.ndarray:
    """-> float32 numbers of the distribution z, "normal" or "uniform" on [-1, 1)."""
    values = rng.standard_normal(shape) if z == "normal" else rng.uniform(-1, 1, shape)
    return values.astype(np.float32)


def build(
    preset: str, batch: int, backend: Backend, width: int | None = None, image: int | None = None
) -> Nets:
    """-> Nets, with the same first weights at every call.

    width  of the net; None: the preset's own
    image  edge in pixels; None: the preset's own
    """
    system = switched_preset(new_config({"preset": preset}))
    shape = (image, image, system.image_shape[2]) if image else tuple(system.image_shape)
    width = width or system.width
    G = Sequential(system.generator(width, system.z_dim, shape), name="G")
    D = Sequential(system.discriminator(width, shape), name="D")
    G.setup((system.z_dim,), backend=backend, rng=np.random.default_rng(SEED_G))
    D.setup(shape, backend=backend, rng=np.random.default_rng(SEED_D))
    if tuple(G.out_shape) != shape:
        raise ConfigError(
            f"preset {preset} cannot make images of {shape[0]}x{shape[1]}: "
            f"its G outputs {tuple(G.out_shape)}"
        )
    return Nets(G, D, system.z_dim, system.z, shape, batch)
