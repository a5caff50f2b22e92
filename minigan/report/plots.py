"""The curves of a run, as a PNG picture.

The steps are drawn as a thin line, and their running mean as a thick one: the losses of a GAN are
noisy, and one rises as the other falls, so only their balance over many steps means something. D(x)
and D(G(z)) on one axis show it best: with the loss bce, where both are 0.5, D cannot tell real
images from generated ones.

matplotlib is an optional package. Figures are made without pyplot, whose list of open figures and
choice of window belong to the user's program.
"""

import io
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from minigan.checks import ignore_float_errors
from minigan.concurrency import without_warnings
from minigan.data.files.png import mark
from minigan.errors import ConfigError
from minigan.report.history import History, Metrics
from minigan.training import Config

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito's colors, distinct for color-blind readers too: jfly.uni-koeln.de/color
BLUE, RED, GREEN = "#0072b2", "#d55e00", "#009e73"
COLORS = (BLUE, RED, GREEN, "#e69f00", "#cc79a7", "#56b4e9", "#000000", "#8c8c8c")
INK, FAINT = "#333333", "#d9d9d9"
TITLE: dict[str, Any] = dict(x=0.01, ha="left", fontsize=12, fontweight="bold")
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    **dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon"), False),
    "legend.borderaxespad": 0.2,
    "legend.handlelength": 1.4,
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
    "axes.edgecolor": "#999999",
    "text.parse_math": False,  # a $ in a name is a $
    "agg.path.chunksize": 10_000,  # the line of a long run is too much for Agg at once
}
Lines = dict[str, tuple[str, str]]  # label -> column, color
one_at_a_time = threading.RLock()  # matplotlib's style is the whole program's
MOST_EPOCHS = 12  # more are not marked


