"""Is minigan's GAN as good as PyTorch's? python benchmarks/quality.py --help

For each of some seeds both train the same nets from the same first weights, by the same rules and numbers, on the same real
images in the same order; z is each one's own, of the same distribution. They take turns. After each turn both draw
pictures, as the nets are meant to be sampled, and minigan's judge gives their LeNet Fréchet distance: less is better.
The clock counts training alone, from the first step on.

A GAN is chaos: after some hundred steps a rounding error has grown to another picture. So the curves are compared over
seeds, by their bands (bands.py): at equal steps they should overlap, or one of the two makes a mistake.
"""

import sys
from dataclasses import asdict, replace
from datetime import date
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import sleep

if __name__ == "__main__":  # this checkout: its minigan, and benchmarks as a package
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np

from benchmarks import bands, contenders, machine, race, results, step
from benchmarks.command import command
from benchmarks.contenders import lesson
from benchmarks.race import BenchmarkError, Team
from benchmarks.scaling import expect_plot
from minigan import get_backend
from minigan.cli.main import Parser
from minigan.errors import ConfigError
from minigan.evaluation import frechet_distance, get_classifier, moments, split
from minigan.evaluation.reference_images import LEAST
from minigan.presets import get_preset
from minigan.training.config import new_config
from minigan.training.open_game import load_images

VARIANTS = tuple(name for name in contenders.LEARNERS if name != "minigan")
POINTS = 20  # of a curve, unless --every says otherwise
ROUNDS, TURN = 5, 1.0  # of the race between PyTorch's variants; seconds


def parse(argv):
    parser = Parser(
        prog="quality.py",
        description="Is minigan's GAN as good as PyTorch's, at equal steps and at equal time?",
    )
    parser.add_argument(
        "--preset", default="mnist", help=f"{', '.join(lesson.NAMES)} (default mnist)"
    )
    parser.add_argument(
        "--against",
        default=",".join(VARIANTS),
        help="of these the one that is the fastest here (default all)",
    )
    parser.add_argument(
        "--seeds",
        type=int,
        default=5,
        help=f"runs of each, {min(bands.T)} to {max(bands.T)} (default 5)",
    )
    parser.add_argument("--steps", type=int, help="length of a run (default the preset's epochs)")
    parser.add_argument(
        "--every", type=int, help=f"steps between evaluations (default a {POINTS}th of the run)"
    )
    parser.add_argument(
        "--samples", type=int, default=10_000, help="pictures in an evaluation (default 10000)"
    )
    parser.add_argument(
        "--width",
        type=int,
        help="channels of the feature maps next to the image (default the preset's)",
    )
    parser.add_argument(
        "--dataset", help="labelled images to learn from (default the preset's own)"
    )
    parser.add_argument("--data-dir", metavar="DIR", help="folder with the data set's files")
    parser.add_argument(
        "--json",
        metavar="FILE",
        help="add the figures to a result file, after each seed from the second on",
    )
    parser.add_argument(
        "--plot", metavar="FILE", help="draw them, as .png or .svg; wants matplotlib"
    )
    options = parser.parse_args(argv)
    lesson.expect_playable(options.preset)
    options.against = list(dict.fromkeys(name for name in options.against.split(",") if name))
    for name in options.against or [""]:
        if name not in VARIANTS:
            raise ConfigError(
                f"--against: unknown contender {name!r}: choose of {','.join(VARIANTS)}"
            )
    if options.seeds not in bands.T:
        raise ConfigError(
            f"--seeds must be {min(bands.T)} to {max(bands.T)}, got {options.seeds}: a band takes more than one"
        )
    if options.every is not None and options.every < 1:
        raise ConfigError(f"--every must be at least 1, got {options.every}")
    given = {name: getattr(options, name) for name in ("preset", "steps", "width", "dataset")}
    options.config = new_config({name: value for name, value in given.items() if value is not None})
    results.expect_writable(options.json)
    return options


