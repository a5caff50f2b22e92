"""Is minigan's GAN as good as PyTorch's? python benchmarks/quality.py --help

For each of some seeds both train the same nets from the same first weights, with the same round and
numbers, on the same real images in the same order; each draws its own z, from the same
distribution. They take turns. After each turn both draw samples, in sampling mode, and minigan's
classifier gives their LeNet Fréchet distance: less is better. The clock counts training alone.

A GAN is chaotic: after some hundred steps a rounding error has grown into another image. So curves
are compared over seeds, by their confidence intervals (confidence.py): at equal steps these should
overlap, or one of the two makes a mistake.
"""

import sys
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import sleep

if __name__ == "__main__":  # this checkout: its minigan, and benchmarks as a package
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np

from benchmarks import (
    agreement,
    command,
    confidence,
    contenders,
    interleaved,
    machine,
    results,
    training_task,
)
from benchmarks.interleaved import BenchmarkError, Workers
from minigan import get_backend
from minigan.errors import ConfigError
from minigan.evaluation import frechet_distance, get_classifier, moments, split
from minigan.evaluation.reference_images import MIN_TEST
from minigan.presets import get_preset
from minigan.training.config import new_config
from minigan.training.open_game import load_images

PEERS = tuple(name for name in contenders.LEARNERS if name != "minigan")
POINTS = 20  # of a curve, unless --every says otherwise
ROUNDS, TURN = 5, 1.0  # turns that choose the faster of PyTorch's ways; seconds


def add_data_options(parser):
    """What quality.py and search.py evaluate, and on which images."""
    count = command.whole(MIN_TEST)
    parser.add_argument(
        "--samples", type=count, default=10_000, help="in an evaluation (default 10000)"
    )
    parser.add_argument("--dataset", default="auto", help="labeled images (default the preset's)")
    parser.add_argument("--data-dir", metavar="DIR", help="folder with the data set's files")
    parser.add_argument("--images", metavar="DIR", help="instead, a folder of pictures, by class")


def data_of(options):
    """-> the same as options of Config"""
    if options.images is not None:
        return {"images": options.images}
    return {} if options.dataset == "auto" else {"dataset": options.dataset}


def described(config):
    """-> Config as in a record: of a folder only its name"""
    return asdict(config) | {"images": config.images and Path(config.images).name}


def parse(argv):
    parser = command.make_parser(
        "quality.py",
        "Is minigan's GAN as good as PyTorch's, at equal steps and at equal time?",
        *("width", "json", "plot"),
    )
    add_data_options(parser)
    names = training_task.NAMES
    parser.add_argument(
        "--preset",
        choices=names,
        metavar="NAME",
        default="mnist",
        help=f"{', '.join(names)} (default mnist)",
    )
    parser.add_argument(
        "--against",
        type=command.names(PEERS),
        default=list(PEERS),
        help=f"the fastest of these (default {','.join(PEERS)})",
    )
    most = max(confidence.T)
    parser.add_argument(
        "--seeds", type=command.whole(2, most), default=5, help="runs of each (default 5)"
    )
    parser.add_argument("--steps", type=int, help="length of a run (default the preset's epochs)")
    parser.add_argument(
        "--every",
        type=command.whole(1),
        help=f"steps between evaluations (default a {POINTS}th of the run)",
    )
    options = parser.parse_args(argv)
    given = {name: getattr(options, name) for name in ("preset", "steps", "width")}
    given = {name: value for name, value in given.items() if value is not None}
    options.config = new_config(given | data_of(options))
    return options


class Evaluator:
    """The classifier, and the real images that samples are compared with, as it sees them."""

    def __init__(self, options, data, log):
        fit, folder, self.samples = options.config.fit, options.data_dir, options.samples
        real = split(data, folder, fit)
        most = min(len(real.train), len(real.test))
        if self.samples > most:
            raise ConfigError(
                f"--samples must be {MIN_TEST} to {most}, the images of {data.name} to compare "
                f"with, got {self.samples}"
            )
        self.classifier = get_classifier(real, get_backend("numpy"), log=log)
        self.real = moments(self.classifier.classify(real.test)[0])
        self.floor = self.distance(real.train.draw(self.samples))

    def distance(self, images):
        return frechet_distance(moments(self.classifier.classify(images)[0]), self.real)

    def record(self):
        """-> what a result file says about it."""
        classifier = {"name": self.classifier.name, **self.classifier.record}
        return {"samples": self.samples, "judge": classifier, "floor": self.floor}