@contextmanager
def drawing(width: float, height: float) -> Iterator["Figure"]:
    """-> a matplotlib Figure of this size in inches: fill and save it within the `with` block.

    Raises ConfigError without matplotlib.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    except ImportError as error:
        raise ConfigError(f"plots need matplotlib ({error}): pip install matplotlib") from error

    # without the backend: to choose one imports pyplot
    style = {**{k: v for k, v in matplotlib.rcParamsDefault.items() if k != "backend"}, **STYLE}
    # without warnings: a folder's name may have a character that the font lacks
    with one_at_a_time, without_warnings(), matplotlib.rc_context(style):
        layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.06)
        yield Figure((width, height), dpi=160, layout=layout)


def png(figure: "Figure") -> bytes:
    """-> the figure as the bytes of a PNG; equal numbers give equal bytes."""
    memory = io.BytesIO()
    figure.savefig(memory, format="png", metadata={"Software": None}, pil_kwargs={"exif": mark()})
    return memory.getvalue()


def smooth(values: np.ndarray, window: int) -> np.ndarray:
    """values (n,), NaN if missing -> their mean over `window` neighbors, fewer at the ends."""
    there = np.isfinite(values)
    # each sum by itself: a difference of running sums would be wrong after a single huge number
    sums, counts = (
        np.convolve(np.pad(each, window // 2), np.ones(window), "valid")
        for each in (np.where(there, values, 0.0), there)
    )
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def window_of(n: int) -> int:
    """Number of rows -> the window to smooth over: a thirtieth of them, an odd number."""
    return max(1, n // 30) | 1


def title_of(config: Config) -> str:
    """-> "Preset mnist, trained on strokes" """
    return f"Preset {config.preset}, trained on {clean(config.dataset)}"


def clean(text: object, most: int = 60) -> str:
    """-> one line that a plot can show, shortened in the middle if it is long."""
    line = "".join(letter if letter.isprintable() else " " for letter in str(text))
    return line if len(line) <= most else f"{line[: most // 2]}…{line[-most // 2 :]}"


@lru_cache(maxsize=1)  # it is saved, and embedded in the page
@ignore_float_errors
def draw_losses(history: History) -> bytes:
    """Losses, outputs of D and, if they were logged, gradient norms and Fréchet distances.

    -> PNG, 1280 pixels wide. Raises RunError if there is nothing to draw, ConfigError without
    matplotlib.
    """
    metrics = history.metrics_read
    columns, steps = metrics.means, metrics.means["step"]
    window = window_of(len(steps))
    losses = {
        "D on real": ("loss_d_real", BLUE),
        "D on generated": ("loss_d_fake", GREEN),
        "G": ("loss_g", RED),
    }
    outputs = {"D(x), real": ("d_x", BLUE), "D(G(z)), generated": ("d_gz", GREEN)}
    norms = {"D": ("grad_norm_d", BLUE), "G": ("grad_norm_g", RED)}
    nothing = np.zeros(1)  # as of a run that did not log it
    norms = {of: line for of, line in norms.items() if (columns.get(line[0], nothing) > 0).any()}
    measured = columns.get("frechet", nothing) > 0
    count = 2 + bool(norms) + int(measured.any())
    with drawing(8, 1.5 + 1.7 * count) as made:
        from matplotlib.ticker import LogLocator, NullFormatter

        made.suptitle(title_of(history.record[0]), **TITLE)
        steps_shown = window * metrics.merged
        lines = f"thin: each step; thick: mean over {steps_shown} steps"
        made.supxlabel(f"step   ({lines if steps_shown > 1 else 'each step'})", fontsize=9)
        axes = made.subplots(count, sharex=True)
        curves(axes[0], "Losses", metrics, window, losses)
        axes[0].set_ylim(*limits(*(columns[name] for name, _ in losses.values()), window=window))
        curves(axes[1], "Outputs of D", metrics, window, outputs)
        axes[1].set_ylim(0, 1)
        axes[1].axhline(0.5, color=INK, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
        for each in axes[2:]:
            each.set_yscale("log", nonpositive="mask")
            each.yaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), major_formatter="{x:g}")
            each.yaxis.set_minor_formatter(NullFormatter())
        if norms:
            curves(axes[2], "Gradient norms", metrics, window, norms)
        if measured.any():
            there = {name: columns[name][measured] for name in ("step", "frechet")}
            points = {"samples": ("frechet", BLUE)}
            curves(axes[-1], "LeNet Fréchet distance", Metrics(there, {}), 1, points, marker=".")
        mark_epochs(axes, steps, columns["epoch"])
        return png(made)


def curves(
    axes: "Axes", title: str, metrics: Metrics, window: int, lines: Lines, marker: str = ""
) -> None:
    """The steps thin, their running mean thick; on a logarithmic axis the mean of logarithms."""
    log, steps = axes.get_yscale() == "log", metrics.means["step"]
    axes.set_title(title)
    marker = "." if len(steps) == 1 else marker
    for label, (name, color) in lines.items():
        values, (every, thin) = metrics.means[name], metrics.line(name)
        mean = smooth(values, window)
        if log and window > 1:
            mean = np.exp(smooth(np.log(values), window))
        if window > 1:
            axes.plot(every, thin, color=color, linewidth=0.5, alpha=0.3, zorder=1.9)
        axes.plot(steps, mean, color=color, linewidth=1.8, label=label, marker=marker)
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=len(lines))
    tidy(axes)


def tidy(axes: "Axes") -> None:
    """Horizontal grid lines, and curves from edge to edge."""
    axes.margins(x=0)
    axes.grid(axis="y", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)


def limits(*lines: np.ndarray, window: int) -> tuple[float, float]:
    """-> ends of an axis that shows 0, all running means, and all but the rarest peaks."""
    shown = [0.0]
    for values in lines:
        there = values[np.isfinite(values)]
        if len(there):
            shown += [*smooth(values, window), *np.percentile(there, (1, 99))]
    low, high = np.nanmin(shown), np.nanmax(shown)
    return 1.08 * low, 1.08 * high or 1.0


def mark_epochs(axes: "Sequence[Axes]", steps: np.ndarray, epochs: np.ndarray) -> None:
    """A line where each epoch begins, with its number, if there are few epochs."""
    numbers, starts = np.unique(epochs, return_index=True)
    if not 2 <= len(numbers) <= MOST_EPOCHS:
        return
    for number, start in zip(numbers[1:], starts[1:], strict=True):
        for each in axes:
            each.axvline(steps[start], color=FAINT, linewidth=0.8, zorder=0)
        text = f"epoch {number:.0f}" if number == numbers[1] else f"{number:.0f}"
        place: dict[str, Any] = dict(xycoords=("data", "axes fraction"), textcoords="offset points")
        axes[-1].annotate(text, (steps[start], 0), (3, 2), fontsize=7, color="#777777", **place)
