"""How does a step get faster with more ranks? python benchmarks/ranks.py --help

Measured, in interleaved turns: a step on 2 and 4 ranks of MPI, in one process, on threads, and on
the processes that minigan forks (the shared-memory engine); how many collectives it has, and their
bytes; latency and rate of all-reduces of these sizes, on these ranks; and the share of a step that
synchronized BatchNorm takes, beside the same step with statistics of each rank's own rows. Then

    T(N) = o + c·B/N + w·B + K·α·⌈log2 N⌉ + Σ over networks (2·⌈log2 N⌉·α + 2(N-1)/N·bytes/β)

is compared with the step that was measured on N ranks, if there are as many cores.

    o, c  compute and waiting: fitted to steps without collectives, of 2, 4, 8 ... B rows on each of
          as many ranks as cores. All of them compute, because they share memory and the clock rate.
          Between two collectives the slowest rank counts. Steps of B/N rows are left out of the fit
    w     what every rank does for the whole batch: draw z, in some presets more; measured alone
    K     small collectives; α, β: latency and rate, as measured, or of --network

So nothing is fitted to the time that is predicted, and all that it is made of was measured in the
same turn. --predict predicts more ranks for each preset: with the same batch, and with the same
number of images on each. Not in such a prediction: that among more ranks the slowest is slower.
"""

import json
import shutil
import subprocess
import sys
from argparse import ArgumentTypeError
from copy import copy
from math import ceil, log2
from pathlib import Path
from statistics import median

if __name__ == "__main__":  # this checkout: its minigan, and benchmarks as a package
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np

from benchmarks import command, machine, one_rank, results
from minigan.errors import BackendError, ConfigError
from minigan.layers import Dropout
from minigan.presets import MODULES, get_preset

PROGRAM = Path(one_rank.__file__)
BESIDE = Path(sys.executable).parent / "mpiexec"  # pip installs it there
MPIEXEC = BESIDE if BESIDE.exists() else Path(shutil.which("mpiexec") or BESIDE)
CLOSE = 0.15  # what a prediction may be wrong by
LIMIT = 10  # times --seconds: a larger batch is not measured for --predict if it takes longer
PREDICTED = (2, 4, 8, 16, 32, 64, 128, 256, 512)
SHOWN = (8, 64, 512)
SAME = ("same batch", "same images on each rank")


def can_be_ranked(name):
    """Can ranks train this preset? Not with Dropout, whose masks they cannot share."""
    preset = get_preset(name)
    layers = preset.discriminator(preset.width, preset.image_shape)
    layers += preset.generator(preset.width, preset.z_dim, preset.image_shape)
    return not any(isinstance(layer, Dropout) for layer in layers)


RANKED = tuple(filter(can_be_ranked, MODULES))


def network(text):
    """ "25,1.1" -> [25.0, 1.1]: µs, GB/s"""
    try:
        latency, rate = map(float, text.split(","))
    except ValueError:
        raise ArgumentTypeError(f"must be LATENCY,RATE, as 25,1.1; got {text!r}") from None
    if not (latency >= 0 and rate > 0):
        raise ArgumentTypeError(f"must be at least 0, and above 0; got {text!r}")
    return [latency, rate]


def presets(text):
    return list(RANKED) if text == "all" else command.names(RANKED)(text)


def parse(argv):
    names = ("preset", "width", "rounds", "json", "plot")
    parser = command.make_parser("ranks.py", "A step on several ranks.", *names, rounds=5)
    text = "images (default the preset's); the model is fitted to smaller batches"
    parser.add_argument("--batch", type=command.whole(8), help=text)
    text = "of each measurement in a turn (default %(default)s)"
    parser.add_argument("--seconds", type=float, default=2.0, help=text)
    text = "numbers of ranks to measure (default 1,2,4)"
    parser.add_argument("--ranks", type=command.names(("1", "2", "4", "8", "16")), help=text)
    text = "predict for these presets, or all, instead of measuring steps on ranks"
    parser.add_argument("--predict", type=presets, metavar="NAMES", default=[], help=text)
    text = "predict for this network: latency in µs, and GB/s (default this machine's)"
    parser.add_argument("--network", type=network, metavar="LATENCY,RATE", help=text)
    options = parser.parse_args(argv)
    options.ranks = [int(size) for size in options.ranks or ("1", "2", "4")]
    options.launcher = [str(MPIEXEC)]  # of two_hosts.py another one
    if options.seconds <= 0:
        raise ConfigError(f"--seconds must be above 0, got {options.seconds:g}")
    if options.plot and not options.predict:
        raise ConfigError("--plot shows predictions: add --predict all")
    command.option("--preset", presets, options.preset)
    if not options.predict:
        complete(options, options.preset)
        if uneven := [size for size in options.ranks if options.batch % size]:
            raise ConfigError(f"--batch {options.batch} is not a multiple of {uneven[0]} ranks")
    if not MPIEXEC.exists():
        raise ConfigError("ranks need MPI: pip install mpi4py mpich")
    return options


def complete(options, name):
    """Set the preset, and the width and batch that were not given -> options."""
    preset, options.preset = get_preset(name), name
    options.width = options.width or preset.width
    options.batch = options.batch or preset.batch_size
    return options


