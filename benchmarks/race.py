"""Contenders side by side: processes that stay alive and take turns, never two at once.

A round gives every contender one turn of about a second, then the next round begins: what
else the machine does falls on all alike. A figure is a ratio, round by round.
"""

import json
import subprocess
import sys
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from threading import Timer
from time import perf_counter, sleep

from benchmarks import machine
from minigan.errors import MiniganError

ROOT = Path(__file__).resolve().parents[1]
REST = 0.25  # seconds before a turn: thread pools of the last one have gone to sleep by then
IDLE = 0.25  # seconds of processor that a contender may use after its turn, without being named
QUIET = dict(
    TF_CPP_MIN_LOG_LEVEL="3",
    TF_ENABLE_ONEDNN_OPTS="1",
    KERAS_BACKEND="tensorflow",
    PYTHONWARNINGS="ignore",
    PYTHONDONTWRITEBYTECODE="1",
)


class BenchmarkError(MiniganError):
    """A measurement that would mean nothing, or a contender that broke."""


class Absent(Exception):
    """A contender cannot take part; the message says why."""


class Worker:
    """A contender's process. Raises Absent where it cannot be made.

    limit  seconds that an answer may take, or None
    """

    def __init__(self, name, target, arguments, threads=None, environment=None, limit=None):
        self.name, self.limit = name, limit
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker"],
            cwd=ROOT,
            text=True,
            env=machine.clean_environment(**QUIET, **(environment or {})),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
        )
        self.idle, self.threads = 0.0, threads
        try:
            self.make(target, arguments)
        except BaseException:
            self.stop()
            raise

    def make(self, target, arguments):
        """Make a contender, in place of the one that there was. Raises Absent, BenchmarkError."""
        self.ask(make=target, threads=self.threads, **{"with": arguments})

    def ask(self, **request):
        """-> the answer's value. Raises Absent, BenchmarkError."""
        start = perf_counter()
        with self.killed_in_the_end():
            try:
                self.process.stdin.write(json.dumps(request) + "\n")
                self.process.stdin.flush()
                line = self.process.stdout.readline()
            except BrokenPipeError:
                line = ""
        if not line:
            code = self.process.wait()
            if self.limit is not None and perf_counter() - start >= self.limit:
                raise BenchmarkError(f"{self.name}: no answer within {self.limit:.0f} s")
            why = " (killed: not enough memory?)" if code == -9 else ""
            raise BenchmarkError(
                f"{self.name}: its process ended with code {code}{why}: {self.last_line()}"
            )
        answer = json.loads(line)
        if "missing" in answer:
            raise Absent(answer["missing"])
        if "error" in answer:
            raise BenchmarkError(f"{self.name}: {answer['error']}")
        return answer["value"]

    @contextmanager
    def killed_in_the_end(self):
        """Where there is a limit, the process lives no longer than that."""
        if self.limit is None:
            yield
            return
        timer = Timer(self.limit, self.process.kill)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def call(self, method, **arguments):
        return self.ask(call=method, **{"with": arguments})

    def time(self, method, times):
        """-> seconds for one of `times`."""
        answer = self.ask(time=method, times=times)
        self.idle = max(self.idle, answer["idle"])
        return answer["seconds"] / times

    def last_line(self):
        self.log.seek(0)
        lines = self.log.read().strip().splitlines()
        return lines[-1] if lines else "no message"

    def stop(self):
        with suppress(BrokenPipeError):
            self.process.stdin.close()  # the worker reads to the end, and ends
        self.process.wait()
        self.process.stdout.close()
        self.log.close()


class Team:
    """The workers of a run; `with Team() as team` ends them all."""

    def __init__(self):
        self.workers = {}
        self.absent = {}  # name -> why

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        for worker in self.workers.values():
            worker.stop()

    def add(self, name, *arguments, **options):
        """-> Worker, or None where it cannot take part."""
        try:
            self.workers[name] = Worker(name, *arguments, **options)
        except (Absent, BenchmarkError) as error:
            self.absent[name] = str(error).removeprefix(f"{name}: ")
        return self.workers.get(name)

    def drop(self, name, why):
        self.workers.pop(name).stop()
        self.absent[name] = str(why).removeprefix(f"{name}: ")

    def renew(self, name, target, arguments, limit, **options):
        """As add; but where the process is there from before, only what it plays is made anew."""
        self.absent.pop(name, None)
        if name not in self.workers:
            return self.add(name, target, arguments, limit=limit, **options)
        try:
            self.workers[name].limit = limit
            self.workers[name].make(target, arguments)
        except (Absent, BenchmarkError) as error:
            self.drop(name, error)
        return self.workers.get(name)

    def race(self, methods, rounds, warm_up, turn, log):
        """Take turns. -> name -> [seconds of one unit in each round]

        methods  name -> what to time
        turn     seconds that a turn should last at least, in whole units
        """
        times, seconds = {}, {name: [] for name in methods}
        for name, method in methods.items():
            self.workers[name].time(method, 1)  # whatever is compiled or allocated at first
            sleep(REST)
            once = self.workers[name].time(method, 1)
            times[name] = max(1, round(turn / once))
        for worker in self.workers.values():
            worker.idle = 0.0
        for i in range(-warm_up, rounds):
            for name, method in methods.items():
                sleep(REST)
                spent = self.workers[name].time(method, times[name])
                if i >= 0:
                    seconds[name].append(spent)
            log(f"round {i + 1} of {rounds}" if i >= 0 else "warm-up")
        for name, worker in self.workers.items():
            if worker.idle > IDLE:
                log(
                    f"note: {name} used {worker.idle:.2f} s of processor while it waited for its turn"
                )
        return seconds, times


def summary(values):
    """-> median, lowest, highest."""
    return median(values), min(values), max(values)
