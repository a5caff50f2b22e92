"""The DCGAN paper's table of MNIST, in one command: python examples/paper_table.py --samples 50000 [--minutes 60] [--out DIR]

Trains the conditional DCGAN for so many minutes, or the paper's 200 epochs (minutes on a GPU: --backend cupy), draws labelled samples,
and lets them teach a 1-nearest-neighbour classifier to read the 10,000 test images: minigan/evaluation/transfer.py. Beside it stand the
paper's rows, and real images in the place of samples. Every now and then the error of 10,000 samples is measured, too.

Leaves in DIR (default runs/paper-table) the run, table.json, and table.png where matplotlib is installed. The same command goes
on where it stopped; a larger --samples or --minutes goes on, too.
"""

import json
import sys
from math import ceil
from pathlib import Path
from time import monotonic

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))  # in a clone it works without installing minigan

from minigan.checks import expect_size
from minigan.cli.main import Parser, answer
from minigan.data.files.npz import load_arrays, save_arrays
from minigan.data.sets.mnist import load_mnist
from minigan.errors import ConfigError, RunError
from minigan.evaluation.label_transfer import Transfer
from minigan.files import write_atomically
from minigan.presets import get_preset
from minigan.report.plots import BLUE, GREEN, INK, RED, drawing, png
from minigan.training.open_game import open_game
from minigan.training.loop import train
from minigan.training.progress import Interrupted
from minigan.training.run_folder import Run

PRESET = "radford-mnist-conditional"
EPOCHS = get_preset(PRESET).epochs  # the paper's 200
AFTER_EPOCH = 10_000  # samples whose error is measured after some of them
MILESTONES = sorted(
    {k * 10**power for power in range(3, 8) for k in (1, 2, 5)}
)  # numbers of samples that get a row
REAL, GAN, DCGAN = (
    {60_000: 3.1},
    {50_000: 6.28, 10_000_000: 5.65},
    {50_000: 2.98, 10_000_000: 1.48},
)  # the paper's errors, %
CHUNK = 4096  # samples that are drawn and compared at a time
SAVE_EVERY = 25  # chunks


class Table:
    """What has been measured so far, in a file."""

    def __init__(self, folder):
        self.file, self.state_file = folder / "table.json", folder / "nearest.npz"
        self.seconds, self.after_epoch, self.samples, self.real = 0.0, [], {}, {}
        self.aim = 0  # the epoch up to which the generator is being trained
        if self.file.exists():
            try:
                record = json.loads(self.file.read_text("utf-8"))
                self.seconds, self.after_epoch, self.aim = (
                    float(record["seconds"]),
                    record["after_epoch"],
                    int(record.get("aim", 0)),
                )
                self.samples, self.real = (
                    {int(n): float(error) for n, error in record[name].items()}
                    for name in ("samples", "real")
                )
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                raise RunError(
                    f"{self.file} is not a table of this program ({error!r}): choose another --out"
                ) from error

    @property
    def epoch(self):
        """The last one after which samples were measured; 0 before the first."""
        return self.after_epoch[-1]["epoch"] if self.after_epoch else 0

    def save(self):
        """Write it."""
        record = {
            "seconds": self.seconds,
            "aim": self.aim,
            "after_epoch": self.after_epoch,
            "samples": self.samples,
            "real": self.real,
        }
        write_atomically(self.file, (json.dumps(record, indent=1) + "\n").encode())


