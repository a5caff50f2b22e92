"""Whole systems by name: nets, hyper-parameters, rules of the game, data. One module a source.

A preset is a table to read: get_preset("shibuya-svhn") gives it, get_preset("shibuya-svhn:T3") one of
its published variants; training.py plays it. Where the published program had a mistake, the preset does
what its author meant, and the module says so.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any

from minigan.errors import ConfigError
from minigan.gan import Rules
from minigan.layers import Layer

ImageShape = tuple[int, int, int]  # (h, w, c)
Layers = list[Layer]
Arguments = dict[str, Any]  # by name, of layers and presets that have them in common

MODULES = {  # preset -> its module here
    "mnist": "own",
    "color32": "own",
    "image64": "own",
    "radford-64": "radford",
    "radford-mnist-conditional": "radford",
    "shibuya-fnn": "shibuya",
    "shibuya-mnist": "shibuya",
    "shibuya-svhn": "shibuya",
    "shibuya-celeba": "shibuya",
    "tensorflow-mnist": "tensorflow",
    "tensorflow-cifar10": "tensorflow",
    "pytorch-64": "pytorch",
    "jindal-mnist64": "jindal",
    "fredriksson-fnn": "fredriksson",
    "fredriksson-mnist": "fredriksson",
    "jayathilaka-faces": "jayathilaka",
}


@dataclass(frozen=True)
class Preset:
    """One system. The functions give layers; the numbers are defaults that the command line overrides."""

    name: str
    source: str
    data: str  # the set that it is for; see data.DATASETS
    image_shape: ImageShape
    generator: Callable[
        [int, int, ImageShape], Layers
    ]  # (width, z_dim, image_shape): vectors (z_dim,) -> images
    discriminator: Callable[[int, ImageShape], Layers]  # (width, image_shape): images -> (1,) logit
    width: int  # channels of the feature map next to the image, or hidden units; the other layers are multiples of it
    z_dim: int = 100
    z: str = "normal"  # or "uniform", on [-1, 1)
    batch_size: int = 128
    epochs: int = 10
    optimizer: str = "Adam"  # a class of optimizers.py, for both players
    lr_g: float = 2e-4
    lr_d: float = 2e-4
    beta1: float | None = 0.5  # Adam's; None with another optimizer
    settings: Arguments = field(default_factory=dict)  # further arguments of the optimizer
    decay: tuple[int, int] | None = (
        None  # (after so many epochs the rates fall, in so many more to 0)
    )
    ema: float = (
        0.0  # decay of the average of G's weights that pictures are drawn from; 0: from G as it is
    )
    rules: Rules = Rules()
    classes: int = 0  # of the labels that G and D are told; 0: none
    black: float = (
        -1.0
    )  # value of a black pixel, white is 1: -1 where G ends in tanh, 0 where in a sigmoid
    shuffle: str = "epoch"  # the images are shuffled every "epoch", "once" or "never"
    drop_last: bool = False  # leave out the smaller last batch of an epoch
    limit: int | None = None  # only so many images of the set
    fit: str = "crop"  # how a picture of another size comes to image_shape; see data/fit.py
    grid: tuple[int, int] = (8, 8)  # rows and columns of a sample grid
    any_size: bool = False  # can it be built for images of another shape?
    counts: dict[str, tuple[int, int]] = field(
        default_factory=dict
    )  # of "G" and "D": parameters trained, and kept besides
    variants: dict[str, Arguments] = field(default_factory=dict)  # name -> the fields that differ


def get_preset(name: str) -> Preset:
    """-> Preset; "name:variant" is one of its variants. Raises ConfigError with the names that there are."""
    base, colon, variant = str(name).partition(":")
    if base not in MODULES:
        raise ConfigError(f"unknown preset {name!r}: choose one of {', '.join(MODULES)}")
    preset: Preset = import_module(f"minigan.presets.{MODULES[base]}").PRESETS[base]
    if not colon:
        return preset
    if variant not in preset.variants:
        there = (
            f"choose one of {', '.join(f'{base}:{v}' for v in preset.variants)}"
            if preset.variants
            else "it has no variants"
        )
        raise ConfigError(f"preset {base} has no variant {variant!r}: {there}")
    return replace(preset, name=name, **preset.variants[variant])
