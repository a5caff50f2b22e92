"""Several runs in one picture: their curves and their last samples.

Each run is labeled with the options in which the runs differ, and nothing else.
"""

import textwrap
from dataclasses import asdict

from minigan.checks import ignore_float_errors
from minigan.errors import ConfigError
from minigan.report import plots
from minigan.report.history import History
from minigan.report.plots import COLORS, clean, smooth, title_of, window_of
from minigan.training import Config

# options that do not change the experiment
IGNORED = ("epochs", "steps", "sample_every", "threads", "evaluate_every", "compile")
RUNS = (2, 8)  # that one picture can show


def differences(configs: list[Config]) -> list[str]:
    """-> a label for each: the options that differ, "lr_g 0.002, seed 1"; "" if none does."""
    options = [asdict(config) for config in configs]
    names = [name for name in options[0] if len({repr(each[name]) for each in options}) > 1]

    def label(name: str, value: object) -> str:  # no line breaks at its space
        plain = name in ("preset", "dataset")
        return clean(value, 30) if plain else f"{name}\u00a0{clean(value, 20)}"

    labels = []
    for each in options:
        shown = [name for name in names if name not in IGNORED and each[name] is not None]
        labels.append(", ".join(label(name, each[name]) for name in shown))
    return labels


@ignore_float_errors
def draw_comparison(histories: list[History]) -> bytes:
    """Curves of several runs, and the last sample grid of each -> PNG.

    Raises ConfigError unless there are 2 to 8 runs and matplotlib; RunError.
    """
    if not RUNS[0] <= len(histories) <= RUNS[1]:
        raise ConfigError(f"a comparison shows {RUNS[0]} to {RUNS[1]} runs, got {len(histories)}")
    configs = [history.record[0] for history in histories]
    metrics = [history.metrics for history in histories]
    grids = [history.last for history in histories]
    labels = differences(configs)
    if len(set(labels)) < len(labels):  # the same experiment twice
        names = [clean(history.run.folder.resolve().name, 30) for history in histories]
        pairs = zip(names, labels, strict=True)
        labels = [f"{name}: {label}".removesuffix(": ") for name, label in pairs]

    across = len(histories) if len(histories) <= 4 else -(-len(histories) // 2)
    down = -(-len(histories) // across)
    side = min(10 / across, 3.6)
    heights = (3.4, down * (side + 0.75))
    with plots.drawing(10, sum(heights)) as made:
        above, below = made.subfigures(2, squeeze=False, height_ratios=heights).ravel()
        panels = above.subplots(1, 3)
        for columns, color in zip(metrics, COLORS, strict=False):
            steps, window = columns["step"], window_of(len(columns["step"]))
            loss_d = columns["loss_d_real"] + columns["loss_d_fake"]
            marker = "." if len(steps) == 1 else ""
            for axes, values, style in (
                (panels[0], loss_d, "-"),
                (panels[1], columns["loss_g"], "-"),
                (panels[2], columns["d_x"], "-"),
                (panels[2], columns["d_gz"], "--"),
            ):
                mean = smooth(values, window)
                axes.plot(steps, mean, style, color=color, linewidth=1.5, marker=marker)
        titles = ("Loss of D", "Loss of G", "D(x), and D(G(z)) dashed")
        for axes, title in zip(panels, titles, strict=True):
            axes.set_title(title)
            axes.set_ylim(bottom=min(0, axes.dataLim.y0))
            plots.tidy(axes)
        panels[2].set_ylim(0, 1)
        panels[2].axhline(0.5, color=plots.INK, linewidth=0.8, zorder=1)
        above.supxlabel("step   (each line: mean over a thirtieth of its run)", fontsize=9)
        if len(set(map(title_of, configs))) == 1:
            above.suptitle(title_of(configs[0]), **plots.TITLE)

        cells = below.subplots(down, across, squeeze=False).ravel()
        for axes in cells[len(grids) :]:
            axes.set_axis_off()
        for axes, sample, color, label in zip(cells, grids, COLORS, labels, strict=False):
            step, _, picture = sample
            axes.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="antialiased")
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set(visible=True, color=color, linewidth=3)
            axes.set_title(textwrap.fill(label, int(11.5 * side)), fontsize=9)
            axes.set_xlabel(f"step {step:,}")
        return plots.png(made)
