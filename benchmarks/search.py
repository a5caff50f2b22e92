"""Which nets and numbers draw the best images in a given time? python benchmarks/search.py --help

A candidate is a preset of minigan's own (mnist, color32, image64) with changes, as text:
"batch_size=64 lr_g=4e-3", or "net=start7" (search_nets.py). First its step is timed beside the
preset's: both take turns, and the fastest of each counts, which nothing else disturbed. Candidates
that differ only in numbers that cost no time share one timing. From that, and from the fastest step
of the preset, follows how many steps fit into the time.
Then it is trained for that many steps, and the LeNet Fréchet distance of its samples is measured,
of G as it is and of averages of G's weights; with several times, on the way. The training itself
depends on no clock: another run of the same steps gives the same images. So several may be trained
at once (--at-once), on one thread each.

One seed says little about a difference of a tenth; run the best few again with more seeds.
"""

import sys
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from statistics import geometric_mean
from time import perf_counter

if __name__ == "__main__":  # this checkout: its minigan, and benchmarks as a package
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks import command, machine, quality, results
from benchmarks.search_nets import COLOR_NETS, NETS
from minigan.averaging import Average
from minigan.errors import ConfigError
from minigan.presets import get_preset, own
from minigan.training.config import new_config
from minigan.training.game import Game
from minigan.training.loop import make_batches
from minigan.training.open_game import load_images

CANDIDATES = (  # of mnist, one change each; the first is the preset as it is
    "",
    *(f"width={width}" for width in (8, 24, 32)),
    "batch_size=32",
    "batch_size=128",
    "lr_g=4e-3 lr_d=2e-3",
    "lr_g=8e-3 lr_d=2e-3",
    "lr_g=8e-3 lr_d=8e-3",
    "lr_g=1.6e-2 lr_d=8e-3",
    "beta1=0.5",
    "beta2=0.99",
    *(f"z_dim={size}" for size in (16, 32, 100)),
    "z=uniform",
    "real_target=0.9",
    *(f"net={name}" for name in NETS if name != "start3-deep"),
)
COLOR_CANDIDATES = (  # of color32 and image64
    "",
    "r1=0.1",
    "r1=1",
    "lr_g=1e-3 lr_d=2e-3",
    "lr_g=1e-4 lr_d=2e-4",
    "lr_decay=2000",
    "lr_decay=20000",
    "beta1=0.5",
    *(f"width={width}" for width in (12, 32)),
    "batch_size=32",
    "batch_size=128",
    "z_dim=100",
    "d_steps=2",
    "upsample=transposed",
    "loss=lsgan",
    "loss=hinge",
    "spectral_norm=true",
    *(f"net={name}" for name in COLOR_NETS),
    "r1=0 lr_g=1e-3 lr_d=5e-4 lr_decay=0",
    "r1=0 spectral_norm=true lr_decay=0",
    "r1=0 loss=hinge spectral_norm=true lr_decay=0",
)
OPTIONS = (  # of Config
    "batch_size", "beta1", "classes", "d_steps", "flip", "loss", "lr_d", "lr_decay", "lr_g",
    "r1", "real_target", "spectral_norm", "upsample", "weight_decay", "width", "z", "z_dim",
)  # fmt: skip
# what a step's time depends on
COST = (
    "net=", "width=", "batch_size=", "classes=", "z_dim=", "d_steps=", "upsample=",
    "r1=", "spectral_norm=",
)  # fmt: skip
DECAYS = (0.0, 0.99, 0.995, 0.998)  # of averages of G's weights; 0: G as it is
ROUNDS, STEPS = 12, 6  # of the timing, and of each turn


def parse_candidate(text, nets=NETS):
    """ "lr_g=1e-3 net=start7" -> changed options of Config, changed fields of the preset."""
    options, changed = {}, {}
    for word in text.split():
        name, _, value = word.partition("=")
        if name in OPTIONS:
            options[name] = number(value)
        elif name == "net" and value in nets:
            changed |= nets[value]
        elif name == "beta2":
            changed["settings"] = {"beta2": number(value)}
        else:
            raise ConfigError(
                f"candidate {text!r}: cannot read {word!r}: expected NAME=VALUE, of "
                f"{', '.join(OPTIONS)}, beta2, or net={'|'.join(nets)}"
            )
    return options, changed


def number(text):
    """-> int, float, true or false if it is one, else the text."""
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def numbers(text):
    """ "180,900" -> [180.0, 900.0]"""
    return [float(each) for each in text.split(",")]


