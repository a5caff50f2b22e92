"""Complete systems by name: networks, hyperparameters, training round, data. One module per source.

A preset is a table to read: get_preset("shibuya-svhn") returns one, get_preset("shibuya-svhn:T3")
one of its published variants; training/ runs it. If the published program had a mistake, the preset
does what its author meant, and the module says so.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any

from minigan.checks import did_you_mean
from minigan.errors import ConfigError
from minigan.gan import CROSS_ENTROPY, Result, plain_round
from minigan.layers import Layer
from minigan.objective import Objective

ImageShape = tuple[int, int, int]  # (h, w, c)
Layers = list[Layer]
Arguments = dict[str, Any]  # by name, shared by several layers or presets

MODULES = {  # preset -> its module here
    "mnist": "own", "color32": "own", "image64": "own",
    "radford-64": "radford", "radford-mnist-conditional": "radford",
    "shibuya-fnn": "shibuya", "shibuya-mnist": "shibuya", "shibuya-svhn": "shibuya",
    "shibuya-celeba": "shibuya",
    "tensorflow-mnist": "tensorflow", "tensorflow-cifar10": "tensorflow",
    "pytorch-64": "pytorch", "jindal-mnist64": "jindal",
    "fredriksson-fnn": "fredriksson", "fredriksson-mnist": "fredriksson",
    "jayathilaka-faces": "jayathilaka",
}  # fmt: skip


@dataclass(frozen=True)
class Preset:
    """One system: functions that return layers, and defaults that the command line overrides."""

    name: str
    source: str
    data: str  # the set it is meant for; see data.DATASETS
    image_shape: ImageShape
    generator: Callable[[int, int, ImageShape], Layers]  # (width, z_dim, image_shape)
    discriminator: Callable[[int, ImageShape], Layers]  # (width, image_shape); gives one logit
    width: int  # channels next to the image, or hidden units; other layers are multiples of it
    z_dim: int = 100
    z: str = "normal"  # or "uniform", on [-1, 1)
    batch_size: int = 128
    epochs: int = 10
    optimizer: str = "Adam"  # a class of optimizers.py, for both players
    lr_g: float = 2e-4
    lr_d: float = 2e-4
    beta1: float | None = 0.5  # Adam's; None with another optimizer
    settings: Arguments = field(default_factory=dict)  # further arguments of the optimizer
    decay: tuple[int, int] | None = None  # epochs (start, length) in which rates fall to 0
    lr_decay: int = 0  # τ steps: rates are divided by √(1 + step/τ); 0: they are not
    ema: float = 0.0  # decay of the average of G's weights that images are drawn from; 0: none
    upsample: str = "transposed"  # or "nearest": how G grows, if any_size; see training/switches.py
    objective: Objective = CROSS_ENTROPY  # the loss, and D's targets
    round: Callable[..., Result] = plain_round  # (players, **round_options)
    round_options: Arguments = field(default_factory=dict)
    images_per_round: int = 1  # real batches that a round draws
    z_per_round: tuple[int, ...] = (1,)  # sizes of the z that it draws, in batches
    simultaneous: bool = False  # do both players move at once?
    classes: int = 0  # of the labels that G and D receive; 0: none
    pixel_min: float = -1.0  # value of black; white is 1. -1 if G ends in tanh, 0 in a sigmoid
    shuffle: str = "epoch"  # shuffle the images every "epoch", "once" or "never"
    drop_last: bool = False  # leave out the smaller last batch of an epoch
    limit: int | None = None  # only this many images of the set
    fit: str = "crop"  # how a picture becomes image_shape; see data/prepare/resize.py
    grid: tuple[int, int] = (8, 8)  # rows and columns of a sample grid
    any_size: bool = False  # can it be built for images of another shape?
    variants: dict[str, Arguments] = field(default_factory=dict)  # name -> the fields that differ


def get_preset(name: str) -> Preset:
    """-> Preset; "name:variant" is one of its variants. Raises ConfigError."""
    base, colon, variant = str(name).partition(":")
    if base not in MODULES:
        hint = did_you_mean(base, MODULES) or f": choose one of {', '.join(MODULES)}"
        raise ConfigError(f"unknown preset {name!r}{hint}")
    preset: Preset = import_module(f"minigan.presets.{MODULES[base]}").PRESETS[base]
    if not colon:
        return preset
    if variant not in preset.variants:
        names = ", ".join(f"{base}:{name}" for name in preset.variants)
        hint = f"choose one of {names}" if names else "it has no variants"
        raise ConfigError(f"preset {base} has no variant {variant!r}: {hint}")
    return replace(preset, name=name, **preset.variants[variant])