def start(engine, options, ranks=1, **more):
    """Measure in processes that end after it -> what one_rank.py found."""
    names = ("preset", "width", "batch", "seconds")
    program = {name: getattr(options, name) for name in names} | {"engine": engine, **more}
    words = [sys.executable, str(PROGRAM), json.dumps(program)]
    if ranks > 1:
        words = [*options.launcher, "-n", str(ranks), *words]
    done = subprocess.run(words, capture_output=True, text=True, env=machine.clean_environment())
    if done.returncode:
        raise BackendError(f"{engine} with {ranks} ranks failed: {done.stderr.strip()[-500:]}")
    return json.loads(done.stdout)


def ranks_that_compute():
    return max(2, machine.cores())


def latency_and_rate(options, found):
    """-> seconds, bytes a second: of --network, or what ranks found here."""
    latency, rate = options.network or (None, None)
    return (found["latency"], found["rate"]) if rate is None else (1e-6 * latency, 1e9 * rate)


# -- the model ----------------------------------------------------------------------------------


def fit(compute, left_out=()):
    """What measure_compute found -> o, c of o + c·rows; the largest relative error of them.

    left_out  rows that it must not know
    """
    points = [point for point in compute["points"] if point["rows"] not in left_out]
    if len(points) < 2:
        raise ConfigError("too few images for the model: give a larger --batch")
    rows = np.array([point["rows"] for point in points])
    whole = compute["whole"] * rows * ranks_that_compute()  # w·B of these steps
    times = np.array([point["slowest"] for point in points]) - whole
    c, o = np.polyfit(rows, times, 1, w=1 / times)
    return (float(o), float(c)), float(np.abs((o + c * rows) / times - 1).max())


def model(found, size, batch, network):
    """-> predicted seconds of a step: compute and waiting, collectives

    found    of measure_compute, with its fit
    network  latency, rate
    """
    (o, c), (latency, rate), steps = found["fit"], network, ceil(log2(size))
    large = sum(2 * steps * latency + 2 * (size - 1) / size * n / rate for n in found["gradients"])
    compute = o + c * batch / size + found["whole"] * batch
    return compute, found["small"] * steps * latency + large


def predict(found, batch, network):
    """-> way to grow -> ranks -> {"seconds", "efficiency"}

    efficiency  of the time of one rank, which has the whole batch, or as many images as each
    """
    alone = sum(model(found, 1, batch, network))
    predicted = {}
    for way in SAME:
        predicted[way] = {}
        for n in PREDICTED:
            if way == "same images on each rank":
                seconds, ideal = sum(model(found, n, n * batch, network)), alone
            elif n * one_rank.FEWEST > batch:
                break
            else:
                seconds, ideal = sum(model(found, n, batch, network)), alone / n
            predicted[way][n] = {"seconds": seconds, "efficiency": ideal / seconds}
    return predicted


# -- measured -----------------------------------------------------------------------------------


def spread(values, scale=1.0, digits=2):
    """-> "median (lowest to highest)" """
    low, middle, high = (scale * each for each in (min(values), median(values), max(values)))
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def ratio(one, other):
    """-> one's seconds over the other's in each turn."""
    return [a["seconds"] / b["seconds"] for a, b in zip(one, other, strict=True)]


def measure(options, log):
    """-> the measurement as a record; see results.py."""
    sizes, cores = [n for n in options.ranks if n > 1], machine.cores()
    compared = [n for n in sizes if n <= cores]
    runs = {engine: (engine, 1) for engine in one_rank.ENGINES}
    runs |= {f"{n} ranks": ("ranks", n) for n in sizes}
    if compared:
        runs["compute"] = ("compute", ranks_that_compute())
    turns, names = {name: [] for name in runs}, list(runs)
    for i in range(options.rounds):  # so that a slow minute hits all of them
        for name in names[i % len(names) :] + names[: i % len(names)]:  # nobody is always first
            engine, ranks = runs[name]
            turns[name].append(start(engine, options, ranks, limit=float("inf")))
        log(f"turn {i + 1} of {options.rounds}")
    log(f"{options.preset}, width {options.width}, batch {options.batch}, {cores} cores:")
    for name in names:
        if name != "compute":
            times = [each["seconds"] for each in turns[name]]
            over = spread(ratio(turns[name], turns["forked processes"]))
            log(f"  {name:18} {spread(times, 1000):>30} ms, {over} of forked processes")
    found = {"turns": turns, "ratios": {}}
    for n in sizes:
        ranks = turns[f"{n} ranks"]
        found["ratios"][n] = report_ranks(n, ranks, log)
        if n in compared:
            found["ratios"][n]["model"] = report_model(n, ranks, turns["compute"], options, log)
    return results.new_record(
        "ranks", machine.facts(None), options, seconds=options.seconds, **found
    )


