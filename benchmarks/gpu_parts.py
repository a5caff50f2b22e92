"""The parts of gpu.py: each returns its record by `until`, on the clock of perf_counter().

Whatever touches the GPU does so in its own process, which can be stopped, and can break without
taking the rest along.
"""

import os
import re
import subprocess
import sys
from argparse import Namespace
from functools import partial
from tempfile import TemporaryDirectory
from time import perf_counter

from benchmarks import machine, roofline, step
from benchmarks.interleaved import ROOT, BenchmarkError

PRECISIONS = ("fp32", "tf32")
NETS = {"fredriksson-mnist": 128, "pytorch-64": 64}  # preset: width
BATCH = 128
SHOWN = 10  # failures of tests
COPY = 1024  # MiB
TESTS = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/backends/gpu/test_device.py"]
TRAIN = ["examples/train_mnist.py", "--preset", "fredriksson-mnist", "--backend", "cupy"]
EPOCHS = ["--epochs", "20", "--sample-every", "epoch"]
FIRST = ["--dataset", "strokes", "--limit", "256", "--dry-run"]  # one step, and the end


def run(arguments, until, **environment):
    """A Python program from the checkout's root -> seconds, exit code, lines of its output."""
    start = perf_counter()
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    variables = dict(PYTHONPATH=paths, PYTHONDONTWRITEBYTECODE="1", **environment)
    try:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=max(1.0, until - start),
            env=machine.clean_environment(**variables),
        )
    except subprocess.TimeoutExpired as error:
        raise BenchmarkError(f"not done within {error.timeout:.0f} s") from error
    lines = (done.stdout + done.stderr).strip().splitlines()
    return perf_counter() - start, done.returncode, lines or ["no message"]


def trained(options, until, **environment):
    """-> seconds of `train_mnist.py`, lines of its output. Raises BenchmarkError."""
    seconds, code, lines = run([*TRAIN, *options], until, **environment)
    if code:
        raise BenchmarkError(lines[-1])
    return seconds, lines


def ask_roofline(workers, until, precision):
    """-> the worker that has a Roofline. Raises BenchmarkError."""
    arguments = dict(backend="cupy", precision=precision, edge=roofline.EDGE["cupy"])
    target, left = "benchmarks.roofline:Roofline", max(1.0, until - perf_counter())
    return workers.require("roofline", target, arguments, limit=left)


def check_device(workers, options, until, log):
    """The tests of the device."""
    variables = dict(MINIGAN_GPU="1", COLUMNS="250")  # on the GPU or not at all; in whole lines
    seconds, code, lines = run(TESTS, until, **variables)
    failures = [" ".join(line.split()) for line in lines if line.startswith(("FAILED", "ERROR"))]
    for line in [lines[-1], *failures[:SHOWN]]:
        log(line)
    record = {"what": "gpu checks", "passed": code == 0, "outcome": lines[-1]}
    return record | {"failures": failures, "seconds": seconds}


def measure_roofline(workers, options, until, log):
    """What the GPU can do at most."""
    record = {"what": "roofline", "edge": roofline.EDGE["cupy"], "product": {}}
    for precision in reversed(PRECISIONS):  # what does not depend on it, in fp32
        worker = ask_roofline(workers, until, precision)
        rate = record["product"][precision] = worker.call("product")
        log(f"product of {record['edge']}, {precision}: {rate / 1000:.1f} TFLOP/s")
    record["copy"] = worker.call("copy", mib=COPY)
    record["node"], record["launch"] = worker.call("empty_kernels")
    record["nodes"] = roofline.NODES
    node, launch = (1e6 * record[name] for name in ("node", "launch"))
    log(f"copy: {record['copy']:,.0f} GB/s")
    log(f"empty kernel: {node:.2f} us in a graph, {launch:.2f} us launched by itself")
    return record


