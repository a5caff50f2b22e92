"""Few pictures: what a run then changes by itself, with a line for each change."""

from dataclasses import replace
from math import ceil
from typing import Any

from minigan.data import Batches
from minigan.data.files.messages import counted
from minigan.training.config import END, Config

FEW = 1000  # pictures: fewer are mirrored, too
LEAST = 3000  # steps in which a net has learned to draw something


def fit_to_few(
    config: Config, options: dict[str, Any], batches: Batches, per_round: int
) -> tuple[Config, list[str]]:
    """-> the config for few pictures, and a line for each change; only a folder's run is longer.

    options    what the user gave, which stays
    per_round  batches that a step takes
    Mirrored pictures of a class may show another one, so a conditional net gets none.
    """
    count, lines = len(batches.images), list[str]()
    if count < config.batch_size:
        lines.append(
            f"{counted(count, 'picture')} cannot fill a batch of {config.batch_size}: it repeats "
            "them, and G may learn to draw just these: give it some hundreds if you can"
        )
    is_folder = config.dataset == "folder"
    if is_folder and count < FEW and "flip" not in options and batches.labels is None:
        config = replace(config, flip=True)
        lines.append(f"only {counted(count, 'picture')}: mirrored ones are added, unless --no-flip")
    if is_folder:
        lines.append("expect blurs first, shapes after some thousand steps: docs/own-pictures.md")
    steps = ceil((config.epochs or 0) * batches.per_epoch / per_round)
    if is_folder and not any(name in options for name in END) and steps < LEAST:
        lines.append(
            f"{config.epochs} epochs are only {steps:,} steps: --steps is {LEAST:,} instead"
        )
        config = replace(config, epochs=None, steps=LEAST)
    return config, lines
