"""The DCGAN paper's MNIST table: python examples/paper/mnist_table.py [--samples N] [--minutes M]

Trains the conditional DCGAN for a number of minutes, or for the paper's 200 epochs (minutes on a
GPU: --backend cupy), draws labeled samples, and measures how well they train a nearest-neighbor
classifier of the 10,000 test images: see label_transfer.py. The table also has the paper's rows,
and real images instead of samples. During training the error of 10,000 samples is measured now and
then.

Leaves in --out (default runs/paper-table) the run, table.json, and table.png if matplotlib is
installed. The same command continues where it stopped, also with larger --samples or --minutes.

Ranks that mpiexec starts train together, and share the samples: see docs/distributed.md.
"""

import json
import sys
from contextlib import nullcontext
from functools import partial
from itertools import pairwise
from math import ceil
from pathlib import Path
from time import monotonic

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))  # a clone works without installing minigan

from label_transfer import LabelTransfer

from minigan.backends.cpu.threads import blas
from minigan.checks import expect_size
from minigan.cli.main import Parser, answer
from minigan.data.files.npz import load_arrays, save_arrays
from minigan.data.sets.mnist import load_mnist
from minigan.errors import ConfigError, RunError
from minigan.files import write_atomically
from minigan.parallel.mpi import world
from minigan.presets import get_preset
from minigan.report.plots import BLUE, GREEN, INK, RED, drawing, png
from minigan.training.captured_round import CapturedSampler
from minigan.training.loop import train
from minigan.training.open_game import open_game
from minigan.training.progress import Interrupted
from minigan.training.ranks import expect_same
from minigan.training.run_folder import Run

PRESET = "radford-mnist-conditional"
EPOCHS = get_preset(PRESET).epochs  # the paper's 200
AFTER_EPOCH = 10_000  # samples whose error is measured during training
MILESTONES = sorted(k * 10**power for power in range(3, 8) for k in (1, 2, 5))  # that get a row
CHUNK = 4096  # samples that are drawn and compared at a time
SAVE_EVERY = 25  # chunks

# number of samples -> error in %: Radford et al. 2016, arXiv:1511.06434, table of nearest-neighbor
# errors on MNIST. 3.1% is what all 60,000 training images give
REAL = {60_000: 3.1}
GAN = {50_000: 6.28, 10_000_000: 5.65}
DCGAN = {50_000: 2.98, 10_000_000: 1.48}


class Table:
    """What has been measured so far, stored in a file.

    seconds      of training
    after_epoch  [{"epoch", "minutes", "error"}], measured during training
    samples      number of samples -> error in %
    real         number of real images -> error in %
    goal         the epoch that the generator is being trained to
    """

    def __init__(self, folder):
        self.file, self.state_file = folder / "table.json", folder / "nearest.npz"
        self.seconds, self.after_epoch, self.samples, self.real, self.goal = 0.0, [], {}, {}, 0
        if self.file.exists():
            try:
                self.load(json.loads(self.file.read_text("utf-8")))
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                raise RunError(
                    f"{self.file} is not a table of this program ({error!r}): choose another --out"
                ) from error

    def load(self, record):
        """Restore what save() wrote."""
        self.seconds, self.goal = float(record["seconds"]), int(record.get("aim", 0))
        self.after_epoch = record["after_epoch"]
        self.samples, self.real = (
            {int(n): float(error) for n, error in record[name].items()}
            for name in ("samples", "real")
        )

    @property
    def epoch(self):
        """The last one after which samples were measured; 0 before the first."""
        return self.after_epoch[-1]["epoch"] if self.after_epoch else 0

    def save(self):
        """Write the file. On ranks, rank 0 does."""
        if world().rank:
            return
        record = {"seconds": self.seconds, "aim": self.goal, "after_epoch": self.after_epoch}
        record |= {"samples": self.samples, "real": self.real}
        write_atomically(self.file, (json.dumps(record, indent=1) + "\n").encode())


