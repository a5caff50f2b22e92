"""What a user sees: a bar on a terminal, else a line every few seconds; and signals."""

import os
import signal
import sys
import threading

import pytest

from minigan.training.progress import Interrupted, Progress, interrupts
from tests.support.training_runs import resume, train

ROW = {"epoch": 1, "loss_d_real": 0.25, "loss_d_fake": 0.5, "loss_g": 1, "d_x": 0.6, "d_gz": 0.3}


def test_a_bar_on_a_terminal(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    lines = train(tmp_path / "a", steps=12)
    shown = capsys.readouterr().err
    for part in ("epoch", "12/12", "images/s", "loss D", "G ", "D(x)", "D(G(z))", "<"):
        assert part in shown  # "<": the time left
    assert not any("images/s" in line for line in lines)
    resume(tmp_path / "a", steps=14)
    assert "14/14" in capsys.readouterr().err  # it begins where it stopped


def test_lines_elsewhere(monkeypatch):
    """The first at once, then one every few seconds, and the last step's.

    The time left is as of all the steps that were done here, which were 10, 30 and 40.
    """
    lines, rates, now = [], [], [0.0]
    monkeypatch.setattr("minigan.training.progress.monotonic", lambda: now[0])
    with Progress(100, 140, lines.append) as progress:  # resumed
        for step, seconds in ((110, 150), (120, 4), (130, 50), (140, 2)):
            now[0] += seconds
            rates.append(progress.update({"step": step, **ROW}, images=640, steps=10))
        assert progress.bar is None
    assert rates == [640 / 150, 640 / 4, 640 / 50, 640 / 2]
    shown = [line.split("  ")[1] for line in lines]
    assert shown == ["step 110/140", "step 130/140", "step 140/140"]
    assert "  4 images/s  loss D 0.750 G 1.000  D(x) 0.60 D(G(z)) 0.30  " in lines[0]
    assert [line.split("  ")[-1] for line in lines] == [
        "0:07:30 left",
        "0:01:08 left",
        "0:00:00 left",
    ]


def test_the_time_that_a_run_takes_is_measured_over_its_first_steps(monkeypatch):
    lines, clock = [], iter([0.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0])
    monkeypatch.setattr("minigan.training.progress.monotonic", lambda: next(clock))
    with Progress(100, 6720, lines.append) as progress:  # resumed
        for step in (110, 120, 130):
            progress.update({"step": step, **ROW}, images=100, steps=10)
    estimates = [line for line in lines if "to go" in line]
    assert estimates == ["about 11 min to go on this machine, at this pace"]


def test_the_first_signal_is_caught_and_the_second_ends_the_program():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), interrupts() as caught:
        os.kill(os.getpid(), signal.SIGTERM)
        assert caught == [signal.SIGTERM]
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is before
    assert Interrupted(signal.SIGINT).exit_code == 130


def test_in_another_thread_signals_are_left_alone():
    before, seen = signal.getsignal(signal.SIGINT), []

    def work():
        with interrupts() as caught:
            seen.append((caught, signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [([], before)]
