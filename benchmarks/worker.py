"""One contender in a process of its own, driven by lines of JSON: `python -m benchmarks.worker`.

    {"make": "module:Class", "with": {...}, "threads": 2}   first
    {"call": "losses", "with": {...}}                       -> {"value": ...}
    {"time": "run", "times": 10}                            -> {"value": {"seconds": ..., "idle": ...}}

"idle" is the processor time, in seconds, that this process used since its last answer, when it
had nothing to do: a thread pool that spins would disturb whoever is measured meanwhile.
Answers are {"value": ...}, {"missing": why} or {"error": what}.
"""

import json
import os
import sys
import traceback
from importlib import import_module
from time import perf_counter, process_time


def make(request):
    from benchmarks import machine  # the threads are bound before any thread pool is made

    if request["threads"]:
        machine.bind(request["threads"])
    module, name = request["make"].split(":")
    return getattr(import_module(module), name)(**request["with"])


def timed(method, times, last):
    """last: processor time at the last answer -> seconds of the call, and what was used since then."""
    idle = process_time() - last
    clock = perf_counter()
    method(times)
    return {"seconds": perf_counter() - clock, "idle": idle}


def main():
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what frameworks print must not come between the answers
    contender, last = None, process_time()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "make" in request:
                contender, value = make(request), None
            elif "time" in request:
                value = timed(getattr(contender, request["time"]), request["times"], last)
            elif request["call"] in ("peak_mib", "blas"):  # of the process, whoever is in it
                value = getattr(import_module("benchmarks.machine"), request["call"])()
            elif request["call"] == "time_blocks":  # the same clock for whoever plays on a GPU
                value = import_module("benchmarks.blocks").time_blocks(contender, **request["with"])
            else:
                value = getattr(contender, request["call"])(**request["with"])
            answer = {"value": value}
        except Exception as error:
            kind = (
                "missing"
                if type(error).__name__ in ("Missing", "NoTwin", "BackendError")
                else "error"
            )
            if kind == "error":
                traceback.print_exc()
            answer = {kind: " ".join(f"{error}".split()) or type(error).__name__}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
        last = process_time()


if __name__ == "__main__":
    main()
