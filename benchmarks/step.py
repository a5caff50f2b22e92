"""One training step, or sampling, side by side with others: python benchmarks/step.py --help

On a GPU a step is timed by gpu_step.py. Else prints for each contender the time of a step, its ratio to minigan's (above 1: minigan is
faster), the rate in GFLOP/s counted from the architecture, its share of the rate of a bare
GEMM in the same run, and the peak memory of its process.
"""

import sys
from datetime import date
from pathlib import Path

if __name__ == "__main__":  # this checkout: its minigan, and benchmarks as a package
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks import contenders, gemm, gpu_step, machine, nets, precision, results
from benchmarks.command import command
from benchmarks.race import BenchmarkError, Team, summary
from minigan import get_backend
from minigan.cli.costs import net_flops, step_flops
from minigan.cli.main import Parser
from minigan.errors import ConfigError
from minigan.presets import get_preset

STEPS = 3  # whose losses are compared before the clock starts
AGREE = 1e-3  # relative, at the first step
PIXELS = 2  # of 255: by how much sampled pictures may differ
IMAGES = 10_000  # a sampling time is given for so many
TURN = 1.0  # seconds


def parse(argv):
    parser = Parser(
        prog="step.py", description="One training step of a DCGAN, side by side with others."
    )
    parser.add_argument(
        "--what", default="step", help="step, or sample: 10,000 images (default step)"
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
    parser.add_argument("--batch", type=int, default=128, help="images in a step (default 128)")
    parser.add_argument("--backend", default="numpy", help="numpy or cupy (default numpy)")
    parser.add_argument(
        "--threads", type=int, help="bind every contender to so many cores (default all)"
    )
    parser.add_argument(
        "--precision",
        default="fp32",
        help="with cupy: fp32 or tf32, for every contender (default fp32)",
    )
    parser.add_argument(
        "--against",
        help=f"of {','.join(contenders.PEERS['cpu'])} (default torch's); with cupy of "
        f"{','.join(contenders.PEERS['cuda'])} (default all)",
    )
    parser.add_argument(
        "--rounds",
        type=int,
        help=f"after 2 of warm-up (default 9); with cupy turns (default {gpu_step.TURNS})",
    )
    parser.add_argument("--json", metavar="FILE", help="add the figures to a result file")
    options = parser.parse_args(argv)
    options.device = "cuda" if options.backend == "cupy" else "cpu"
    if options.against is None:
        options.against = (
            ",".join(contenders.PEERS["cuda"])
            if options.device == "cuda"
            else "torch,torch-cl,torch-compile"
        )
    options.against = contenders.chosen(options.against, options.device)
    if options.what not in ("step", "sample"):
        raise ConfigError(f"--what must be step or sample, got {options.what!r}")
    precision.expect_known(options.precision)
    if options.precision != "fp32" and options.device == "cpu":
        raise ConfigError(f"--precision {options.precision} is a GPU's: add --backend cupy")
    if options.rounds is None:
        options.rounds = (
            gpu_step.TURNS if options.device == "cuda" and options.what == "step" else 9
        )
    nets.expect_known(options.preset)
    results.expect_common(options)
    return options


def check(team, what, log):
    """Stop unless all contenders play the same game. -> name -> losses, for the record."""
    if what == "sample":
        pictures = {name: worker.call("probes") for name, worker in team.workers.items()}
        for name, pixels in pictures.items():
            off = max(abs(a - b) for a, b in zip(pixels, pictures["minigan"], strict=True))
            if off > PIXELS:
                raise BenchmarkError(
                    f"{name} samples other pictures than minigan, {off} of 255 off: nothing was timed"
                )
        log(f"pictures agree within {PIXELS} of 255")
        return {}
    losses = {name: worker.call("losses", steps=STEPS) for name, worker in team.workers.items()}
    ours = losses["minigan"]
    log(
        "losses of minigan (D real, D fake, G): "
        + "; ".join(" ".join(f"{loss:.5f}" for loss in step) for step in ours)
    )
    for name, theirs in losses.items():
        off = [
            max(abs(a - b) / abs(b) for a, b in zip(*pair, strict=True))
            for pair in zip(theirs, ours, strict=True)
        ]
        if name != "minigan":
            log(
                f"  {name}: relative difference at steps 1 to {STEPS}: "
                + " ".join(f"{x:.1e}" for x in off)
            )
        if not off[0] <= AGREE:
            raise BenchmarkError(
                f"{name} and minigan disagree at the first step: losses {theirs[0]} and {ours[0]}, "
                f"more than {AGREE:g} apart: nothing was timed"
            )
    return losses


def measure(options, log):
    """-> the run as a record; see results.py."""
    device = options.device
    environment = (
        gpu_step.ENVIRONMENT
        if device == "cuda"
        else {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
    )
    host = nets.build(options.preset, options.batch, get_backend("numpy"), options.width)
    common = dict(
        preset=options.preset, batch=options.batch, width=options.width, image=None, device=device
    )
    exact = {"precision": options.precision} if device == "cuda" else {}
    start = dict(threads=options.threads, environment=environment)
    if options.what == "step":
        unit, method, flops = 1, "run", step_flops(host.G, host.D, options.batch, nets.RULES)
    else:
        unit, method, flops = IMAGES / options.batch, "sample", IMAGES * net_flops(host.G)[0]
    del host
    facts = machine.facts(options.threads)
    with Team() as team:
        for name in ["minigan", *options.against]:
            target, variant = contenders.target(name, device)
            if team.add(name, target, {**common, **exact, **variant}, **start) is None:
                log(f"{name}: {team.absent[name]}")
                if name == "minigan":
                    raise BenchmarkError(team.absent[name])
        losses = check(team, options.what, log)
        versions = {name: worker.call("versions") for name, worker in team.workers.items()}
        methods = dict.fromkeys(team.workers, method)
        if (
            team.add(
                "gemm",
                "benchmarks.gemm:Gemm",
                {"device": device, "edge": gemm.EDGE, **exact},
                **start,
            )
            is None
        ):
            raise BenchmarkError(team.absent["gemm"])
        facts["blas"] = team.workers["gemm"].call("blas")
        seconds, times = team.race({**methods, "gemm": "run"}, options.rounds, 2, TURN, log)
        limit = gemm.rate(min(seconds.pop("gemm")))
        rows = []
        for name in methods:
            spent = [second * unit for second in seconds[name]]
            row = {"name": name, "seconds": spent, "gflops": flops * 1e-9 / summary(spent)[0]}
            row |= {
                "peak_mib": team.workers[name].call("peak_mib"),
                "idle": team.workers[name].idle,
            }
            row |= {"per_turn": times[name], "versions": versions[name]}
            if losses:
                row["losses"] = losses[name]
            rows.append(row)
        rows += [{"name": name, "absent": why} for name, why in team.absent.items()]
    width = options.width or get_preset(options.preset).width
    return {
        "what": options.what,
        "preset": options.preset,
        "width": width,
        "batch": options.batch,
        "backend": options.backend,
        "precision": options.precision,
        "rounds": options.rounds,
        "date": date.today().isoformat(),
        "machine": facts,
        "gflop": flops * 1e-9,
        "gemm_gflops": limit,
        "contenders": rows,
    }


def table(record):
    """A record of results.py -> lines to print."""
    facts = record["machine"]
    what = "one step" if record["what"] == "step" else f"sampling {IMAGES:,} images"
    yield f"{record['preset']}, width {record['width']}, batch {record['batch']}: {what}, {record['gflop']:.1f} GFLOP"
    yield f"{facts['cpu']}, {facts['threads']} threads, Python {facts['python']}, BLAS {facts['blas']}"
    yield f"GEMM 4096x4096x4096, float32: {record['gemm_gflops']:.0f} GFLOP/s at best"
    if facts["unset"]:
        yield f"unset for the contenders: {' '.join(facts['unset'])}"
    rates = f"{'GFLOP/s':>8} {'of GEMM':>8} {'peak MiB':>9}"
    yield f"{'':14} {'ms':>8} {'lowest..highest':>17} {'x minigan':>10} {'lowest..highest':>16} {rates}"
    for row in record["contenders"]:
        if "absent" in row:
            yield f"{row['name']:14} {row['absent']}"
            continue
        middle, low, high = summary([1000 * second for second in row["seconds"]])
        ratio, least, most = summary(results.ratios(record, row))
        yield (
            f"{row['name']:14} {middle:8.1f} {f'{low:.1f}..{high:.1f}':>17} {ratio:10.2f} {f'{least:.2f}..{most:.2f}':>16}"
            f" {row['gflops']:8.0f} {row['gflops'] / record['gemm_gflops']:8.0%} {row['peak_mib']:9.0f}"
        )
    for row in record["contenders"]:
        if "versions" in row:
            yield f"{row['name']}: " + ", ".join(
                f"{name} {value}" for name, value in row["versions"].items()
            )


@command
def main(argv):
    options = parse(argv)
    on_gpu = options.device == "cuda" and options.what == "step"
    record = (gpu_step.measure if on_gpu else measure)(
        options, log=lambda line: print(line, flush=True)
    )
    print("\n".join((gpu_step.table if on_gpu else table)(record)))
    results.add(options.json, record)


if __name__ == "__main__":
    sys.exit(main())
