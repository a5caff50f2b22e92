"""Ctrl-C and its kind: no traceback, at most one line, and the exit code that a shell expects."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from minigan.cli import main, presets_table
from minigan.stop_signals import Stopped, stop_signals, stop_signals_call

ROOT = Path(__file__).parents[1]
SIGNALS = [  # Windows lacks some
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]
needs_posix = pytest.mark.skipif(os.name != "posix", reason="Windows has no such signals")

START = """
import os, signal, sys
class Hook:
    def find_spec(self, name, path=None, target=None):
        if name == "numpy":
            os.kill(os.getpid(), {number})
sys.meta_path.insert(0, Hook())
sys.argv[0] = "/usr/bin/minigan"
from minigan.cli import main
sys.exit(main())
"""


def run_python(*arguments, **options):
    command = [sys.executable, *arguments]
    return subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=60, **options)


@needs_posix
@pytest.mark.parametrize("number", SIGNALS)
def test_a_command_that_starts_ends_at_once(number):
    """Amid its imports, as Ctrl-C in the first instants."""
    done = run_python("-c", START.format(number=int(number)))
    assert (done.returncode, done.stderr) == (128 + number, "")


@needs_posix
def test_a_command_that_starts_above_its_clone_ends_at_once(tmp_path):
    """There Python takes the clone for the program: see its __main__.py."""
    (tmp_path / "minigan").symlink_to(ROOT)
    hook = START.format(number=int(signal.SIGINT)).partition("sys.argv")[0]
    program = f"{hook}sys.argv = ['-m', '--version']\nsys.path.insert(0, '')\nimport runpy\n"
    program += "runpy._run_module_as_main('minigan', True)"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    # -S: where minigan is installed, Python finds it there, and not the clone
    done = run_python("-S", "-c", program, cwd=tmp_path, env=environment)
    assert (done.returncode, done.stderr) == (130, "")


@needs_posix
@pytest.mark.parametrize("number", SIGNALS)
def test_a_command_ends_with_its_exit_code(number, monkeypatch, capsys):
    before = signal.getsignal(number)
    work = lambda arguments, log: os.kill(os.getpid(), number)  # noqa: E731
    monkeypatch.setattr(presets_table, "presets", work)
    assert main(["presets"]) == 128 + number
    assert capsys.readouterr().err.count("\n") <= 1
    assert signal.getsignal(number) is before


def test_a_library_leaves_signals_alone():
    program = """
import signal
before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
import minigan
assert before == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
"""
    assert run_python("-c", program).stderr == ""


@needs_posix
def test_after_nohup_a_closed_terminal_stops_nothing():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert stop_signals() == [signal.SIGINT, signal.SIGTERM]
        with stop_signals_call(lambda number, frame: None):
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_exit_codes_are_those_of_shells():
    assert [Stopped(number).exit_code for number in (1, 2, 15)] == [129, 130, 143]
    assert isinstance(Stopped(2), KeyboardInterrupt)


@pytest.mark.slow
@needs_posix
@pytest.mark.parametrize("arguments", ("presets", "--help", "--version", "presets mnist"))
def test_a_reader_that_is_gone(arguments):
    """minigan presets | head -1"""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = run_python("-m", "minigan", *arguments.split(), stdout=writer)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")