def start_learners(workers, arguments, options, log):
    """minigan, and the fastest of PyTorch's ways on this machine."""
    for name in ("minigan", *options.against):
        target, own = contenders.target(name, contenders.LEARNERS)
        environment = {"CUDA_VISIBLE_DEVICES": ""}
        if not workers.add(name, target, arguments | own, environment=environment):
            log(f"{name}: {workers.absent[name]}")
    if "minigan" in workers.absent or len(workers) < 2:
        reasons = "; ".join(f"{name}: {why}" for name, why in workers.absent.items())
        raise BenchmarkError(f"there is nothing to compare: {reasons}")
    peers = [name for name in workers if name != "minigan"]
    if len(peers) > 1:
        methods = dict.fromkeys(peers, "run")
        seconds = workers.interleave(methods, ROUNDS, TURN, command.quiet)
        spent = {name: median(seconds[name]) for name in peers}
        times = ", ".join(f"{name} {1000 * each:.1f} ms" for name, each in spent.items())
        log(f"one step, in the median: {times}")
        for name in sorted(peers, key=spent.get)[1:]:
            workers.drop(name, "another variant is faster here")


def restart(workers, arguments):
    """Every learner from its first weights."""
    for name, worker in workers.items():
        target, own = contenders.target(name, contenders.LEARNERS)
        worker.make(target, arguments | own)


def expect_agreement(workers, log):
    """Raises BenchmarkError unless all sample the same images, and have the same first losses."""
    for method, arguments, expect in (
        ("probes", {}, agreement.expect_same_images),
        ("losses", {"steps": agreement.STEPS}, agreement.expect_same_losses),
    ):
        shown = {name: worker.call(method, **arguments) for name, worker in workers.items()}
        for name, theirs in shown.items():
            try:
                expect(theirs, shown["minigan"])
            except BenchmarkError as error:
                raise BenchmarkError(f"{name} {error}: nothing was measured") from error
    off = {name: agreement.differences(theirs, shown["minigan"]) for name, theirs in shown.items()}
    for name in off.keys() - {"minigan"}:
        text = " ".join(f"{each:.1e}" for each in off[name])
        log(f"  {name}: relative difference at steps 1 to {agreement.STEPS}: {text}")


def learn(workers, arguments, stops, evaluator, folder, log):
    """One seed -> name -> {"seconds", "distance"}, each with a number for each of the stops."""
    restart(workers, arguments)
    expect_agreement(workers, log)
    restart(workers, arguments)
    curves = {name: {"seconds": [], "distance": []} for name in workers}
    spent, before, file = dict.fromkeys(workers, 0.0), 0, str(Path(folder) / "samples.npy")
    for stop in stops:
        for name, worker in workers.items():
            sleep(interleaved.REST)
            spent[name] += worker.time("run", stop - before) * (stop - before)
            worker.call("sample", n=evaluator.samples, path=file)
            curves[name]["seconds"].append(spent[name])
            curves[name]["distance"].append(evaluator.distance(np.load(file)))
        before = stop
        figures = ", ".join(
            f"{name} {curve['distance'][-1]:.2f} after {spent[name]:.1f} s"
            for name, curve in curves.items()
        )
        log(f"  step {stop} of {stops[-1]}: {figures}")
    return curves


