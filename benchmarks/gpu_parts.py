"""The parts of gpu.py: each gives its record, by `until` on the clock of perf_counter().

Whatever touches the GPU does so in a process of its own, so that it can be stopped, and break, without taking the rest along.
"""

import os
import re
import subprocess
import sys
from argparse import Namespace
from tempfile import TemporaryDirectory
from time import perf_counter

from benchmarks import ceilings, gpu_step, machine
from benchmarks.race import ROOT, BenchmarkError

CEILINGS, KERNELS = "benchmarks.ceilings:Ceilings", "benchmarks.kernel_times:KernelTimes"
PRECISIONS = ("fp32", "tf32")
NETS = {"fredriksson-mnist": 128, "pytorch-64": 64}  # preset: width
BATCH = 128
SHOWN = 10  # failures of tests
COPY = 1024  # MiB
TESTS = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_cupy_device.py"]
TRAIN = ["examples/train_mnist.py", "--preset", "fredriksson-mnist", "--backend", "cupy"]
EPOCHS = ["--epochs", "20", "--sample-every", "epoch"]
FIRST = ["--dataset", "strokes", "--limit", "256", "--dry-run"]  # one step, and the end


def run(arguments, until, **environment):
    """A Python program in a process of its own, from the checkout's root -> seconds, exit code, lines of its output."""
    start, paths = (
        perf_counter(),
        os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
    )
    try:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=max(1.0, until - start),
            env=machine.clean_environment(
                PYTHONPATH=paths, PYTHONDONTWRITEBYTECODE="1", **environment
            ),
        )
    except subprocess.TimeoutExpired as error:
        raise BenchmarkError(f"not done within {error.timeout:.0f} s") from error
    return (
        perf_counter() - start,
        done.returncode,
        (done.stdout + done.stderr).strip().splitlines() or ["no message"],
    )


def checks(team, options, until, log):
    """The tests of the device."""
    seconds, code, lines = run(
        TESTS, until, MINIGAN_GPU="1", COLUMNS="250"
    )  # on the GPU, or not at all; in whole lines
    failures = [" ".join(line.split()) for line in lines if line.startswith(("FAILED", "ERROR"))]
    log(f"{lines[-1]}")
    for line in failures[:SHOWN]:
        log(line)
    return {
        "what": "gpu checks",
        "passed": code == 0,
        "outcome": lines[-1],
        "failures": failures,
        "seconds": seconds,
    }


def highest(team, options, until, log):
    """What the GPU can do at most."""
    record = {"what": "ceilings", "edge": ceilings.EDGE, "product": {}, "nodes": ceilings.NODES}
    for precision in reversed(PRECISIONS):  # the rest in fp32, where nothing depends on it
        worker = ask(team, precision, until)
        record["product"][precision] = worker.call("product", edge=ceilings.EDGE)
        log(
            f"product of {ceilings.EDGE} x {ceilings.EDGE}, {precision}: {record['product'][precision] / 1000:.1f} TFLOP/s"
        )
    record["copy"] = worker.call("copy", mib=COPY)
    log(f"copy: {record['copy']:,.0f} GB/s")
    record["node"], record["launch"] = worker.call("empty_kernels")
    log(
        f"empty kernel: {1e6 * record['node']:.2f} us in a graph, {1e6 * record['launch']:.2f} us launched by itself"
    )
    return record


def products(team, options, until, log):
    """The products of both nets' layers."""
    rows = []
    for preset, width in NETS.items():
        found = {}
        for precision in PRECISIONS:
            found[precision] = ask(team, precision, until).call(
                "products", preset=preset, batch=BATCH, width=width
            )
        for row, other in zip(*found.values(), strict=True):
            rows.append(
                {
                    "preset": preset,
                    **row,
                    "gflops": {"fp32": row["gflops"], "tf32": other["gflops"]},
                }
            )
            rates = ", ".join(
                f"{name} {value / 1000:.1f}" for name, value in rows[-1]["gflops"].items()
            )
            log(
                f"{preset} {row['layer']} {row['pass']}: {row['m']} x {row['k']} x {row['n']}, TFLOP/s: {rates}"
            )
    return {"what": "products", "batch": BATCH, "products": rows}


def ask(team, precision, until):
    """-> worker with Ceilings in it. Raises BenchmarkError."""
    worker = team.renew(
        "ceilings", CEILINGS, {"precision": precision}, limit=max(1.0, until - perf_counter())
    )
    if worker is None:
        raise BenchmarkError(team.absent["ceilings"])
    return worker


def kernels(team, options, until, log):
    """Where the time of a step goes; by a profiler that PyTorch brings."""
    steps = []
    for preset, width in NETS.items():
        for precision in PRECISIONS:
            worker = team.renew(
                "kernels", KERNELS, {"precision": precision}, limit=max(1.0, until - perf_counter())
            )
            if worker is None:
                log(f"kernels: {team.absent['kernels']}")
                return {"what": "kernels", "absent": team.absent["kernels"]}
            found = worker.call("kernels", preset=preset, batch=BATCH, width=width)
            steps.append({"preset": preset, "width": width, "precision": precision, **found})
            shares = ", ".join(
                f"{words} {spent:,.0f}" for words, spent in found["microseconds"].items()
            )
            log(
                f"{preset}, {precision}: {found['step_ms']:.3f} ms, {found['nodes']} nodes; us: {shares}"
            )
    return {"what": "kernels", "batch": BATCH, "steps": steps}


def starts(team, options, until, log):
    """From the command to the end of the first step: with nothing compiled yet, and again."""
    with TemporaryDirectory() as cache:
        cold, warm = (trained([*FIRST], until, CUPY_CACHE_DIR=cache)[0] for _ in range(2))
    log(f"first step done {cold:.1f} s after the command on a fresh machine, later {warm:.1f} s")
    return {"what": "start", "cold": cold, "warm": warm}


def epochs(team, options, until, log):
    """A whole training, from the command to the last sample."""
    with TemporaryDirectory() as folder:
        seconds, lines = trained([*EPOCHS, "--precision", "tf32", "--out", f"{folder}/run"], until)
    data = next(
        (found[1] for line in lines if (found := re.search(r" on ([\w-]+), cupy", line))), "?"
    )
    log(f"{' '.join(EPOCHS)} on {data}, tf32: {seconds:.1f} s")
    return {
        "what": "epochs",
        "options": " ".join(EPOCHS),
        "precision": "tf32",
        "data": data,
        "seconds": seconds,
    }


def trained(options, until, **environment):
    """-> seconds of `train_mnist.py`, lines of its output. Raises BenchmarkError."""
    seconds, code, lines = run([*TRAIN, *options], until, **environment)
    if code:
        raise BenchmarkError(lines[-1])
    return seconds, lines


def race_of(preset, precision):
    """-> the part for one net in one precision."""

    def part(team, options, until, log):
        game = Namespace(
            preset=preset,
            width=NETS[preset],
            batch=BATCH,
            precision=precision,
            against=options.against,
            rounds=gpu_step.TURNS,
        )
        record = gpu_step.race(team, game, log, until=until)
        for line in gpu_step.table(record):
            log(line)
        return record

    return part


RACES = {
    (preset, precision): race_of(preset, precision) for preset in NETS for precision in PRECISIONS
}
PARTS = {  # name: seconds of ten minutes, function
    "checks": (120, checks),
    "ceilings": (30, highest),
    "products": (30, products),
    "kernels": (20, kernels),
    "start": (40, starts),
    "epochs": (60, epochs),
    **{f"{preset}, {precision}": (75, part) for (preset, precision), part in RACES.items()},
}
