"""Threads side by side, and what happens if the system allows no more of them.

Objects that different threads made can be used side by side: they share nothing but idle threads.
An object that two threads use at once refuses the second: see InUse.
"""

import os
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from minigan.errors import StateError

if TYPE_CHECKING:
    from concurrent.futures import Future


class InUse:
    """`with in_use:` around what one thread at a time may do to an object; the second is refused.

    name  of the object, for the message
    Ctrl-C may interrupt __enter__: the same thread can enter again.
    """

    def __init__(self, name: str):
        self.name, self.lock = name, threading.RLock()

    def __enter__(self) -> None:
        if not self.lock.acquire(blocking=False):
            raise StateError(
                f"{self.name} is in use by another thread: make one for each thread, or take turns"
            )

    def __exit__(self, *exception: object) -> None:
        self.lock.release()

    def __deepcopy__(self, memo: object) -> "InUse":
        return InUse(self.name)


class ProcessWide:
    """A setting of the whole process: the first thread that needs it makes it, the last undoes it.

    ProcessWide(make) for a context manager from make(); `with setting():` in each thread
    """

    def __init__(self, make: Callable[[], AbstractContextManager[object]]):
        self.make, self.lock, self.users = make, threading.Lock(), 0
        self.here = threading.local()  # .users: how often this thread is inside
        if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork either
            os.register_at_fork(after_in_child=self.forget)

    def forget(self) -> None:
        """In a forked child, no other thread exists: undo what only they needed."""
        self.lock = threading.Lock()
        if self.users and not getattr(self.here, "users", 0):
            self.made.__exit__(None, None, None)
        self.users = getattr(self.here, "users", 0)

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self.lock:
            if self.users == 0:
                self.made = self.make()
                self.made.__enter__()
            self.users += 1
            self.here.users = getattr(self.here, "users", 0) + 1
        try:
            yield
        finally:
            with self.lock:
                self.users -= 1
                self.here.users -= 1
                if self.users == 0:
                    self.made.__exit__(None, None, None)


@contextmanager
def ignored_warnings() -> Iterator[None]:
    """No warnings are shown, in any thread."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


without_warnings = ProcessWide(ignored_warnings)


def warn(line: str) -> None:
    """Report one line to the user: on stderr, unless the program has set up `logging`."""
    import logging  # late: `import minigan` stays quick

    logging.getLogger("minigan").warning(line)


def start_threads(work: Sequence[Callable[[], object]], name: str) -> list[threading.Thread]:
    """Run each work() in a thread that ends with the program -> those that the system allows."""
    started: list[threading.Thread] = []
    for i, each in enumerate(work):
        thread = threading.Thread(target=each, name=f"{name}-{i}", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            warn(
                f"minigan: the system allows {i} threads of {len(work)} (ulimit -u?): "
                "the results are the same, and come later"
            )
            break
        started.append(thread)
    return started


def can_start(count: int) -> bool:
    """Can this many more threads, or processes, be started?"""
    end, started = threading.Event(), list[threading.Thread]()
    with suppress(RuntimeError):
        while len(started) < count:
            thread = threading.Thread(target=end.wait, daemon=True)
            thread.start()
            started.append(thread)
    end.set()
    for thread in started:
        thread.join()
    return len(started) == count


class Workers:
    """Workers(count, name): threads that run submitted jobs, each one at a time.

    If the system allows fewer, there are fewer; if it allows none, submit() does the job itself.
    """

    def __init__(self, count: int, name: str):
        self.queue: SimpleQueue[Any] = SimpleQueue()
        self.threads = start_threads([partial(serve, self.queue)] * count, name)

    def submit(self, work: Callable[..., Any], *arguments: Any) -> "Future[Any]":
        """-> the future of work(*arguments)."""
        from concurrent.futures import Future  # late: `import minigan` stays quick

        future: Future[Any] = Future()
        job = (future, work, arguments)
        if self.threads:
            self.queue.put(job)
        else:
            do(*job)
        return future

    def close(self) -> None:
        """End the threads, each after its present job; drop the jobs that nobody has begun."""
        with suppress(Empty):
            while True:
                self.queue.get_nowait()
        for _ in self.threads:
            self.queue.put(None)

    def finish(self) -> None:
        """Wait until all jobs are done and the threads have ended."""
        for _ in self.threads:
            self.queue.put(None)
        for thread in self.threads:
            thread.join()


def serve(queue: SimpleQueue[Any]) -> None:
    """The loop of a worker."""
    while job := queue.get():
        do(*job)
        del job  # keep no arrays alive while waiting


def do(future: "Future[Any]", work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """Do one job."""
    try:
        future.set_result(work(*arguments))
    except BaseException as error:
        future.set_exception(error)
        del future  # or the two keep each other alive, and what the job was given
