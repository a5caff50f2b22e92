"""A run on several ranks: what must hold on all of them, and the run of those that write nothing.

Every rank trains the same game, each with its rows of every batch: see parallel/mpi.py. They draw
samples and evaluate together. Rank 0 alone writes and reports; meanwhile the others wait.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from minigan.data import SMALLEST_BATCH, Batches
from minigan.errors import ConfigError, TrainingError
from minigan.parallel.group import Group
from minigan.training.config import versions
from minigan.training.game import Game
from minigan.training.run_folder import Run


class SilentRun(Run):
    """The run of a rank that writes nothing. It reads checkpoints, so it must see the folder."""

    def create(self, *arguments: Any, **options: Any) -> Run:
        return self

    @contextmanager
    def locked(self) -> Iterator[None]:
        yield

    @contextmanager
    def metrics(self) -> Iterator[Callable[..., None]]:
        yield lambda *arguments: None

    def ignore(self, *arguments: Any, **options: Any) -> None:
        """Write nothing."""

    save_config = forget_after = save_real = save_samples = ignore


def expect_same(ranks: Group, what: str, content: object, *arrays: np.ndarray) -> None:
    """Raises ConfigError on all ranks unless all have the same."""
    if other := ranks.unlike_first(repr(content).encode(), *arrays):
        raise ConfigError(f"rank {other[0]} has other {what} than rank 0: give all ranks the same")


def expect_ranks_fit(ranks: Group, game: Game, options: dict[str, Any]) -> None:
    """Raises ConfigError unless these ranks can train the game. options: what the user gave."""
    size, config = ranks.size, game.config
    if size == 1:
        return
    expect_same(ranks, "options", config)
    expect_same(ranks, "versions", versions(game.backend) | {"platform": ""})
    most = config.batch_size // SMALLEST_BATCH
    if size > most:
        raise ConfigError(
            f"--batch-size {config.batch_size} has too few images for {size} ranks: "
            f"start at most {most}, or give a larger batch"
        )
    if options.get("threads") is not None:
        raise ConfigError(
            f"--threads is for one process, and each of these {size} ranks has one thread: "
            "leave it out, and start more ranks"
        )
    if game.captured is None:
        raise ConfigError(
            f"ranks cannot share preset {config.preset} on {config.backend}: no nets with Dropout, "
            "and on GPUs none with SpectralNorm, SGD or RMSprop; train it in one process"
        )


def expect_same_state(ranks: Group, game: Game, batches: Batches, step: int) -> None:
    """Raises TrainingError on all ranks unless all have the same numbers, bit for bit."""
    if ranks.size == 1:
        return
    arrays = [array for net in game.nets.values() for array in net.ready().state().values()]
    moments = [array for each in game.optimizers.values() for array in each.state_arrays()]
    arrays += map(game.backend.to_host, moments)
    if other := ranks.unlike_first(f"{step} {batches.epoch} {batches.position}".encode(), *arrays):
        raise TrainingError(
            f"after step {step} the parameters of rank {other[0]} are not those of rank 0: "
            "are all CPUs or GPUs of one kind, and does each rank see the same checkpoints?"
        )
