"""The command `train`: the training loop, and the report at its end."""

from argparse import Namespace

from minigan.cli.costs import outline
from minigan.errors import ConfigError
from minigan.report.page import finish
from minigan.training import loop
from minigan.training.config import options_like
from minigan.training.open_game import Log
from minigan.training.run_folder import Run


def train(arguments: Namespace, log: Log) -> None:
    """Train a GAN with the options that the user gave."""
    options = vars(arguments)
    own = {name: options.pop(name, None) for name in ("data_dir", "out", "resume")}
    dry_run, like = options.pop("dry_run", False), options.pop("like", None)
    if like is not None:
        if own["resume"] is not None:
            raise ConfigError("--like starts another run: leave --resume out, or --like")
        options = options_like(Run(like).load_config()[0], options)
    run = loop.train(options, **own, dry_run=dry_run, log=log)
    if run is not None:
        G, D = outline(run.load_config()[0])
        finish(run, log, (G.summary(), D.summary()))
