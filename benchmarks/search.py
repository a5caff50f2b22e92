"""Which nets and numbers draw the best digits after two minutes? python benchmarks/search.py --help

A candidate is preset mnist with something changed, as text: "batch_size=64 lr_g=4e-3", or "net=start7" (search_nets.py).
First a race says how long its step takes beside the preset's: both take turns, and the quickest of each count, which nothing else
disturbed. Candidates that differ in learning rates and the like alone have one race. From that and from the preset's own step, the
quickest of all races, follows how many steps fit in the time.
Then it is trained for so many, and what is measured is the LeNet Fréchet distance of its samples, of G as it is and of averages
of G's weights. Training itself depends on no clock: another run of the same steps gives the same pictures.

One seed says little of a difference of a tenth; the best few are to be run again, with more.
"""

import sys
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from datetime import date
from itertools import pairwise
from pathlib import Path
from statistics import geometric_mean
from time import perf_counter

if __name__ == "__main__":  # this checkout: its minigan, and benchmarks as a package
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks import machine, results
from benchmarks.command import command
from benchmarks.quality import Eyes
from benchmarks.search_nets import NETS
from minigan.averaging import Average
from minigan.cli.main import Parser
from minigan.data import Batches
from minigan.errors import ConfigError
from minigan.presets import get_preset, own
from minigan.training.config import Config, new_config
from minigan.training.loop import STREAMS
from minigan.training.game import Game
from minigan.training.open_game import load_images

PRESET = "mnist"
CANDIDATES = (  # one change each; the first is the preset as it is
    "",
    "width=8",
    "width=24",
    "width=32",
    "batch_size=32",
    "batch_size=128",
    "lr_g=4e-3 lr_d=2e-3",
    "lr_g=8e-3 lr_d=2e-3",
    "lr_g=8e-3 lr_d=8e-3",
    "lr_g=1.6e-2 lr_d=8e-3",
    "beta1=0.5",
    "beta2=0.99",
    "z_dim=16",
    "z_dim=32",
    "z_dim=100",
    "z=uniform",
    "real_target=0.9",
    *(f"net={name}" for name in NETS if name != "start3-deep"),
)
OPTIONS = {field.name for field in fields(Config)} & {
    "width",
    "z_dim",
    "z",
    "batch_size",
    "lr_g",
    "lr_d",
    "beta1",
}
DECAYS = (0.0, 0.99, 0.995, 0.998)  # of averages of G's weights; 0: G as it is
ROUNDS, STEPS = 12, 6  # of the race, and of each turn


def parse_candidate(text):
    """ "lr_g=1e-3 net=start7" -> what differs in Config's options, what in the Preset. Raises ConfigError."""
    options, changed = {}, {}
    for word in text.split():
        name, equals, value = word.partition("=")
        number = value
        for kind in (int, float):
            try:
                number = kind(value)
                break
            except ValueError:
                continue
        if equals and name in OPTIONS:
            options[name] = number
        elif name == "net" and value in NETS:
            changed |= NETS[value]
        elif name == "beta2":
            changed["settings"] = {"beta2": number}
        elif name == "real_target":
            changed["rules"] = replace(get_preset(PRESET).rules, real_target=number)
        else:
            known = ", ".join([*sorted(OPTIONS), "beta2", "real_target"])
            raise ConfigError(
                f"candidate {text!r}: cannot read {word!r}: it takes NAME=VALUE, of {known}, or net={'|'.join(NETS)}"
            )
    return options, changed


@contextmanager
def changed_preset(changed):
    """Within, preset mnist has these fields; a Game that was made within stays as it is."""
    before = own.PRESETS[PRESET]
    own.PRESETS[PRESET] = replace(before, **changed)
    try:
        yield
    finally:
        own.PRESETS[PRESET] = before


def config_of(options, dataset, seed=0):
    """-> Config of a candidate's options. Raises ConfigError."""
    return new_config(
        {"preset": PRESET, "dataset": dataset, "seed": seed, "ema": 0.0, "steps": 1, **options}
    )


def make(text, data, seed):
    """-> Game of a candidate at its start, its Batches."""
    options, changed = parse_candidate(text)
    with changed_preset(changed):
        config = config_of(options, data.name, seed)
        game = Game(config)
    return game, Batches(
        data.images,
        config.batch_size,
        [seed, STREAMS["data"]],
        shuffle=config.shuffle,
        pixel_min=game.preset.pixel_min,
    )


def of_cost(text):
    """-> the part of a candidate that a step's time depends on."""
    return " ".join(
        word
        for word in text.split()
        if word.startswith(("net=", "width=", "batch_size=", "z_dim="))
    )


def race(text, data):
    """-> seconds of a step of the preset; the candidate's time over the preset's."""
    players, seconds = [make("", data, 0), make(text, data, 0)], []
    for _ in range(ROUNDS):
        marks = [perf_counter()]
        for game, batches in players:
            for _ in range(STEPS):
                game.round(batches)
            marks.append(perf_counter())
        seconds.append([(end - start) / STEPS for start, end in pairwise(marks)])
    ours, theirs = map(min, zip(*seconds, strict=True))
    return ours, theirs / ours


def train(text, data, seed, steps, decays, eyes):
    """-> LeNet Fréchet distance after so many steps, for each decay."""
    game, batches = make(text, data, seed)
    nets = {decay: game.G if decay == 0 else game.make_generator("average") for decay in decays}
    averages = [Average(net, game.G, decay) for decay, net in nets.items() if decay]
    for _ in range(steps):
        game.round(batches)
        for average in averages:
            average.update()
    distances = {}
    for decay, net in nets.items():
        game.drawn_from = net
        distances[decay] = eyes.distance(game.sample(eyes.samples, game.stream("evaluation")))
    return distances


