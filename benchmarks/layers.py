"""Each layer alone, in several variants side by side: python benchmarks/layers.py --help

For each layer of the real nets, forward, dx and dW in milliseconds: by the definition in its file,
by the backend's version of it, and by PyTorch. Each variant is checked against the definition
before it is timed. The last column is the best rate, in GFLOP/s of a direct convolution.
"""

import sys
from pathlib import Path
from statistics import median

if __name__ == "__main__":  # this checkout: its minigan, and benchmarks as a package
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks import command, machine, nets, results
from benchmarks.interleaved import BenchmarkError, Workers
from benchmarks.variants import VARIANTS, passes
from minigan import get_backend
from minigan.cli.costs import forward_flops
from minigan.errors import ConfigError
from minigan.presets import get_preset

AGREE = 1e-4  # relative to the definition's largest value, in float32
TURN = 0.15  # seconds


def parse(argv):
    parser = command.make_parser(
        "layers.py",
        "Forward, dx and dW of each layer, in several variants.",
        *("preset", "width", "batch", "backend", "threads", "rounds", "json"),
    )
    parser.add_argument("--layers", help='as G.4,D.3, or "all" (default those with a weight W)')
    parser.add_argument(
        "--variants",
        type=command.names(VARIANTS),
        default=list(VARIANTS),
        help=f"of {','.join(VARIANTS)} (default all)",
    )
    options = parser.parse_args(argv)
    options.width = options.width or get_preset(options.preset).width
    return options


def chosen_layers(options):
    """-> "G.4" -> layer, in order."""
    host = nets.build(options.preset, options.batch, get_backend("plain"), options.width)
    found = {
        f"{name}.{i}": layer
        for name, net in (("G", host.G), ("D", host.D))
        for i, layer in enumerate(net.layers)
        if type(layer).__name__ not in ("Reshape", "Flatten")
    }
    if options.layers is None:
        return {path: layer for path, layer in found.items() if forward_flops(layer)}
    if options.layers == "all":
        return found
    for path in options.layers.split(","):
        if path not in found:
            raise ConfigError(f"--layers: no layer {path!r}: choose from {','.join(found)}")
    return {path: found[path] for path in options.layers.split(",")}


def measure(options, log):
    """-> the measurement as a record; see results.py."""
    device = "cuda" if options.backend == "cupy" else "cpu"
    common = dict(preset=options.preset, batch=options.batch, width=options.width, device=device)
    rows, layers, facts = [], chosen_layers(options), machine.facts(options.threads)
    with Workers() as workers:
        for name in options.variants:
            kind, own = VARIANTS[name]
            target = f"benchmarks.variants:{kind}"
            if not workers.add(name, target, common | own, threads=options.threads):
                log(f"{name}: {workers.absent[name]}")
        if not workers:
            raise BenchmarkError("no variant is available here")
        versions = {name: worker.call("versions") for name, worker in workers.items()}
        facts["blas"] = next(iter(workers.values())).call("blas")
        for path, layer in layers.items():
            gflop = forward_flops(layer) * options.batch * 1e-9
            log(f"{path} {layer.describe()}: {gflop:.2f} GFLOP a pass")
            errors = {}
            for name, worker in workers.items():
                worker.call("use", net=path[0], index=int(path[2:]))
                errors[name] = worker.call("check")
                if not max(errors[name].values()) <= AGREE:
                    raise BenchmarkError(
                        f"{path} ({layer.describe()}): {name} differs from the definition: "
                        f"{errors[name]}"
                    )
            log(f"  {'ms':8}" + "".join(f"{f'{name} (lowest..highest)':>34}" for name in workers))
            for which in passes(layer):
                methods = dict.fromkeys(workers, which)
                seconds = workers.interleave(methods, options.rounds, TURN, command.quiet)
                of_pass = {name: off[which] for name, off in errors.items()}
                place = {"layer": path, "describe": layer.describe(), "pass": which}
                rows.append({**place, "gflop": gflop, "seconds": seconds, "errors": of_pass})
                log(line(rows[-1]))
    found = dict(versions=versions, layers=rows, absent=workers.absent)
    return results.new_record("layers", facts, options, **found)


def line(row):
    """A row -> one line: median and spread of each variant, and the best one's rate."""
    cells = ""
    for seconds in row["seconds"].values():
        low, middle, high = (1000 * f(seconds) for f in (min, median, max))
        cells += f"{f'{middle:.2f} ({low:.2f}..{high:.2f})':>34}"
    best = min(map(median, row["seconds"].values()))
    rate = f"  best {row['gflop'] / best:.0f} GFLOP/s" if row["gflop"] else ""
    return f"  {row['pass']:8}{cells}{rate}"


@command.command
def main(argv):
    options = parse(argv)
    results.add(options.json, measure(options, command.log))


if __name__ == "__main__":
    sys.exit(main())
