"""What has D learned without labels? python examples/paper/features_table.py [RUN]

The DCGAN paper's test of D on CIFAR-10: its feature maps, max-pooled to 4x4 (pooled_features.py),
are the features of a linear SVM (svm.py), which is trained on the training images with their
classes, and tested on the test images. For comparison: D before its first step, and pixels.

RUN is the folder of a trained run whose images have labels; it is only read. Without it color32 is
trained first, on CIFAR-10 or on --images DIR, into --out. The same command resumes that run.

Ranks that mpiexec starts share the features: see docs/distributed.md.
"""

import sys
from functools import partial
from pathlib import Path
from time import monotonic

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))  # a clone works without installing minigan

from pooled_features import expect_features, feature_count, features
from svm import correct, expect_scipy, standardize
from svm import train as train_svm

from minigan.checks import expect_size
from minigan.cli.main import Parser, answer
from minigan.errors import ConfigError
from minigan.evaluation.reference_images import SEED, Subset, split
from minigan.inspection.open_run import freeze_discriminator, load_net, untrained
from minigan.parallel.group import ALONE
from minigan.parallel.mpi import world
from minigan.presets import get_preset
from minigan.training.config import new_config
from minigan.training.loop import train
from minigan.training.open_game import load_images, open_game, open_images
from minigan.training.progress import Interrupted
from minigan.training.ranks import expect_same
from minigan.training.run_folder import Run

PRESET, STEPS = "color32", 1500
MEMORY = 2 * 2**30  # bytes of the SVM's training features, at most
CHUNK = 2000  # images whose features are computed at a time
# Radford et al. 2016, arXiv:1511.06434, table 1
PAPER = "82.8% with 28,672 features of a D trained on ImageNet (arXiv:1511.06434, table 1)"


def trained_run(options):
    """-> folder of RUN, or of the run that is trained or resumed now."""
    if options.run is not None:
        if options.images is not None or options.steps is not None:
            raise ConfigError("--images and --steps are for training: omit them, or RUN")
        return options.run
    given = {} if options.steps is None else {"steps": options.steps}
    if options.images is not None:
        given["images"] = options.images
    if Run(options.out).folder.exists():
        train(given, data_dir=options.data_dir, resume=options.out)
    else:
        config = {"preset": PRESET, "flip": True, "steps": STEPS, "dataset": "cifar10", **given}
        if options.images is not None:
            config["dataset"] = "folder"
            expect_labels(load_before(config, options.data_dir))  # a set has them
        train(config, data_dir=options.data_dir, out=options.out)
    return options.out


def load_before(options, data_dir):
    """-> the images that a training by these options takes."""
    config = new_config(options)
    preset = get_preset(config.preset)
    return world().in_turn(lambda: load_images(config, preset, data_dir, print))


def expect_labels(data):
    """Raises ConfigError unless there are classes."""
    if data.labels is None:
        raise ConfigError(
            f"{data.name} has no labels: use a labeled set, or a folder with a subfolder per class"
        )
    if len(np.unique(data.labels)) < 2:
        raise ConfigError(f"all images of {data.name} are of one class: there is nothing to learn")


def in_chunks(features_of, images, ranks):
    """Features of images, computed on all ranks -> yields some rows, and their features."""
    parts = [slice(at, at + CHUNK) for at in range(0, len(images), CHUNK)]
    jobs = (partial(lambda part: features_of(images[part]), part) for part in parts)
    yield from zip(parts, ranks.in_order(jobs), strict=True)


