"""Contenders side by side: processes that stay alive and take turns, never two at once.

In a round every contender has one turn of about a second; then the next round begins. So whatever
else the machine does slows all of them down alike. Figures are ratios, round by round.
"""

import json
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from threading import Timer
from time import perf_counter, sleep

from benchmarks import machine
from minigan.errors import MiniganError

ROOT = Path(__file__).resolve().parents[1]
WARM_UP = 2  # rounds
REST = 0.25  # seconds before a turn: the last one's thread pools are asleep by then
IDLE = 0.25  # seconds of processor time that a contender may use between its turns, unreported
QUIET = dict(
    TF_CPP_MIN_LOG_LEVEL="3",
    TF_ENABLE_ONEDNN_OPTS="1",
    KERAS_BACKEND="tensorflow",
    PYTHONWARNINGS="ignore",
    PYTHONDONTWRITEBYTECODE="1",
)


class BenchmarkError(MiniganError):
    """A measurement that would mean nothing, or a contender that broke."""


class Absent(BenchmarkError):
    """A contender cannot take part; the message says why."""


class Worker:
    """A contender's process: see worker.py. Raises Absent, BenchmarkError.

    limit  seconds that an answer may take, or None
    """

    def __init__(self, name, target, arguments, threads=None, environment=None, limit=None):
        self.name, self.threads, self.limit, self.idle = name, threads, limit, 0.0
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
        try:
            self.make(target, arguments)
        except BaseException:
            self.stop()
            raise

    def make(self, target, arguments):
        """Make a contender, which replaces the one that was there."""
        self.ask(make=target, threads=self.threads, **{"with": arguments})

    def call(self, method, **arguments):
        return self.ask(call=method, **{"with": arguments})

    def time(self, method, times):
        """-> seconds of one of `times`."""
        answer = self.ask(time=method, times=times)
        self.idle = max(self.idle, answer["idle"])
        return answer["seconds"] / times

    def ask(self, **request):
        """-> the answer's value."""
        start, line = perf_counter(), ""
        timer = Timer(self.limit or 0.0, self.process.kill)
        timer.daemon = True
        if self.limit is not None:
            timer.start()
        with suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        timer.cancel()
        if not line:
            code = self.process.wait()
            if self.limit is not None and perf_counter() - start >= self.limit:
                raise BenchmarkError(f"{self.name}: no answer within {self.limit:.0f} s")
            hint = " (killed: not enough memory?)" if code == -9 else ""
            raise BenchmarkError(
                f"{self.name}: its process ended with code {code}{hint}: {self.last_line()}"
            )
        answer = json.loads(line)
        if "missing" in answer:
            raise Absent(f"{self.name}: {answer['missing']}")
        if "error" in answer:
            raise BenchmarkError(f"{self.name}: {answer['error']}")
        return answer["value"]

    def last_line(self):
        """-> the last line that the process printed."""
        self.log.seek(0)
        lines = self.log.read().strip().splitlines()
        return lines[-1] if lines else "no message"

    def stop(self):
        with suppress(BrokenPipeError):
            self.process.stdin.close()  # the process reads to the end, and exits
        self.process.wait()
        self.process.stdout.close()
        self.log.close()


class Workers(dict):
    """name -> Worker of a measurement; `with Workers() as workers` ends them all.

    absent  name -> why a contender does not take part
    """

    def __init__(self):
        super().__init__()
        self.absent = {}

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        for worker in self.values():
            worker.stop()

    def add(self, name, target, arguments, limit=None, **options):
        """Make a contender, in its present process if it has one -> Worker, or None if absent."""
        self.absent.pop(name, None)
        try:
            if name in self:
                self[name].limit = limit
                self[name].make(target, arguments)
            else:
                self[name] = Worker(name, target, arguments, limit=limit, **options)
        except BenchmarkError as error:
            self.drop(name, error)
        return self.get(name)

    def require(self, name, *arguments, **options):
        """As add. Raises BenchmarkError if it is absent."""
        worker = self.add(name, *arguments, **options)
        if worker is None:
            raise BenchmarkError(f"{name}: {self.absent[name]}")
        return worker

    def drop(self, name, reason):
        """End a process, and note why."""
        if name in self:
            self.pop(name).stop()
        self.absent[name] = str(reason).removeprefix(f"{name}: ")

    def interleave(self, methods, rounds, turn, log):
        """Take turns -> name -> [seconds of one unit in each round].

        methods  name -> method to time
        turn     seconds that a turn should last at least, in whole units
        """
        times, seconds = {}, {name: [] for name in methods}
        for name, method in methods.items():
            self[name].time(method, 1)  # whatever is compiled or allocated at first
            sleep(REST)
            times[name] = max(1, round(turn / self[name].time(method, 1)))
            self[name].idle = 0.0
        for i in range(-WARM_UP, rounds):
            for name, method in methods.items():
                sleep(REST)
                spent = self[name].time(method, times[name])
                if i >= 0:
                    seconds[name].append(spent)
            log(f"round {i + 1} of {rounds}" if i >= 0 else "warm-up")
        for name in methods:
            if self[name].idle > IDLE:
                log(f"note: {name} used {self[name].idle:.2f} s of processor time between turns")
        return seconds
