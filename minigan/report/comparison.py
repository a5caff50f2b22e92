"""Several runs in one picture: what became of the losses, and of the pictures, with another option or seed.

Each run is named by the options that are not the same in all, and by nothing else.
"""

import textwrap
from dataclasses import asdict
from typing import Any

from minigan.errors import ConfigError
from minigan.report.history import History
from minigan.report.plots import (
    BLUE,
    FAINT,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    clean,
    drawing,
    png,
    smooth,
    title_of,
    window_of,
)
from minigan.training.config import Config

COLORS = (BLUE, RED, GREEN, ORANGE, PURPLE, SKY, "#000000", "#8c8c8c")
APART = (
    "epochs",
    "steps",
    "sample_every",
    "threads",
    "evaluate_every",
)  # options that do not make another experiment
RUNS = (2, 8)  # that can be told apart in one picture


def differences(configs: list[Config]) -> list[str]:
    """-> a label for each: the options that are not the same in all, "lr_g 0.002, seed 1"; "" where nothing differs."""
    options = [asdict(config) for config in configs]
    names = [
        name
        for name in options[0]
        if name not in APART and len({repr(each[name]) for each in options}) > 1
    ]

    def log(name: str, value: object) -> str:  # kept together where the label is broken into lines
        return (
            clean(value, 30) if name in ("preset", "dataset") else f"{name}\u00a0{clean(value, 20)}"
        )

    return [
        ", ".join(log(name, each[name]) for name in names if each[name] is not None)
        for each in options
    ]


def draw_comparison(histories: list[History]) -> bytes:
    """Curves of several runs, and the last sample grid of each, named by the options in which they differ -> PNG.

    Raises ConfigError for another number of runs than 2 to 8, or where matplotlib lacks; RunError.
    """
    if not RUNS[0] <= len(histories) <= RUNS[1]:
        raise ConfigError(f"a comparison shows {RUNS[0]} to {RUNS[1]} runs, got {len(histories)}")
    configs = [history.record[0] for history in histories]
    metrics = [history.metrics for history in histories]
    grids = [history.last_sample for history in histories]
    labels = differences(configs)
    if len(set(labels)) < len(labels):  # the same experiment twice
        names = [clean(history.run.folder.resolve().name, 30) for history in histories]
        labels = [
            f"{name}: {label}".removesuffix(": ") for name, label in zip(names, labels, strict=True)
        ]

    across = len(histories) if len(histories) <= 4 else -(-len(histories) // 2)
    down = -(-len(histories) // across)
    side = min(10 / across, 3.6)
    with drawing() as figure:
        made = figure(10, 3.4 + down * (side + 0.75))
        above, below = made.subfigures(
            2, squeeze=False, height_ratios=(3.4, down * (side + 0.75))
        ).ravel()
        panels = above.subplots(1, 3)
        for columns, color in zip(metrics, COLORS, strict=False):
            steps, window = columns["step"], window_of(len(columns["step"]))
            line: dict[str, Any] = dict(
                color=color, linewidth=1.5, marker="." if len(steps) == 1 else ""
            )
            panels[0].plot(
                steps, smooth(columns["loss_d_real"] + columns["loss_d_fake"], window), **line
            )
            panels[1].plot(steps, smooth(columns["loss_g"], window), **line)
            panels[2].plot(steps, smooth(columns["d_x"], window), **line)
            panels[2].plot(steps, smooth(columns["d_gz"], window), **line | {"linestyle": "--"})
        for axes, title in zip(
            panels, ("Loss of D", "Loss of G", "D(x), and D(G(z)) dashed"), strict=True
        ):
            axes.set_title(title)
            axes.set_ylim(bottom=min(0, axes.dataLim.y0))
            axes.margins(x=0)
            axes.grid(axis="y", color=FAINT, linewidth=0.6)
        panels[2].set_ylim(0, 1)
        panels[2].axhline(0.5, color=INK, linewidth=0.8, zorder=1)
        above.supxlabel("step   (each line: mean over a thirtieth of its run)", fontsize=9)
        if len({title_of(config) for config in configs}) == 1:
            above.suptitle(title_of(configs[0]), x=0.01, ha="left", fontsize=12, fontweight="bold")

        cells = below.subplots(down, across, squeeze=False).ravel()
        for axes in cells:
            axes.set_axis_off()
        for axes, (step, _, picture), color, label in zip(
            cells, grids, COLORS, labels, strict=False
        ):
            axes.set_axis_on()
            axes.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="antialiased")
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set(visible=True, color=color, linewidth=3)
            axes.set_title(textwrap.fill(label, int(11.5 * side)), fontsize=9)
            axes.set_xlabel(f"step {step:,}")
        return png(made)
