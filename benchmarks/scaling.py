"""How time and memory grow: python benchmarks/scaling.py --help

One thing changes, all else stays: images in a batch, width of the nets, edge of the images,
threads. Every point is a process of its own; those of one axis take turns. Printed for each:
time of a step per image, peak memory, and the exponent e of time ~ size^e, fitted on logarithms.
What to expect: time per image falls or stays flat with the batch (e of 0 or below), grows with
width^2 and edge^2 as the arithmetic does, and falls as threads^-1 at best.
"""

import sys
from datetime import date
from math import log
from pathlib import Path
from statistics import median

if __name__ == "__main__":  # this checkout: its minigan, and benchmarks as a package
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks import contenders, machine, nets, results
from benchmarks.command import command
from benchmarks.race import BenchmarkError, Team
from minigan.cli.main import Parser
from minigan.errors import ConfigError

AXES = {  # what changes -> its values; a batch of one image has no statistics for BatchNorm
    "batch": (2, 4, 8, 16, 32, 64, 128, 256, 512),
    "width": (16, 32, 64, 128, 256),
    "image": (28, 40, 56, 80, 112, 128),
    "threads": tuple(range(1, machine.cores() + 1)),
}
TURN = 0.3  # seconds


def parse(argv):
    parser = Parser(
        prog="scaling.py",
        description="Time per image and peak memory of a step, as one size grows.",
    )
    parser.add_argument("--axes", default=",".join(AXES), help="what to change (default all)")
    parser.add_argument(
        "--preset",
        default="fredriksson-mnist",
        help=f"{', '.join(nets.NAMES)} (default fredriksson-mnist)",
    )
    parser.add_argument(
        "--width", type=int, default=64, help="where it is not what changes (default 64)"
    )
    parser.add_argument("--batch", type=int, default=64, help="likewise (default 64)")
    parser.add_argument("--backend", default="numpy", help="numpy or cupy (default numpy)")
    parser.add_argument("--rounds", type=int, default=7, help="after 2 of warm-up (default 7)")
    parser.add_argument("--json", metavar="FILE", help="add the figures to a result file")
    parser.add_argument(
        "--plot", metavar="FILE", help="draw them, as .png or .svg; wants matplotlib"
    )
    options = parser.parse_args(argv)
    results.expect_common(options)
    nets.expect_known(options.preset)
    options.axes = list(dict.fromkeys(options.axes.split(",")))
    for axis in options.axes:
        if axis not in AXES:
            raise ConfigError(f"--axes: unknown axis {axis!r}: choose of {','.join(AXES)}")
    return options


def exponent(sizes, values):
    """-> e of values ~ sizes^e by least squares on logarithms, or None for a single point."""
    if len(sizes) < 2:
        return None
    x, y = [log(size) for size in sizes], [log(value) for value in values]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / sum(
        (a - mean_x) ** 2 for a in x
    )


def measure_axis(axis, options, log):
    """-> [{"size", "ms_per_image", "seconds", "peak_mib"}], one for each value; BLAS and versions."""
    device = "cuda" if options.backend == "cupy" else "cpu"
    with Team() as team:
        sizes = {}
        for size in AXES[axis]:
            given = dict(
                preset=options.preset,
                batch=options.batch,
                width=options.width,
                image=None,
                device=device,
            )
            threads = size if axis == "threads" else None
            if axis != "threads":
                given[axis] = size
            name = f"{axis} {size}"
            target, variant = contenders.target("minigan", device)
            if team.add(name, target, given | variant, threads=threads) is None:
                raise BenchmarkError(f"{name}: {team.absent[name]}")
            sizes[name] = size
        seconds, _ = team.race(
            dict.fromkeys(sizes, "run"), options.rounds, 2, TURN, log=lambda line: None
        )
        points = []
        for name, size in sizes.items():
            images = size if axis == "batch" else options.batch
            point = {
                "size": size,
                "ms_per_image": 1000 * median(seconds[name]) / images,
                "seconds": seconds[name],
            }
            points.append(point | {"peak_mib": team.workers[name].call("peak_mib")})
            log(
                f"  {name:12} {point['ms_per_image']:9.3f} ms/image  {points[-1]['peak_mib']:7.0f} MiB"
            )
        worker = team.workers[name]
        return points, worker.call("blas"), worker.call("versions")


def measure(options, log):
    """-> the run as a record; see results.py."""
    axes, facts = {}, machine.facts(None)
    for axis in options.axes:
        fixed = ", ".join(
            f"{name} {getattr(options, name)}" for name in ("width", "batch") if name != axis
        )
        log(f"{axis}, at {fixed}:")
        points, facts["blas"], versions = measure_axis(axis, options, log)
        sizes = [point["size"] for point in points]
        exponents = {
            name: exponent(sizes, [point[name] for point in points])
            for name in ("ms_per_image", "peak_mib")
        }
        axes[axis] = {"points": points, "exponents": exponents}
        if None not in exponents.values():
            log(
                f"  time per image ~ {axis}^{exponents['ms_per_image']:.2f}, peak memory ~ {axis}^{exponents['peak_mib']:.2f}"
            )
    return {
        "what": "scaling",
        "preset": options.preset,
        "width": options.width,
        "batch": options.batch,
        "backend": options.backend,
        "rounds": options.rounds,
        "date": date.today().isoformat(),
        "machine": facts,
        "versions": versions,
        "axes": axes,
    }


def plot(record, path):
    """One figure: time per image above, peak memory below, a column for each axis."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    axes = record["axes"]
    figure, grid = pyplot.subplots(
        2, len(axes), figsize=(3.2 * len(axes), 5.5), squeeze=False, sharex="col"
    )
    for column, (axis, found) in enumerate(axes.items()):
        sizes = [point["size"] for point in found["points"]]
        for row, (name, label) in enumerate(
            (("ms_per_image", "ms per image"), ("peak_mib", "peak memory, MiB"))
        ):
            panel, e = grid[row][column], found["exponents"][name]
            panel.loglog(sizes, [point[name] for point in found["points"]], "o-")
            panel.xaxis.set_minor_locator(ticker.NullLocator())
            panel.set_xticks(sizes, sizes, fontsize=7)
            for numbers in (panel.yaxis.set_major_formatter, panel.yaxis.set_minor_formatter):
                numbers(ticker.StrMethodFormatter("{x:g}"))
            panel.tick_params(axis="y", which="both", labelsize=7)
            panel.set_title("" if e is None else f"exponent {e:.2f}", fontsize=9)
            panel.grid(True, which="both", alpha=0.3)
            if column == 0:
                panel.set_ylabel(label)
        grid[1][column].set_xlabel(axis)
    figure.suptitle(f"{record['preset']}, {record['machine']['cpu']}", fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def expect_plot(path):
    """-> may it be drawn? Says how to get matplotlib where it lacks. Raises ConfigError for a bad name."""
    if path is None:
        return False
    if Path(path).suffix not in (".png", ".svg") or not Path(path).resolve().parent.is_dir():
        raise ConfigError(f"--plot must be a .png or .svg in a folder that exists, got {path!r}")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        print("no plot: pip install matplotlib draws one", file=sys.stderr)
        return False
    return True


@command
def main(argv):
    options = parse(argv)
    drawn = expect_plot(options.plot)
    record = measure(options, log=lambda line: print(line, flush=True))
    results.add(options.json, record)
    if drawn:
        plot(record, options.plot)


if __name__ == "__main__":
    sys.exit(main())
