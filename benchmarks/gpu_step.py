"""One training step on a GPU, side by side with others: what step.py does with --backend cupy.

Every contender plays its first steps, and shows by one convolution how exact it computes, before any clock starts;
who disagrees, or is less exact than was asked for, is named and left out. Then they take turns: 30 steps to warm up,
10 blocks of 50 on the clock (blocks.py). Processes stay alive, so that another net or precision comes next in them.
"""

from datetime import date
from time import perf_counter

from benchmarks import blocks, ceilings, contenders, machine, nets, precision
from benchmarks.race import BenchmarkError, Team
from minigan import get_backend
from minigan.cli.costs import step_flops
from minigan.presets import get_preset

STEPS = 3  # whose losses are compared
LIMIT = 90  # seconds for an answer: torch.compile tries kernels for so long
TURNS = 2
ENVIRONMENT = {
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false"
}  # JAX would take three quarters of the memory for itself


def measure(options, log):
    """As step.measure, in processes of its own."""
    with Team() as team:
        return race(team, options, log)


def race(team, options, log, until=float("inf")):
    """-> the run as a record; see results.py.

    team     Team, whose workers are taken where they are there already
    options  preset, width, batch, precision, against, rounds: how many turns
    until    perf_counter() at which it should be over: contenders that would not be ready in time are left out
    """
    host = nets.build(options.preset, options.batch, get_backend("numpy"), options.width)
    flops = step_flops(host.G, host.D, options.batch, nets.RULES)
    facts, before = machine.facts(None), machine.gpu()
    common = dict(
        preset=options.preset, batch=options.batch, width=options.width, image=None, device="cuda"
    )
    common["precision"] = options.precision
    shown, reserved = {}, 0.0
    names = [*contenders.OURS, *options.against]
    for name in names:
        log(f"{name} ...")
        own = ready(team, name, common, options.precision, until - reserved, shown.get("minigan"))
        if own is None:
            log(f"{name}: {team.absent[name]}")
            if name == "minigan":
                raise BenchmarkError(f"minigan: {team.absent[name]}")
            continue
        reserved += (
            options.rounds * (blocks.WARM_UP + blocks.BLOCKS * blocks.STEPS) * own.pop("pace")
        )
        shown[name] = own
    limit = largest_product(team, options.precision)
    spent = take_turns(team, list(shown), options.rounds, log)
    rows = []
    for name in spent:
        seconds = spent[name].pop("wall")
        rate = flops * 1e-9 / blocks.spread(seconds)[0]
        rows.append(
            {"name": name, "seconds": seconds, **spent[name], "gflops": rate, **shown[name]}
        )
        rows[-1]["peak_mib"] = team.workers[name].call("peak_mib")
    rows += [{"name": name, "absent": why} for name, why in team.absent.items() if name in names]
    return {
        "what": "step",
        "preset": options.preset,
        "width": options.width or get_preset(options.preset).width,
        "batch": options.batch,
        "backend": "cupy",
        "precision": options.precision,
        "rounds": options.rounds,
        "date": date.today().isoformat(),
        "machine": facts,
        "gpu": {"before": before, "after": machine.gpu()},
        "gflop": flops * 1e-9,
        "gemm_gflops": limit,
        "contenders": rows,
    }


def ready(team, name, common, wanted, until, ours):
    """Make a contender and let it play its first steps -> what it showed; None where it cannot take part, and team.absent says why.

    ours  what minigan showed; None where it is minigan's turn
    """
    seconds = min(LIMIT, until - perf_counter())
    if seconds <= 0:
        if name in team.workers:
            team.drop(name, "")
        team.absent[name] = "no time was left for it"
        return None
    target, variant = contenders.target(name, "cuda")
    worker = team.renew(name, target, {**common, **variant}, limit=seconds, environment=ENVIRONMENT)
    if worker is None:
        return None
    try:
        own = {
            "losses": worker.call("losses", steps=STEPS),
            "conv_error": worker.call("conv_error"),
        }
        own["versions"] = worker.call("versions")
        precision.expect(own["conv_error"], wanted)
        if ours is not None:
            expect_agreement(own["losses"][0], ours["losses"][0], precision.AGREE[wanted])
        own["pace"] = worker.call("time_blocks", warm_up=3, blocks=1, steps=5)["wall"][0]
        worker.limit = LIMIT
        return own
    except BenchmarkError as error:
        team.drop(name, error)
        return None


