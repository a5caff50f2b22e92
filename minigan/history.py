"""What a run has told of itself: its numbers and its sample grids, read with care.

A run may be stopped at any instant, go on for days, or come from a stranger. So a row
or a picture that is damaged is left out and spoken of, and of very many grids a
hundred spread evenly over the run stand for all.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from minigan.errors import RunError
from minigan.images import load_png
from minigan.run import Run

GRID = re.compile(r"step-([0-9]+)\.png")
NEEDED = ("step", "epoch", "loss_d_real", "loss_d_fake", "loss_g", "d_x", "d_gz", "images_per_s")
MOST = 100  # grids in an animation or a page: more would be larger, and show no more


def read_metrics(run: Run, say: Callable[[str], object] = print) -> dict[str, np.ndarray]:
    """metrics.csv -> column -> (rows,) float64, in order of step; a step that was done twice counts as it was last.

    Raises RunError where there is no such file, or no whole row in it.
    """
    try:
        header, *lines = run.metrics_file.read_text("utf-8", errors="replace").splitlines() or [""]
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RunError(f"{run.folder} has no metrics.csv: is this the folder of a run, and did it begin?") from error
    except OSError as error:
        raise RunError(f"cannot read {run.metrics_file}: {error.strerror}") from error
    names = header.split(",")
    if missing := [name for name in NEEDED if name not in names]:
        raise RunError(f"{run.metrics_file} has no column {missing[0]}: it is damaged, or was not written by minigan")
    rows = {}
    for line in lines:
        fields = line.split(",")
        try:
            values = dict(zip(names, map(float, fields), strict=True))
        except ValueError:  # cut off in the middle, or not a number
            continue
        if np.isfinite([values["step"], values["epoch"]]).all():
            rows[values["step"]] = values
    if not rows:
        raise RunError(f"{run.metrics_file} has no rows yet: the run has done no step")
    damaged = sum(1 for line in lines if line) - len(rows)
    if damaged:
        say(f"left out {damaged} of {len(lines)} rows of {run.metrics_file}: damaged, or done again later")
    ordered = [rows[step] for step in sorted(rows)]
    return {name: np.array([row[name] for row in ordered]) for name in names}


def sample_files(run: Run) -> list[tuple[int, Path]]:
    """-> (step, file) of every sample grid, in order of step. Raises RunError where there is none."""
    try:
        found = [(int(match[1]), path) for path in run.samples.iterdir() if (match := GRID.fullmatch(path.name))]
    except (FileNotFoundError, NotADirectoryError):
        found = []
    except OSError as error:
        raise RunError(f"cannot look into {run.samples}: {error.strerror}") from error
    if not found:
        raise RunError(f"{run.samples} holds no sample grids (step-*.png): the run has drawn none yet")
    return sorted(found)


def evenly(items: list[Any], most: int) -> list[Any]:
    """-> at most so many of the items, spread evenly, with the first and the last."""
    if len(items) <= most:
        return items
    return [items[i] for i in np.linspace(0, len(items) - 1, most).round().astype(int)] if most > 1 else items[-1:]


def read_samples(
    run: Run, say: Callable[[str], object] = print, most: int = MOST
) -> list[tuple[int, Path, np.ndarray]]:  # fmt: skip
    """-> (step, file, picture (h, w, c) uint8) of at most so many grids, all of one size and c.

    Grids that cannot be read, or differ in size from the last, are left out and told in one line.
    Raises RunError where none can be read.
    """
    whole, left_out = [], []
    for step, path in evenly(sample_files(run), most):
        try:
            whole.append((step, path, load_png(path)))
        except RunError as error:
            left_out.append(str(error))
    if not whole:
        raise RunError(f"none of the sample grids can be read: {left_out[0]}")
    size = whole[-1][2].shape
    for step, path, picture in whole:
        if picture.shape != size:
            left_out.append(f"{path} is {picture.shape}, the last grid {size}")
    if left_out:
        say(f"left out {len(left_out)} sample grid{'s' * (len(left_out) > 1)}: {'; '.join(left_out[:2])}{'; ...' * (len(left_out) > 2)}")
    return [entry for entry in whole if entry[2].shape == size]


def read_real(run: Run, say: Callable[[str], object] = print) -> np.ndarray | None:
    """real.png, the grid of real pictures beside them -> picture (h, w, c) uint8, or None where it lacks or is damaged."""
    path = run.folder / "real.png"
    try:
        return load_png(path)
    except RunError as error:
        if path.exists():
            say(f"left out the real pictures: {error}")
        return None