def labelled_samples(game, n, seed, start=0):
    """Samples start .. n of a conditional game, a chunk at a time -> (k, h, w, c) uint8, labels (k,).

    start  a multiple of CHUNK: each chunk has a random stream of its own, so that one can go on where another stopped
    """
    size = game.config.batch_size
    for first in range(start, n, CHUNK):
        generator, count = np.random.default_rng([seed, first // CHUNK]), min(CHUNK, n - first)
        labels = generator.integers(
            0, game.preset.classes, -(-CHUNK // size) * size
        )  # whole batches: G uses their statistics
        batches = [
            game.draw_pictures(labels[at : at + size], generator) for at in range(0, count, size)
        ]
        yield np.concatenate(batches)[:count], labels[:count]


def train_on(options, run, table, images, labels):
    """Until the time is over, or all epochs are done, with the error of samples every now and then."""
    given = {
        name: value
        for name in ("width", "seed", "threads", "backend")
        if (value := getattr(options, name)) is not None
    }
    while table.seconds < 60 * options.minutes and table.epoch < EPOCHS:
        if table.aim <= table.epoch:  # otherwise it was stopped on its way there
            table.aim = min(
                EPOCHS, table.epoch + epochs_until_measured(table, 60 * options.minutes)
            )
        table.samples.clear()  # of a generator that learns on
        table.state_file.unlink(missing_ok=True)
        epoch, start = table.aim, monotonic()
        try:
            if run.folder.exists():
                train(
                    {**given, "epochs": epoch},
                    data_dir=options.data_dir,
                    resume=run.folder,
                    log=say_warnings,
                )
            else:
                fixed = {"preset": PRESET, "dataset": "mnist", "sample_every": "epoch", "epochs": 1}
                train({**fixed, **given}, data_dir=options.data_dir, out=run.folder)
        finally:
            table.seconds += monotonic() - start
            table.save()
        game, _ = open_game(run, backend=options.backend or "numpy")
        transfer = Transfer(images, labels, game.backend)
        for chunk in labelled_samples(game, AFTER_EPOCH, seed=0):
            transfer.add(*chunk)
        row = {"epoch": epoch, "minutes": round(table.seconds / 60, 2), "error": percent(transfer)}
        print(
            "epoch {epoch}, {minutes:.1f} minutes of training: error {error:.2f}% with 10,000 samples".format(
                **row
            ),
            flush=True,
        )
        table.after_epoch.append(row)
        table.save()


def epochs_until_measured(table, seconds):
    """-> 1 at first, later half as many as are done; no more than fit in the time. An epoch that has begun is ended."""
    if table.epoch == 0:
        return 1
    fit = ceil((seconds - table.seconds) * table.epoch / table.seconds)
    return max(1, min(table.epoch // 2, fit))


def say_warnings(line):
    """Of an epoch only what matters."""
    if line.startswith(("WARNING", "***")):
        print(line, flush=True)


def percent(transfer):
    """-> error in %, as it is printed."""
    return round(100 * transfer.error(), 2)


def measure(options, run, table, images, labels):
    """Samples of the trained generator, up to the number that was asked for; a row at each milestone."""
    game, _ = open_game(run, backend=options.backend or "numpy")
    transfer = Transfer(images, labels, game.backend)
    if table.state_file.exists():
        transfer.load_state(load_arrays(table.state_file))
    for number, (samples, told) in enumerate(
        labelled_samples(game, options.samples, seed=0, start=transfer.count), 1
    ):
        first, last = transfer.count, transfer.count + len(samples)
        rows = [n for n in MILESTONES if first < n < last] + [last]
        for start, stop in zip([first, *rows], rows, strict=False):
            transfer.add(samples[start - first : stop - first], told[start - first : stop - first])
            if stop in MILESTONES or stop == options.samples:
                table.samples[stop] = percent(transfer)
                print(f"{stop:,} samples: error {table.samples[stop]:.2f}%", flush=True)
        if len(samples) == CHUNK and (number % SAVE_EVERY == 0 or last + CHUNK > options.samples):
            save_arrays(table.state_file, transfer.state())
            table.save()
    table.save()


def measure_real(table, images, labels, data_dir):
    """Training images as samples: what there is to reach, and the test of the measure."""
    train_images, train_labels = load_mnist(data_dir)
    for n in (50_000, 60_000):
        if n not in table.real:
            transfer = Transfer(images, labels)
            transfer.add(train_images[:n], train_labels[:n])
            table.real[n] = percent(transfer)
    table.save()


def words(table, width):
    """-> the table as lines."""
    columns = sorted({50_000, 60_000, 10_000_000, *(n for n in table.samples if n >= 10_000)})
    epochs, minutes = table.epoch, table.seconds / 60
    rows = [
        ("real images, the paper", REAL),
        ("real images, here", table.real),
        ("GAN, the paper", GAN),
        ("DCGAN, the paper, 200 epochs", DCGAN),
        (
            f"DCGAN, here, {epochs} epoch{'s' * (epochs > 1)}, {minutes:.0f} min"
            + (f", width {width}" if width else ""),
            table.samples,
        ),
    ]
    yield "error of a 1-nearest-neighbour classifier on MNIST's test images, in %, by the number of training images or samples"
    yield f"{'':44}" + "".join(f"{n:>12,}" for n in columns)
    for name, errors in rows:
        yield f"{name:44}" + "".join(
            f"{errors[n]:>12.2f}" if n in errors else f"{'-':>12}" for n in columns
        )
    yield "the paper's numbers are as remembered, not checked against its text; its real images were most likely all 60,000"


def draw(table, path):
    """table.png: error against the number of samples, and against training time."""
    with drawing() as figure:
        made = figure(8, 3.4)
        left, right = made.subplots(1, 2, sharey=True)
        for errors, label, color, line in (
            (table.samples, "DCGAN, here", BLUE, "o-"),
            (DCGAN, "DCGAN, the paper", GREEN, "s"),
            (GAN, "GAN, the paper", RED, "s"),
            (table.real, "real images, here", INK, "x"),
        ):
            numbers = sorted(errors)
            left.plot(
                numbers, [errors[n] for n in numbers], line, color=color, label=label, markersize=4
            )
        left.set(xscale="log", xlabel="samples", title="1-NN test error, %")
        left.xaxis.set_major_formatter(
            lambda n, _: f"{n / 1e6:g} M" if n >= 1e6 else f"{n / 1e3:g} k"
        )
        left.legend()
        right.plot(
            *zip(*((row["minutes"], row["error"]) for row in table.after_epoch), strict=True),
            "o-",
            color=BLUE,
            markersize=4,
        )
        right.set(xlabel="minutes of training", title="the same, of 10,000 samples")
        for axes in (left, right):
            axes.grid(axis="y", color="#e6e6e6")
            axes.set_ylim(bottom=0)
        write_atomically(path, png(made))


def paper_table(arguments):
    """The whole program."""
    parser = Parser(prog="paper_table.py", description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--samples",
        type=int,
        default=50_000,
        help="that teach the classifier (default 50000; the paper: up to 10000000)",
    )
    parser.add_argument(
        "--minutes", type=float, default=60.0, help="of training, at least one epoch (default 60)"
    )
    parser.add_argument(
        "--width",
        type=int,
        help="channels of the feature maps next to the image (default the paper's 64)",
    )
    parser.add_argument("--seed", type=int, help="of training (default 0)")
    parser.add_argument("--threads", type=int, help="of the CPU (default all)")
    parser.add_argument("--backend", help="numpy or cupy (default numpy)")
    parser.add_argument("--data-dir", metavar="DIR", help="folder with MNIST's files")
    parser.add_argument(
        "--out",
        metavar="DIR",
        default="runs/paper-table",
        help="folder of the run and the table (default runs/paper-table)",
    )
    options = parser.parse_args(arguments)
    expect_size("--samples", options.samples)
    if not options.minutes >= 0:
        raise ConfigError(f"--minutes must be 0 or more, got {options.minutes}")
    folder = Path(options.out).expanduser()
    images, labels = load_mnist(options.data_dir, split="test")
    folder.mkdir(parents=True, exist_ok=True)
    table, run = Table(folder), Run(folder / "run")
    measure_real(table, images, labels, options.data_dir)
    try:
        train_on(options, run, table, images, labels)
    except Interrupted:
        print("stopped, all is saved; the same command goes on")
        raise
    if not table.after_epoch:
        raise ConfigError("nothing is trained yet: give --minutes above 0")
    measure(options, run, table, images, labels)
    print("", *words(table, options.width), sep="\n")
    try:
        draw(table, folder / "table.png")
        print(f"drawn: {folder / 'table.png'}")
    except ConfigError as error:
        print(error)


if __name__ == "__main__":
    sys.exit(answer("paper_table.py", lambda: paper_table(sys.argv[1:])))
