"""Signals that stop a program: Ctrl-C, a request to end, a terminal that is closed.

While a command starts, there is nothing to save or to delete, so it ends at once, silently.
Later a signal raises an exception, and training finishes its step first.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn


class Stopped(KeyboardInterrupt):
    """A stop signal came. exit_code: 129, 130 or 143, as shells expect."""

    def __init__(self, number: int):
        super().__init__(number)
        self.exit_code = 128 + number


def stop_signals() -> list[int]:
    """-> their numbers; after `nohup` a terminal that is closed stops nothing."""
    numbers: list[int] = [signal.SIGINT, signal.SIGTERM]
    hangup = getattr(signal, "SIGHUP", None)  # Windows has none
    if hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN:
        numbers.append(hangup)
    if hasattr(signal, "SIGUSR1") and "OMPI_COMM_WORLD_SIZE" in os.environ:
        numbers.append(signal.SIGUSR1)  # Open MPI hands it on, and soon kills after the others
    return numbers


@contextmanager
def stop_signals_call(handler: Callable[[int, object], object]) -> Iterator[None]:
    """Inside, stop signals call the handler. Outside the main thread nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in stop_signals()}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, signal.SIG_DFL if old is None else old)


def raise_stopped(number: int, frame: object) -> NoReturn:
    """A handler. Raises KeyboardInterrupt after Ctrl-C, Stopped after other signals."""
    raise KeyboardInterrupt if number == signal.SIGINT else Stopped(number)


def end_at_once(number: int, frame: object) -> NoReturn:
    """A handler. An exception might be raised, and lost, within the import system."""
    os._exit(128 + number)


def is_command() -> bool:
    """Is the program `minigan` or `python -m minigan`?"""
    name = os.path.basename(sys.argv[0]) if getattr(sys, "argv", None) else ""
    return name in ("minigan", "minigan.exe") or (name == "-m" and "minigan" in sys.orig_argv)


if is_command():
    for number in stop_signals():
        signal.signal(number, end_at_once)
