"""What has D learnt without labels? python examples/features_table.py [RUN]

The DCGAN paper's test of D on CIFAR-10: the maxima of its maps in 4 x 4 cells (minigan/latent/pooled.py) are the features of a
linear SVM (minigan/evaluation/svm.py), which learns the classes from the training images, and is tested on the test images. Beside
it the same of D before its first step, and of pixels: what they tell, D had not to learn.

RUN is the folder of a trained run, whose images have labels; it is only read. Without it color32 is trained first, on CIFAR-10 or
on --images DIR, in --out; the same command goes on where it stopped. The paper's number is of another D, and not to be reached here.
"""

import sys
from pathlib import Path
from time import monotonic

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))  # in a clone it works without installing minigan

from minigan.checks import expect_size
from minigan.cli.main import Parser, answer
from minigan.errors import ConfigError
from minigan.evaluation.reference_images import SEED, split
from minigan.evaluation.svm import expect_scipy, learn, right, standardise
from minigan.inspection.open_run import (
    hold_discriminator,
    open_discriminator,
    open_still,
    untrained,
)
from minigan.inspection.pooled_features import expect_features, feature_count, features
from minigan.training.open_game import open_images
from minigan.training.loop import train
from minigan.training.progress import Interrupted
from minigan.training.run_folder import Run

PRESET, STEPS = "color32", 1500
MEMORY = 2 * 2**30  # bytes of the features that the SVM learns from, at most
CHUNK = 2000  # images whose features are taken at a time
PAPER = "82.8% with 28,672 features of a D that learnt from ImageNet's 1.3 million photographs (as remembered, not checked)"


def trained_run(options):
    """-> folder of the run that was asked for; without one of the run that is trained now, or was."""
    if options.run is not None:
        if options.images is not None or options.steps is not None:
            raise ConfigError(
                "--images and --steps are for a run that is trained now: leave them, or RUN, out"
            )
        return options.run
    given = {} if options.steps is None else {"steps": options.steps}
    if Run(options.out).folder.exists():
        train(given, data_dir=options.data_dir, resume=options.out)
    else:
        data = (
            {"dataset": "cifar10"}
            if options.images is None
            else {"dataset": "folder", "images": options.images}
        )
        train(
            {"preset": PRESET, "flip": True, "steps": STEPS, **data, **given},
            data_dir=options.data_dir,
            out=options.out,
        )
    return options.out


def expect_labels(real):
    """Raises ConfigError unless there are classes to learn."""
    if real.train_labels is None:
        raise ConfigError(
            f"{real.name} has no labels to learn: it takes a set with labels, or a folder with a sub-folder for each class"
        )
    if len(np.unique(real.train_labels)) < 2:
        raise ConfigError(f"all images of {real.name} are of one class: there is nothing to learn")


def described(describe, part, numbers):
    """Features of images, a chunk at a time -> (k, d) float32, their numbers (k,)."""
    for start in range(0, len(numbers), CHUNK):
        chosen = numbers[start : start + CHUNK]
        yield describe(part.take(chosen)), chosen


def measure(describe, count, real, n):
    """Learn and test -> row of the table: features, C, training images, share of the test images that it is right about, seconds.

    describe  images (n, h, w, c) uint8 -> features (n, count) float32
    n         training images, at most; fewer where their features do not fit into MEMORY
    """
    start, classes = monotonic(), len(real.classes)
    order = np.random.default_rng([SEED, len(real.train)]).permutation(len(real.train))[
        : min(n, MEMORY // (4 * count))
    ]
    x = np.empty((len(order), count), np.float32)
    for at, (part, _) in enumerate(described(describe, real.train, order)):
        x[at * CHUNK : at * CHUNK + len(part)] = part
    mean, spread = standardise(x)
    W, C = learn(x, real.train_labels[order], classes)
    found = sum(
        right(W, (part - mean) / spread, real.test_labels[chosen])
        for part, chosen in described(describe, real.test, np.arange(len(real.test)))
    )
    return {
        "features": count,
        "C": C,
        "images": len(order),
        "right": found / len(real.test),
        "seconds": monotonic() - start,
    }


def pixels(images):
    """Images as they are -> (n, h·w·c)."""
    return images.reshape(len(images), -1).astype(np.float32)


def words(real, rows):
    """-> the table as lines."""
    kind = (
        "its published test images"
        if real.published
        else f"held out of {len(real.train) + len(real.test):,}: no published test"
    )
    yield f"a linear SVM on features of {real.name}, right about so many of {len(real.test):,} images ({kind})"
    yield f"{'':36}{'features':>10}{'taught by':>12}{'C':>10}{'right':>9}{'seconds':>9}"
    for name, row in rows.items():
        yield f"{name:36}{row['features']:>10,}{row['images']:>12,}{row['C']:>10g}{row['right']:>9.2%}{row['seconds']:>9.0f}"
    if not real.published:
        yield "D has seen the images that are held out, too, though not their labels"
    yield f"not the paper's number, which is {PAPER}"


def features_table(arguments):
    """The whole program."""
    parser = Parser(prog="features_table.py", description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "run",
        metavar="RUN",
        nargs="?",
        help=f"folder of a run; without it one of {PRESET} is trained",
    )
    parser.add_argument(
        "--images",
        metavar="DIR",
        help="train on this folder of pictures, a sub-folder for each class (default CIFAR-10)",
    )
    parser.add_argument("--steps", type=int, help=f"of training (default {STEPS})")
    parser.add_argument(
        "--n",
        type=int,
        help="training images that teach the SVM (default all whose features fit into 2 GiB)",
    )
    parser.add_argument("--data-dir", metavar="DIR", help="folder with the set's files")
    parser.add_argument(
        "--out",
        metavar="DIR",
        default="runs/features-table",
        help="of the run to train (default runs/features-table)",
    )
    options = parser.parse_args(arguments)
    if options.n is not None:
        expect_size("--n", options.n, least=100)
    expect_scipy()  # now, not after the training
    try:
        folder = trained_run(options)
    except Interrupted:
        print("stopped, all is saved; the same command goes on")
        raise
    game, metadata = open_still(folder)
    expect_features(game)
    steps = open_discriminator(game, folder, print)
    data = open_images(game, metadata, options.data_dir, print)
    real = split(data, options.data_dir, game.config.fit)
    expect_labels(real)
    rows, nets = (
        {},
        {
            f"D of {game.config.preset}, {steps:,} steps": game.D,
            "the same D before its first step": untrained(game),
        },
    )
    for name, D in nets.items():
        hold_discriminator(game, D, data)
        rows[name] = measure(
            lambda images, D=D: features(game, D, images),
            feature_count(D),
            real,
            options.n or len(real.train),
        )
        print(f"{name}: {rows[name]['right']:.2%}", flush=True)
    rows["pixels"] = measure(
        pixels, int(np.prod(real.image_shape)), real, options.n or len(real.train)
    )
    print("", *words(real, rows), sep="\n")


if __name__ == "__main__":
    sys.exit(answer("features_table.py", lambda: features_table(sys.argv[1:])))