def measure(features_of, count, real, n, ranks):
    """Train and test an SVM -> a row of the table. On ranks, rank 0 does; others only compute x.

    features_of  images (n, h, w, c) uint8 -> features (n, count) float32
    n            training images at most, and no more than fit into MEMORY
    """
    start = monotonic()
    order = np.random.default_rng([SEED, len(real.train)]).permutation(len(real.train))
    order = order[: min(n, MEMORY // (4 * count))]
    x = np.empty((len(order), count), np.float32)
    chosen = Subset(real.train.images, real.train.all_labels, real.train.indices[order])
    for part, rows in in_chunks(features_of, chosen, ranks):
        if ranks.rank == 0:
            x[part] = rows
    if ranks.rank == 0:
        mean, std = standardize(x)
        W, C = train_svm(x, chosen.labels, len(real.data.classes))
    ranks.barrier()
    found = 0
    for part, rows in in_chunks(features_of, real.test, ranks):
        if ranks.rank == 0:
            found += correct(W, (rows - mean) / std, real.test.labels[part])
    if ranks.rank:
        return {"accuracy": 0}
    accuracy, seconds = found / len(real.test), monotonic() - start
    return {"features": count, "images": len(order), "C": C, "accuracy": accuracy, "s": seconds}


def pixels(images):
    """Images -> their pixels (n, h·w·c)."""
    return images.reshape(len(images), -1).astype(np.float32)


def lines(real, rows):
    """-> the table as lines."""
    total = len(real.train) + len(real.test)
    kind = "its test images" if real.published else f"held out of {total:,}: it has no test images"
    yield f"accuracy of a linear SVM on {len(real.test):,} images of {real.data.name} ({kind})"
    yield f"{'':36}{'features':>10}{'trained on':>12}{'C':>10}{'accuracy':>10}{'seconds':>9}"
    for name, row in rows.items():
        yield (
            f"{name:36}{row['features']:>10,}{row['images']:>12,}{row['C']:>10g}"
            f"{row['accuracy']:>10.2%}{row['s']:>9.0f}"
        )
    if not real.published:
        yield "D has seen the held-out images too, but not their labels"
    yield f"for comparison, the paper: {PAPER}"


def parse(arguments):
    """-> options"""
    parser = Parser(prog="features_table.py", description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add("run", metavar="RUN", nargs="?", help=f"folder of a run (default: {PRESET} is trained)")
    images = "train on this folder of pictures, a subfolder per class (default CIFAR-10)"
    add("--images", metavar="DIR", help=images)
    add("--steps", type=int, help=f"of training (default {STEPS})")
    n = "training images of the SVM (default all whose features fit into 2 GiB)"
    add("--n", type=int, help=n)
    add("--data-dir", metavar="DIR", help="folder with the set's files")
    out = "where to train a run (default runs/features-table)"
    add("--out", metavar="DIR", default="runs/features-table", help=out)
    return parser.parse_args(arguments)


def features_table(arguments):
    """The whole program."""
    options = parse(arguments)
    if options.n is not None:
        expect_size("--n", options.n, least=100)
    expect_scipy()  # now, not after the training
    try:
        folder = trained_run(options)
    except Interrupted:
        print("stopped; all is saved, and the same command continues")
        raise
    run, ranks = Run(folder), world()
    game, metadata = open_game(run, ranks=ranks)
    expect_features(game)
    step = load_net(game.D, "D", run, print)
    expect_same(ranks, "--n or checkpoint", (options.n, step), *game.D.ready().state().values())
    data = ranks.in_turn(lambda: open_images(game, metadata, options.data_dir, print))
    expect_labels(data)
    real = split(data, options.data_dir, game.config.fit)
    n, rows = options.n or len(real.train), {}
    for name, D in (
        (f"D of {game.config.preset}, {step:,} steps", game.D),
        ("the same D before its first step", untrained(game)),
    ):
        freeze_discriminator(game, D, data)
        rows[name] = measure(
            lambda images, D=D: features(game, D, images), feature_count(D), real, n, ranks
        )
        print(f"{name}: {rows[name]['accuracy']:.2%}", flush=True)
    if ranks.rank:
        return
    rows["pixels"] = measure(pixels, int(np.prod(real.image_shape)), real, n, ALONE)
    print("", *lines(real, rows), sep="\n")


if __name__ == "__main__":
    sys.exit(answer("features_table.py", lambda: features_table(sys.argv[1:]), True))
