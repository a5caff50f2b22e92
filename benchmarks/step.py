"""One training step, or sampling, side by side with others: python benchmarks/step.py --help

Printed for each contender: the time of a step and its ratio to minigan's (above 1: minigan is
faster), the rate in GFLOP/s counted from the architecture and its share of the rate of a bare
matrix product in the same run, and the peak memory of its process. Before any clock starts, each
contender's first steps are compared with minigan's (agreement.py); one that disagrees is left out.

On a CPU contenders take turns of a second (interleaved.py). On a GPU (--backend cupy) a turn is
30 steps to warm up and 10 blocks of 50 (gpu_timing.py).
"""

import sys
from pathlib import Path
from statistics import median
from time import perf_counter

if __name__ == "__main__":  # this checkout: its minigan, and benchmarks as a package
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks import agreement, command, contenders, gpu_timing, machine, nets, results, roofline
from benchmarks.interleaved import BenchmarkError, Workers
from minigan import get_backend
from minigan.cli.costs import net_flops, step_flops
from minigan.errors import ConfigError
from minigan.presets import get_preset

IMAGES = 10_000  # in a sampling time
TURN = 1.0  # seconds
TURNS = 2  # on a GPU
PACE = dict(warm_up=3, blocks=1, steps=5)  # there, to know how long a turn takes
LIMIT = {"cpu": None, "cuda": 90}  # seconds for an answer: torch.compile tries kernels that long
ENVIRONMENT = {
    "cpu": {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"},
    "cuda": {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"},  # or JAX takes 3/4 of the memory
}


def parse(argv):
    cpu, cuda = (",".join(contenders.PEERS[device]) for device in ("cpu", "cuda"))
    parser = command.make_parser(
        "step.py",
        "One training step of a DCGAN, side by side with others.",
        *("preset", "width", "batch", "backend", "threads", "json"),
    )
    parser.add_argument(
        "--rounds",
        type=command.whole(1),
        help=f"after 2 warm-up rounds (default 9); on a GPU turns (default {TURNS})",
    )
    parser.add_argument(
        "--what",
        choices=("step", "sample"),
        default="step",
        help=f"step, or sample: {IMAGES:,} images (default step)",
    )
    parser.add_argument(
        "--avx2", action="store_true", help="every library as on a CPU without AVX-512"
    )
    parser.add_argument(
        "--precision",
        choices=tuple(agreement.ERRORS),
        default="fp32",
        help="with cupy: fp32 or tf32, for every contender (default fp32)",
    )
    parser.add_argument(
        "--against",
        help=f"of {cpu} (default torch,torch-cl,torch-compile); with cupy of {cuda} (default all)",
    )
    options = parser.parse_args(argv)
    options.device = "cuda" if options.backend == "cupy" else "cpu"
    if options.precision != "fp32" and options.device == "cpu":
        raise ConfigError(f"--precision {options.precision} is for a GPU: add --backend cupy")
    if options.avx2 and options.device == "cuda":
        raise ConfigError("--avx2 is for a CPU: leave --backend cupy out")
    default = cuda if options.device == "cuda" else "torch,torch-cl,torch-compile"
    text = default if options.against is None else options.against
    known = command.names(contenders.PEERS[options.device])
    options.against = command.option("--against", known, text)
    in_blocks = options.device == "cuda" and options.what == "step"
    options.rounds = options.rounds or (TURNS if in_blocks else 9)
    return options


def measure(options, log, workers, until=float("inf")):
    """-> the measurement as a record; see results.py.

    workers  Workers, whose processes are used again
    until    perf_counter() of the end: contenders that would not be ready in time are left out
    """
    device, what = options.device, options.what
    options.width = options.width or get_preset(options.preset).width
    host = nets.build(options.preset, options.batch, get_backend("plain"), options.width)
    flops = step_flops(host.G, host.D, options.batch)
    if what == "sample":
        flops = IMAGES * net_flops(host.G)[0]
    del host
    facts, before = machine.facts(options.threads), machine.gpu() if device == "cuda" else {}
    if options.avx2:
        facts["cpu"] += " held to AVX2"
    shown, reserved = {}, 0.0
    ours = contenders.ALWAYS[device] if what == "step" else ("minigan",)
    for name in (*ours, *options.against):
        seconds = limit_of(device, until - reserved)
        found = admit(workers, name, options, seconds, shown.get("minigan"))
        if found is not None:
            shown[name] = found
            reserved += found.pop("turns", 0.0)
            continue
        log(f"{name}: {workers.absent[name]}")
        if name == "minigan":
            raise BenchmarkError(f"minigan: {workers.absent[name]}")
    for name in shown:
        workers[name].limit = LIMIT[device]
    log(f"{', '.join(shown)} agree on the first {'steps' if what == 'step' else 'images'}")
    time = time_blocks if device == "cuda" and what == "step" else time_turns
    limit, timed, facts["blas"] = time(workers, list(shown), options, log)
    rows = []
    for found in shown.values():
        found.pop("probes", None)
    for name, found in timed.items():
        rate = flops * 1e-9 / median(found["seconds"])
        memory = {"peak_mib": workers[name].call("peak_mib"), "idle": workers[name].idle}
        rows.append({"name": name, "gflops": rate, **found, **shown[name], **memory})
    rows += [
        {"name": name, "absent": workers.absent[name]}
        for name in (*ours, *options.against)
        if name not in timed
    ]
    return results.new_record(
        what,
        facts,
        options,
        gpu={"before": before, "after": machine.gpu()} if device == "cuda" else {},
        gflop=flops * 1e-9,
        gemm_gflops=limit,
        contenders=rows,
    )


def environment(options):
    """-> variables that each contender starts with."""
    return ENVIRONMENT[options.device] | (machine.AVX2 if options.avx2 else {})


def limit_of(device, until):
    """-> seconds that a contender has to get ready, or None."""
    left = until - perf_counter()
    return LIMIT[device] if left == float("inf") else min(LIMIT[device], left)


def admit(workers, name, options, seconds, ours):
    """Make a contender and compare it with minigan -> what it showed; None: absent says why.

    ours  what minigan showed; None if it is minigan's turn
    """
    device, precision = options.device, options.precision
    if seconds is not None and seconds <= 0:
        workers.drop(name, "no time was left for it")
        return None
    target, own = contenders.target(name, contenders.CONTENDERS[device])
    arguments = dict(preset=options.preset, batch=options.batch, width=options.width)
    arguments |= dict(device=device, precision=precision, **own)
    start = dict(limit=seconds, threads=options.threads, environment=environment(options))
    worker = workers.add(name, target, arguments, **start)
    if worker is None:
        return None
    try:
        found = {"versions": worker.call("versions")}
        if options.what == "sample":
            found["probes"] = worker.call("probes")
            agreement.expect_same_images(found["probes"], (ours or found)["probes"])
            return found
        found["losses"] = worker.call("losses", steps=agreement.STEPS)
        agreement.expect_same_losses(found["losses"], (ours or found)["losses"], precision)
        if device == "cuda":
            found["conv_error"] = worker.call("conv_error")
            agreement.expect_precision(found["conv_error"], precision)
            (pace,) = worker.call("time_blocks", **PACE)["seconds"]
            steps = gpu_timing.WARM_UP + gpu_timing.BLOCKS * gpu_timing.STEPS
            found["turns"] = options.rounds * steps * pace
        return found
    except BenchmarkError as error:
        workers.drop(name, error)
        return None


def time_turns(workers, names, options, log):
    """Turns of a second -> GFLOP/s of a large product, name -> its times, the BLAS."""
    edge = roofline.EDGE[options.backend]
    workers.require(
        "gemm",
        "benchmarks.roofline:Roofline",
        dict(backend=options.backend, precision=options.precision, edge=edge),
        threads=options.threads,
        environment=environment(options),
    )
    method, unit = ("run", 1) if options.what == "step" else ("sample", IMAGES / options.batch)
    methods = {**dict.fromkeys(names, method), "gemm": "run"}
    seconds = workers.interleave(methods, options.rounds, TURN, log)
    limit = 2e-9 * edge**3 / min(seconds.pop("gemm"))
    timed = {name: {"seconds": [unit * each for each in spent]} for name, spent in seconds.items()}
    return limit, timed, workers["gemm"].call("blas")


def time_blocks(workers, names, options, log):
    """Turns on a GPU -> likewise; a contender that breaks is dropped, and the limit may be None."""
    arguments = dict(backend="cupy", precision=options.precision, edge=roofline.EDGE["cupy"])
    worker = workers.add("roofline", "benchmarks.roofline:Roofline", arguments, limit=LIMIT["cuda"])
    try:
        limit = worker and worker.call("product")
    except BenchmarkError as error:
        workers.drop("roofline", error)
        limit = None  # no reason not to time the steps
    how = {name.lower(): getattr(gpu_timing, name) for name in ("WARM_UP", "BLOCKS", "STEPS")}
    timed = {name: {"seconds": [], "events": [], "launch": []} for name in names}
    for turn in range(options.rounds):
        log(f"turn {turn + 1} of {options.rounds}")
        first = turn % len(names)
        for name in names[first:] + names[:first]:  # nobody is always the first
            if name not in timed:
                continue
            try:
                found = workers[name].call("time_blocks", **how)
            except BenchmarkError as error:
                if name == "minigan":
                    raise
                workers.drop(name, error)
                del timed[name]
                continue
            for kind, seconds in found.items():
                timed[name][kind] += seconds
    return limit, timed, None


def fastest(record, names):
    """-> the row of a record with the lowest median among these names, or None."""
    rows = [row for row in record["contenders"] if row["name"] in names and "seconds" in row]
    return min(rows, key=lambda row: median(row["seconds"]), default=None)


def verdicts(record):
    """-> lines: minigan's fastest way against PyTorch's, and against PyTorch's own example."""
    ours = fastest(record, contenders.OURS)
    for which, names in (
        ("at its fastest", contenders.TORCH_AT_ITS_BEST),
        ("as its own example is written", ("torch-example",)),
    ):
        theirs = fastest(record, names)
        if theirs is not None:
            gain = median(results.ratios(ours, theirs))
            yield (
                f"{ours['name']} runs {gain:.2f} times as many steps in the same time as PyTorch "
                f"{which} ({theirs['name']})"
            )


def table(record):
    """A record -> lines to print."""
    facts, limit = record["machine"], record["gemm_gflops"]
    what = "one step" if record["what"] == "step" else f"sampling {IMAGES:,} images"
    net = f"{record['preset']}, width {record['width']}, batch {record['batch']}"
    yield f"{net}, {record['precision']}: {what}, {record['gflop']:.1f} GFLOP"
    cpu = f"{facts['cpu']}, {facts['threads']} threads, Python {facts['python']}"
    yield f"{cpu}, BLAS {facts['blas']}" if facts["blas"] else cpu
    gpu = record["gpu"]
    if gpu and gpu["before"] and gpu["after"]:
        name, driver = gpu["before"]["name"], gpu["before"]["driver"]
        clocks = " before, ".join(gpu[when]["sm_mhz"] + " MHz" for when in ("before", "after"))
        yield f"{name}, driver {driver}; SM clock {clocks} after"
    if limit:
        edge = roofline.EDGE[record["backend"]]
        yield f"matrix product of {edge}, {record['precision']}: {limit:,.0f} GFLOP/s at best"
    if facts["unset"]:
        yield f"unset for the contenders: {' '.join(facts['unset'])}"
    rates = f"{'GFLOP/s':>8} {'of GEMM':>8} {'peak MiB':>9}"
    device = ""
    if any("conv_error" in row for row in record["contenders"]):
        device = f" {'events':>8} {'launch':>8} {'conv error':>10}"
    spread = f"{'lowest..highest':>17}"
    yield f"{'':15} {'ms':>8} {spread} {'x minigan':>10} {spread} {rates}{device}"
    ours = next(row for row in record["contenders"] if row["name"] == "minigan")
    for row in record["contenders"]:
        yield f"{row['name']:15} {row['absent'] if 'absent' in row else figures(row, ours, limit)}"
    yield from verdicts(record)
    for row in record["contenders"]:
        if "versions" in row:
            yield f"{row['name']}: {results.listed(row['versions'])}"


def figures(row, ours, limit):
    """-> the line of a contender, without its name."""

    def spread(values, digits):
        low, high = (f"{f(values):.{digits}f}" for f in (min, max))
        return f"{median(values):{'8' if digits > 2 else '10'}.{digits}f} {f'{low}..{high}':>17}"

    on_gpu = "conv_error" in row
    time = spread([1000 * each for each in row["seconds"]], 3 if on_gpu else 1)
    share = f"{row['gflops'] / limit:.0%}" if limit else "-"
    rates = f"{row['gflops']:8,.0f} {share:>8} {row['peak_mib']:9.0f}"
    line = f"{time} {spread(results.ratios(ours, row), 2)} {rates}"
    if on_gpu:
        times = [1000 * median(row[kind]) if row[kind] else None for kind in ("events", "launch")]
        cells = " ".join(f"{'-' if each is None else f'{each:.3f}':>8}" for each in times)
        line += f" {cells} {row['conv_error']:10.0e}"
    return line


@command.command
def main(argv):
    options = parse(argv)
    with Workers() as workers:
        record = measure(options, command.log, workers)
    results.add(options.json, record)
    print("\n".join(table(record)))


if __name__ == "__main__":
    sys.exit(main())