def measure_products(workers, options, until, log):
    """The products of both nets' layers."""
    rows = []
    for preset, width in NETS.items():
        net, found = dict(preset=preset, batch=BATCH, width=width), []
        for precision in PRECISIONS:
            found.append(ask_roofline(workers, until, precision).call("products", **net))
        for pair in zip(*found, strict=True):
            rates = {name: row["gflops"] for name, row in zip(PRECISIONS, pair, strict=True)}
            row = {"preset": preset, **pair[0], "gflops": rates}
            rows.append(row)
            text = ", ".join(f"{name} {rate / 1000:.1f}" for name, rate in rates.items())
            sizes = f"{row['m']} x {row['k']} x {row['n']}"
            log(f"{preset} {row['layer']} {row['pass']}: {sizes}, TFLOP/s: {text}")
    return {"what": "products", "batch": BATCH, "products": rows}


def measure_kernels(workers, options, until, log):
    """Where the time of a step goes, by a profiler that comes with PyTorch."""
    steps = []
    for preset, width in NETS.items():
        for precision in PRECISIONS:
            target, left = "benchmarks.kernel_times:KernelTimes", max(1.0, until - perf_counter())
            worker = workers.add("kernels", target, {"precision": precision}, limit=left)
            if worker is None:
                log(f"kernels: {workers.absent['kernels']}")
                return {"what": "kernels", "absent": workers.absent["kernels"]}
            found = worker.call("kernels", preset=preset, batch=BATCH, width=width)
            steps.append({"preset": preset, "width": width, "precision": precision, **found})
            kinds = found["microseconds"].items()
            shares = ", ".join(f"{kind} {spent:,.0f}" for kind, spent in kinds)
            time = f"{found['step_ms']:.3f} ms, {found['nodes']} nodes"
            log(f"{preset}, {precision}: {time}; us: {shares}")
    return {"what": "kernels", "batch": BATCH, "steps": steps}


def measure_start(workers, options, until, log):
    """From the command to the end of the first step: with nothing compiled yet, and again."""
    with TemporaryDirectory() as cache:
        cold, warm = (trained(FIRST, until, CUPY_CACHE_DIR=cache)[0] for _ in range(2))
    log(f"first step done {cold:.1f} s after the command on a new machine, later {warm:.1f} s")
    return {"what": "start", "cold": cold, "warm": warm}


def measure_epochs(workers, options, until, log):
    """A whole training, from the command to the report; then without grids until its end."""
    with TemporaryDirectory() as folder:
        arguments = [*EPOCHS, "--precision", "tf32", "--out"]
        seconds, lines = trained([*arguments, f"{folder}/run"], until)
        rare, _ = trained([*arguments, f"{folder}/rare", "--sample-every", "1000000"], until)
    found = [match[1] for line in lines if (match := re.search(r" on ([\w-]+), cupy", line))]
    text, data = " ".join(EPOCHS), found[0] if found else "?"
    log(f"{text} on {data}, tf32: {seconds:.1f} s; without grids until the end {rare:.1f} s")
    record = {"what": "epochs", "options": text, "precision": "tf32"}
    return record | {"data": data, "seconds": seconds, "rare": rare}


def measure_step(workers, options, until, log, preset, precision):
    """One training step against all contenders."""
    how = dict(what="step", backend="cupy", device="cuda", avx2=False, threads=None)
    net = dict(preset=preset, width=NETS[preset], batch=BATCH, precision=precision)
    chosen = Namespace(**how, **net, rounds=step.TURNS, against=options.against)
    record = step.measure(chosen, log, workers, until)
    for line in step.table(record):
        log(line)
    return record


PARTS = {  # name -> seconds of ten minutes, function
    "checks": (120, check_device),
    "roofline": (30, measure_roofline),
    "products": (30, measure_products),
    "kernels": (20, measure_kernels),
    "start": (40, measure_start),
    "epochs": (60, measure_epochs),
    **{
        f"{preset}, {precision}": (75, partial(measure_step, preset=preset, precision=precision))
        for preset in NETS
        for precision in PRECISIONS
    },
}
