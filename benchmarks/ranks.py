"""How does a step get faster with more ranks? python benchmarks/ranks.py --help

Measured: a step on 2, 4 ranks of MPI, on threads, and on the processes that minigan forks; how many
collectives a step has, and their bytes; latency and bandwidth of the all-reduce. Then a model,

    T(N) = o + c·B/N + K·α·⌈log2 N⌉ + Σ over networks (2·⌈log2 N⌉·α + 2(N-1)/N·bytes/β)

with o and c fitted to one process with B, B/2, B/4 ... images, and K small collectives, is compared
with what was measured on as many ranks as there are cores. It predicts more ranks: with the same
batch, and with the same number of images on each. A prediction knows nothing of stragglers.
"""

import json
import subprocess
import sys
from math import ceil, log2
from pathlib import Path
from statistics import median

if __name__ == "__main__":  # this checkout: its minigan, and benchmarks as a package
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np

from benchmarks import command, machine, results
from minigan.errors import BackendError, ConfigError

PROGRAM = Path(__file__).with_name("one_rank.py")
SECONDS = 2.0  # of a measurement
MPIEXEC = Path(sys.executable).parent / "mpiexec"
PREDICTED = (2, 4, 8, 16, 32, 64, 128, 256, 512)


def parse(argv):
    names = ("preset", "width", "batch", "rounds", "json", "plot")
    parser = command.make_parser("ranks.py", "A step on several ranks.", *names, rounds=3)
    text = "numbers of ranks to measure (default 1,2,4)"
    parser.add_argument("--ranks", type=command.names(("1", "2", "4", "8", "16")), help=text)
    text = "predict for this network: latency in µs, and GB/s (default this machine's)"
    parser.add_argument("--network", metavar="LATENCY,RATE", help=text)
    options = parser.parse_args(argv)
    options.ranks = [int(size) for size in options.ranks or ("1", "2", "4")]
    options.launcher = [str(MPIEXEC)]  # of two_hosts.py another one
    return options


def start(engine, options, batch, ranks=1):
    """Measure in processes of its own -> what one_rank.py found."""
    program = dict(engine=engine, preset=options.preset, width=options.width, batch_size=batch)
    program["seconds"] = SECONDS
    words = [sys.executable, str(PROGRAM), json.dumps(program)]
    if ranks > 1:
        words = [*options.launcher, "-n", str(ranks), *words]
    done = subprocess.run(words, capture_output=True, text=True, env=machine.clean_environment())
    if done.returncode:
        raise BackendError(f"{engine} with {ranks} ranks failed: {done.stderr.strip()[-500:]}")
    return json.loads(done.stdout)


def model(found, size, batch, latency, rate):
    """-> predicted seconds of a step of `batch` images on `size` ranks."""
    o, c = found["fit"]
    steps = ceil(log2(size))
    large = sum(2 * steps * latency + 2 * (size - 1) / size * n / rate for n in found["gradients"])
    return o + c * batch / size + found["small"] * steps * latency + large


def measure(options, log):
    """-> the measurement as a record; see results.py."""
    batch, cores = options.batch, machine.cores()
    if max(options.ranks) > 1 and not MPIEXEC.exists():
        raise ConfigError("ranks need MPI: pip install mpi4py mpich")
    parts = [batch >> k for k in range(6) if batch >> k >= 4]
    runs = {f"one process, {n} images": ("one process", n, 1) for n in parts}
    runs |= {"threads": ("threads", batch, 1), "forked processes": ("processes", batch, 1)}
    runs |= {f"{n} ranks": ("ranks", batch, n) for n in options.ranks if n > 1}
    taken = {name: [] for name in runs}
    for _ in range(options.rounds):  # in turns, so that a slow minute hits all of them
        for name, (engine, images, ranks) in runs.items():
            taken[name].append(start(engine, options, images, ranks))
    seconds = {name: median(each["seconds"] for each in turns) for name, turns in taken.items()}
    for name, each in seconds.items():
        log(f"  {name:28} {1000 * each:9.2f} ms")
    times = [seconds[f"one process, {n} images"] for n in parts]
    c, o = np.polyfit(parts, times, 1, w=1 / np.array(times))
    found = {"seconds": seconds, "fit": [float(o), float(c)], "small": 0, "gradients": []}
    if sizes := [n for n in options.ranks if n > 1]:
        turns = taken[f"{min(sizes)} ranks"]
        found |= {name: turns[0][name] for name in ("small", "gradients")}
        for name in ("latency", "rate"):
            found[name] = median(each[name] for each in turns)
        log(
            f"a step has {found['small']} small collectives and gradients of "
            f"{', '.join(f'{n:,}' for n in found['gradients'])} bytes; an all-reduce takes "
            f"{1e6 * found['latency']:.1f} µs, or moves {found['rate'] / 1e9:.2f} GB/s"
        )
        network = found["latency"], found["rate"]
        for size in sizes:
            if size <= cores:
                ratio = seconds[f"{size} ranks"] / model(found, size, batch, *network)
                log(f"measured on {size} ranks: {ratio:.2f} of the model")
        if options.network:
            latency, rate = map(float, options.network.split(","))
            network = latency * 1e-6, rate * 1e9
        found["predicted"] = predict(found, batch, network, log)
    return results.new_record("ranks", machine.facts(None), options, **found)


def predict(found, batch, network, log):
    """-> {"same batch", "same images on each rank"}: ranks -> predicted efficiency"""
    alone = found["fit"][0] + found["fit"][1] * batch
    efficiency = {
        "same batch": {
            n: alone / n / model(found, n, batch, *network) for n in PREDICTED if n <= batch // 2
        },
        "same images on each rank": {
            n: alone / model(found, n, n * batch, *network) for n in PREDICTED
        },
    }
    for what, each in efficiency.items():
        log(f"predicted efficiency, {what}: " + ", ".join(f"{n}: {e:.0%}" for n, e in each.items()))
    return efficiency


def plot(record, path):
    """Predicted efficiency over the number of ranks."""
    from minigan.report.plots import drawing

    with drawing() as make_figure:
        figure = make_figure(6, 4)
        axes = figure.subplots()
        axes.set_title(f"{record['preset']}, batch {record['batch']}: predicted, not measured")
        for what, each in record["predicted"].items():
            axes.semilogx(list(each), list(each.values()), "o-", base=2, label=what)
        axes.set_xticks(PREDICTED, map(str, PREDICTED))
        axes.set(xlabel="ranks", ylabel="efficiency", ylim=(0, 1.05))
        axes.grid(True, alpha=0.3)
        axes.legend()
        figure.savefig(path)


@command.command
def main(argv):
    options = parse(argv)
    record = measure(options, command.log)
    results.add(options.json, record)
    if options.plot:
        if "predicted" not in record:
            raise ConfigError("--plot shows predictions, which need a measurement of 2 ranks")
        plot(record, options.plot)


if __name__ == "__main__":
    sys.exit(main())
