"""The nets that are measured: the library's presets, and two that it is compared on besides.

A net is read as a list of minigan's layers; every contender builds its twin from that
list, layer by layer, with the same first weights. So any preset can be measured.
"""

from dataclasses import dataclass

import numpy as np

from minigan.errors import ConfigError
from minigan.initializers import normal
from minigan.layers import (
    BatchNorm, Conv2d, ConvTranspose2d, Flatten, LeakyReLU, Linear, ReLU, Reshape, Sequential, Tanh,
)  # fmt: skip
from minigan.presets import MODULES, get_preset

SEED_G, SEED_D, SEED_DATA = 0, 1, 2
RATE = 2e-4  # of Adam, in both players
BETA1 = 0.5
PROBE = 251  # every so many-th pixel is compared, when sampling


@dataclass(frozen=True)
class System:
    """A generator and a discriminator as functions that give layers, as in minigan.presets."""

    image_shape: tuple  # (h, w, c)
    generator: object  # generator(width, z_dim, image_shape) -> layers
    discriminator: object  # discriminator(width, image_shape) -> layers
    width: int
    z_dim: int = 100
    z: str = "normal"  # or "uniform", on [-1, 1)


# -- 32x32 in colour, kernels of 5 (Shibuya's SVHN and CelebA): 512-256-128 up, 64-128-256 down ---------

SAME = dict(kernel_size=5, stride=2, padding="same")


def keras_norm():
    return BatchNorm(running_rate=0.01, eps=1e-3, unbiased=False)


def generator_32(width, z_dim, image_shape):
    h, w, c = image_shape
    return [
        Linear(h // 8 * (w // 8) * 4 * width), Reshape((h // 8, w // 8, 4 * width)), keras_norm(), LeakyReLU(0.2),
        ConvTranspose2d(2 * width, **SAME), keras_norm(), LeakyReLU(0.2),
        ConvTranspose2d(width, **SAME), keras_norm(), LeakyReLU(0.2),
        ConvTranspose2d(c, **SAME), Tanh(),
    ]  # fmt: skip


def discriminator_32(width, image_shape):
    return [
        Conv2d(width // 2, **SAME), LeakyReLU(0.2),
        Conv2d(width, **SAME), keras_norm(), LeakyReLU(0.2),
        Conv2d(2 * width, **SAME), keras_norm(), LeakyReLU(0.2),
        Flatten(), Linear(1),
    ]  # fmt: skip


# -- 64x64 in colour, kernels of 4 (PyTorch's DCGAN example): 512-256-128-64 up and the reverse down ----

FIRST = dict(kernel_size=4, bias=False, initializer=normal(0.02))
HALVE = dict(kernel_size=4, stride=2, padding=1, bias=False, initializer=normal(0.02))


def torch_norm():
    return BatchNorm(gain_initializer=normal(0.02, mean=1.0))


def generator_64(width, z_dim, image_shape):
    layers = [Reshape((1, 1, z_dim)), ConvTranspose2d(8 * width, **FIRST), torch_norm(), ReLU()]
    for multiple in (4, 2, 1):
        layers += [ConvTranspose2d(multiple * width, **HALVE), torch_norm(), ReLU()]
    return [*layers, ConvTranspose2d(image_shape[2], **HALVE), Tanh()]


def discriminator_64(width, image_shape):
    layers = [Conv2d(width, **HALVE), LeakyReLU(0.2)]
    for multiple in (2, 4, 8):
        layers += [Conv2d(multiple * width, **HALVE), torch_norm(), LeakyReLU(0.2)]
    return [*layers, Conv2d(1, **FIRST), Flatten()]


OWN = {
    "shibuya-32": System((32, 32, 3), generator_32, discriminator_32, width=128),
    "pytorch-64": System((64, 64, 3), generator_64, discriminator_64, width=64),
}
NAMES = tuple(dict.fromkeys([*MODULES, *OWN]))


def get_system(name):
    """-> System or the library's Preset of that name. Raises ConfigError with the names that there are."""
    if name not in NAMES:
        raise ConfigError(f"unknown preset {name!r}: choose one of {', '.join(NAMES)}")
    return OWN[name] if name in OWN else get_preset(name)


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
    system = get_system(preset)
    shape = (image, image, system.image_shape[2]) if image else tuple(system.image_shape)
    width = width or system.width
    G = Sequential(system.generator(width, system.z_dim, shape), name="G")
    D = Sequential(system.discriminator(width, shape), name="D")
    G.setup((system.z_dim,), backend=backend, rng=np.random.default_rng(SEED_G))
    D.setup(shape, backend=backend, rng=np.random.default_rng(SEED_D))
    if tuple(G.out_shape) != shape:
        raise ConfigError(f"preset {preset} makes no images of {shape[0]}x{shape[1]}: G gives {tuple(G.out_shape)}")
    return Nets(G, D, system.z_dim, system.z, shape, batch)
