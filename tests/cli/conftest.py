"""Runs to inspect."""

import shutil

import pytest

from minigan.data.files.npz import load_arrays, save_arrays
from tests.support.inspected_runs import images_of_noise, runs

__all__ = ["images_of_noise", "runs"]


@pytest.fixture
def with_best(runs, tmp_path):
    """-> folder of a run whose best G is another than its last."""
    folder = shutil.copytree(runs["plain"], tmp_path / "with best")
    last = load_arrays(folder / "generator.npz")
    halves = {name: array / 2 for name, array in last.items()}
    save_arrays(folder / "best-generator.npz", halves)
    return folder
