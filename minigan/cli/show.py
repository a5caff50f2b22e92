"""The commands that show a run: `explore`, `animate`, `plot`, `compare` and `report`."""

from argparse import Namespace
from pathlib import Path

from minigan.cli.output import output_file
from minigan.files import write_atomically
from minigan.report.animation import save_animation
from minigan.report.comparison import draw_comparison
from minigan.report.explorer import save_explorer
from minigan.report.history import History
from minigan.report.page import save_report
from minigan.report.plots import draw_losses
from minigan.training import Log, Run, open_game


def explore(arguments: Namespace, log: Log) -> None:
    """Make the page in which a run's generator can be explored."""
    run = Run(arguments.run)
    game, _ = open_game(run, arguments.best)
    path = output_file(arguments.out, run.folder / "explorer.html", ".html")
    log(save_explorer(path, game, run.folder.resolve().name))


def animate(arguments: Namespace, log: Log) -> None:
    """Animate the sample grids of a run."""
    history = History(Run(arguments.run), log)
    path = output_file(arguments.out, history.run.folder / "progress.gif", ".gif", ".webp")
    log(save_animation(path, history, arguments.seconds))


def plot(arguments: Namespace, log: Log) -> None:
    """Plot the curves of a run."""
    history = History(Run(arguments.run), log)
    path = output_file(arguments.out, history.run.folder / "losses.png", ".png")
    write_atomically(path, draw_losses(history))
    log(f"{path}: curves of {history.metrics['step'][-1]:.0f} steps")


def compare(arguments: Namespace, log: Log) -> None:
    """Compare several runs in one picture."""
    histories = [History(Run(run), log) for run in arguments.runs]
    path = output_file(arguments.out, Path("compare.png"), ".png")
    write_atomically(path, draw_comparison(histories))
    log(f"{path}: {len(histories)} runs")


def report(arguments: Namespace, log: Log) -> None:
    """Make the page of a run."""
    history = History(Run(arguments.run), log)
    path = output_file(arguments.out, history.run.folder / "report.html", ".html")
    log(save_report(path, history))
