"""Reads a run's metrics and sample grids, skipping damaged entries.

A run may stop at any instant, go on for days, or come from somebody else. So damaged rows and
images are left out and reported. At most a hundred grids, evenly spaced, are read, and reduced if
they are large.
"""

import os
import re
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from minigan.data.files.png import load_png
from minigan.errors import RunError
from minigan.files import os_errors_as_run_errors
from minigan.report.metrics_file import Metrics, read_metrics
from minigan.training import Config, Run

GRID = re.compile(r"step-([0-9]{1,15})\.png")
MOST = 100  # grids in an animation or a page
SIDE = 640  # pixels: larger grids are reduced

Sample = tuple[int, Path, np.ndarray]  # step, file, picture (h, w, c) uint8


class History:
    """History(run, log): each part is read when it is first needed.

    log  called with a line about anything that was damaged and left out
    Every part raises RunError if there is nothing to read.
    """

    def __init__(self, run: Run, log: Callable[[str], object] = print):
        self.run, self.log = run, log

    @cached_property
    def record(self) -> tuple[Config, dict[str, Any]]:
        """-> the options and the metadata in config.json."""
        return self.run.load_config()

    @cached_property
    def metrics_read(self) -> Metrics:
        """-> all that is read of metrics.csv: see metrics_file.py."""
        return read_metrics(self.run.metrics_file, self.log)

    @property
    def metrics(self) -> dict[str, np.ndarray]:
        """metrics.csv -> column -> (rows,) float64, in order of step; NaN if a number is missing.

        Of a long run, each row is the mean of several.
        """
        return self.metrics_read.means

    @cached_property
    def sample_files(self) -> list[tuple[int, Path]]:
        """-> (step, file) of every sample grid, in order of step."""
        folder = self.run.samples
        with os_errors_as_run_errors(f"look into {folder}", "is this the folder of a run?"):
            names = os.listdir(folder)
        found = [(int(match[1]), match[0]) for match in map(GRID.fullmatch, names) if match]
        if not found:
            raise RunError(f"{folder} has no sample grids (step-*.png) yet: wait for the first")
        return [(step, folder / name) for step, name in sorted(found)]

    @cached_property
    def samples(self) -> list[Sample]:
        """-> at most MOST grids, all of one shape: that of the last one."""
        found, left_out = [], []
        for step, path in evenly(self.sample_files, MOST):
            try:
                found.append((step, path, load_png(path, SIDE)))
            except RunError as error:
                left_out.append(str(error))
        if not found:
            raise RunError(f"none of the sample grids in {self.run.samples} can be read")
        shape = found[-1][2].shape
        left_out += [
            f"{path} is {picture.shape}, the last one {shape}"
            for _, path, picture in found
            if picture.shape != shape
        ]
        if left_out:
            more = "; ..." if len(left_out) > 1 else ""
            self.log(f"left out {len(left_out)} of the sample grids: {left_out[0]}{more}")
        return [sample for sample in found if sample[2].shape == shape]

    @cached_property
    def real(self) -> np.ndarray | None:
        """real.png, a grid of real images -> picture (h, w, c) uint8; None if it cannot be read."""
        try:
            return load_png(self.run.real_file, SIDE)
        except RunError as error:
            if os.path.lexists(self.run.real_file):
                self.log(f"left out the real images: {error}")
            return None


def evenly(items: list[Any], most: int) -> list[Any]:
    """-> at most this many (2 or more) of the items, evenly spaced, with the first and the last."""
    if len(items) <= most:
        return items
    return [items[i] for i in np.linspace(0, len(items) - 1, most).round().astype(int)]
