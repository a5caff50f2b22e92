"""How time and memory grow: python benchmarks/scaling.py --help

One thing changes and all else stays: images in a batch, width of the nets, edge of the images,
threads. Each point is its own process; those of one axis take turns. Printed for each: time of a
step per image, peak memory, and the exponent e of time ~ size^e, fitted on logarithms. Expected:
time per image falls or stays flat with the batch (e of 0 or below), grows with width^2 and edge^2
like the arithmetic, and falls as threads^-1 at best.
"""

import sys
from pathlib import Path
from statistics import median

if __name__ == "__main__":  # this checkout: its minigan, and benchmarks as a package
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np

from benchmarks import command, contenders, machine, results
from benchmarks.interleaved import BenchmarkError, Workers

AXES = {  # what changes -> its values; with a batch of one image BatchNorm has no statistics
    "batch": (2, 4, 8, 16, 32, 64, 128, 256, 512),
    "width": (16, 32, 64, 128, 256),
    "image": (28, 40, 56, 80, 112, 128),
    "threads": tuple(range(1, machine.cores() + 1)),
}
QUANTITIES = {"ms_per_image": "ms per image", "peak_mib": "peak memory, MiB"}
TURN = 0.3  # seconds


def parse(argv):
    parser = command.make_parser(
        "scaling.py",
        "Time per image and peak memory of a step, as one size grows.",
        *("preset", "width", "batch", "backend", "rounds", "json", "plot"),
        width=64,
        batch=64,
    )
    parser.add_argument(
        "--axes",
        type=command.names(AXES),
        default=list(AXES),
        help=f"what to change, of {','.join(AXES)} (default all)",
    )
    return parser.parse_args(argv)


def exponent(sizes, values):
    """-> e of values ~ sizes^e by least squares on logarithms; None for a single point."""
    if len(sizes) < 2:
        return None
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def measure_axis(axis, options, log):
    """-> [{"size", "ms_per_image", "seconds", "peak_mib"}], one per value; BLAS and versions."""
    device = "cuda" if options.backend == "cupy" else "cpu"
    target, own = contenders.target("minigan", contenders.CONTENDERS[device])
    with Workers() as workers:
        sizes = {f"{axis} {size}": size for size in AXES[axis]}
        for name, size in sizes.items():
            arguments = dict(preset=options.preset, batch=options.batch, width=options.width)
            threads = size if axis == "threads" else None
            if axis != "threads":
                arguments[axis] = size
            workers.require(name, target, arguments | own | {"device": device}, threads=threads)
        methods = dict.fromkeys(sizes, "run")
        seconds = workers.interleave(methods, options.rounds, TURN, command.quiet)
        points = []
        for name, size in sizes.items():
            images = size if axis == "batch" else options.batch
            time, memory = 1000 * median(seconds[name]) / images, workers[name].call("peak_mib")
            log(f"  {name:12} {time:9.3f} ms/image  {memory:7.0f} MiB")
            point = {"size": size, "ms_per_image": time, "seconds": seconds[name]}
            points.append(point | {"peak_mib": memory})
        return points, workers[name].call("blas"), workers[name].call("versions")


def measure(options, log):
    """-> the measurement as a record; see results.py. It is added to the file as it grows."""
    axes, facts, record = {}, machine.facts(None), None
    for axis in options.axes:
        fixed = [f"{name} {getattr(options, name)}" for name in ("width", "batch") if name != axis]
        log(f"{axis}, at {', '.join(fixed)}:")
        try:
            points, facts["blas"], versions = measure_axis(axis, options, log)
        except BenchmarkError as error:  # such as the image of a preset of one size
            log(f"  left out: {error}")
            continue
        sizes = [point["size"] for point in points]
        exponents = {name: exponent(sizes, [p[name] for p in points]) for name in QUANTITIES}
        axes[axis] = {"points": points, "exponents": exponents}
        if len(sizes) > 1:
            time, memory = exponents.values()
            log(f"  time per image ~ {axis}^{time:.2f}, peak memory ~ {axis}^{memory:.2f}")
        record = results.new_record("scaling", facts, options, versions=versions, axes=axes)
        results.add(options.json, record)
    if record is None:
        raise BenchmarkError("none of the axes could be measured")
    return record


def plot(record, path):
    """One figure: time per image above, peak memory below, a column for each axis."""
    from matplotlib.ticker import NullLocator, StrMethodFormatter

    from minigan.report.plots import drawing

    axes = record["axes"]
    with drawing(3.2 * len(axes), 5.5) as figure:
        figure.suptitle(f"{record['preset']}, {record['machine']['cpu']}")
        grid = figure.subplots(2, len(axes), squeeze=False, sharex="col")
        for panels, (axis, found) in zip(grid.T, axes.items(), strict=True):
            sizes = [point["size"] for point in found["points"]]
            for panel, name in zip(panels, QUANTITIES, strict=True):
                panel.loglog(sizes, [point[name] for point in found["points"]], "o-")
                panel.xaxis.set_minor_locator(NullLocator())
                panel.set_xticks(sizes, sizes, fontsize=7)
                panel.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
                panel.yaxis.set_minor_formatter(StrMethodFormatter("{x:g}"))
                e = found["exponents"][name]
                panel.set_title("" if e is None else f"exponent {e:.2f}")
                panel.grid(True, which="both", alpha=0.3)
            panels[1].set_xlabel(axis)
        for panel, label in zip(grid[:, 0], QUANTITIES.values(), strict=True):
            panel.set_ylabel(label)
        figure.savefig(path)


@command.command
def main(argv):
    options = parse(argv)
    record = measure(options, command.log)
    if options.plot:
        plot(record, options.plot)


if __name__ == "__main__":
    sys.exit(main())
