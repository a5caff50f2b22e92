"""Training runs in this process: small nets on a few images of noise, see training/conftest.py."""

import csv
from importlib import import_module

from minigan import training
from minigan.data.files.npz import load_arrays, unpack

SMALL = dict(width=4, batch_size=16, z_dim=8, threads=1, seed=3)
# columns that differ between equal runs: a time, and what is only known at a sample grid
UNEQUAL = ("images_per_s", "sample_spread", "top_class")

# minigan.training.open_game is the function of this name
open_game_module = import_module("minigan.training.open_game")


def train(out, log=None, **options):
    """A run from the start, in the folder `out` -> its lines."""
    lines = []
    training.train({**SMALL, **options}, out=out, log=log or lines.append)
    return lines


def resume(folder, log=None, **options):
    """The same run again, to a later end -> its lines."""
    lines = []
    training.train(options, resume=folder, log=log or lines.append)
    return lines


def metrics(folder):
    """-> rows of metrics.csv, as text."""
    with open(folder / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def comparable(rows):
    """-> rows without the columns that differ between equal runs."""
    return [{name: row[name] for name in row if name not in UNEQUAL} for row in rows]


def names(folder):
    """-> names of the files in it, sorted."""
    return sorted(path.name for path in folder.iterdir())


def content(folder):
    """-> path -> bytes, of every file in it."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def checkpoint(folder, step):
    """-> sections, record of the checkpoint of a step."""
    path = folder / f"checkpoints/step-{step:08d}.npz"
    return unpack(load_arrays(path), path)
