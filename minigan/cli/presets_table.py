"""The command `presets`: a table of all presets, or one in detail with its layers."""

from argparse import Namespace
from collections.abc import Iterator
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np

from minigan import optimizers
from minigan.cli.costs import step_bytes, step_flops
from minigan.data import Dataset
from minigan.layers import Sequential
from minigan.presets import MODULES, Preset, get_preset
from minigan.training import Game, Log, new_config
from minigan.training.loop import make_batches
from minigan.training.outline import outline

HEADINGS = ("preset", "source", "data", "image", "G", "D", "GFLOP/step", "memory")
LEFT = 3  # columns that are left-aligned


def presets(arguments: Namespace, log: Log) -> None:
    """List all presets, or show the named one."""
    for line in details(arguments.name) if arguments.name else table():
        log(line)


def table() -> Iterator[str]:
    """-> yields lines: a row for each preset, and its variants below it."""
    found = [get_preset(name) for name in MODULES]
    rows = [HEADINGS, *map(row, found)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for preset, cells in zip([None, *found], rows, strict=True):
        pairs = list(zip(cells, widths, strict=True))
        left = [f"{cell:<{width}}" for cell, width in pairs[:LEFT]]
        yield "  ".join(left + [f"{cell:>{width}}" for cell, width in pairs[LEFT:]])
        if preset and preset.variants:
            names = ", ".join(f"{preset.name}:{variant}" for variant in preset.variants)
            yield f"{'':<{widths[0]}}  variants: {names}"
    yield "G, D: parameters and running statistics. Memory: the minimum for one batch."
    yield "One preset in detail, with its layers and the time of a step: minigan presets NAME"


def row(preset: Preset) -> tuple[str, ...]:
    """-> the cells of a preset, as in HEADINGS."""
    G, D = outline(new_config({"preset": preset.name}))
    image = "x".join(map(str, preset.image_shape))
    counts = [f"{sum(net.count()):,}" for net in (G, D)]
    return (preset.name, preset.source, preset.data, image, *counts, *costs(preset, G, D))


def costs(preset: Preset, G: Sequential, D: Sequential) -> tuple[str, str]:
    """-> GFLOP of a step, the least MiB that it needs."""
    play_round = partial(preset.round, **preset.round_options)
    moments = len(getattr(optimizers, preset.optimizer).moments)
    flops = step_flops(G, D, preset.batch_size, play_round, preset.objective)
    return f"{flops * 1e-9:.1f}", f"{step_bytes(G, D, preset.batch_size, moments) / 2**20:,.0f} MiB"


def details(name: str) -> Iterator[str]:
    """-> yields lines: what a preset is, its layers, and how long a step takes here.

    Raises ConfigError for an unknown name.
    """
    preset = get_preset(name)
    G, D = outline(new_config({"preset": name}))
    flops, memory = costs(preset, G, D)
    orders = {"epoch": "shuffled every epoch", "once": "shuffled once", "never": "never shuffled"}
    shuffled = orders[preset.shuffle]
    settings = {"lr of G": preset.lr_g, "lr of D": preset.lr_d, "beta1": preset.beta1}
    settings["lr decay"] = preset.lr_decay or None
    round_doc = (preset.round.__doc__ or "").partition("\n")[0]
    facts = {
        "data": f"{preset.data}, {'x'.join(map(str, preset.image_shape))}, fit {preset.fit}",
        "limit": f"{preset.limit:,} images" if preset.limit else "",
        "training": f"{preset.epochs} epochs, batches of {preset.batch_size}, {shuffled}",
        "optimizer": f"{preset.optimizer}, {listed_options(settings | preset.settings)}",
        "z": f"{preset.z_dim}, {preset.z}",
        "round": f"{preset.round.__name__}: {round_doc}",
        "loss": listed_options({**vars(preset.objective), "r1": preset.objective.r1 or None}),
        "options": listed_options(preset.round_options),
        "costs": f"{flops} GFLOP a step, at least {memory}",
    }
    module = MODULES[name.partition(":")[0]]
    yield f"{preset.name}: {preset.source} (minigan/presets/{module}.py)"
    yield from (f"{title:<10} {text}" for title, text in facts.items() if text)
    yield f"\n{G.summary()}\n\n{D.summary()}\n"
    yield f"A step takes {measure_step(preset):.2f} s on this machine: the second of two, on noise."


def listed_options(options: dict[str, Any]) -> str:
    """-> "eps 1e-08, eps_hat True", without those that are None."""
    return ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in options.items()
        if value is not None
    )


def measure_step(preset: Preset) -> float:
    """-> seconds of a training step on noise, after one that warms up."""
    game = Game(new_config({"preset": preset.name}))
    count, classes = preset.batch_size * preset.images_per_round, preset.classes
    images = np.random.default_rng(0).integers(0, 256, (count, *preset.image_shape), np.uint8)
    labels = np.arange(count) % classes if classes else None
    batches = make_batches(game, Dataset("noise", images, labels, (), "", None))
    game.read(game.round(batches))
    start = perf_counter()
    game.read(game.round(batches))
    return perf_counter() - start
