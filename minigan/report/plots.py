"""The curves of a run, as a PNG picture.

Each step is drawn faint and a running mean over it: the losses of a GAN are noisy, and
they fall and rise against each other, so that only their balance over many steps says
something. D(x) and D(G(z)) on one axis show it best: at 0.5 D can no longer tell.

matplotlib is an extra. Figures are made without pyplot, whose list of open figures and
choice of window belong to the user's own program.
"""

import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from minigan.errors import ConfigError
from minigan.report.history import History
from minigan.training.config import Config

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito's colours, told apart by colour-blind people too: jfly.uni-koeln.de/color
BLUE, RED, GREEN, ORANGE, PURPLE, SKY = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#e69f00",
    "#cc79a7",
    "#56b4e9",
)
INK, FAINT = "#333333", "#d9d9d9"
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.edgecolor": "#999999",
    "text.parse_math": False,  # a $ in a name is a $
    "agg.path.chunksize": 10_000,  # a long run's line is too much for Agg at once
}
MOST_EPOCHS = 12  # marked one by one


@contextmanager
def drawing() -> Iterator[Callable[[float, float], "Figure"]]:
    """-> function (width, height in inches) -> matplotlib Figure. Raises ConfigError where matplotlib lacks."""
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    except ImportError as error:
        raise ConfigError(f"plots need matplotlib ({error}): pip install matplotlib") from error
    with warnings.catch_warnings(), matplotlib.rc_context(matplotlib.rcParamsDefault | STYLE):
        warnings.simplefilter("ignore")  # a letter that the font lacks, in the name of a folder

        def figure(width: float, height: float) -> Figure:
            made = Figure(
                (width, height), dpi=160, layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.06)
            )
            FigureCanvasAgg(made)
            return made

        yield figure


def png(figure: "Figure") -> bytes:
    """-> the figure as the bytes of a PNG, the same for the same numbers."""
    memory = io.BytesIO()
    figure.savefig(memory, format="png", metadata={"Software": None})
    return memory.getvalue()


