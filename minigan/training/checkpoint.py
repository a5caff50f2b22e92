"""Checkpoints: everything that a run needs to resume bit for bit from the step it was saved at.

checkpoints/step-*.npz    the newest two
checkpoints/best.npz      of the best evaluation
checkpoints/passed-*.npz  could not be used when the run went on from an older one
checkpoints/kept-*.npz    copies set aside when a run seems to collapse
generator.npz             G alone, or its average, for sampling; best-generator.npz likewise
"""

import os
import re
from collections.abc import Callable
from contextlib import suppress
from math import inf, isfinite
from pathlib import Path
from typing import Any

import numpy as np

from minigan.checks import expect_size
from minigan.data import Batches
from minigan.data.files.npz import load_arrays, pack, save_arrays, unpack
from minigan.errors import RunError
from minigan.files import as_run_errors, open_regular, write_atomically

Game = Any  # game.py, which imports this file
KEEP = 2  # checkpoints that stay
OWN = re.compile(r"step-([0-9]{1,15})\.npz")  # a copy under another name belongs to the user
MOST_STEPS = 2**53  # that a record may count


class Snapshot:
    """What a checkpoint of this step will hold; on a GPU a copy that later steps do not change."""

    def __init__(self, game: Game, batches: Batches, step: int):
        self.step = step
        self.sections, record = game.state()
        self.record = record | {"step": step, "epoch": batches.epoch, "position": batches.position}


class Checkpoints:
    """Checkpoints(folder of a run). Every failure is a RunError."""

    def __init__(self, run_folder: Path):
        self.folder = run_folder / "checkpoints"
        self.best_file = self.folder / "best.npz"
        self.generator_file = run_folder / "generator.npz"
        self.best_generator_file = run_folder / "best-generator.npz"

    def save(self, snapshot: Snapshot) -> None:
        """Write a checkpoint and generator.npz; delete older checkpoints."""
        file = self.folder / f"step-{snapshot.step:08d}.npz"
        self.write(snapshot, self.generator_file, file)
        with suppress(OSError):  # one too many does no harm
            for old in self.found()[:-KEEP]:
                old.unlink(missing_ok=True)

    def save_best(self, snapshot: Snapshot, metrics: dict[str, float]) -> None:
        """Write best.npz, which `save` does not delete and `load` does not use."""
        self.write(snapshot, self.best_generator_file, self.best_file, best=metrics)

    def write(
        self, snapshot: Snapshot, generator_file: Path, checkpoint_file: Path, **more: Any
    ) -> None:
        """The files of G and of the checkpoint; more: other JSON-able entries for the record."""
        sections, record = snapshot.sections, snapshot.record | more
        with suppress(OSError):  # save_arrays reports it
            self.folder.mkdir(exist_ok=True)
        save_arrays(generator_file, sections.get("G average", sections["G"]))
        save_arrays(checkpoint_file, pack(sections, record))  # last: it completes the step

    def best_distance(self) -> float:
        """-> the Fréchet distance of the last save_best; inf without a usable file."""
        try:
            record = unpack(load_arrays(self.best_file), self.best_file)[1]
            distance = float(record["best"]["frechet"])
        except (RunError, KeyError, TypeError, ValueError, OverflowError):
            return inf
        return distance if isfinite(distance) else inf

    def keep_newest(self) -> None:
        """Copy the newest checkpoint to a name that `save` does not delete."""
        for newest in self.found()[-1:]:
            with as_run_errors(f"read {newest}"), open_regular(newest) as file:
                content = file.read()
            write_atomically(newest.with_name(f"kept-{newest.name}"), content)

    def found(self) -> list[Path]:
        """-> paths of the run's checkpoints, oldest first."""
        names: list[str] = []
        with as_run_errors(f"look into {self.folder}"), suppress(FileNotFoundError):
            names = os.listdir(self.folder)
        found = sorted((int(match[1]), match[0]) for match in map(OWN.fullmatch, names) if match)
        return [self.folder / name for _, name in found]

    def load(self, game: Game, batches: Batches, log: Callable[[str], object]) -> int:
        """Restore the newest usable checkpoint -> its step; 0 if the run never wrote one.

        log  gets a line for each one that is passed over
        Raises RunError if there are some and none can be used. Changes nothing on the disk.
        """
        found = self.found()
        for path in reversed(found):
            try:
                sections, record = unpack(load_arrays(path), path)
                step, epoch, position = (
                    expect_size(name, record[name], 0, MOST_STEPS)
                    for name in ("step", "epoch", "position")
                )
                batches.seek(epoch, position)
                if epoch * batches.per_epoch + position != step * game.preset.images_per_round:
                    raise ValueError(f"step {step} is not at batch {position} of epoch {epoch}")
                game.load(sections, record, path)
                return step
            except RunError as error:
                problem = error
            except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
                problem = RunError(f"{path} is not a complete checkpoint of minigan ({error!r})")
            log(f"passing over a checkpoint: {problem}")
        if found:
            raise RunError(
                f"no checkpoint in {self.folder} can be used ({problem}): "
                "start another run with --out"
            )
        return 0


def restore_generator(generator: np.random.Generator, state: Any) -> None:
    """Go to a saved state of the same random stream. Raises ValueError and other kinds."""
    before = generator.bit_generator.state
    generator.bit_generator.state = state
    restored = generator.bit_generator.state
    if restored != state or restored["state"]["inc"] != before["state"]["inc"]:  # NumPy takes any
        generator.bit_generator.state = before
        raise ValueError("a state of another random generator")