def make_drawer(game, n, seed):
    """-> function: first, a multiple of CHUNK -> samples first .. first + CHUNK (k, h, w, c) uint8
    of a conditional game, below n; labels (k,)

    Each chunk has a separate random stream, so a run can resume, and ranks can share the chunks.
    As in the published program, BatchNorm uses the statistics of the batch that is drawn.
    """
    size, sampler, net = game.config.batch_size, CapturedSampler(game), game.sampled_net("batch")
    padded = -(-CHUNK // size) * size  # whole batches

    def draw(first):
        generator, count = np.random.default_rng([seed, first // CHUNK]), min(CHUNK, n - first)
        labels = generator.integers(0, game.preset.classes, padded)
        batches = []
        for at in range(0, count, size):
            game.fill_z(sampler.z.host_rows(size), generator)
            batches.append(game.to_images(sampler.draw(game, net, labels[at : at + size])))
        return np.concatenate(batches)[:count], labels[:count]

    return draw


def compare(game, transfer, n):
    """Compare with samples up to number n -> yields their number, now and then. On all ranks."""
    draw, starts = make_drawer(game, n, seed=0), range(transfer.count, n, CHUNK)

    def parts(first):  # of a chunk: up to each milestone, and to its end
        last = min(first + CHUNK, n)
        return pairwise([first, *(stop for stop in MILESTONES if first < stop < last), last])

    def work(first):
        with blas.single_threaded() if game.ranks.size > 1 else nullcontext():
            samples, labels = draw(first)
            rows = [slice(start - first, stop - first) for start, stop in parts(first)]
            return np.stack([transfer.compare(samples[part], labels[part]) for part in rows])

    jobs = (partial(work, first) for first in starts)
    for first, found in zip(starts, game.ranks.in_order(jobs), strict=True):
        for (start, stop), nearest in zip(parts(first), found, strict=True):
            transfer.merge(nearest, stop - start)
            yield stop


def train_on(options, run, table, images, labels):
    """Train until the time is up or all epochs are done, and measure now and then."""
    names = ("width", "seed", "threads", "backend")
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    seconds = 60 * options.minutes
    while table.seconds < seconds and table.epoch < EPOCHS:
        if table.goal <= table.epoch:  # otherwise it was stopped on the way there
            table.goal = min(EPOCHS, table.epoch + epochs_until_measured(table, seconds))
        table.samples.clear()  # they are those of an earlier generator
        table.state_file.unlink(missing_ok=True)
        start = monotonic()
        try:
            if run.folder.exists():
                more = {**given, "epochs": table.goal}
                train(more, data_dir=options.data_dir, resume=run.folder, log=log_warnings)
            else:
                fixed = {"preset": PRESET, "dataset": "mnist", "sample_every": "epoch", "epochs": 1}
                train({**fixed, **given}, data_dir=options.data_dir, out=run.folder)
        finally:
            table.seconds += monotonic() - start
            table.save()
        table.seconds = float(world().broadcast(table.seconds, 0))  # the same on all ranks
        game, _ = open_game(run, backend=options.backend or "numpy", ranks=world())
        transfer = LabelTransfer(images, labels, game.backend)
        for _ in compare(game, transfer, AFTER_EPOCH):
            pass
        minutes, error = round(table.seconds / 60, 2), percent(transfer)
        print(
            f"epoch {table.goal}, {minutes:.1f} minutes of training: "
            f"error {error:.2f}% with {AFTER_EPOCH:,} samples",
            flush=True,
        )
        table.after_epoch.append({"epoch": table.goal, "minutes": minutes, "error": error})
        table.save()


def epochs_until_measured(table, seconds):
    """-> 1 at first, later half as many as are done, but no more than fit into the time.

    An epoch that has begun is completed.
    """
    if table.epoch == 0:
        return 1
    fit = ceil((seconds - table.seconds) * table.epoch / table.seconds)
    return max(1, min(table.epoch // 2, fit))


def log_warnings(line):
    """Of the lines of a resumed training, print only warnings."""
    if line.startswith(("WARNING", "***")):
        print(line, flush=True)


def percent(transfer):
    """-> error in %, as printed."""
    return round(100 * transfer.error(), 2)


def measure(options, run, table, images, labels):
    """Measure samples of the trained generator, up to --samples; a row for each milestone."""
    game, _ = open_game(run, backend=options.backend or "numpy", ranks=world())
    transfer, n = LabelTransfer(images, labels, game.backend), options.samples
    if table.state_file.exists():
        transfer.load_state(load_arrays(table.state_file))
    expect_same(game.ranks, "samples", (transfer.count, n))
    for count in compare(game, transfer, n):
        if count in MILESTONES or count == n:
            table.samples[count] = percent(transfer)
            print(f"{count:,} samples: error {table.samples[count]:.2f}%", flush=True)
        due = count % (SAVE_EVERY * CHUNK) == 0 or count + CHUNK > n
        if due and count % CHUNK == 0 and game.ranks.rank == 0:
            save_arrays(table.state_file, transfer.state())
            table.save()
    table.save()


def measure_real(table, images, labels, data_dir):
    """Training images instead of samples: what can be reached, and a test of the measure."""
    if world().rank:
        return
    train_images, train_labels = load_mnist(data_dir)
    for n in (50_000, 60_000):
        if n not in table.real:
            transfer = LabelTransfer(images, labels)
            transfer.add(train_images[:n], train_labels[:n])
            table.real[n] = percent(transfer)
    table.save()


def lines(table, width):
    """-> the table as lines."""
    columns = sorted({50_000, 60_000, 10_000_000, *(n for n in table.samples if n >= 10_000)})
    name = (
        f"DCGAN, here, {table.epoch} epoch{'s' * (table.epoch > 1)}, {table.seconds / 60:.0f} min"
    )
    rows = [
        ("real images, the paper", REAL),
        ("real images, here", table.real),
        ("GAN, the paper", GAN),
        (f"DCGAN, the paper, {EPOCHS} epochs", DCGAN),
        (f"{name}, width {width}" if width else name, table.samples),
    ]
    yield "error of a nearest-neighbor classifier on MNIST's test images, in %,"
    yield "by the number of its training images or samples"
    yield f"{'':44}" + "".join(f"{n:>12,}" for n in columns)
    for name, errors in rows:
        cells = (f"{errors[n]:>12.2f}" if n in errors else f"{'-':>12}" for n in columns)
        yield f"{name:44}" + "".join(cells)
    yield "the paper: Radford et al. 2016, arXiv:1511.06434, nearest-neighbor errors on MNIST"


def draw(table, path):
    """table.png: the error against the number of samples, and against training time."""
    with drawing(8, 3.4) as made:
        left, right = made.subplots(1, 2, sharey=True)
        for errors, label, color, line in (
            (table.samples, "DCGAN, here", BLUE, "o-"),
            (DCGAN, "DCGAN, the paper", GREEN, "s"),
            (GAN, "GAN, the paper", RED, "s"),
            (table.real, "real images, here", INK, "x"),
        ):
            numbers = sorted(errors)
            percents = [errors[n] for n in numbers]
            left.plot(numbers, percents, line, color=color, label=label, markersize=4)
        left.set(xscale="log", xlabel="samples", title="1-NN test error, %")
        left.xaxis.set_major_formatter(
            lambda n, _: f"{n / 1e6:g} M" if n >= 1e6 else f"{n / 1e3:g} k"
        )
        left.legend()
        minutes, errors = (
            [row[name] for row in table.after_epoch] for name in ("minutes", "error")
        )
        right.plot(minutes, errors, "o-", color=BLUE, markersize=4)
        right.set(xlabel="minutes of training", title=f"the same, of {AFTER_EPOCH:,} samples")
        for axes in (left, right):
            axes.grid(axis="y", color="#e6e6e6")
            axes.set_ylim(bottom=0)
        write_atomically(path, png(made))


def parse(arguments):
    """-> options. Raises ConfigError."""
    parser = Parser(prog="mnist_table.py", description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    samples = "of the classifier's training set (default 50000; the paper: up to 10000000)"
    add("--samples", type=int, default=50_000, help=samples)
    minutes = "of training, at least one epoch (default 60)"
    add("--minutes", type=float, default=60.0, help=minutes)
    width = "channels of the feature maps next to the image (default the paper's 64)"
    add("--width", type=int, help=width)
    add("--seed", type=int, help="of training (default 0)")
    add("--threads", type=int, help="of the CPU (default all)")
    add("--backend", help="numpy or cupy (default numpy)")
    add("--data-dir", metavar="DIR", help="folder with MNIST's files")
    out = "folder of the run and the table (default runs/paper-table)"
    add("--out", metavar="DIR", default="runs/paper-table", help=out)
    options = parser.parse_args(arguments)
    expect_size("--samples", options.samples)
    if not options.minutes >= 0:
        raise ConfigError(f"--minutes must be 0 or more, got {options.minutes}")
    return options


def mnist_table(arguments):
    """The whole program."""
    options = parse(arguments)
    folder = Path(options.out).expanduser()
    images, labels = load_mnist(options.data_dir, split="test")
    folder.mkdir(parents=True, exist_ok=True)
    table, run = Table(folder), Run(folder / "run")
    measure_real(table, images, labels, options.data_dir)
    world().barrier()
    try:
        train_on(options, run, table, images, labels)
    except Interrupted:
        print("stopped; all is saved, and the same command continues")
        raise
    if not table.after_epoch:
        raise ConfigError("nothing is trained yet: use --minutes above 0")
    measure(options, run, table, images, labels)
    print("", *lines(table, options.width), sep="\n")
    if world().rank:
        return
    try:
        draw(table, folder / "table.png")
        print(f"drawn: {folder / 'table.png'}")
    except ConfigError as error:
        print(error)


if __name__ == "__main__":
    sys.exit(answer("mnist_table.py", lambda: mnist_table(sys.argv[1:]), True))
