"""Each layer alone, in several versions side by side: python benchmarks/layers.py --help

For every layer of the real nets, forward, dx and dW in milliseconds: by the definition in its
own file, by what the backend has for it, and by PyTorch. Each version is checked against the
definition before it is timed. The last column is the best rate, in GFLOP/s of a direct convolution.
"""

import sys
from datetime import date
from pathlib import Path

if __name__ == "__main__":  # this checkout: its minigan, and benchmarks as a package
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks import machine, nets, results
from benchmarks.command import command
from benchmarks.race import BenchmarkError, Team, summary
from benchmarks.rungs import RUNGS, passes
from minigan import get_backend
from minigan.cli.costs import forward_flops
from minigan.cli.main import Parser
from minigan.errors import ConfigError
from minigan.presets import get_preset

AGREE = 1e-4  # relative to the definition's largest value, in float32
TURN = 0.15  # seconds


def parse(argv):
    parser = Parser(
        prog="layers.py", description="Forward, dx and dW of each layer, in several versions."
    )
    parser.add_argument(
        "--preset",
        default="fredriksson-mnist",
        help=f"{', '.join(nets.NAMES)} (default fredriksson-mnist)",
    )
    parser.add_argument(
        "--width",
        type=int,
        help="channels of the feature maps next to the image (default the preset's)",
    )
    parser.add_argument("--batch", type=int, default=128, help="images (default 128)")
    parser.add_argument("--backend", default="numpy", help="numpy or cupy (default numpy)")
    parser.add_argument(
        "--threads", type=int, help="bind every version to so many cores (default all)"
    )
    parser.add_argument(
        "--layers", help='such as G.4,D.3, or "all" (default those with a weight W)'
    )
    parser.add_argument("--rungs", default=",".join(RUNGS), help="the versions (default all)")
    parser.add_argument("--rounds", type=int, default=7, help="after 2 of warm-up (default 7)")
    parser.add_argument("--json", metavar="FILE", help="add the figures to a result file")
    options = parser.parse_args(argv)
    results.expect_common(options)
    nets.expect_known(options.preset)
    options.rungs = list(dict.fromkeys(["definition", *options.rungs.split(",")]))
    for name in options.rungs:
        if name not in RUNGS:
            raise ConfigError(f"--rungs: unknown version {name!r}: choose of {','.join(RUNGS)}")
    return options


def chosen(options):
    """-> [(net, index, layer)] in order."""
    host = nets.build(options.preset, options.batch, get_backend("numpy"), options.width)
    found = {
        f"{name}.{i}": (name, i, layer)
        for name in "GD"
        for i, layer in enumerate(getattr(host, name).layers)
    }
    found = {
        path: each
        for path, each in found.items()
        if type(each[2]).__name__ not in ("Reshape", "Flatten")
    }
    if options.layers is None:
        return [each for each in found.values() if forward_flops(each[2])]
    if options.layers == "all":
        return list(found.values())
    for path in options.layers.split(","):
        if path not in found:
            raise ConfigError(f"--layers: no layer {path!r}: choose of {','.join(found)}")
    return [found[path] for path in options.layers.split(",")]


def measure(options, log):
    """-> the run as a record; see results.py."""
    device = "cuda" if options.backend == "cupy" else "cpu"
    common = dict(preset=options.preset, batch=options.batch, width=options.width, device=device)
    rows, layers, facts = [], chosen(options), machine.facts(options.threads)
    with Team() as team:
        for name in options.rungs:
            kind, variant = RUNGS[name]
            if (
                team.add(
                    name, f"benchmarks.rungs:{kind}", {**common, **variant}, threads=options.threads
                )
                is None
            ):
                log(f"{name}: {team.absent[name]}")
        if "definition" in team.absent:
            raise BenchmarkError(team.absent["definition"])
        versions = {name: worker.call("versions") for name, worker in team.workers.items()}
        facts["blas"] = team.workers["definition"].call("blas")
        for net, index, layer in layers:
            for worker in team.workers.values():
                worker.call("use", net=net, index=index)
            errors = {name: worker.call("check") for name, worker in team.workers.items()}
            for name, off in errors.items():
                if not max(off.values()) <= AGREE:
                    raise BenchmarkError(
                        f"{net}.{index} ({layer.describe()}): {name} differs from the definition: {off}"
                    )
            gflop = forward_flops(layer) * options.batch * 1e-9
            largest = ", ".join(
                f"{name} {max(off.values()):.0e}"
                for name, off in errors.items()
                if name != "definition"
            )
            log(
                f"{net}.{index} {layer.describe()}: {gflop:.2f} GFLOP a pass; largest error: {largest}"
            )
            log(heading(team.workers))
            for which in passes(layer):
                seconds, _ = team.race(
                    dict.fromkeys(team.workers, which),
                    options.rounds,
                    2,
                    TURN,
                    log=lambda line: None,
                )
                rows.append(
                    {
                        "layer": f"{net}.{index}",
                        "describe": layer.describe(),
                        "pass": which,
                        "gflop": gflop,
                        "seconds": seconds,
                        "errors": {name: off[which] for name, off in errors.items()},
                    }
                )
                log(line(rows[-1]))
    width = options.width or get_preset(options.preset).width
    return {
        "what": "layers",
        "preset": options.preset,
        "width": width,
        "batch": options.batch,
        "backend": options.backend,
        "rounds": options.rounds,
        "date": date.today().isoformat(),
        "machine": facts,
        "versions": versions,
        "layers": rows,
        "absent": team.absent,
    }


def heading(names):
    """-> the line above the figures."""
    return f"  {'ms':8}" + "".join(f"{f'{name} (lowest..highest)':>34}" for name in names)


def line(row):
    """A row -> one line: median and spread of each version, and the best one's rate."""
    cells, middles = "", []
    for seconds in row["seconds"].values():
        middle, low, high = (1000 * value for value in summary(seconds))
        middles.append(middle)
        cells += f"{f'{middle:.2f} ({low:.2f}..{high:.2f})':>34}"
    rate = f"  best {1000 * row['gflop'] / min(middles):.0f} GFLOP/s" if row["gflop"] else ""
    return f"  {row['pass']:8}{cells}{rate}"


@command
def main(argv):
    options = parse(argv)
    results.add(options.json, measure(options, log=lambda text: print(text, flush=True)))


if __name__ == "__main__":
    sys.exit(main())
