"""Convolutions in TF32 without columns, against those with them: gpu.py --only implicit.

minigan/backends/gpu/implicit.py was written without a GPU. This part of gpu.py decides what it is
worth: are its numbers right on the device, is it faster layer by layer, and in the whole step,
beside PyTorch? The last line is the verdict.

Two questions that only a GPU answers are asked by changing the text of the kernel (VARIANTS).

A pass of a layer is timed as ten of it in one CUDA graph, so that no launch is timed. Both ways run
what a step runs: with columns, dW takes those that the forward pass kept. Numbers are compared with
those of the float64 kernels on the same GPU.
"""

from argparse import Namespace
from statistics import median
from time import perf_counter

import numpy as np

from benchmarks import contenders, gpu_parts, nets, results, roofline, step
from benchmarks.interleaved import BenchmarkError
from minigan.backends.gpu.backend import GpuBackend
from minigan.backends.gpu.implicit import TILES, ImplicitConvolution
from minigan.backends.gpu.table import OPERATIONS
from minigan.cli.costs import forward_flops

TESTS = [*gpu_parts.TESTS[:-1], "tests/backends/gpu/test_implicit.py"]
AIMS = {"pytorch-64": 1.2, "fredriksson-mnist": 1.3}  # steps, as a multiple of PyTorch's
AGAINST = ["minigan-implicit", "torch-graph-cl", "torch-graph"]
ERROR = 1e-3  # of a result's norm, in TF32
VARIANTS = {  # name -> text of the kernel, what replaces it
    "L1": ("cp.async.cg", "cp.async.ca"),  # are neighboring taps' numbers found in the L1 cache?
    "taps outside": (  # or are all channels of a tap better, one after the other?
        "tap = part % taps, e = part / taps * DEEP",
        "tap = part / (C / DEEP), e = part % (C / DEEP) * DEEP",
    ),
}
REPEATS = 10  # of a pass in one graph
RUNS = 3  # that must have the same bits
WORSE = 1.03  # times as slow as the best tile: worth another choice


