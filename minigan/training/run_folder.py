"""The folder that a run leaves behind.

runs/<time>-<name>/
    config.json           all that is needed to repeat the run, with versions
    metrics.csv           a row per step
    real.png              some of the images that it learns from
    samples/step-*.png    what G makes of the same fixed z
    checkpoints/*.npz     everything, to go on bit for bit; the newest two, and best.npz where figures were measured
    generator.npz         G alone, or its average, by parameter names, for sampling; best-generator.npz of the best one
    progress.gif, losses.png, report.html    made when the run ends; see report.py
    lock                  locked by the process that trains here; it means nothing by being there
"""

import csv
import errno
import io
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from minigan.data import Batches
from minigan.data.files.npz import Sections, load_arrays, pack, save_arrays, unpack
from minigan.data.files.png import grid, save_png
from minigan.errors import MiniganError, RunError
from minigan.file_lock import try_lock, unlock
from minigan.files import write_atomically
from minigan.training.config import Config, config_from_record

KEEP = 2  # checkpoints that stay
OWN = re.compile(r"step-(\d+)\.npz")
LOSSES = ("loss_d_real", "loss_d_fake", "loss_g", "d_x", "d_gz")
MEASURED = (*LOSSES, "grad_norm_d", "grad_norm_g")
COLUMNS = (
    "step",
    "epoch",
    *MEASURED,
    "images_per_s",
    "sample_spread",
    "top_class",
    "frechet",
    "classifier_score",
    "classes_missed",
)


class Savable(Protocol):
    """What a run asks of its game, see training.py: to give its state, and to take it back."""

    def state(self) -> tuple[Sections, dict[str, Any]]: ...

    def load(self, sections: Sections, record: dict[str, Any], source: str | Path) -> None: ...