def smooth(values: np.ndarray, window: int) -> np.ndarray:
    """values (n,), NaN where there is none -> mean over so many neighbours, fewer at the ends."""
    there = np.isfinite(values)
    sums, counts = (
        np.concatenate([[0], np.cumsum(a)]) for a in (np.where(there, values, 0), there)
    )
    at = np.arange(len(values))
    first, last = np.maximum(at - window // 2, 0), np.minimum(at + window // 2 + 1, len(values))
    total = counts[last] - counts[first]
    return np.where(total > 0, (sums[last] - sums[first]) / np.maximum(total, 1), np.nan)


def window_of(n: int) -> int:
    """Rows -> over how many of them to smooth: a thirtieth of the run, an odd number."""
    return max(1, n // 30) | 1


def title_of(config: Config) -> str:
    """-> what the run was: "Preset mnist, trained on strokes"."""
    return f"Preset {config.preset}, trained on {clean(config.dataset)}"


def clean(text: object, most: int = 60) -> str:
    """-> one line that a plot can show, the middle left out where it is long."""
    line = "".join(letter if letter.isprintable() else " " for letter in str(text))
    return line if len(line) <= most else f"{line[: most // 2]}…{line[-most // 2 :]}"


def draw_losses(history: History) -> bytes:
    """A run's losses, D(x) and D(G(z)), gradient norms and Fréchet distances where there are any -> PNG, 1280 pixels wide.

    Raises RunError where there is nothing to draw, ConfigError where matplotlib lacks.
    """
    columns = history.metrics
    steps, window = columns["step"], window_of(len(columns["step"]))
    norms = {}
    for player, column, color in (("D", "grad_norm_d", BLUE), ("G", "grad_norm_g", RED)):
        if (columns.get(column, np.zeros(1)) > 0).any():
            norms[player] = (
                np.where(columns[column] > 0, columns[column], np.nan),
                color,
            )  # 0 has no logarithm
    distances = columns.get("frechet", np.zeros(1))
    measured = distances > 0
    count = 2 + bool(norms) + bool(measured.any())
    with drawing() as figure:
        from matplotlib.ticker import LogLocator, NullFormatter

        made = figure(8, 1.5 + 1.7 * count)
        made.suptitle(
            title_of(history.record[0]), x=0.01, ha="left", fontsize=12, fontweight="bold"
        )
        axes = made.subplots(count, sharex=True)
        thick = "each step" if window == 1 else f"thin: each step; thick: mean over {window} steps"
        made.supxlabel(f"step   ({thick})", fontsize=9)

        curves(
            axes[0],
            "Losses",
            steps,
            window,
            {
                "D on real": (columns["loss_d_real"], BLUE),
                "D on generated": (columns["loss_d_fake"], GREEN),
                "G": (columns["loss_g"], RED),
            },
        )
        axes[0].set_ylim(
            *limits(
                columns["loss_d_real"], columns["loss_d_fake"], columns["loss_g"], window=window
            )
        )

        curves(
            axes[1],
            "What D thinks",
            steps,
            window,
            {"D(x), real": (columns["d_x"], BLUE), "D(G(z)), generated": (columns["d_gz"], GREEN)},
        )
        axes[1].set_ylim(0, 1)
        axes[1].axhline(0.5, color=INK, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)

        for each in axes[2:]:
            each.set_yscale("log")
            each.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            each.yaxis.set_major_formatter("{x:g}")
            each.yaxis.set_minor_formatter(NullFormatter())
        if norms:
            curves(axes[2], "Gradient norms", steps, window, norms, log=True)
        if measured.any():
            curves(
                axes[-1],
                "LeNet Fréchet distance",
                steps[measured],
                1,
                {"samples": (distances[measured], BLUE)},
                marker=".",
            )
        mark_epochs(axes, steps, columns["epoch"])
        return png(made)


def curves(
    axes: "Axes",
    title: str,
    steps: np.ndarray,
    window: int,
    lines: dict[str, tuple[np.ndarray, str]],
    log: bool = False,
    marker: str = "",
) -> None:
    """Draw lines, name -> (values, colour), each thin and faint with its running mean (on a log scale, of logarithms)."""
    axes.set_title(title)
    for values, color in lines.values() if window > 1 else ():
        axes.plot(steps, values, color=color, linewidth=0.5, alpha=0.3)
    for name, (values, color) in lines.items():
        mean = np.exp(smooth(np.log(values), window)) if log else smooth(values, window)
        axes.plot(
            steps,
            mean,
            color=color,
            linewidth=1.8,
            label=name,
            marker="." if len(steps) == 1 else marker,
        )
    axes.legend(
        loc="lower right",
        bbox_to_anchor=(1, 1),
        ncols=len(lines),
        borderaxespad=0.2,
        handlelength=1.4,
    )
    axes.margins(x=0)
    axes.grid(axis="y", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)


def limits(*lines: np.ndarray, window: int) -> tuple[float, float]:
    """-> ends of an axis that show 0, all running means, and all but the rarest peaks of the steps."""
    shown = [0.0]
    for values in lines:
        there = values[np.isfinite(values)]
        if len(there):
            shown += [*smooth(values, window), *np.percentile(there, (1, 99))]
    low, high = np.nanmin(shown), np.nanmax(shown)
    return 1.08 * low, 1.08 * high or 1.0


def mark_epochs(axes: "Sequence[Axes]", steps: np.ndarray, epochs: np.ndarray) -> None:
    """A line where each epoch begins, with its number, where there are few."""
    numbers, starts = np.unique(epochs, return_index=True)
    if not 2 <= len(numbers) <= MOST_EPOCHS:
        return
    for each in axes:
        for start in starts[1:]:
            each.axvline(steps[start], color=FAINT, linewidth=0.8, zorder=0)
    for number, start in zip(numbers[1:], starts[1:], strict=True):
        axes[-1].annotate(
            f"epoch {number:.0f}" if number == numbers[1] else f"{number:.0f}",
            (steps[start], 0),
            xycoords=("data", "axes fraction"),
            xytext=(3, 2),
            textcoords="offset points",
            fontsize=7,
            color="#777777",
        )
