"""Whole systems by name: nets, hyper-parameters and rules of the game, one module each.

A preset is a table to read. `get_preset(name)` gives it; training.py plays it.
"""

from dataclasses import dataclass, field
from importlib import import_module

from minigan.errors import ConfigError
from minigan.gan import Rules

MODULES = {"mnist": "mnist", "fredriksson-mnist": "fredriksson"}  # preset -> its module here


@dataclass(frozen=True)
class Preset:
    """One system. The functions give layers; the numbers are defaults that the command line overrides."""

    name: str
    source: str
    image_shape: tuple  # (h, w, c)
    generator: object  # generator(width, z_dim, image_shape) -> list of layers, vectors (z_dim,) -> images in [-1, 1]
    discriminator: object  # discriminator(width, image_shape) -> list of layers, images -> (1,) logit
    width: int  # channels of the widest-resolution feature map; the deeper ones are multiples of it
    z_dim: int = 100
    z: str = "normal"  # or "uniform", on [-1, 1)
    batch_size: int = 128
    epochs: int = 10
    lr_g: float = 2e-4
    lr_d: float = 2e-4
    beta1: float = 0.5
    adam: dict = field(default_factory=dict)  # further arguments of Adam
    rules: Rules = Rules()


def get_preset(name: str) -> Preset:
    """-> Preset. Raises ConfigError with the names that there are."""
    if name not in MODULES:
        raise ConfigError(f"unknown preset {name!r}: choose one of {', '.join(MODULES)}")
    return import_module(f"minigan.presets.{MODULES[name]}").PRESETS[name]
