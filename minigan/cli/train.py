"""The command `train`: the training loop, and the report at its end."""

from argparse import Namespace
from pathlib import Path
from typing import Any

from minigan.errors import ConfigError
from minigan.parallel.mpi import world
from minigan.report.page import finish
from minigan.training import Log, Run, loop, options_like


def train(arguments: Namespace, log: Log) -> None:
    """Train a GAN with the options that the user gave."""
    options = vars(arguments)
    names = ("data_dir", "out", "resume", "like", "dry_run")
    train_and_report(options, **{name: options.pop(name, None) for name in names}, log=log)


def train_and_report(
    options: dict[str, Any],
    *,
    resume: str | Path | None = None,
    like: str | Path | None = None,
    dry_run: bool | None = None,
    log: Log = print,
    **more: Any,
) -> Run | None:
    """-> the Run of loop.train, with its report; None after a dry run.

    like  folder of a run whose options are taken over
    more  data_dir, out, on_step: as of loop.train
    """
    if like is not None:
        if resume is not None:
            raise ConfigError("--like starts another run: leave --resume out, or --like")
        options = options_like(Run(like).load_config()[0], options)
    run = loop.train(options, resume=resume, dry_run=bool(dry_run), log=log, **more)
    if run is not None and world().rank == 0:
        finish(run, log)
    return run
