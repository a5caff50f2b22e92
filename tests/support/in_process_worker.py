"""Stand-ins for a benchmark's contenders: in the process of the tests, or without any net."""

import os
import time

from benchmarks import machine
from benchmarks.interleaved import Absent, BenchmarkError
from benchmarks.worker import ABSENT, call, make, timed


class InProcessWorker:
    """A Worker without a process. Set as benchmarks.interleaved.Worker.

    pace  seconds that a step on a GPU is reported to take, or None
    """

    pace: float | None = None

    def __init__(self, name, target, arguments, threads=None, environment=None, limit=None):
        self.name, self.limit, self.idle = name, limit, 0.0
        self.make(target, arguments)

    def attempt(self, work, *arguments):
        try:
            return work(*arguments)
        except Exception as error:
            kind = Absent if type(error).__name__ in ABSENT else BenchmarkError
            reason = " ".join(str(error).split()) or type(error).__name__
            raise kind(f"{self.name}: {reason}") from error

    def make(self, target, arguments):
        self.contender = self.attempt(make, target, arguments)

    def call(self, method, **arguments):
        if method == "peak_mib":
            return machine.peak_mib()
        found = self.attempt(call, self.contender, method, arguments)
        if method == "time_blocks" and self.pace is not None:
            return {**found, "seconds": [self.pace]}
        return found

    def time(self, method, times):
        answer = self.attempt(timed, getattr(self.contender, method), times, 0.0)
        return answer["seconds"] / times

    def stop(self):
        pass


class Clockwork:
    """A contender on a GPU whose step takes 1 ms, and 0.2 ms to launch. `now` is its clock."""

    def __init__(self, events=True):
        self.now = self.done = 0.0
        self.events, self.played = events, 0

    def launch(self, times):
        for _ in range(times):
            self.now += 0.0002
            self.done = max(self.done, self.now) + 0.001
            self.played += 1

    def wait(self):
        self.now = max(self.now, self.done)

    def mark(self):
        return max(self.now, self.done) if self.events else None

    def between(self, a, b):
        return b - a

    def environment(self, prefix):
        """-> names of the process's variables that begin like this."""
        return [name for name in os.environ if name.startswith(prefix)]

    def hang(self):
        time.sleep(60)

    def vanish(self):
        os._exit(3)
