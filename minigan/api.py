"""minigan from Python, in five lines: what the command line does.

    import minigan as mg

    run = mg.train(preset="mnist", steps=500)     also mg.load("runs/mine")
    images = run.sample(64)                       (64, 28, 28, 1) uint8
    run.history.metrics["loss_g"]                 (500,)
    run = mg.train(resume=run.folder, steps=1000)

In a notebook, samples and histories are displayed, and interrupting a training returns the run.
"""

import builtins
from pathlib import Path
from typing import Any

import numpy as np

from minigan.checks import expect_size
from minigan.cli.output import output_file
from minigan.cli.train import train_and_report
from minigan.data.files.png import grid, to_png
from minigan.data.sets.array_file import keep_arrays
from minigan.errors import ConfigError, RunError, ShapeError
from minigan.report.explorer import save_explorer
from minigan.report.history import History
from minigan.report.plots import draw_losses
from minigan.training import Config, Log, Run, open_game, parse_label
from minigan.training.loop import OnStep
from minigan.training.progress import Interrupted


class Samples(np.ndarray):
    """Images (n, h, w, c) uint8: an array that a notebook shows as a grid."""

    def _repr_png_(self) -> bytes | None:
        try:
            return to_png(grid(np.asarray(self)))
        except ShapeError:  # what the user computed of images: numbers, channels, one pixel
            return None


class ShownHistory(History):
    """The metrics and sample grids of a run; a notebook shows its curves, with matplotlib."""

    def _repr_png_(self) -> bytes | None:
        try:
            return draw_losses(self)
        except (ConfigError, RunError):  # no matplotlib; no steps yet
            return None

    def __repr__(self) -> str:
        try:
            metrics = self.metrics
        except RunError as error:
            return f"History of {self.run.folder}: {error}"
        last = ", ".join(f"{name} {metrics[name][-1]:.3g}" for name in ("loss_d_real", "loss_g"))
        return f"History of {self.run.folder}: {metrics['step'][-1]:,.0f} steps; the last: {last}"


class TrainedRun:
    """A run's folder, as `train` and `load` return it.

    folder   its path
    config   its options
    history  its metrics and sample grids so far: see report/history.py
    """

    def __init__(self, folder: str | Path, log: Log = print):
        self.run, self.log = Run(folder), log
        self.folder: Path = self.run.folder
        self.config: Config = self.run.load_config()[0]

    @property
    def history(self) -> ShownHistory:
        return ShownHistory(self.run, self.log)

    def sample(
        self, n: int = 64, *, label: int | str | None = None, seed: int = 0, best: bool = False
    ) -> Samples:
        """-> images (n, h, w, c) uint8 from G as last saved. Raises RunError, ConfigError.

        label  class of all of them, for conditional runs, as number or name; None: each in turn
        seed   of z: the same images as `minigan sample --seed`
        best   from the best checkpoint of evaluate_every
        """
        n = expect_size("n", n, most=10**9)
        seed = expect_size("seed", seed, least=0, most=2**63)
        game, _ = open_game(self.run, best)
        number = parse_label(game, label)
        return game.sample(n, game.stream("sample", seed=seed), number).view(Samples)

    def explore(self, out: str | Path | None = None) -> Path:
        """Write the page in which G can be explored -> its path (default explorer.html).

        Raises RunError, ConfigError.
        """
        given = None if out is None else str(out)
        path = output_file(given, self.folder / "explorer.html", ".html", name="out")
        self.log(save_explorer(path, open_game(self.run)[0], self.folder.resolve().name))
        return path

    def __fspath__(self) -> str:
        return str(self.folder)

    def __repr__(self) -> str:
        return f"TrainedRun({str(self.folder)!r}): {self.config.preset} on {self.config.dataset}"


def train(
    *,
    images: np.ndarray | str | Path | None = None,
    labels: np.ndarray | None = None,
    on_step: OnStep | None = None,
    data_dir: str | Path | None = None,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    like: str | Path | None = None,
    log: Log = print,
    **options: Any,
) -> TrainedRun:
    """Train from the start, or resume a run -> the run, when it is done.

    options   those of `minigan train` (minigan train --help), with underscores: batch_size=128
    images    (n, h, w) or (n, h, w, 1 or 3), 0 .. 255 or floats in [0, 1] or [-1, 1]: kept in the
              cache folder, so that the run can be resumed; or a path, as for --images
    labels    (n,) of such an array, for a conditional preset or classes=N
    on_step   called as on_step(row, samples) after each step, once its losses are read: row is the
              step's row of metrics.csv as a dict, samples the images (n, h, w, c) uint8 of its
              sample grid, or None. An exception from it ends the training
    data_dir  folder with the data set's files
    out       folder to create for the run (default runs/<time>-<preset>)
    resume    folder of a run to resume
    like      folder of a run whose options are taken over, where none are given here
    log       gets each line for the user
    Raises MiniganError. After Ctrl-C everything is saved; in a notebook the run is returned, and
    elsewhere Interrupted, a KeyboardInterrupt, is raised.
    """
    if labels is not None or not isinstance(images, (str, Path, type(None))):
        images = keep_arrays(images, labels, log)
    if images is not None:
        options["images"] = str(images)
    more: dict[str, Any] = dict(data_dir=data_dir, out=out, on_step=on_step)
    try:
        run = train_and_report(options, resume=resume, like=like, log=log, **more)
        assert run is not None  # as after a dry run
        folder = run.folder
    except Interrupted as stop:
        if not hasattr(builtins, "__IPYTHON__"):
            raise
        folder = stop.folder
    return TrainedRun(folder, log)


def load(folder: str | Path, log: Log = print) -> TrainedRun:
    """-> a run that was trained before. Raises RunError."""
    return TrainedRun(folder, log)