class Eyes:
    """The judge, and the real images for the test as it sees them."""

    def __init__(self, options, data, log):
        fit, dir_ = options.config.fit, options.data_dir
        real = split(data, dir_, fit)
        most = min(len(real.train), len(real.test))
        if not LEAST <= options.samples <= most:
            raise ConfigError(
                f"--samples must be {LEAST} to {most}, as {data.name} has images to compare with, got {options.samples}"
            )
        self.samples = options.samples
        self.classifier = get_classifier(data, real, dir_, fit, get_backend("numpy"), log=log)
        self.real = moments(self.classifier.look(real.test)[0])
        self.floor = self.distance(real.some_train(options.samples))

    def distance(self, pictures):
        return frechet_distance(moments(self.classifier.look(pictures)[0]), self.real)


def marks(steps, every):
    """-> the steps after which there is an evaluation; after the last in any case."""
    return sorted({*range(every, steps + 1, every), steps})


def team_up(team, arguments, options, log):
    """Fill the team: minigan, and of PyTorch's variants the fastest here."""
    for name in ("minigan", *options.against):
        target, variant = contenders.learner(name)
        if (
            team.add(
                name, target, {**arguments, **variant}, environment={"CUDA_VISIBLE_DEVICES": ""}
            )
            is None
        ):
            log(f"{name}: {team.absent[name]}")
    if "minigan" in team.absent or len(team.workers) < 2:
        raise BenchmarkError(
            "there is nobody to compare with: "
            + "; ".join(f"{name}: {why}" for name, why in team.absent.items())
        )
    peers = [name for name in team.workers if name != "minigan"]
    if len(peers) > 1:
        seconds, _ = team.race(dict.fromkeys(peers, "run"), ROUNDS, 1, TURN, log=lambda line: None)
        spent = {name: median(seconds[name]) for name in peers}
        log(
            "one step, in the median: "
            + ", ".join(f"{name} {1000 * each:.1f} ms" for name, each in spent.items())
        )
        for name in sorted(peers, key=spent.get)[1:]:
            team.drop(name, "another variant is faster here")


def learn(team, arguments, stops, options, eyes, folder, log):
    """One seed. -> name -> {"seconds", "distance"}, lists with a number for each of the stops."""

    def start_anew():
        for name, worker in team.workers.items():
            target, variant = contenders.learner(name)
            worker.make(target, {**arguments, **variant})

    start_anew()
    step.check(team, "sample", log)
    step.check(team, "step", log)
    start_anew()
    curves = {name: {"seconds": [], "distance": []} for name in team.workers}
    before = 0
    for stop in stops:
        for name, worker in team.workers.items():
            sleep(race.REST)
            curve, file = curves[name], str(Path(folder) / "samples.npy")
            spent = worker.time("run", stop - before) * (stop - before)
            curve["seconds"].append(spent + (curve["seconds"][-1] if before else 0.0))
            worker.call("sample", n=options.samples, path=file)
            curve["distance"].append(eyes.distance(np.load(file)))
        before = stop
        figures = ", ".join(
            f"{name} {curve['distance'][-1]:.2f} after {curve['seconds'][-1]:.1f} s"
            for name, curve in curves.items()
        )
        log(f"  step {stop} of {stops[-1]}: {figures}")
    return curves