@contextmanager
def changed_preset(name, changed):
    """Within, this preset has these fields; a Game that was made within keeps them."""
    before = own.PRESETS[name]
    own.PRESETS[name] = replace(before, **changed)
    try:
        yield
    finally:
        own.PRESETS[name] = before


def nets_of(base):
    """-> the nets that candidates may name."""
    return NETS if base["preset"] == "mnist" else COLOR_NETS


def config_of(base, options, seed=0):
    """-> Config of the preset and the data in `base`, with a candidate's options."""
    return new_config({**base, "seed": seed, "ema": 0.0, "steps": 1, **options})


def make(base, text, data, seed):
    """-> Game of a candidate at its start, its Batches."""
    options, changed = parse_candidate(text, nets_of(base))
    with changed_preset(base["preset"], changed):
        game = Game(config_of(base, options, seed))
    return game, make_batches(game, data)


def cost_of(text, has_r1=True):
    """-> the part of a candidate that a step's time depends on.

    has_r1  what it changes pays R1 already: then only to leave it out changes the time
    """
    words = [word for word in text.split() if word.startswith(COST)]
    free = ("r1=",) if has_r1 else ()
    return " ".join(word for word in words if not word.startswith(free) or word == "r1=0")


def time_step(base, text, data):
    """-> seconds of a step of the preset; the candidate's time over the preset's."""
    players, seconds = [make(base, "", data, 0), make(base, text, data, 0)], []
    for _ in range(ROUNDS):
        marks = [perf_counter()]
        for game, batches in players:
            for _ in range(STEPS):
                game.round(batches)
            marks.append(perf_counter())
        seconds.append([(end - start) / STEPS for start, end in pairwise(marks)])
    ours, theirs = map(min, zip(*seconds, strict=True))
    return ours, theirs / ours


def train(base, text, data, seed, stops, decays, evaluator):
    """-> LeNet Fréchet distance after each of these numbers of steps: decay -> distances."""
    game, batches = make(base, text, data, seed)
    nets = {decay: game.G if decay == 0 else game.make_generator("average") for decay in decays}
    averages = [Average(net, game.G, decay) for decay, net in nets.items() if decay]
    distances = {decay: [] for decay in decays}
    for step in range(1, max(stops) + 1):
        game.round(batches)
        for average in averages:
            average.update()
        for _ in range(stops.count(step)):
            for decay, game.drawn_from in nets.items():
                images = game.sample(evaluator.samples, game.stream("evaluation"))
                distances[decay].append(evaluator.distance(images))
    return distances


def train_alone(options, text, seed, stops):
    """The same in another process, on one thread."""
    base, config = options.base | {"threads": 1}, options.config
    data = load_images(config, get_preset(config.preset), options.data_dir, command.quiet)
    evaluator = quality.Evaluator(options, data, command.quiet)
    return train(base, text, data, seed, stops, options.averages, evaluator)


def parse(argv):
    parser = command.make_parser(
        "search.py", "Which nets and numbers draw the best images in a given time?", "json"
    )
    quality.add_data_options(parser)
    parser.add_argument(
        "--preset", choices=own.PRESETS, default="mnist", help="what to change (default mnist)"
    )
    parser.add_argument(
        "candidates",
        nargs="*",
        help='as "batch_size=64 lr_g=4e-3", "net=start7", or "", the preset (default a list)',
    )
    parser.add_argument(
        "--seconds", type=numbers, default=[120.0], help="of training, as 120 or 180,900 (120)"
    )
    parser.add_argument(
        "--step-ms", type=float, help="of a step of the preset (default the fastest measured)"
    )
    parser.add_argument(
        "--seeds", type=command.whole(1), default=1, help="runs of each (default 1)"
    )
    parser.add_argument(
        "--at-once", type=command.whole(1), default=1, help="trainings side by side (default 1)"
    )
    parser.add_argument(
        "--averages",
        type=numbers,
        default=list(DECAYS),
        help=f"decays to measure; 0: G as it is (default {','.join(map(str, DECAYS))})",
    )
    options = parser.parse_args(argv)
    base = options.base = {"preset": options.preset} | quality.data_of(options)
    listed = CANDIDATES if options.preset == "mnist" else COLOR_CANDIDATES
    texts = options.candidates or listed
    options.candidates = list(dict.fromkeys(" ".join(text.split()) for text in texts))
    for text in options.candidates:
        config_of(base, parse_candidate(text, nets_of(base))[0])
    step_ms = [] if options.step_ms is None else [options.step_ms]
    for name, values in (("seconds", options.seconds), ("step-ms", step_ms)):
        if not all(0 < value < float("inf") for value in values):
            raise ConfigError(f"--{name} must be above 0, got {min(values):g}")
    if not all(0 <= decay < 1 for decay in options.averages):
        raise ConfigError("--averages must be decays of at least 0 and below 1, as 0,0.99")
    options.config = config_of(base, {})
    return options


