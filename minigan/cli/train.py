"""The command `train`: the training loop, and the report at its end."""

from argparse import Namespace

from minigan.cli.costs import outline
from minigan.report.page import finish
from minigan.training import loop
from minigan.training.open_game import Log


def train(arguments: Namespace, log: Log) -> None:
    """Train a GAN with the options that the user gave."""
    options = vars(arguments)
    own = {name: options.pop(name, None) for name in ("data_dir", "out", "resume")}
    dry_run = options.pop("dry_run", False)
    run = loop.train(options, **own, dry_run=dry_run, log=log)
    if run is not None:
        G, D = outline(run.load_config()[0])
        finish(run, log, (G.summary(), D.summary()))
