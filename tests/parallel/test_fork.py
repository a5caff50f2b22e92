"""A fork waits until all other threads of the program wait."""

import hashlib
import os
import threading
from time import sleep

import pytest

from minigan.parallel import fork
from minigan.parallel.fork import fork_when_quiet
from minigan.parallel.shared_memory import can_fork

pytestmark = pytest.mark.skipif(not can_fork(), reason="processes cannot be forked here")


def fork_and_end():
    child = fork_when_quiet()
    if child == 0:
        os._exit(0)
    assert os.waitpid(child, 0) == (child, 0)


def beside(work):
    """Start work() in a thread, again and again until the returned function is called."""
    stop = threading.Event()

    def repeat():
        while not stop.is_set():
            work()

    thread = threading.Thread(target=repeat)
    thread.start()

    def end():
        stop.set()
        thread.join()

    return end


@pytest.mark.parametrize(
    "work",
    (
        lambda: threading.Event().wait(0.01),
        lambda: sum(range(10_000)),  # holds Python's lock
        lambda: hashlib.pbkdf2_hmac("sha256", b"", b"", 20_000),  # 10 ms without it
    ),
    ids=("one that waits", "one in Python", "one in C, now and then"),
)
def test_a_fork_beside_a_thread(work):
    end = beside(work)
    try:
        for _ in range(3):
            fork_and_end()
    finally:
        end()


def test_a_thread_that_never_rests_is_reported(monkeypatch):
    monkeypatch.setattr(fork, "PATIENCE", 0.1)
    started = threading.Event()

    def compute():
        started.set()
        hashlib.pbkdf2_hmac("sha256", b"", b"", 4_000_000)

    computing = threading.Thread(target=compute)
    computing.start()
    started.wait()
    sleep(0.1)  # Python's lock is free meanwhile: the thread is in C at its end
    try:
        with pytest.raises(OSError, match=r"other threads of the program computed for 0.1 s"):
            fork_and_end()
    finally:
        computing.join()
