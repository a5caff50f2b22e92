"""metrics.csv of any length: in little memory, with its means and its extremes."""

import numpy as np
import pytest

from minigan.cli import show
from minigan.report import history as history_module
from minigan.report.history import History, merge, read_metrics
from minigan.report.page import facts
from minigan.report.plots import draw_losses
from tests.support.commands import run
from tests.support.made_run import COLUMNS, make_run
from tests.support.memory import peak_of


@pytest.fixture
def few_rows(monkeypatch):
    """Ten rows are kept."""
    monkeypatch.setattr(history_module, "MOST_ROWS", 10)
    monkeypatch.setattr(history_module, "BLOCK", 16)


def write(path, losses):
    """A metrics.csv with these losses of G."""
    rows = (f"{i},{1 + i // 50},1,2,{loss},.5,.25,100" for i, loss in enumerate(losses, 1))
    path.write_text("\n".join([COLUMNS, *rows]) + "\n")


def test_merged_rows_keep_means_and_peaks(tmp_path, few_rows):
    losses = np.random.default_rng(0).uniform(1, 2, 95)
    losses[33], losses[60] = 99, -99
    write(tmp_path / "a.csv", losses)
    found, lines = read_metrics(tmp_path / "a.csv", print), losses.reshape(-1)
    assert found.merged == 10 and len(found.means["step"]) == 10
    groups = [lines[i : i + 10] for i in range(0, 95, 10)]
    np.testing.assert_allclose(found.means["loss_g"], [group.mean() for group in groups])
    low, high = found.extremes["loss_g"]
    assert low.tolist() == [group.min() for group in groups] and low.min() == -99
    assert high.tolist() == [group.max() for group in groups] and high.max() == 99
    assert found.means["step"].tolist() == [*range(10, 100, 10), 95]
    assert found.means["epoch"].tolist() == [1, 1, 1, 1, 2, 2, 2, 2, 2, 2]
    steps, line = found.line("loss_g")
    assert len(steps) == 20 and line.max() == 99 and line.min() == -99


def test_few_rows_stay_as_they_are(tmp_path):
    losses = np.random.default_rng(0).uniform(1, 2, 95)
    write(tmp_path / "a.csv", losses)
    found = read_metrics(tmp_path / "a.csv", print)
    assert found.merged == 1
    for numbers in (found.means["loss_g"], *found.extremes["loss_g"], found.line("loss_g")[1]):
        assert numbers.tolist() == losses.tolist()


def test_a_mean_is_of_the_numbers_that_are_there():
    rows = np.array(
        [[1, 1, 3, np.nan], [2, 1, np.nan, np.nan], [3, 1, 1e300, np.nan], [4, 2, 5, 8]]
    )
    means, low, high = merge(rows, 2)
    np.testing.assert_array_equal(means, [[2, 1, 3, np.nan], [4, 2, 5, 8]])
    np.testing.assert_array_equal(low[:, 2:], [[3, np.nan], [5, 8]])
    np.testing.assert_array_equal(high[:, 2:], [[3, np.nan], [5, 8]])


def test_the_page_counts_all_steps(tmp_path, few_rows):
    history = History(make_run(tmp_path / "a", steps=95))
    assert "<dt>training time</dt><dd>0:01:40</dd>" in facts(history, 1000)  # of 100 images/s each
    assert "<dt>steps</dt><dd>95</dd>" in facts(history, 1000)


def test_the_curves_are_of_the_steps_that_were_logged(tmp_path, few_rows, capsys, monkeypatch):
    monkeypatch.setattr(show, "draw_losses", lambda history: b"")
    assert run("plot", make_run(tmp_path / "a", steps=95).folder) == 0
    assert capsys.readouterr().out.endswith("curves of 95 steps\n")


@pytest.mark.slow
def test_merged_rows_are_drawn(tmp_path, few_rows):
    history = History(make_run(tmp_path / "a", steps=95, norms=True))
    assert draw_losses(history)[:4] == b"\x89PNG"


def test_a_long_file_takes_little_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(history_module, "MOST_ROWS", 1000)
    monkeypatch.setattr(history_module, "BLOCK", 1000)
    path = tmp_path / "long.csv"
    write(path, np.ones(10_000))  # 640,000 bytes as an array, and far more as Python's numbers
    assert peak_of(lambda: read_metrics(path, print)) < 2**21
    path = tmp_path / "wide.csv"
    path.write_bytes(COLUMNS.encode() + b"\n" + b"1," * 3 * 10**6 + b"\n1,1,1,1,1,1,1,1\n")
    assert peak_of(lambda: read_metrics(path, lambda line: None)) < 4 * 2**20