def report_ranks(n, turns, log):
    """What ranks measured -> {"synchronized BatchNorm"}: over the step without it, in each turn"""
    first = turns[0]
    log(
        f"{n} ranks: a step has {first['small']} small collectives of {first['bytes']:,} bytes "
        f"together, and gradients of {', '.join(f'{x:,}' for x in first['gradients'])} bytes"
    )
    latency, rate = ([each[name] for each in turns] for name in ("latency", "rate"))
    log(
        f"  an all-reduce takes {spread(latency, 1e6, 1)} µs for each doubling of ranks, "
        f"and moves {spread(rate, 1e-9)} GB/s"
    )
    overhead = [each["seconds"] / each["own"] for each in turns]
    log(f"  with synchronized BatchNorm it takes {spread(overhead, digits=3)} of one without")
    waiting = [each["slowest"] / each["mean"] - 1 for each in turns]
    log(f"  waiting for the slowest rank takes {spread(waiting, 100, 1)} % of a rank's compute")
    return {"synchronized BatchNorm": overhead}


def report_model(n, turns, computes, options, log):
    """-> measured over predicted seconds of a step on n ranks, in each turn"""
    ratios, parts = [], []
    for measured, compute in zip(turns, computes, strict=True):
        found = compute | {"fit": fit(compute, left_out=[options.batch // n])[0]}
        parts.append(model(found, n, options.batch, latency_and_rate(options, measured)))
        ratios.append(measured["seconds"] / sum(parts[-1]))
    compute, collectives = map(median, zip(*parts, strict=True))
    log(
        f"  predicted: {1000 * compute:.2f} ms for compute and waiting, {1000 * collectives:.2f} "
        f"for collectives; measured {spread(ratios)} of the prediction"
    )
    is_close = abs(median(ratios) - 1) <= CLOSE
    log(f"  within {CLOSE:.0%} of the prediction: {'yes' if is_close else 'NO'}")
    return ratios


# -- predicted ----------------------------------------------------------------------------------


def measure_for_prediction(options, log):
    """-> a record: the model of a preset, and what it predicts."""
    ranks = ranks_that_compute()
    found = start("compute", options, ranks, limit=LIMIT * options.seconds)
    found["fit"], found["fit_error"] = fit(found)
    network = latency_and_rate(options, found)
    found["predicted"] = predict(found, options.batch, network)
    found["network"] = options.network  # None: this machine's
    o, c = found["fit"]
    rows = [point["rows"] for point in found["points"]]
    log(
        f"{options.preset}, width {options.width}, batch {options.batch}: "
        f"{1000 * o:.1f} ms + {1000 * c:.2f} an image of a rank, by {rows[0]} to {rows[-1]} of "
        f"them, to {found['fit_error']:.0%}; {1e6 * found['whole']:.1f} µs an image of the batch; "
        f"{found['small']} small collectives, {sum(found['gradients']) / 2**20:.1f} MiB"
    )
    for way, predicted in found["predicted"].items():
        cells = [
            f"{n} ranks {1000 * each['seconds']:,.1f} ms ({each['efficiency']:.0%})"
            if (each := predicted.get(n))
            else f"{n} ranks: too few images"
            for n in SHOWN
        ]
        log(f"  {way}: {', '.join(cells)}")
    facts = machine.facts(None)
    return results.new_record("ranks predicted", facts, options, seconds=options.seconds, **found)


def plot(records, path):
    """Predicted efficiency over the number of ranks: a panel for each way, a line a preset."""
    from minigan.report.plots import COLORS, drawing

    network = "latency and rate of this machine"
    if records[0]["network"]:
        network = "{:g} µs, {:g} GB/s".format(*records[0]["network"])
    with drawing(10, 4.6) as figure:
        panels = figure.subplots(1, 2, sharey=True)
        figure.suptitle("Predicted, not measured: efficiency of a step on many ranks")
        for way, axes in zip(SAME, panels, strict=True):
            for i, record in enumerate(records):
                predicted = record["predicted"][way]
                axes.semilogx(
                    list(map(int, predicted)),  # a file has them as text
                    [each["efficiency"] for each in predicted.values()],
                    color=COLORS[i % len(COLORS)],
                    linestyle="-" if i < len(COLORS) else "--",
                    marker="osv^D<>p"[i % 8],
                    markersize=3,
                    label=f"{record['preset']}, {record['batch']}",
                )
            axes.set_xscale("log", base=2)
            axes.minorticks_off()
            axes.set_xticks(PREDICTED, map(str, PREDICTED))
            axes.set(title=way, xlabel="ranks", ylim=(0, 1.05), xlim=(1.7, 600))
            axes.grid(True, alpha=0.3)
        panels[0].set_ylabel("efficiency")
        lines = panels[1].get_legend_handles_labels()
        title = f"preset, batch\n{network}"
        figure.legend(*lines, loc="outside right", title=title, handlelength=4)  # dashes show
        figure.savefig(path)


@command.command
def main(argv):
    options, records = parse(argv), []
    if not options.predict:
        results.add(options.json, measure(options, command.log))
    for name in options.predict:
        of_preset = complete(copy(options), name)
        records.append(measure_for_prediction(of_preset, command.log))
        results.add(options.json, records[-1])
    if options.plot:
        plot(records, options.plot)


if __name__ == "__main__":
    sys.exit(main())
