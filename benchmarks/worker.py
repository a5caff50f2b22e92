"""A contender's process, driven by lines of JSON: `python -m benchmarks.worker`.

    {"make": "module:Class", "with": {...}, "threads": 2}  first
    {"call": "losses", "with": {...}}                      -> {"value": ...}
    {"time": "run", "times": 10}                           -> {"value": {"seconds", "idle"}}

"idle" is the processor time in seconds that this process used since its last answer, while it had
nothing to do: a thread pool that spins would disturb the others. An answer is {"value": ...},
{"missing": reason} or {"error": reason}.
"""

import json
import os
import sys
import traceback
from importlib import import_module
from time import perf_counter, process_time

ABSENT = ("Missing", "NoTwin", "BackendError")  # errors of a contender that cannot take part


def make(target, arguments, threads=None):
    from benchmarks import machine  # threads are bound before any thread pool exists

    if threads:
        machine.bind(threads)
    module, name = target.split(":")
    return getattr(import_module(module), name)(**arguments)


def call(contender, method, arguments):
    """A method of the contender, or what is measured of any process."""
    if method in ("peak_mib", "blas"):
        return getattr(import_module("benchmarks.machine"), method)()
    if method == "time_blocks":
        return import_module("benchmarks.gpu_timing").time_blocks(contender, **arguments)
    return getattr(contender, method)(**arguments)


def timed(method, times, last):
    """last: processor time at the last answer."""
    idle = process_time() - last
    clock = perf_counter()
    method(times)
    return {"seconds": perf_counter() - clock, "idle": idle}


def main():
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what frameworks print must not get between the answers
    contender, last = None, process_time()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            value = None
            if "make" in request:
                contender = None  # its memory is free before the next one is made
                contender = make(request["make"], request["with"], request["threads"])
            elif "time" in request:
                value = timed(getattr(contender, request["time"]), request["times"], last)
            else:
                value = call(contender, request["call"], request["with"])
            answer = {"value": value}
        except Exception as error:
            kind = "missing" if type(error).__name__ in ABSENT else "error"
            if kind == "error":
                traceback.print_exc()
            answer = {kind: " ".join(f"{error}".split()) or type(error).__name__}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
        last = process_time()


if __name__ == "__main__":
    main()