def measure(options, log):
    """-> the run as a record; see results.py. It is added to the file as it grows."""
    config, preset = options.config, get_preset(options.preset)
    data = load_data(config, preset, options.data_dir, log)
    if data.note:
        log(f"*** NOTE: {data.note} ***")
    config = replace(config, dataset=data.name)
    eyes, curves = Eyes(options, data, log), {}
    with TemporaryDirectory() as folder, Team() as team:
        images = str(Path(folder) / "images.npy")
        np.save(images, data.images)
        team_up(team, {"config": asdict(config), "images": images}, options, log)
        steps = team.workers["minigan"].call("steps")
        stops = marks(steps, options.every or max(1, steps // POINTS))
        facts = machine.facts(None) | {"blas": team.workers["minigan"].call("blas")}
        for seed in range(options.seeds):
            log(f"seed {seed}:")
            arguments = {"config": asdict(replace(config, seed=seed)), "images": images}
            for name, found in learn(team, arguments, stops, options, eyes, folder, log).items():
                curves.setdefault(name, []).append(found)
            rows = [
                {
                    "name": name,
                    "curves": curves[name],
                    "peak_mib": worker.call("peak_mib"),
                    "idle": worker.idle,
                    "versions": worker.call("versions"),
                }
                for name, worker in team.workers.items()
            ]
            record = {
                "what": "quality",
                "preset": options.preset,
                "width": config.width,
                "batch": config.batch_size,
                "backend": "numpy",
                "date": date.today().isoformat(),
                "machine": facts,
                "data": data.name,
                "samples": options.samples,
                "steps": stops,
                "judge": {"name": eyes.classifier.name, **eyes.classifier.record},
                "floor": eyes.floor,
                "config": {name: value for name, value in asdict(config).items() if name != "seed"},
                "rules": asdict(preset.rules),
                "adam": preset.settings,
                "contenders": rows
                + [{"name": name, "absent": why} for name, why in team.absent.items()],
            }
            if seed:
                results.add(options.json, record)
    return record


def pair(record):
    """-> the records of minigan and of the other one."""
    ours, theirs = (row for row in record["contenders"] if "curves" in row)
    return ours, theirs


def timed(ours, theirs):
    """-> instants, Bands of both at each."""
    when = bands.instants(ours["curves"] + theirs["curves"])
    return when, bands.by_time(ours["curves"], when), bands.by_time(theirs["curves"], when)


def table(record):
    """A record -> lines to print: both tables, and the verdict."""
    ours, theirs = pair(record)
    names, seeds = [row["name"] for row in (ours, theirs)], len(ours["curves"])
    facts = record["machine"]
    yield f"{record['preset']}, width {record['width']}, batch {record['batch']}, on {record['data']}: {seeds} seeds"
    yield f"{facts['cpu']}, {facts['threads']} threads, Python {facts['python']}, BLAS {facts['blas']}"
    yield (
        f"LeNet Fréchet distance of {record['samples']:,} samples by judge {record['judge']['name']}: mean over seeds, and its 95% band;"
        f" {record['floor']:.2f} of as many real images"
    )
    heading = " ".join(f"{name:>28}" for name in names)
    yield f"{'step':>8} {heading}   bands"
    by_steps = [bands.by_steps(row["curves"]) for row in (ours, theirs)]
    for stop, a, b in zip(record["steps"], *by_steps, strict=True):
        yield f"{stop:8} {written(a)} {written(b)}   {'overlap' if bands.overlap(a, b) else 'apart'}"
    yield f"{'seconds':>8} {heading}   ahead"
    when, *by_time = timed(ours, theirs)
    for instant, a, b in zip(when, *by_time, strict=True):
        ahead = names[0] if a.mean < b.mean else names[1]
        yield f"{instant:8.1f} {written(a)} {written(b)}   {ahead}{'' if bands.overlap(a, b) else ', bands apart'}"
    yield from verdict(record["steps"], by_steps, when, by_time, ours, theirs)
    for row in (ours, theirs):
        if row["idle"] > race.IDLE:
            yield f"note: {row['name']} used {row['idle']:.2f} s of processor while it waited for its turn"
        yield f"{row['name']}: {row['peak_mib']:.0f} MiB, " + ", ".join(
            f"{name} {value}" for name, value in row["versions"].items()
        )


def written(found):
    return f"{found.mean:11.2f} {f'{found.low:.2f}..{found.high:.2f}':>16}"


def verdict(stops, by_steps, when, by_time, ours, theirs):
    """-> lines: do the bands overlap at equal steps, and who is ahead at equal time?"""
    pairs, other = list(zip(*by_steps, strict=True)), theirs["name"]
    shared, (a, b) = sum(bands.overlap(*each) for each in pairs), pairs[-1]
    at_last = f"at step {stops[-1]} {a.mean / b.mean:.2f} x {other}'s distance"
    yield f"equal steps: the bands overlap at {shared} of {len(pairs)} points; {at_last}"
    spent = [median(curve["seconds"][-1] for curve in row["curves"]) for row in (ours, theirs)]
    yield f"time of a run, in the median: minigan {spent[0]:.1f} s, {other} {spent[1]:.1f} s ({spent[1] / spent[0]:.2f} x minigan's)"
    if not when:
        yield "equal time: the runs have no two evaluations in common: take more steps, or a smaller --every"
        return
    pairs = list(zip(*by_time, strict=True))
    ahead = [a.mean < b.mean for a, b in pairs]
    clear = [not bands.overlap(a, b) for a, b in pairs]
    wins = sum(own and far for own, far in zip(ahead, clear, strict=True))
    losses = sum(clear) - wins
    last = pairs[-1]
    yield (
        f"equal time: minigan is ahead at {sum(ahead)} of {len(ahead)} points, beyond the bands at {wins}, and behind beyond them "
        f"at {losses}; after {when[-1]:.1f} s {last[0].mean / last[1].mean:.2f} x {other}'s distance"
    )


def plot(record, path):
    """Two panels: distance against steps, and against seconds of training."""
    from minigan.report.plots import BLUE, RED, drawing

    ours, theirs = pair(record)
    with drawing() as figure:
        from matplotlib.ticker import LogLocator, NullFormatter

        made = figure(9, 3.8)
        panels = made.subplots(1, 2, sharey=True)
        what = f"Preset {record['preset']} on {record['data']}, {len(ours['curves'])} seeds"
        made.suptitle(f"{what}, {record['machine']['cpu']}", fontsize=10)
        when, *by_time = timed(ours, theirs)
        by_steps = [bands.by_steps(row["curves"]) for row in (ours, theirs)]
        for row, color, stepwise, timewise in zip(
            (ours, theirs), (BLUE, RED), by_steps, by_time, strict=True
        ):
            for panel, x, found in zip(
                panels, (record["steps"], when), (stepwise, timewise), strict=True
            ):
                panel.fill_between(
                    x,
                    [each.low for each in found],
                    [each.high for each in found],
                    color=color,
                    alpha=0.2,
                    linewidth=0,
                )
                panel.plot(
                    x,
                    [each.mean for each in found],
                    color=color,
                    label=row["name"],
                    marker=".",
                    markersize=4,
                )
            for curve in row["curves"]:
                for panel, x in zip(panels, (record["steps"], curve["seconds"]), strict=True):
                    panel.plot(x, curve["distance"], color=color, linewidth=0.5, alpha=0.6)
        for panel, label in zip(panels, ("steps", "seconds of training"), strict=True):
            panel.set_yscale("log")
            panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            panel.yaxis.set_major_formatter("{x:g}")
            panel.yaxis.set_minor_formatter(NullFormatter())
            panel.axhline(record["floor"], color="#777777", linewidth=0.8, linestyle="--")
            panel.set_xlabel(label)
            panel.grid(axis="y", alpha=0.3)
        panels[0].set_ylabel("LeNet Fréchet distance (dashed: of real images)")
        panels[0].legend(title="mean and its 95% band; thin: each seed")
        made.savefig(path)


@command
def main(argv):
    options = parse(argv)
    drawn = expect_plot(options.plot)
    record = measure(options, log=lambda line: print(line, flush=True))
    print("\n".join(table(record)))
    if drawn:
        plot(record, options.plot)


if __name__ == "__main__":
    sys.exit(main())