class Layers(roofline.Roofline):
    """The layers of a net that need no columns: both ways, on one device."""

    def __init__(self, preset, batch, width):
        def build(dtype, precision, implicit=False, change=("", "")):
            backend = GpuBackend(dtype, precision, operations=OPERATIONS, implicit=implicit)
            backend.kernels.source = backend.kernels.source.replace(*change)
            net = nets.build(preset, batch, backend, width)
            steps = {
                f"{net.name}.{i}": each for net in net.take() for i, each in enumerate(net.steps)
            }
            return backend, steps

        self.backend, columns = build("float32", "tf32")
        self.fast, implicit = build("float32", "tf32", implicit=True)
        self.variants = {
            name: build("float32", "tf32", True, change) for name, change in VARIANTS.items()
        }
        self.exact, exact = build("float64", "fp32")
        self.ways = {
            name: (columns[name].convolution, each.convolution, exact[name].convolution)
            for name, each in implicit.items()
            if isinstance(getattr(each, "convolution", None), ImplicitConvolution)
        }
        self.batch = batch

    def names(self):
        """-> "D.2" -> what the layer is"""
        return {name: one.layer.describe() for name, (one, *_) in self.ways.items()}

    def check(self, name):
        """-> name of a pass -> error, of the norm.

        Raises BenchmarkError if it is too large, or if runs have different bits.
        """
        found, errors, given = {}, {}, self.given(name)
        _, implicit, exact = self.ways[name]
        for way, backend in ((exact, self.exact), *[(implicit, self.fast)] * RUNS):
            for which, array in self.results(way, backend, given).items():
                found.setdefault(which, []).append(array)
        for which, (right, *seen) in found.items():
            if len({array.tobytes() for array in seen}) > 1:
                raise BenchmarkError(f"{name} {which}: not the same bits in {RUNS} runs")
            off = np.linalg.norm(seen[0] - right) / np.linalg.norm(right)
            errors[which] = float(off)
            if not off <= ERROR:
                raise BenchmarkError(f"{name} {which}: {off:.1e} off, more than {ERROR:g}")
        return errors

    def given(self, name):
        """-> x, dy of a layer, on the host"""
        rng, way = np.random.default_rng(0), self.ways[name][0]
        shapes = ((self.batch, *shape) for shape in (way.in_shape, way.out_shape))
        return [rng.standard_normal(shape, np.float32) for shape in shapes]

    def results(self, way, backend, given):
        """-> name of a pass -> host array, which was NaN before"""
        found = {}
        for which, (work, out) in self.passes(way, backend, given).items():
            out.fill(0.0 if out is way.layer.dW else np.nan)
            work()
            found[which] = backend.to_host(out).astype(np.float64)
        return found

    def passes(self, way, backend, given):
        """-> name of a pass -> function, the array that it writes"""
        x, dy = map(backend.asarray, given)
        y, dx = backend.xp.empty(dy.shape, backend.dtype), backend.xp.empty(x.shape, backend.dtype)
        columns = way.forward(x, y, True)
        return {
            "forward": (lambda: way.forward(x, y, True), y),
            "dx": (lambda: way.backward(dy, x, columns, False, dx), dx),
            "dW": (lambda: way.backward(dy, x, columns, True, None), way.layer.dW),
            "dx and dW": (lambda: way.backward(dy, x, columns, True, dx), way.layer.dW),
        }

    def times(self, name):
        """-> rows: "pass"; "columns", "implicit": seconds; "tile", "tiles", "variants"."""
        columns, implicit, _ = self.ways[name]
        uses = ("transpose", "convolve") if implicit.transposed else ("convolve", "transpose")
        uses, rows = dict(zip(("forward", "dx", "dW"), (*uses, "gradient"), strict=True)), []
        given = self.given(name)
        with_columns = self.passes(columns, self.backend, given)
        without = self.passes(implicit, self.fast, given)
        variants = {
            variant: self.passes(steps[name].convolution, backend, given)
            for variant, (backend, steps) in self.variants.items()
        }
        gflop = 1e-9 * self.batch * forward_flops(implicit.layer)
        for which, (work, _) in without.items():
            row = {"pass": which, "gflop": gflop * (1 + (which not in uses))}
            row["columns"] = self.seconds_of(with_columns[which][0])
            row["implicit"], use = self.seconds_of(work), uses.get(which)
            row["variants"] = {
                variant: self.seconds_of(works[which][0]) for variant, works in variants.items()
            }
            if use is not None:
                chosen, (_, wide, _) = implicit.tiles[use], implicit.sizes(use, self.batch)
                row |= {"tile": as_text(chosen), "tiles": {}}
                for tile in TILES:
                    if tile[1] <= max(64, wide):
                        implicit.tiles[use] = tile
                        row["tiles"][as_text(tile)] = self.seconds_of(work)
                implicit.tiles[use] = chosen
            rows.append(row)
        return rows

    def seconds_of(self, work):
        """-> seconds of work(), by a graph of REPEATS of it."""

        def repeated():
            for _ in range(REPEATS):
                work()

        work()
        return self.seconds(self.backend.capture(lambda backend: repeated, [])) / REPEATS


def as_text(tile):
    return f"{tile[0]}x{tile[1]}"


def measure_implicit(workers, options, until, log):
    """Checks, layers, whole steps, and the verdict. What fails is recorded; the rest goes on."""
    start, failures = perf_counter(), []
    record = {"what": "implicit", "batch": gpu_parts.BATCH, "aims": AIMS, "layers": [], "steps": []}

    def attempt(what, work, *arguments):
        try:
            return work(*arguments)
        except Exception as error:  # of any kind: the rest is still to come
            failures.append(f"{what}: {' '.join(str(error).split()) or type(error).__name__}")
            log(failures[-1])

    checks = attempt("checks", check_device, start + 0.35 * (until - start), log)
    for preset, width in gpu_parts.NETS.items():
        limit = start + 0.65 * (until - start)
        for name in attempt(preset, make_layers, workers, preset, width, limit) or ():
            rows = attempt(f"{preset} {name}", measure_layer, workers["layers"], name, limit, log)
            record["layers"] += [{"preset": preset, **row} for row in rows or ()]
    workers.drop("layers", "done")  # its memory is free for the steps
    for i, (preset, width) in enumerate(gpu_parts.NETS.items(), 1):
        end = until - (until - perf_counter()) * (1 - i / len(gpu_parts.NETS))
        found = attempt(
            f"step of {preset}", measure_step, workers, options, preset, width, end, log
        )
        record["steps"] += [found] if found else []
    record |= {"passed": not failures, "checks": checks, "failures": failures}
    record["verdict"] = attempt("verdict", verdict, record) or "without columns NOT DECIDED"
    return record


def check_device(until, log):
    """The tests of implicit.py, on the device -> the last line. Raises BenchmarkError."""
    variables = dict(MINIGAN_GPU="1", COLUMNS="250")
    _, code, lines = gpu_parts.run(TESTS, until, **variables)
    if code:
        failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
        raise BenchmarkError("; ".join([lines[-1], *failed[: gpu_parts.SHOWN]]))
    log(lines[-1])
    return lines[-1]


