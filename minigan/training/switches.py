"""The switches of the game: a preset with the changes that a Config asks for.

    --loss --real-target --fake-target   another objective: objective.py
    --optimizer --weight-decay           another optimizer, with defaults for it
    --d-steps                            further updates of D before each round: gan.py
    --upsample                           G grows by Upsample and a convolution: presets/own.py
    --spectral-norm                      D without BatchNorm, its weights divided by their norm
    --r1                                 D pays for its slope, and has no BatchNorm: r1.py
    --classes                            conditional nets: presets/own.py

Everything else of the system, its round above all, stays as published.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import ceil
from typing import Any

from minigan.gan import more_discriminator_steps
from minigan.initializers import he
from minigan.layers import BatchNorm, Conv2d, Linear, SpectralNorm
from minigan.presets import Layers, Preset, get_preset
from minigan.training.config import OPTIMIZERS, Config

WIDEST = 16  # columns of a sample grid
SETTINGS: dict[str, dict[str, Any]] = {"SGD": {"momentum": 0.5}}  # as in presets/jayathilaka.py


def switched_preset(config: Config) -> Preset:
    """-> the preset of a run, as its Config changes it."""
    preset = get_preset(config.preset)
    names = ("loss", "real_target", "fake_target", "r1")
    given = {name: getattr(config, name) for name in names if getattr(config, name) is not None}
    optimizer, settings = preset.optimizer, preset.settings
    if config.optimizer and OPTIMIZERS[config.optimizer] != optimizer:
        optimizer = OPTIMIZERS[config.optimizer]
        settings = SETTINGS.get(optimizer, {})
    if config.weight_decay is not None:
        settings = {**settings, "l2": config.weight_decay}
    changed: dict[str, Any] = dict(optimizer=optimizer, settings=settings)
    changed["objective"] = replace(preset.objective, **given)
    if more := config.d_steps - 1:
        changed["round"] = partial(more_discriminator_steps, steps=more, then=preset.round)
        changed["images_per_round"] = preset.images_per_round + more
        changed["z_per_round"] = (1,) * more + preset.z_per_round
    G: Callable[..., Layers] = preset.generator
    D: Callable[..., Layers] = preset.discriminator
    if config.upsample == "nearest":
        G = partial(G, upsample=True)
    if classes := config.classes:
        G, D = partial(G, classes=classes), partial(D, classes=classes)
        rows, columns = preset.grid
        if classes <= WIDEST:  # each column is of one class
            columns = classes * ceil(columns / classes)
        changed |= dict(classes=classes, grid=(rows, columns))
    if config.spectral_norm or changed["objective"].r1:
        D = partial(without_batchnorm, make_layers=D, spectral_norm=config.spectral_norm)
    changed |= dict(generator=G, discriminator=D)
    return replace(preset, **changed)


def without_batchnorm(
    *arguments: Any, make_layers: Callable[..., Layers], spectral_norm: bool
) -> Layers:
    """-> D's layers without BatchNorm; the others get a bias instead.

    spectral_norm  as in Miyato et al. 2018; without it He's first weights, which keep the scale of
                   activations
    """
    layers: Layers = []
    for layer in make_layers(*arguments):
        if isinstance(layer, (Conv2d, Linear)):
            layer.use_bias = True
            layer.initializer = layer.initializer if spectral_norm else he()
            layers.append(SpectralNorm(layer) if spectral_norm else layer)
        elif not isinstance(layer, BatchNorm):
            layers.append(layer)
    return layers