def measure(options, log):
    """-> the measurement as a record; see results.py. It is added to the file as it grows."""
    config, preset = options.config, get_preset(options.preset)
    data = load_images(config, preset, options.data_dir, log)
    if data.note:
        log(f"*** NOTE: {data.note} ***")
    config = replace(config, dataset=data.name)
    evaluator, curves = Evaluator(options, data, log), {}
    with TemporaryDirectory() as folder, Workers() as workers:
        images = str(Path(folder) / "images.npy")
        np.save(images, data.images)
        start_learners(workers, {"config": asdict(config), "images": images}, options, log)
        steps = workers["minigan"].call("steps")
        every = options.every or max(1, steps // POINTS)
        stops = sorted({*range(every, steps + 1, every), steps})
        facts = machine.facts(None) | {"blas": workers["minigan"].call("blas")}
        head = dict(preset=options.preset, width=config.width, batch=config.batch_size)
        head |= dict(backend="numpy", data=data.name, steps=stops, adam=preset.settings)
        head["config"] = {k: value for k, value in described(config).items() if k != "seed"}
        head |= {"round": preset.round.__name__, "objective": asdict(preset.objective)}
        for seed in range(options.seeds):
            log(f"seed {seed}:")
            arguments = {"config": asdict(replace(config, seed=seed)), "images": images}
            for name, found in learn(workers, arguments, stops, evaluator, folder, log).items():
                curves.setdefault(name, []).append(found)
            rows = [
                {
                    "name": name,
                    "curves": curves[name],
                    "peak_mib": worker.call("peak_mib"),
                    "idle": worker.idle,
                    "versions": worker.call("versions"),
                }
                for name, worker in workers.items()
            ]
            rows += [{"name": name, "absent": why} for name, why in workers.absent.items()]
            record = results.new_record(
                "quality", facts, options, **head, **evaluator.record(), contenders=rows
            )
            if seed:  # one seed has no interval
                results.add(options.json, record)
    return record


def compared(record):
    """-> rows of minigan and the other; Intervals at each step; instants, Intervals at each."""
    rows = [row for row in record["contenders"] if "curves" in row]
    times = confidence.common_times([curve for row in rows for curve in row["curves"]])
    by_steps = [confidence.by_steps(row["curves"]) for row in rows]
    return rows, by_steps, times, [confidence.by_time(row["curves"], times) for row in rows]


def table(record):
    """A record -> lines to print: both tables, and the verdict."""
    rows, by_steps, times, by_time = compared(record)
    names, seeds = [row["name"] for row in rows], len(rows[0]["curves"])
    facts = record["machine"]
    net = f"{record['preset']}, width {record['width']}, batch {record['batch']}"
    yield f"{net}, on {record['data']}: {seeds} seeds"
    cpu = f"{facts['cpu']}, {facts['threads']} threads"
    yield f"{cpu}, Python {facts['python']}, BLAS {facts['blas']}"
    yield (
        f"LeNet Fréchet distance of {record['samples']:,} samples by classifier "
        f"{record['judge']['name']}: mean over seeds and its 95% confidence interval; "
        f"{record['floor']:.2f} for as many real images"
    )
    heading = " ".join(f"{name:>28}" for name in names)
    yield f"{'step':>8} {heading}   intervals"
    for stop, *pair in zip(record["steps"], *by_steps, strict=True):
        yield f"{stop:8} {figures(pair)}   {'overlap' if confidence.overlap(*pair) else 'disjoint'}"
    yield f"{'seconds':>8} {heading}   ahead"
    for instant, *pair in zip(times, *by_time, strict=True):
        ahead = names[pair[0].mean >= pair[1].mean]
        disjoint = "" if confidence.overlap(*pair) else ", intervals disjoint"
        yield f"{instant:8.1f} {figures(pair)}   {ahead}{disjoint}"
    yield from verdict(record, rows, by_steps, times, by_time)
    for row in rows:
        if row["idle"] > interleaved.IDLE:
            yield f"note: {row['name']} used {row['idle']:.2f} s of processor time between turns"
        yield f"{row['name']}: {row['peak_mib']:.0f} MiB, {results.listed(row['versions'])}"


def figures(pair):
    return " ".join(f"{a.mean:11.2f} {f'{a.low:.2f}..{a.high:.2f}':>16}" for a in pair)


def verdict(record, rows, by_steps, times, by_time):
    """-> lines: do the intervals overlap at equal steps, and which is ahead at equal time?"""
    pairs, other = list(zip(*by_steps, strict=True)), rows[1]["name"]
    shared, (a, b) = sum(confidence.overlap(*pair) for pair in pairs), pairs[-1]
    yield (
        f"equal steps: the intervals overlap at {shared} of {len(pairs)} points; "
        f"at step {record['steps'][-1]} {a.mean / b.mean:.2f} x {other}'s distance"
    )
    ours, theirs = (median(curve["seconds"][-1] for curve in row["curves"]) for row in rows)
    yield (
        f"time of a run, in the median: minigan {ours:.1f} s, {other} {theirs:.1f} s "
        f"({theirs / ours:.2f} x minigan's)"
    )
    if not times:
        yield "equal time: no evaluations at common times: use more steps, or a smaller --every"
        return
    pairs = list(zip(*by_time, strict=True))
    ahead = [a.mean < b.mean for a, b in pairs]
    clear = [
        is_ahead
        for is_ahead, pair in zip(ahead, pairs, strict=True)
        if not confidence.overlap(*pair)
    ]
    a, b = pairs[-1]
    yield (
        f"equal time: minigan is ahead at {sum(ahead)} of {len(pairs)} points, beyond the "
        f"intervals at {sum(clear)}, and behind beyond them at {len(clear) - sum(clear)}; "
        f"after {times[-1]:.1f} s {a.mean / b.mean:.2f} x {other}'s distance"
    )


def plot(record, path):
    """Two panels: distance against steps, and against seconds of training."""
    from minigan.report.plots import BLUE, RED, drawing

    rows, by_steps, times, by_time = compared(record)
    with drawing(9, 3.8) as figure:
        from matplotlib.ticker import LogLocator, NullFormatter

        panels = figure.subplots(1, 2, sharey=True)
        run = f"Preset {record['preset']} on {record['data']}, {len(rows[0]['curves'])} seeds"
        figure.suptitle(f"{run}, {record['machine']['cpu']}", fontsize=10)
        for row, color, *intervals in zip(rows, (BLUE, RED), by_steps, by_time, strict=True):
            xs = (record["steps"], times)
            for panel, x, found in zip(panels, xs, intervals, strict=True):
                low, mean, high = zip(*found, strict=True) if found else ((), (), ())
                panel.fill_between(x, low, high, color=color, alpha=0.2, linewidth=0)
                panel.plot(x, mean, color=color, label=row["name"], marker=".", markersize=4)
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
        panels[0].legend(title="mean, 95% confidence; thin: each seed")
        figure.savefig(path)


@command.command
def main(argv):
    options = parse(argv)
    record = measure(options, command.log)
    print("\n".join(table(record)))
    if options.plot:
        plot(record, options.plot)


if __name__ == "__main__":
    sys.exit(main())
