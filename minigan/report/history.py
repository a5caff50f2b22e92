"""What a run has told of itself: its numbers and its sample grids, read with care.

A run may be stopped at any instant, go on for days, or come from a stranger. So a row
or a picture that is damaged is left out and spoken of, and of very many grids a
hundred spread evenly over the run stand for all.
"""

import re
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from minigan.data.files.png import load_png
from minigan.errors import RunError
from minigan.training.config import Config
from minigan.training.run_folder import Run

GRID = re.compile(r"step-([0-9]+)\.png")
NEEDED = ("step", "epoch", "loss_d_real", "loss_d_fake", "loss_g", "d_x", "d_gz", "images_per_s")
LARGEST = 1e15  # of any number in them: beyond it a run has blown up, and no axis can show it
MOST = 100  # grids in an animation or a page: more would be larger, and show no more


class History:
    """History(run, say): all of it, each part read when it is first asked for, and spoken of once.

    log  called with a line for whatever was damaged and left out
    Every part raises RunError where there is nothing to read.
    """

    def __init__(self, run: Run, log: Callable[[str], object] = print):
        self.run, self.log = run, log

    @cached_property
    def record(self) -> tuple[Config, dict[str, Any]]:
        """-> what config.json holds: the options, and what was noted beside them."""
        return self.run.load_config()

    @cached_property
    def metrics(self) -> dict[str, np.ndarray]:
        """metrics.csv -> column -> (rows,) float64, in order of step; NaN where a number is none.

        A step that was done twice counts as it was last.
        """
        file = self.run.metrics_file
        try:
            header, *lines = file.read_text("utf-8", errors="replace").splitlines() or [""]
        except (FileNotFoundError, NotADirectoryError) as error:
            raise RunError(
                f"{self.run.folder} has no metrics.csv: is this the folder of a run, and did it begin?"
            ) from error
        except OSError as error:
            raise RunError(f"cannot read {file}: {error.strerror}") from error
        names = header.split(",")
        if missing := [name for name in NEEDED if name not in names]:
            raise RunError(
                f"{file} has no column {missing[0]}: it is damaged, or was not written by minigan"
            )
        rows, damaged = {}, 0
        for line in lines:
            try:
                cells = zip(
                    names, line.split(","), strict=True
                )  # what is measured at sample grids alone is empty elsewhere
                row = {
                    name: float(cell or "nan" if name not in NEEDED else cell)
                    for name, cell in cells
                }
                if not (0 <= row["step"] <= LARGEST and 0 <= row["epoch"] <= LARGEST):
                    raise ValueError
                rows[row["step"]] = row
            except ValueError:  # cut off in the middle, or not a number
                damaged += 1
        if damaged:
            self.log(f"left out {damaged} damaged row{'s' * (damaged > 1)} of {file}")
        if not rows:
            raise RunError(f"{file} has no rows yet: the run has done no step")
        ordered = [rows[step] for step in sorted(rows)]
        columns = {name: np.array([row[name] for row in ordered]) for name in names}
        return {
            name: np.where(np.abs(values) <= LARGEST, values, np.nan)
            for name, values in columns.items()
        }

    @cached_property
    def sample_files(self) -> list[tuple[int, Path]]:
        """-> (step, file) of every sample grid, in order of step."""
        folder = self.run.samples
        try:
            found = [
                (int(match[1]), path)
                for path in folder.iterdir()
                if (match := GRID.fullmatch(path.name))
            ]
        except (FileNotFoundError, NotADirectoryError):
            found = []
        except OSError as error:
            raise RunError(f"cannot look into {folder}: {error.strerror}") from error
        if not found:
            raise RunError(
                f"{folder} holds no sample grids (step-*.png): is this the folder of a run, and did it begin?"
            )
        return sorted(found)

    @cached_property
    def samples(self) -> list[tuple[int, Path, np.ndarray]]:
        """-> (step, file, picture (h, w, c) uint8) of at most MOST grids, all of one shape: the last one's."""
        whole, left_out = [], []
        for step, path in evenly(self.sample_files, MOST):
            try:
                whole.append((step, path, load_png(path)))
            except RunError as error:
                left_out.append(str(error))
        shape = whole[-1][2].shape if whole else None
        left_out += [
            f"{path} is {picture.shape}, the last {shape}"
            for _, path, picture in whole
            if picture.shape != shape
        ]
        if left_out:
            several = len(left_out) > 1
            self.log(
                f"left out {len(left_out)} sample grid{'s' * several}: {left_out[0]}{'; ...' * several}"
            )
        if not whole:
            raise RunError(f"none of the sample grids in {self.run.samples} can be read")
        return [entry for entry in whole if entry[2].shape == shape]

    @cached_property
    def last_sample(self) -> tuple[int, Path, np.ndarray]:
        """-> the last entry of samples, without reading the others."""
        for step, path in reversed(self.sample_files):
            try:
                return step, path, load_png(path)
            except RunError as error:
                self.log(f"left out a sample grid: {error}")
        raise RunError(f"none of the sample grids in {self.run.samples} can be read")

    @cached_property
    def real(self) -> np.ndarray | None:
        """real.png, a grid of real pictures -> picture (h, w, c) uint8; None where it lacks or is damaged."""
        try:
            return load_png(self.run.real_file)
        except RunError as error:
            if self.run.real_file.exists():
                self.log(f"left out the real pictures: {error}")
            return None


def evenly(items: list[Any], most: int) -> list[Any]:
    """-> at most so many (2 or more) of the items, spread evenly, with the first and the last."""
    if len(items) <= most:
        return items
    return [items[i] for i in np.linspace(0, len(items) - 1, most).round().astype(int)]