def parse(argv):
    parser = Parser(
        prog="search.py",
        description="Which nets and numbers draw the best digits after two minutes of training?",
    )
    parser.add_argument(
        "candidates",
        nargs="*",
        help='as "batch_size=64 lr_g=4e-3", "net=start7", or "", the preset (default a list)',
    )
    parser.add_argument("--seconds", type=float, default=120.0, help="of training (default 120)")
    parser.add_argument(
        "--step-ms",
        type=float,
        help="of a step of the preset as it is (default measured, the fastest race)",
    )
    parser.add_argument("--seeds", type=int, default=1, help="runs of each (default 1)")
    parser.add_argument(
        "--averages",
        default=",".join(map(str, DECAYS)),
        help="decays to measure; 0: G as it is (default %(default)s)",
    )
    parser.add_argument(
        "--samples", type=int, default=10_000, help="pictures in an evaluation (default 10000)"
    )
    parser.add_argument(
        "--dataset", default="auto", help="labelled images to learn from (default the preset's own)"
    )
    parser.add_argument("--data-dir", metavar="DIR", help="folder with the data set's files")
    parser.add_argument(
        "--json", metavar="FILE", help="add the table to a result file, after each candidate"
    )
    options = parser.parse_args(argv)
    options.candidates = list(
        dict.fromkeys(" ".join(text.split()) for text in options.candidates or CANDIDATES)
    )
    for text in options.candidates:
        config_of(parse_candidate(text)[0], options.dataset)
    for name, least in (("seconds", 1e-3), ("step_ms", 1e-3), ("seeds", 1)):
        value = getattr(options, name)
        if value is not None and not least <= value < float("inf"):
            raise ConfigError(f"--{name.replace('_', '-')} must be at least {least:g}, got {value}")
    try:
        options.averages = [float(text) for text in options.averages.split(",")]
    except ValueError:
        options.averages = []
    if not options.averages or not all(0 <= decay < 1 for decay in options.averages):
        raise ConfigError("--averages must be decays of at least 0 and below 1, as 0,0.99")
    options.config = new_config({"preset": PRESET, "dataset": options.dataset})
    results.expect_writable(options.json)
    return options


def measure(options, log):
    """-> the search as a record; see results.py. It is added to the file as it grows."""
    data = load_data(options.config, get_preset(PRESET), options.data_dir, log)
    eyes = Eyes(options, data, log)
    races = {"": (race("", data)[0], 1.0)}
    for text in options.candidates:
        if (cost := of_cost(text)) not in races:
            races[cost] = race(cost, data)
            log(f"{cost}: a step takes {races[cost][1]:.2f} x the preset's")
    own_seconds = (
        options.step_ms / 1000 if options.step_ms else min(seconds for seconds, _ in races.values())
    )
    log(f"a step of the preset: {1000 * own_seconds:.1f} ms")
    rows = []
    for text in options.candidates:
        ratio = races[of_cost(text)][1]
        steps = max(1, int(options.seconds / (own_seconds * ratio)))
        found = [
            train(text, data, seed, steps, options.averages, eyes) for seed in range(options.seeds)
        ]
        distances = {str(decay): [each[decay] for each in found] for decay in options.averages}
        rows.append(
            {"candidate": text or PRESET, "ratio": ratio, "steps": steps, "distances": distances}
        )
        log(written(rows[-1]))
        record = {
            "what": "search",
            "preset": PRESET,
            "width": options.config.width,
            "batch": options.config.batch_size,
            "backend": "numpy",
            "date": date.today().isoformat(),
            "machine": machine.facts(None),
            "data": data.name,
            "samples": eyes.samples,
            "judge": {"name": eyes.classifier.name, **eyes.classifier.record},
            "floor": eyes.floor,
            "seconds": options.seconds,
            "seeds": options.seeds,
            "step_ms": 1000 * own_seconds,
            "config": asdict(options.config),
            "candidates": rows,
        }
        results.add(options.json, record)
    return record


def best(row):
    """-> the smallest of a candidate's distances, each the geometric mean over seeds; its decay."""
    return min((geometric_mean(distances), decay) for decay, distances in row["distances"].items())


def written(row):
    """-> a line of the table."""
    figures = " ".join(
        f"{geometric_mean(distances):8.2f}" for distances in row["distances"].values()
    )
    return f"{row['candidate']:32} {row['ratio']:6.2f} {row['steps']:7} {figures}"


def table(record):
    """A record -> lines to print, the best candidate first."""
    facts = record["machine"]
    yield f"{facts['cpu']}, {facts['threads']} threads: {record['seconds']:g} s of training, {record['step_ms']:.1f} ms a step of {PRESET}"
    yield (
        f"LeNet Fréchet distance of {record['samples']:,} samples by judge {record['judge']['name']}, {record['floor']:.2f} of as many real"
        f" images; {record['seeds']} seed{'s' * (record['seeds'] > 1)}, their geometric mean; by the decay of the average of G's weights"
    )
    decays = list(record["candidates"][0]["distances"])
    yield f"{'candidate':32} {'time':>6} {'steps':>7} " + " ".join(
        f"{decay:>8}" for decay in decays
    )
    for row in sorted(record["candidates"], key=best):
        yield written(row)


@command
def main(argv):
    record = measure(parse(argv), log=lambda line: print(line, flush=True))
    print("", *table(record), sep="\n")


if __name__ == "__main__":
    sys.exit(main())