class Run:
    """Run(folder): the names in a run's folder, and reading and writing them. Every failure is a RunError."""

    def __init__(self, folder: str | Path):
        self.folder = Path(os.path.expanduser(folder))
        self.config_file = self.folder / "config.json"
        self.metrics_file = self.folder / "metrics.csv"
        self.real_file, self.report_file = self.folder / "real.png", self.folder / "report.html"
        self.samples = self.folder / "samples"
        self.checkpoints = self.folder / "checkpoints"
        self.generator_file = self.folder / "generator.npz"
        self.best_file, self.best_generator_file = (
            self.checkpoints / "best.npz",
            self.folder / "best-generator.npz",
        )

    def expect_free(self) -> None:
        """Raises RunError where something stands already: nothing is ever written over."""
        try:
            taken = self.folder.exists() and (
                not self.folder.is_dir() or any(self.folder.iterdir())
            )
        except OSError as error:
            raise RunError(
                f"cannot look into {self.folder}: {error.strerror}: choose another folder with --out"
            ) from error
        if taken:
            raise RunError(
                f"{self.folder} exists already: go on with --resume {self.folder}, or choose another with --out"
            )

    def create(self, config: Config, metadata: dict[str, Any], another_name: bool = False) -> "Run":
        """Make the folder -> Run, this one. Raises RunError.

        metadata         JSON-able, kept beside the options
        another_name  where the folder is taken, add -2, -3 ... to its name: two runs may begin in one second
        """
        run, number = self, 1
        while True:
            try:
                run.folder.mkdir(parents=True, exist_ok=not another_name)
                run.expect_free()
                run.save_config(
                    config, metadata
                )  # first: from here on a killed run can be gone on with
                run.samples.mkdir()
                run.checkpoints.mkdir()
                break
            except FileExistsError as error:
                if not another_name:  # a file, or another run that began in this instant
                    raise RunError(
                        f"{run.folder} exists already: choose another with --out"
                    ) from error
                number += 1
                run = Run(f"{self.folder}-{number}")
            except RunError:
                raise
            except OSError as error:
                raise RunError(
                    f"cannot make the folder {run.folder}: {error.strerror}: choose another with --out"
                ) from error
        write_atomically(run.metrics_file, (",".join(COLUMNS) + "\n").encode())
        return run

    @contextmanager
    def locked(self) -> Iterator[None]:
        """While this process trains here. Raises RunError where another one does."""
        try:
            file = open(self.folder / "lock", "ab")
        except OSError as error:
            raise RunError(f"cannot write into {self.folder}: {error.strerror}") from error
        with file:
            if not try_lock(file):
                raise RunError(
                    f"another process is training in {self.folder}: wait for it, or start another run with --out"
                )
            try:
                yield
            finally:
                unlock(file)

    def save_config(self, config: Config, metadata: dict[str, Any]) -> None:
        """Write config.json: the options, and what else there is to know of the run."""
        record = {"options": asdict(config), **metadata}
        write_atomically(self.config_file, (json.dumps(record, indent=2) + "\n").encode())

    def load_config(self) -> tuple[Config, dict[str, Any]]:
        """-> Config, what else the file says. Raises RunError where this is not the folder of a run."""
        try:
            metadata = json.loads(self.config_file.read_text("utf-8"))
            return config_from_record(metadata.pop("options")), metadata
        except (FileNotFoundError, NotADirectoryError) as error:
            raise RunError(
                f"{self.folder} is not the folder of a run: it has no config.json"
            ) from error
        except OSError as error:
            raise RunError(f"cannot read {self.config_file}: {error.strerror}") from error
        except MiniganError as error:
            raise RunError(f"{self.config_file} is damaged: {error}") from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise RunError(
                f"{self.config_file} is damaged ({' '.join(str(error).split())})"
            ) from error

    def save(self, game: Savable, batches: Batches, step: int) -> None:
        """Write checkpoint and generator.npz, and let go of old checkpoints. Raises RunError."""
        self.write(
            game, batches, step, self.generator_file, self.checkpoints / f"step-{step:08d}.npz"
        )
        for old in self.found_checkpoints()[:-KEEP]:
            with suppress(OSError):  # one too many does no harm
                old.unlink(missing_ok=True)

    def save_best(
        self, game: Savable, batches: Batches, step: int, figures: dict[str, float]
    ) -> None:
        """The same beside the newest, under a name of its own: `save` does not let go of it, and `load` does not take it.

        figures  JSON-able, by which it is the best
        """
        self.write(game, batches, step, self.best_generator_file, self.best_file, best=figures)

    def write(
        self,
        game: Savable,
        batches: Batches,
        step: int,
        generator_file: Path,
        checkpoint_file: Path,
        **more: Any,
    ) -> None:
        """Both files of a checkpoint. Raises RunError."""
        sections, record = game.state()
        record |= {"step": step, "epoch": batches.epoch, "position": batches.position, **more}
        with suppress(OSError):  # told by save_arrays
            self.checkpoints.mkdir(exist_ok=True)
        save_arrays(generator_file, sections.get("G average", sections["G"]))
        save_arrays(checkpoint_file, pack(sections, record))  # last: with it the step is done

    def load_best(self) -> dict[str, float] | None:
        """-> the figures that save_best was given last; None where there is no such file, or it is damaged: then it is written anew."""
        try:
            figures = unpack(load_arrays(self.best_file), self.best_file)[1]["best"]
            return {"frechet": float(figures["frechet"])} if isfinite(figures["frechet"]) else None
        except (RunError, KeyError, TypeError, ValueError, OverflowError):
            return None

    def keep_newest(self) -> Path | None:
        """Put a copy of the newest checkpoint aside, where `save` does not let go of it -> its path. Raises RunError."""
        found = self.found_checkpoints()
        if not found:
            return None
        kept = found[-1].with_name(f"kept-{found[-1].name}")
        try:
            write_atomically(kept, found[-1].read_bytes())
        except OSError as error:
            if isinstance(error, RunError):
                raise
            raise RunError(f"cannot read {found[-1]}: {error.strerror or error}") from error
        return kept

    def found_checkpoints(self) -> list[Path]:
        """-> paths of the run's own checkpoints, oldest first; a copy under another name is the user's."""
        try:
            found = [
                (int(match[1]), path)
                for path in self.checkpoints.iterdir()
                if (match := OWN.fullmatch(path.name))
            ]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise RunError(f"cannot look into {self.checkpoints}: {error.strerror}") from error
        return [path for _, path in sorted(found)]

    def load(self, game: Savable, batches: Batches, log: Callable[[str], object]) -> int:
        """Put the newest checkpoint that is whole back -> its step; 0 where the run was stopped before it wrote any.

        log  told which ones are passed over, and why
        Raises RunError where none can be used. Nothing is changed on the disk.
        """
        found = self.found_checkpoints()
        for path in reversed(found):
            try:
                sections, record = unpack(load_arrays(path), path)
                return self.restore(game, batches, sections, record, path)
            except RunError as error:
                trouble = error
                log(f"passing over a checkpoint: {error}")
        if found:
            raise RunError(
                f"no checkpoint in {self.checkpoints} can be used ({trouble}): start another run with --out"
            )
        return 0

    def restore(
        self,
        game: Savable,
        batches: Batches,
        sections: Sections,
        record: dict[str, Any],
        path: Path,
    ) -> int:
        """What a checkpoint holds into the game and its batches -> its step. Raises RunError."""
        try:
            step, epoch, position = (int(record[name]) for name in ("step", "epoch", "position"))
            batches.seek(epoch, position)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise RunError(f"{path} is not a whole checkpoint of minigan ({error!r})") from error
        game.load(sections, record, path)
        return step

    def forget_after(self, step: int) -> None:
        """Drop what a stopped run logged after its last checkpoint: it will be done again. And writes that were cut off."""
        for folder in (self.folder, self.samples, self.checkpoints):
            for path in folder.glob(".*.tmp"):
                with suppress(OSError):
                    path.unlink()
        try:
            rows = self.metrics_file.read_text("utf-8", errors="replace").splitlines()[1:]
        except FileNotFoundError:
            rows = []
        except OSError as error:
            raise RunError(f"cannot read {self.metrics_file}: {error.strerror}") from error
        kept = [
            row for row in rows if (number := row.split(",")[0]).isdecimal() and int(number) <= step
        ]
        kept = [
            row + "," * (len(COLUMNS) - 1 - row.count(",")) for row in kept
        ]  # of a run from before there were all columns
        write_atomically(self.metrics_file, ("\n".join([",".join(COLUMNS), *kept]) + "\n").encode())

    @contextmanager
    def metrics(self) -> Iterator[Callable[..., None]]:
        """-> function append(rows, sync=False), rows each a dict by COLUMNS; sync: to the disk, whatever happens to the machine.

        Raises RunError where they cannot be written; they are kept then, and written with the next ones.
        """

        def trouble(error: OSError) -> RunError:
            return RunError(
                f"cannot write {self.metrics_file}: {error.strerror or error}: free some space"
            )

        try:
            file = open(self.metrics_file, "ab", buffering=0)
        except OSError as error:
            raise trouble(error) from error
        waiting: list[bytes] = []

        def append(rows: list[dict[str, Any]], sync: bool = False) -> None:
            text = io.StringIO()
            csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n").writerows(rows)
            waiting.append(text.getvalue().encode())
            try:
                good = os.fstat(file.fileno()).st_size
                content = b"".join(waiting)
                if file.write(content) != len(content):  # a disk that is full takes a part
                    file.truncate(good)
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                waiting.clear()
                if sync:
                    os.fsync(file.fileno())
            except OSError as error:
                raise trouble(error) from error

        with file:
            yield append

    def save_samples(self, pictures: np.ndarray, step: int, shape: tuple[int, int]) -> None:
        """pictures (n, h, w, c) uint8 -> samples/step-*.png, a grid of this shape (rows, columns). Raises RunError."""
        with suppress(OSError):  # told by save_png
            self.samples.mkdir(exist_ok=True)
        save_png(self.samples / f"step-{step:08d}.png", grid(pictures, columns=shape[1]))

    def save_real(self, pictures: np.ndarray, shape: tuple[int, int]) -> None:
        """pictures (n, h, w, c) uint8 -> real.png, a grid as those of the samples. Raises RunError."""
        save_png(self.real_file, grid(pictures, columns=shape[1]))
