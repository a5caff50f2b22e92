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
import shlex
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np

from minigan.data.files.png import grid, save_png
from minigan.errors import RunError
from minigan.file_lock import locked
from minigan.files import (
    as_run_errors,
    expect_path,
    flush,
    open_regular,
    read_regular,
    write_atomically,
)
from minigan.gan import MEASURED
from minigan.training.checkpoint import Checkpoints
from minigan.training.config import Config, config_from_record

COLUMNS = (
    "step", "epoch", *MEASURED, "images_per_s",
    "sample_spread", "top_class", "frechet", "classifier_score", "classes_missed",
)  # fmt: skip


MOST_CONFIG = 2**22  # bytes of config.json
LONGEST = 2**14  # bytes of a row of metrics.csv


class Run:
    """Run(folder): the files of a run, read and written. Every failure is a RunError.

    They may come from a stranger: only regular files are read, and nothing is written or deleted
    through a link.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(os.path.expanduser(expect_path(folder)))
        self.quoted = shlex.quote(str(self.folder))  # in a command to copy
        self.config_file = self.folder / "config.json"
        self.metrics_file = self.folder / "metrics.csv"
        self.real_file = self.folder / "real.png"
        self.samples = self.folder / "samples"
        self.checkpoints = Checkpoints(self.folder)

    def expect_free(self) -> None:
        """Raises RunError if there is something already: nothing is ever overwritten."""
        folder, cure = self.folder, "choose another folder with --out"
        with as_run_errors(f"look into {folder}", cure):
            taken = folder.exists()
            if folder.is_dir():
                try:
                    taken = any(name != "lock" for name in os.listdir(folder))
                except OSError:  # it cannot be listed, but perhaps written into
                    taken = os.path.lexists(self.config_file)
        if taken:
            more = f"continue with --resume {self.quoted}, or " * self.config_file.exists()
            raise RunError(f"{folder} exists: {more}choose another --out")

    def create(self, config: Config, metadata: dict[str, Any], another_name: bool = False) -> "Run":
        """Create the folder -> its Run. Of two processes, one succeeds.

        metadata      JSON-able, stored with the options
        another_name  if the folder exists, add -2, -3 ...: two runs may begin in one second
        """
        run, number = self, 1
        while True:
            with as_run_errors(f"make the folder {run.folder}", "choose another --out"):
                try:
                    run.folder.mkdir(parents=True, exist_ok=not another_name)
                    break
                except FileExistsError:
                    if not another_name or not os.path.lexists(run.folder):
                        raise  # a file has the name, or one of the folders around it
                    number += 1
                    run = Run(f"{self.folder}-{number}")
        with run.locked():
            run.expect_free()
            run.save_config(config, metadata)  # first: now a killed run can be resumed
            write_atomically(run.metrics_file, (",".join(COLUMNS) + "\n").encode())
            with as_run_errors(f"make the folders of {run.folder}"):
                run.samples.mkdir()
                run.checkpoints.folder.mkdir()
        return run

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder while this process trains in it. Raises RunError if another one does."""
        path = self.folder / "lock"

        def refuse() -> None:
            raise RunError(
                f"another process is training in {self.folder}: wait for it, "
                "or start another run with --out"
            )

        with ExitStack() as stack:
            with as_run_errors(f"write {path}"):
                stack.enter_context(locked(path, refuse))
            yield

    def save_config(self, config: Config, metadata: dict[str, Any]) -> None:
        """Write config.json: the options and the metadata."""
        record = {"options": asdict(config), **metadata}
        write_atomically(self.config_file, (json.dumps(record, indent=2) + "\n").encode())

    def load_config(self) -> tuple[Config, dict[str, Any]]:
        """-> Config, metadata. Raises RunError if this is not the folder of a run."""
        with as_run_errors(f"read {self.config_file}"):
            try:
                metadata = json.loads(read_regular(self.config_file, MOST_CONFIG))
                if not isinstance(metadata, dict) or "options" not in metadata:
                    raise ValueError("it holds no options")
                return config_from_record(metadata.pop("options")), metadata
            except (FileNotFoundError, NotADirectoryError) as error:
                problem = "it has no config.json" if self.folder.exists() else "it does not exist"
                raise RunError(f"{self.folder} is not the folder of a run: {problem}") from error
            except (ValueError, TypeError, AttributeError, RecursionError) as error:
                reason = " ".join(str(error).split())
                problem = f"{self.config_file} is damaged, or not written by minigan ({reason})"
                raise RunError(problem) from error

    def expect_checkpoints(self) -> None:
        """Raises RunError if it has trained, and its checkpoints are gone."""
        path, rows = self.metrics_file, b""
        with as_run_errors(f"read {path}"), suppress(FileNotFoundError), open_regular(path) as file:
            rows = file.read(LONGEST).partition(b"\n")[2]
        if rows and not self.checkpoints.found():
            problem = f"the checkpoints of {self.folder} are gone, so it cannot go on"
            raise RunError(f"{problem}: put them back, or start another run with --out")

    def forget_after(self, step: int) -> None:
        """Drop what a stopped run logged after the checkpoint of a step, and interrupted writes.

        Newer checkpoints, which were passed over, get another name.

        Raises RunError if a folder of the run is a link: it may lead to somebody else's files.
        """
        folders = (self.samples, self.checkpoints.folder)
        for folder in folders:
            if os.path.realpath(folder) != os.path.join(os.path.realpath(self.folder), folder.name):
                raise RunError(f"{folder} is a link: put the folder that it leads to in its place")
        for folder in (self.folder, *folders):
            with suppress(OSError):  # it may not be listed
                for path in folder.glob(".*.tmp"):
                    with suppress(OSError):
                        path.unlink()
        for path in [*self.checkpoints.found(), *self.samples.glob("step-*.png")]:
            if (number := path.stem[5:]).isdigit() and int(number) > step:
                with as_run_errors(f"put {path} aside"):
                    if path.suffix == ".png":
                        path.unlink()
                    else:  # it could not be used, but perhaps it can be mended
                        path.replace(path.with_name(f"passed-{path.name}"))
        write_atomically(self.metrics_file, partial(self.copy_metrics, step))

    def copy_metrics(self, step: int, copy: IO[bytes]) -> None:
        """Copy metrics.csv up to a step into an open file, row by row: it may be large."""
        copy.write((",".join(COLUMNS) + "\n").encode())
        with suppress(FileNotFoundError), open_regular(self.metrics_file) as file:
            for row in islice(iter(partial(file.readline, LONGEST), b""), 1, None):
                number = row.split(b",")[0] if row.endswith(b"\n") else b""  # a row cut short
                if number.isdigit() and len(number) < 16 and int(number) <= step:
                    # a run of an earlier version lacks the last columns
                    missing = b"," * (len(COLUMNS) - 1 - row.count(b","))
                    copy.write(row.rstrip() + missing + b"\n")

    @contextmanager
    def metrics(self) -> Iterator[Callable[..., None]]:
        """-> function append(rows, sync=False), rows as dicts by COLUMNS; sync: flush to the disk.

        It raises RunError if rows cannot be written; they are kept, and written with the next ones.
        """
        reported = partial(as_run_errors, f"write {self.metrics_file}", "free some space")
        with reported():
            file = open_regular(self.metrics_file, "ab")
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
                    flush(file)

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
