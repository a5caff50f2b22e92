"""The commands that measure: `train-classifier` and `evaluate`."""

import json
from argparse import Namespace

import numpy as np

from minigan import evaluation
from minigan.cli.output import output_file
from minigan.data.files.png import save_png
from minigan.evaluation import expect_n, get_classifier, split, why_no_classifier
from minigan.files import write_atomically
from minigan.parallel.mpi import world
from minigan.presets import get_preset
from minigan.training import Log, Run, load_images, new_config, open_game, open_images
from minigan.training.game import make_backend
from minigan.training.ranks import expect_same


def train_classifier(arguments: Namespace, log: Log) -> None:
    """Train the classifier of a data set, which is chosen as `train` chooses it."""
    options = vars(arguments)
    data_dir = options.pop("data_dir", None)
    config = new_config(options)
    data = load_images(config, get_preset(config.preset), data_dir, log)
    real = split(data, data_dir, config.fit)
    get_classifier(real, make_backend(config), options.get("seed"), log)


def evaluate(arguments: Namespace, log: Log) -> None:
    """Print the table of metrics; write evaluation.json and nearest.png. Of ranks, only 0."""
    run, data_dir, ranks = Run(arguments.run), arguments.data_dir, world()
    which = "-best" if arguments.best else ""
    game, metadata = open_game(run, arguments.best, ranks=ranks)
    path, picture = run.folder / f"evaluation{which}.json", run.folder / f"nearest{which}.png"
    if ranks.rank == 0:
        path = output_file(arguments.out, path, ".json")
        if arguments.out:  # a separate name: nearest.png there may be the user's
            name = str(path.with_name(f"{path.stem[:60]}-nearest.png"))
            picture = output_file(name, picture, ".png")
    fit = game.config.fit
    real = ranks.in_turn(lambda: split(open_images(game, metadata, data_dir, log), data_dir, fit))
    n, classes = expect_n(arguments.n, real), game.preset.classes
    classifier = None
    if reason := why_no_classifier(real):
        log(f"{reason}; only metrics in pixel space are left")
    else:
        classifier = ranks.in_turn(lambda: get_classifier(real, game.backend, log=log))
    expect_same(ranks, "--n or classifier", (n, classifier and classifier.name))
    samples = game.sample(n, game.stream("sample", seed=0))  # those of `minigan sample`
    labels = np.arange(n) % classes if classes else None
    log(
        f"comparing {n:,} samples of {run.folder}; "
        f"finding the nearest of {len(real.train):,} training images takes longest"
    )
    found = evaluation.evaluate(samples, real, classifier, labels, game.config.flip, ranks)
    if found is None:
        return
    for line in found.table():
        log(line)
    write_atomically(path, (json.dumps(found.record(), indent=2) + "\n").encode())
    save_png(picture, found.picture)
    log(f"written: {path}; {picture}: samples above the training images nearest to them")
