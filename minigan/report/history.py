"""Reads a run's metrics and sample grids, skipping damaged entries.

A run may stop at any instant, go on for days, or come from somebody else. So damaged rows and
images are left out and reported. At most a hundred grids, evenly spaced, are read, and reduced if
they are large. metrics.csv may be larger than the memory: of a long run, several rows become one,
their mean, and their extremes, which a plot shows too.
"""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minigan.data.files.png import load_png
from minigan.errors import RunError
from minigan.files import as_run_errors, open_regular
from minigan.training import Config, Log, Run
from minigan.training.run_folder import COLUMNS, LONGEST

GRID = re.compile(r"step-([0-9]{1,15})\.png")
MOST = 100  # grids in an animation or a page
SIDE = 640  # pixels: larger grids are reduced

NEEDED = ("step", "epoch", "loss_d_real", "loss_d_fake", "loss_g", "d_x", "d_gz", "images_per_s")
LARGEST = 1e15  # a larger number is treated as missing: no axis can show it
MOST_ROWS = 30_000  # more than a picture can show
BLOCK = 2**14  # rows that are parsed before they are merged

Sample = tuple[int, Path, np.ndarray]  # step, file, picture (h, w, c) uint8


class Metrics(NamedTuple):
    """The rows of metrics.csv, in order of step; NaN if a number is missing."""

    means: dict[str, np.ndarray]  # column -> (rows,) float64; of step and epoch: the last
    extremes: dict[str, np.ndarray]  # column -> (2, rows): the least, the largest
    merged: int = 1  # rows of the file that became one

    def line(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """-> steps, numbers: of every row, or the extremes of merged ones."""
        if self.merged == 1:
            return self.means["step"], self.means[name]
        return np.repeat(self.means["step"], 2), self.extremes[name].T.ravel()


def read_metrics(path: Path, log: Log) -> Metrics:
    """metrics.csv -> Metrics, of at most MOST_ROWS. If a step was repeated, its last row counts.

    log  gets a line about damaged rows, which are left out
    Raises RunError if there is nothing to read.
    """
    with as_run_errors(f"read {path}", "is this the folder of a run?"), open_regular(path) as file:
        names = file.readline(LONGEST).decode("utf-8", "replace").strip().split(",")
        if missing := [name for name in NEEDED if name not in names]:
            raise RunError(f"{path} has no column {missing[0]}: it is damaged, or not of minigan")
        start, count = file.tell(), 1  # the last row may have no end
        for content in iter(partial(file.read, 2**20), b""):
            count += content.count(b"\n")
        file.seek(start)
        merged, damaged = -(-count // MOST_ROWS), [0]
        columns = {name: names.index(name) for name in COLUMNS if name in names}
        lines = iter(partial(file.readline, LONGEST), b"")
        rows, blocks = good_rows(lines, len(names), list(columns.values()), damaged), []
        while block := list(islice(rows, -(-BLOCK // merged) * merged)):
            blocks.append(merge(np.array(block), merged))
    if damaged[0]:
        log(f"left out {damaged[0]} damaged row{'s' * (damaged[0] > 1)} of {path}")
    if not blocks:
        raise RunError(f"{path} has no rows yet: wait until the run has made some steps")
    table = np.concatenate(blocks, axis=1)  # (3, rows, columns)
    order = np.argsort(table[0, :, 0], kind="stable")
    table = table[:, order[np.append(np.diff(table[0, order, 0]) > 0, True)]]
    means = {name: table[0, :, i] for i, name in enumerate(columns)}
    extremes = {name: table[1:, :, i] for i, name in enumerate(columns)}
    return Metrics(means, extremes, merged)


def good_rows(
    lines: Iterable[bytes], length: int, columns: list[int], damaged: list[int]
) -> Iterator[list[float]]:
    """-> yields the numbers in some columns of each row, step and epoch first; counts the damaged.

    length  number of cells in a row
    """
    for line in lines:
        try:
            cells = line.rstrip(b"\r\n").split(b",")
            row = [float(cells[i] or b"nan") for i in columns]
            if len(cells) != length or not (0 <= row[0] <= LARGEST and 0 <= row[1] <= LARGEST):
                raise ValueError
        except (ValueError, IndexError):  # cut off in the middle, or not a number
            damaged[0] += 1
        else:
            yield row


def merge(rows: np.ndarray, merged: int) -> np.ndarray:
    """rows (n, columns) -> means, least, largest (3, groups, columns) of groups of `merged` rows.

    The mean of the columns 0 and 1, step and epoch, is the last number.
    """
    rows[np.abs(rows) > LARGEST] = np.nan
    starts, there = np.arange(0, len(rows), merged), np.isfinite(rows)
    counts = np.add.reduceat(there.astype(float), starts)
    means = np.add.reduceat(np.where(there, rows, 0), starts) / np.where(counts, counts, np.nan)
    means[:, :2] = rows[np.append(starts[1:], len(rows)) - 1, :2]
    return np.stack([means, np.fmin.reduceat(rows, starts), np.fmax.reduceat(rows, starts)])


class History:
    """History(run, log): each part is read when it is first needed.

    log  called with a line about anything that was damaged and left out
    Every part raises RunError if there is nothing to read.
    """

    def __init__(self, run: Run, log: Log = print):
        self.run, self.log = run, log

    @cached_property
    def record(self) -> tuple[Config, dict[str, Any]]:
        """-> the options and the metadata in config.json."""
        return self.run.load_config()

    @cached_property
    def metrics_read(self) -> Metrics:
        """-> all that is read of metrics.csv."""
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
        with as_run_errors(f"look into {folder}", "is this the folder of a run?"):
            names = os.listdir(folder)
        found = [(int(match[1]), match[0]) for match in map(GRID.fullmatch, names) if match]
        if not found:
            raise RunError(f"{folder} has no sample grids (step-*.png) yet: wait for the first")
        return [(step, folder / name) for step, name in sorted(found)]

    @cached_property
    def last(self) -> Sample:
        """-> the last grid that can be read."""
        for step, path in reversed(self.sample_files):
            with suppress(RunError):
                return step, path, load_png(path, SIDE)
        raise RunError(f"none of the sample grids in {self.run.samples} can be read")

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
