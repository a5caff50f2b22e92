"""The folder of a run.

runs/<time>-<name>/
    config.json           everything needed to repeat the run, with versions
    metrics.csv           a row per step
    real.png              some of the images that it learns from
    samples/step-*.png    what G makes of the same fixed z
    checkpoints/, generator.npz, best-generator.npz    see checkpoint.py
    progress.gif, losses.png, report.html              made when the run ends; see report/
    lock                  locked by the process that trains here; its presence means nothing
"""

import csv
import errno
import io
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from minigan.data.files.png import grid, save_png
from minigan.errors import RunError
from minigan.file_lock import try_lock, unlock
from minigan.files import os_errors_as_run_errors, write_atomically
from minigan.gan import MEASURED
from minigan.training.checkpoint import Checkpoints
from minigan.training.config import Config, config_from_record

COLUMNS = (
    "step", "epoch", *MEASURED, "images_per_s",
    "sample_spread", "top_class", "frechet", "classifier_score", "classes_missed",
)  # fmt: skip


class Run:
    """Run(folder): the files of a run, read and written. Every failure is a RunError."""

    def __init__(self, folder: str | Path):
        self.folder = Path(os.path.expanduser(folder))
        self.config_file = self.folder / "config.json"
        self.metrics_file = self.folder / "metrics.csv"
        self.real_file, self.report_file = self.folder / "real.png", self.folder / "report.html"
        self.samples = self.folder / "samples"
        self.checkpoints = Checkpoints(self.folder)
        self.generator_file = self.checkpoints.generator_file
        self.best_generator_file = self.checkpoints.best_generator_file

    def expect_free(self) -> None:
        """Raises RunError if there is something already: nothing is ever overwritten."""
        folder, cure = self.folder, "choose another folder with --out"
        with os_errors_as_run_errors(f"look into {folder}", cure):
            taken = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
        if taken:
            raise RunError(
                f"{folder} exists: go on with --resume {folder}, or choose another with --out"
            )

    def create(self, config: Config, metadata: dict[str, Any], another_name: bool = False) -> "Run":
        """Create the folder -> its Run.

        metadata      JSON-able, stored with the options
        another_name  if the folder exists, add -2, -3 ...: two runs may begin in one second
        """
        run, number = self, 1
        while True:
            with os_errors_as_run_errors(
                f"make the folder {run.folder}", "choose another with --out"
            ):
                try:
                    run.folder.mkdir(parents=True, exist_ok=not another_name)
                    run.expect_free()
                    run.save_config(config, metadata)  # first: now a killed run can be resumed
                    run.samples.mkdir()
                    run.checkpoints.folder.mkdir()
                    break
                except FileExistsError:
                    if not another_name:  # a file, or another run that began in this instant
                        raise
                    number += 1
                    run = Run(f"{self.folder}-{number}")
        write_atomically(run.metrics_file, (",".join(COLUMNS) + "\n").encode())
        return run

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder while this process trains in it. Raises RunError if another one does."""
        with os_errors_as_run_errors(f"write into {self.folder}"):
            file = open(self.folder / "lock", "ab")
        with file:
            if not try_lock(file):
                raise RunError(
                    f"another process is training in {self.folder}: wait for it, "
                    "or start another run with --out"
                )
            try:
                yield
            finally:
                unlock(file)

    def save_config(self, config: Config, metadata: dict[str, Any]) -> None:
        """Write config.json: the options and the metadata."""
        record = {"options": asdict(config), **metadata}
        write_atomically(self.config_file, (json.dumps(record, indent=2) + "\n").encode())

    def load_config(self) -> tuple[Config, dict[str, Any]]:
        """-> Config, metadata. Raises RunError if this is not the folder of a run."""
        with os_errors_as_run_errors(f"read {self.config_file}"):
            try:
                metadata = json.loads(self.config_file.read_bytes())
                return config_from_record(metadata.pop("options")), metadata
            except (FileNotFoundError, NotADirectoryError) as error:
                problem = f"{self.folder} is not the folder of a run: it has no config.json"
                raise RunError(problem) from error
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                problem = f"{self.config_file} is damaged: {' '.join(str(error).split())}"
                raise RunError(problem) from error

    def forget_after(self, step: int) -> None:
        """Drop what a stopped run logged after its last checkpoint, and interrupted writes."""
        for folder in (self.folder, self.samples, self.checkpoints.folder):
            for path in folder.glob(".*.tmp"):
                with suppress(OSError):
                    path.unlink()
        rows = []
        with os_errors_as_run_errors(f"read {self.metrics_file}"), suppress(FileNotFoundError):
            rows = self.metrics_file.read_text("utf-8", errors="replace").splitlines()[1:]
        kept = [
            row for row in rows if (number := row.split(",")[0]).isdecimal() and int(number) <= step
        ]
        # a run of an earlier version lacks the last columns
        kept = [row + "," * (len(COLUMNS) - 1 - row.count(",")) for row in kept]
        write_atomically(self.metrics_file, ("\n".join([",".join(COLUMNS), *kept]) + "\n").encode())

    @contextmanager
    def metrics(self) -> Iterator[Callable[..., None]]:
        """-> function append(rows, sync=False), rows as dicts by COLUMNS; sync: flush to the disk.

        It raises RunError if rows cannot be written; they are kept, and written with the next ones.
        """
        reported = partial(os_errors_as_run_errors, f"write {self.metrics_file}", "free some space")
        with reported():
            file = open(self.metrics_file, "ab", buffering=0)
        waiting: list[bytes] = []

        def append(rows: list[dict[str, Any]], sync: bool = False) -> None:
            text = io.StringIO()
            csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n").writerows(rows)
            waiting.append(text.getvalue().encode())
            with reported():
                good = os.fstat(file.fileno()).st_size
                content = b"".join(waiting)
                if file.write(content) != len(content):  # a full disk takes only part of it
                    file.truncate(good)
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                waiting.clear()
                if sync:
                    os.fsync(file.fileno())

        with file:
            yield append

    def save_samples(self, pictures: np.ndarray, step: int, shape: tuple[int, int]) -> None:
        """pictures (n, h, w, c) uint8 -> samples/step-*.png, a grid (rows, columns)."""
        with suppress(OSError):  # save_png reports it
            self.samples.mkdir(exist_ok=True)
        save_png(self.samples / f"step-{step:08d}.png", grid(pictures, columns=shape[1]))

    def save_real(self, pictures: np.ndarray, shape: tuple[int, int]) -> None:
        """pictures (n, h, w, c) uint8 -> real.png, a grid like those of the samples."""
        save_png(self.real_file, grid(pictures, columns=shape[1]))