def make_layers(workers, preset, width, until):
    """-> names of the layers that need no columns, in the worker "layers"."""
    arguments = dict(preset=preset, batch=gpu_parts.BATCH, width=width)
    left = max(1.0, until - perf_counter())
    target = "benchmarks.gpu_implicit:Layers"
    return workers.require("layers", target, arguments, limit=left).call("names")


def measure_layer(worker, name, until, log):
    """-> rows: each pass of a layer, checked, in both ways"""
    worker.limit = max(1.0, until - perf_counter())
    place = {"layer": name, "describe": worker.call("names")[name]}
    errors = worker.call("check", name=name)
    log(f"{name} {place['describe']}: " + ", ".join(f"{k} {e:.0e} off" for k, e in errors.items()))
    rows = [
        {**place, **row, "error": errors[row["pass"]]} for row in worker.call("times", name=name)
    ]
    for row in rows:
        log(f"    {line(row)}")
    return rows


def line(row):
    """A row -> one line."""
    old, new = 1e6 * row["columns"], 1e6 * row["implicit"]
    rate = row["gflop"] / row["implicit"] / 1000
    text = f"{row['pass']:9} us: columns {old:.1f}, without {new:.1f} ({old / new:.2f} x, "
    text += f"{rate:.0f} TFLOP/s)"
    for tile, seconds in row.get("tiles", {}).items():
        text += f"  {tile}{'*' if tile == row['tile'] else ''} {1e6 * seconds:.1f}"
    for variant, seconds in row["variants"].items():
        text += f"  {variant} {1e6 * seconds:.1f}"
    return text


def measure_step(workers, options, preset, width, until, log):
    """The whole captured step in both ways, beside PyTorch's CUDA graph."""
    how = dict(what="step", backend="cupy", device="cuda", avx2=False, threads=None)
    net = dict(preset=preset, width=width, batch=gpu_parts.BATCH, precision="tf32")
    against = [name for name in AGAINST if name in ("minigan-implicit", *options.against)]
    record = step.measure(
        Namespace(**how, **net, rounds=step.TURNS, against=against), log, workers, until
    )
    for text in step.table(record):
        log(text)
    return record


def verdict(record):
    """-> one line: which way is faster, by how much, and are the aims reached?"""
    found, faster, reached = [], [], []
    for each in record["steps"]:
        preset = each["preset"]
        rows = {row["name"]: row for row in each["contenders"] if "seconds" in row}
        if not {"minigan-graph", "minigan-implicit"} <= set(rows):
            continue
        without = rows["minigan-implicit"]
        gain = median(results.ratios(without, rows["minigan-graph"]))
        text = f"{preset} {1000 * median(without['seconds']):.3f} ms, {gain:.3f} x as fast"
        theirs = step.fastest(each, contenders.TORCH_AT_ITS_BEST)
        if theirs is not None:
            ratio = median(results.ratios(without, theirs))
            text += f", {ratio:.3f} x PyTorch (aim {AIMS[preset]:g})"
            reached.append(ratio >= AIMS[preset])
        faster.append(gain)
        found.append(text)
    which = "FASTER" if faster and min(faster) > 1 else "NOT FASTER in every net"
    if len(faster) < len(gpu_parts.NETS):
        which = "NOT DECIDED for every net"
    aims = "reached" if len(reached) == len(gpu_parts.NETS) and all(reached) else "not reached"
    state = "" if record["passed"] else f"; FAILED: {'; '.join(record['failures'])}"
    better = better_tiles(record) + better_variants(record)
    return f"without columns {which}: {'; '.join(found)}; aims {aims}{better}{state}"


def better_tiles(record):
    """-> what to change in choose_tile, as text"""
    found = []
    for row in record["layers"]:
        tiles = row.get("tiles", {})
        best = min(tiles, key=tiles.get, default=None)
        if best and row["implicit"] > WORSE * tiles[best]:
            found.append(f"{row['preset']} {row['layer']} {row['pass']} {best}")
    return f"; better tiles: {', '.join(found)}" if found else ""


def better_variants(record):
    """-> how much faster than the kernel as it is each variant makes all passes, as text"""
    rows, text = [row for row in record["layers"] if "tiles" in row], ""
    for name in VARIANTS if rows else ():
        gain = sum(row["implicit"] for row in rows) / sum(row["variants"][name] for row in rows)
        text += f"; {name} {gain:.3f} x as fast"
    return text