def measure(options, log):
    """-> the search as a record; see results.py. It is added to the file as it grows."""
    config, base = options.config, options.base
    data = load_images(config, get_preset(config.preset), options.data_dir, log)
    evaluator = quality.Evaluator(options, data, log)
    for text in options.candidates:
        classes = parse_candidate(text, nets_of(base))[0].get("classes", 0)
        if classes not in (0, len(data.classes)):
            raise ConfigError(f"classes={classes}: {data.name} has {len(data.classes)} classes")
    cost_here = partial(cost_of, has_r1=config.r1 > 0)
    times = {"": (time_step(base, "", data)[0], 1.0)}
    for cost in map(cost_here, options.candidates):
        if cost not in times:
            times[cost] = time_step(base, cost, data)
            log(f"{cost}: a step takes {times[cost][1]:.2f} x the preset's")
    step_ms = options.step_ms or 1000 * min(seconds for seconds, _ in times.values())
    log(f"a step of the preset: {step_ms:.1f} ms")
    head = dict(preset=config.preset, width=config.width, batch=config.batch_size, backend="numpy")
    head |= dict(data=data.name, seconds=options.seconds, seeds=options.seeds, step_ms=step_ms)
    head |= evaluator.record() | {"config": quality.described(config)}
    jobs, facts = [], machine.facts(None)
    for text in options.candidates:
        step = step_ms / 1000 * times[cost_here(text)][1]
        stops = [max(1, int(seconds / step)) for seconds in options.seconds]
        jobs += [(text, seed, stops) for seed in range(options.seeds)]
    rows = []
    with ProcessPoolExecutor(options.at_once, get_context("spawn")) as pool:
        found = (train(base, text, data, *job, options.averages, evaluator) for text, *job in jobs)
        if options.at_once > 1:
            found = pool.map(partial(train_alone, options), *zip(*jobs, strict=True))
        for text, _, stops in jobs[:: options.seeds]:
            of_seeds = [next(found) for _ in range(options.seeds)]
            ratio = times[cost_here(text)][1]
            for i, (seconds, steps) in enumerate(zip(options.seconds, stops, strict=True)):
                distances = {
                    str(decay): [each[decay][i] for each in of_seeds] for decay in options.averages
                }
                row = {"candidate": text or config.preset, "ratio": ratio, "seconds": seconds}
                rows.append(row | {"steps": steps, "distances": distances})
                log(line(rows[-1]))
            record = results.new_record("search", facts, options, **head, candidates=rows)
            results.add(options.json, record)
    return record


def line(row):
    """-> a line of the table."""
    means = [f"{geometric_mean(each):8.2f}" for each in row["distances"].values()]
    seconds = f"{row['seconds']:7g} " if "seconds" in row else ""  # not in older records
    return f"{row['candidate']:32} {row['ratio']:6.2f} {seconds}{row['steps']:7} {' '.join(means)}"


def table(record):
    """A record -> lines to print, the best candidate first."""
    facts, seeds = record["machine"], record["seeds"]
    yield (
        f"{facts['cpu']}, {facts['threads']} threads: {record['seconds']} s of training, "
        f"{record['step_ms']:.1f} ms for a step of {record['preset']}"
    )
    yield (
        f"LeNet Fréchet distance of {record['samples']:,} samples by classifier "
        f"{record['judge']['name']}, {record['floor']:.2f} for as many real images; {seeds} "
        f"seed{'s' * (seeds > 1)}, their geometric mean; by decay of the average of G's weights"
    )
    decays = " ".join(f"{decay:>8}" for decay in record["candidates"][0]["distances"])
    seconds = f"{'seconds':>7} " if "seconds" in record["candidates"][0] else ""
    yield f"{'candidate':32} {'time':>6} {seconds}{'steps':>7} {decays}"

    def best(row):
        return row.get("seconds"), min(map(geometric_mean, row["distances"].values()))

    yield from map(line, sorted(record["candidates"], key=best))


@command.command
def main(argv):
    record = measure(parse(argv), command.log)
    print("", *table(record), sep="\n")


if __name__ == "__main__":
    sys.exit(main())
