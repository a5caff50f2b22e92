"""Bars on a terminal, and nothing elsewhere."""

import sys

import numpy as np
import pytest

from minigan.evaluation import neighbors
from minigan.progress_bar import progress_bar


def search(monkeypatch):
    """The nearest of 3 rows to each of 5, with a bar from the first instant on."""

    def bar(delay, **options):
        return progress_bar(**options)

    monkeypatch.setattr(neighbors, "progress_bar", bar)
    monkeypatch.setattr(neighbors, "QUERIES", 2)
    return neighbors.nearest(np.arange(5.0)[:, None], np.arange(3.0)[:, None])[1][:, 0].tolist()


def test_a_search_for_the_nearest_images_shows_how_far_it_is(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert search(monkeypatch) == [0, 1, 2, 2, 2]
    assert "nearest" in capsys.readouterr().err


@pytest.mark.parametrize("closed", (True, False))
def test_without_a_terminal_it_is_silent(closed, monkeypatch, capsys):
    """`2>&-` closes standard error, which is None then."""
    with monkeypatch.context() as patch:
        if closed:
            patch.setattr(sys, "stderr", None)
        assert search(monkeypatch) == [0, 1, 2, 2, 2]
    assert not capsys.readouterr().err