def expect_agreement(theirs, ours, agree):
    """Losses of the first step. Raises BenchmarkError."""
    off = max(abs(a - b) / abs(b) for a, b in zip(theirs, ours, strict=True))
    if not off <= agree:
        raise BenchmarkError(
            f"disagrees with minigan at the first step: losses {theirs} and {ours}, more than {agree:g} apart"
        )


def largest_product(team, wanted):
    """-> GFLOP/s of a large product by minigan's own gemm, or None where it fails: no reason not to time the steps."""
    worker = team.renew(
        "ceilings", "benchmarks.ceilings:Ceilings", {"precision": wanted}, limit=LIMIT
    )
    try:
        return None if worker is None else worker.call("product", edge=ceilings.EDGE)
    except BenchmarkError as error:
        team.drop("ceilings", error)
        return None


def take_turns(team, names, turns, log):
    """-> name -> "wall", "events", "launch": seconds of a step in each block of all turns. Whoever breaks is dropped."""
    spent = {name: {"wall": [], "events": [], "launch": []} for name in names}
    for turn in range(turns):
        log(f"turn {turn + 1} of {turns}")
        for name in (
            names[turn % len(names) :] + names[: turn % len(names)]
        ):  # nobody is always the first
            if name not in team.workers:
                continue
            how = dict(warm_up=blocks.WARM_UP, blocks=blocks.BLOCKS, steps=blocks.STEPS)
            try:
                found = team.workers[name].call("time_blocks", **how)
            except BenchmarkError as error:
                team.drop(name, error)
                del spent[name]
                if name == "minigan":
                    raise
                continue
            for kind, seconds in found.items():
                spent[name][kind] += seconds
    return spent


def fastest(record, names):
    """-> the row of a record with the lowest median among these names, or None."""
    rows = [row for row in record["contenders"] if row["name"] in names and "seconds" in row]
    return min(rows, key=lambda row: blocks.spread(row["seconds"])[0], default=None)


def verdicts(record):
    """-> sentence by sentence: minigan's fastest way against PyTorch's, and against PyTorch's example."""
    ours = fastest(record, contenders.OURS)
    for what, names in (
        ("at its fastest", contenders.TORCH_AT_ITS_BEST),
        ("as its own example is written", ("torch-example",)),
    ):
        theirs = fastest(record, names)
        if theirs is not None:
            gain = blocks.gain(ours, theirs)
            yield f"{ours['name']} plays {gain:.2f} times as many steps in the same time as PyTorch {what} ({theirs['name']})"


def table(record):
    """A record -> lines to print."""
    net = f"{record['preset']}, width {record['width']}, batch {record['batch']}"
    yield f"{net}, {record['precision']}: one step, {record['gflop']:.1f} GFLOP"
    before, after = record["gpu"]["before"], record["gpu"]["after"]
    if before and after:
        yield f"{before['name']}, driver {before['driver']}; SM clock {before['sm_mhz']} MHz before, {after['sm_mhz']} MHz after"
    limit = record["gemm_gflops"]
    if limit:
        yield f"GEMM of {ceilings.EDGE}, {record['precision']}, by minigan: {limit:,.0f} GFLOP/s"
    yield (
        f"{'':15} {'ms':>8} {'p10..p90':>15} {'events':>8} {'launch':>8} {'images/s':>9} {'x minigan':>9} {'GFLOP/s':>8} {'of GEMM':>8}"
        f" {'conv error':>10}"
    )
    ours = next(row for row in record["contenders"] if row["name"] == "minigan")
    for row in record["contenders"]:
        if "absent" in row:
            yield f"{row['name']:15} {row['absent']}"
            continue
        middle, low, high = (1000 * seconds for seconds in blocks.spread(row["seconds"]))
        events, launch = (
            f"{1000 * blocks.spread(row[kind])[0]:.3f}" if row[kind] else "-"
            for kind in ("events", "launch")
        )
        yield (
            f"{row['name']:15} {middle:8.3f} {f'{low:.3f}..{high:.3f}':>15} {events:>8} {launch:>8} {1000 * record['batch'] / middle:9,.0f}"
            f" {blocks.gain(ours, row):9.2f} {row['gflops']:8,.0f} {f'''{row['gflops'] / limit:.0%}''' if limit else '-':>8}"
            f" {row['conv_error']:10.0e}"
        )
    yield from verdicts(record)
    for row in record["contenders"]:
        if "versions" in row:
            yield f"{row['name']}: " + ", ".join(
                f"{name} {value}" for name, value in row["versions"].items()
            )
