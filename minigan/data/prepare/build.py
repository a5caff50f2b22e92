"""Decode all pictures of a source into one file of pixels, in parallel, so that a kill at any instant loses little.

In the folder, while the work goes on (cache.py says what is in it after):

    listing   names of all pictures, in order
    pixels-*  the pictures that are done, in that order; the unreadable ones are left out
    journal   a head that says which pictures these are; then a line of JSON for each block that is done

A block's line goes into the journal after its pixels went into their file, with their CRC-32. The next
process believes the journal as far as the pixels bear it out, cuts off what is behind, and goes
on: the result is the same to the byte as without the kill, or a failing power supply.
"""

import itertools
import json
import os
import sys
import warnings
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Any

import numpy as np

from minigan.backends.cpu.threads import available_cpus
from minigan.data.files.checksums import sha256_of
from minigan.data.files.decode import Unreadable, decode, printable
from minigan.data.prepare.file_index import Record, Source, Stock, read_listing, write_listing
from minigan.data.prepare.resize import Fit
from minigan.errors import DataError

VERSION = 1  # of everything written here, and of what decode.py makes of a picture
BLOCK = 256  # pictures in a block, at most; and
BLOCK_BYTES = 4 << 20  # their pixels, at most (or one picture): a few blocks are in memory
MOST_SKIPPED = 0.05  # share of the files that may be unreadable
EVERY = 10.0  # s between lines on progress

Skipped = list[list[str]]  # [name, reason] of each file that cannot be read


def pixels_path(folder: Path, stock: Stock) -> Path:
    """-> the file of pixels; changed pictures go into another."""
    return folder / f"pixels-{stock.fingerprint[:16]}"


class Build:
    """Build(...).run(limit): the work itself, with the lock held.

    The arguments are those of cache.prepare, and what take_stock found.
    """

    def __init__(
        self,
        source: Source,
        folder: Path,
        stock: Stock,
        shape: tuple[int, int, int],
        fit: Fit,
        log: Callable[[str], object],
    ):
        self.source, self.folder, self.stock, self.shape, self.fit, self.log = (
            source,
            folder,
            stock,
            shape,
            fit,
            log,
        )
        self.pixels_path, self.row = pixels_path(folder, stock), int(np.prod(shape))
        self.index_path, self.listing, self.journal = (
            folder / name for name in ("index.json", "listing", "journal")
        )
        self.files = 0  # in the listing
        self.done = self.rows = 0  # of them, and how many were readable
        self.runs: list[list[int]] = []  # [label, how many]
        self.skipped: Skipped = []

    def run(self, limit: int | None) -> None:
        """From whatever state to a finished one. Raises DataError; OSError where it cannot be written."""
        if not self.index_path.exists() and self.recover():
            self.log(
                f"going on with preparing the pictures of {self.source.path}: {self.done:,} of {self.files:,} are done"
            )
        else:
            self.begin(limit)
            shape = "x".join(map(str, self.shape))
            self.log(
                f"preparing {self.files:,} pictures of {self.source.path} as {shape}, once: in {self.folder}"
            )
        try:
            self.expect_enough()
            classes = self.decode_the_rest()
            if self.done != self.files:
                raise DataError(
                    f"{self.listing}: ends after {self.done:,} names of {self.files:,}: "
                    "is the disk in order? Start again"
                )
        except DataError:
            self.journal.unlink(
                missing_ok=True
            )  # next time every file is tried again: a disk may have been away
            raise
        with open(self.pixels_path, "r+b") as file:
            os.fsync(file.fileno())
        labels = None if self.stock.depth is None else self.runs
        self.write_whole(
            self.index_path,
            json.dumps(
                {
                    "version": VERSION,
                    "source": self.stock.fingerprint,
                    "files": self.files,
                    "count": self.rows,
                    "classes": classes,
                    "labels": labels,
                    "sha256": sha256_of(self.pixels_path),
                    "skipped": self.skipped,
                }
            ),
        )
        for path in (self.journal, self.listing):
            path.unlink(missing_ok=True)

    def begin(self, limit: int | None) -> None:
        """Clear what is there, the index first; list the pictures; write the journal's head last."""
        for path in (self.index_path, self.journal, self.pixels_path):
            path.unlink(missing_ok=True)
        for path in self.folder.glob("pixels-*"):
            with suppress(PermissionError):  # Windows: another process trains on it, so it stays
                path.unlink(missing_ok=True)
        self.done, self.rows, self.runs, self.skipped = 0, 0, [], []
        self.files = write_listing(self.source, self.listing, limit)
        self.pixels_path.touch()
        self.write_whole(self.journal, self.head() + "\n")

    def head(self) -> str:
        return json.dumps(
            {"version": VERSION, "source": self.stock.fingerprint, "files": self.files}
        )

    def write_whole(self, path: Path, text: str) -> None:
        """A file that is there whole or not at all, also after the power failed."""
        temporary = path.with_name(path.name + ".tmp")
        with open(temporary, "w", encoding="ascii", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)

    def recover(self) -> bool:
        """Take over what another process left: all blocks of the journal whose pixels are there. -> whether it can be."""
        try:
            with open(self.journal, "rb") as journal, open(self.pixels_path, "rb") as pixels:
                head = journal.readline()
                self.files = json.loads(head)["files"]
                if head.decode() != self.head() + "\n" or not self.listing.exists():
                    return False
                good = journal.tell()
                for line in journal:
                    try:
                        block = json.loads(line) if line.endswith(b"\n") else {}
                        content = pixels.read(block["rows"] * self.row)
                        if (
                            len(content) != block["rows"] * self.row
                            or zlib.crc32(content) != block["crc"]
                        ):
                            break
                    except (ValueError, KeyError):
                        break
                    self.note(block)
                    good += len(line)
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return False
        os.truncate(self.journal, good)
        os.truncate(self.pixels_path, self.rows * self.row)
        return True

    def note(self, block: dict[str, Any]) -> None:
        """Count a block that is done, as its line in the journal says."""
        self.done += block["files"]
        self.rows += block["rows"]
        self.skipped += block["skipped"]
        for label, length in block["labels"]:
            if self.runs and self.runs[-1][0] == label:
                self.runs[-1][1] += length
            else:
                self.runs.append([label, length])

    def expect_enough(self) -> None:
        """Raises DataError where too many files cannot be read."""
        if len(self.skipped) > MOST_SKIPPED * self.files:
            raise DataError(
                f"{self.source.path}: {summary(self.skipped)} of {self.files:,} files cannot be read, more than "
                f"{MOST_SKIPPED:.0%}: mend them or take them out"
            )

    def decode_the_rest(self) -> list[str]:
        """Decode, write, note in the journal, until all files are done. -> names of the classes."""
        from concurrent.futures import Future, ThreadPoolExecutor

        size = max(1, min(BLOCK, BLOCK_BYTES // self.row))
        classes: list[str] = []
        records = _labelled(read_listing(self.listing), self.stock.depth, classes)
        deque(itertools.islice(records, self.done), maxlen=0)
        workers = available_cpus()
        with ExitStack() as stack:
            pixels, journal = (
                stack.enter_context(open(path, "ab")) for path in (self.pixels_path, self.journal)
            )
            progress = stack.enter_context(_progress(self.done, self.files, self.log))
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")  # Pillow's, about odd files
            pool, stop = ThreadPoolExecutor(workers), Event()
            stack.callback(pool.shutdown, cancel_futures=True)
            stack.callback(
                stop.set
            )  # first: after Ctrl-C nobody waits for a block of large photographs
            waiting: deque[Future[tuple[memoryview, dict[str, Any]]]] = deque()
            while True:
                block = list(itertools.islice(records, size))
                if block:
                    waiting.append(
                        pool.submit(_decode_block, self.source, block, self.shape, self.fit, stop)
                    )
                if not waiting:
                    break
                if len(waiting) > workers + 1 or not block:
                    rows, line = waiting.popleft().result()
                    pixels.write(rows)
                    pixels.flush()
                    journal.write(json.dumps(line).encode() + b"\n")
                    journal.flush()
                    self.note(line)
                    self.expect_enough()
                    progress(line["files"])
        return classes


def _labelled(
    records: Iterable[Record], depth: int | None, classes: list[str]
) -> Iterator[tuple[Record, int]]:
    """Each record with its label. Records come in order, so a name that was not there before is a new class."""
    last = None
    for record in records:
        if depth is not None:
            name = record[0].split(b"\0")[depth]
            if name != last:
                classes.append(printable(os.fsdecode(name)))
                last = name
        yield record, len(classes) - 1


def _decode_block(
    source: Source,
    block: list[tuple[Record, int]],
    shape: tuple[int, int, int],
    fit: Fit,
    stop: Event,
) -> tuple[memoryview, dict[str, Any]]:
    """-> pixels of the readable pictures, and the block's line for the journal. Ends early once `stop` is set."""
    rows, count = np.empty((len(block), *shape), np.uint8), 0
    runs: list[list[int]] = []
    skipped: Skipped = []
    with source.opener() as open_picture:
        for record, label in block:
            if stop.is_set():
                break
            try:
                with open_picture(record) as file:
                    rows[count] = decode(file, shape, fit)
            except (Unreadable, OSError) as error:
                reason = (
                    str(error)
                    if isinstance(error, Unreadable)
                    else error.strerror or type(error).__name__
                )
                skipped.append([os.fsdecode(record[0]).replace("\0", "/"), reason])
                continue
            count += 1
            if runs and runs[-1][0] == label:
                runs[-1][1] += 1
            else:
                runs.append([label, 1])
    pixels = rows[:count].data.cast("B") if count else memoryview(b"")
    return pixels, {
        "files": len(block),
        "rows": count,
        "crc": zlib.crc32(pixels),
        "labels": runs,
        "skipped": skipped,
    }


def summary(skipped: Skipped, most: int = 3) -> str:
    """[[name, reason], ...] -> how many and the first few, as "2 (a.jpg: damaged; b.png: ...)"."""
    names = [printable(f"{name}: {reason}") for name, reason in skipped[:most]] + ["..."] * (
        len(skipped) > most
    )
    return f"{len(skipped):,} ({'; '.join(names)})"


@contextmanager
def _progress(
    done: int, total: int, log: Callable[[str], object]
) -> Iterator[Callable[[int], object]]:
    """-> function to call with each number of pictures that are done: a bar on a terminal, else a line now and then."""
    if sys.stderr is not None and sys.stderr.isatty():
        from tqdm import tqdm

        with tqdm(
            initial=done, total=total, unit="picture", dynamic_ncols=True, leave=False
        ) as bar:
            yield bar.update
        return
    due = monotonic() + EVERY

    def count(number: int) -> None:
        nonlocal done, due
        done += number
        if monotonic() >= due:
            due = monotonic() + EVERY
            log(f"{done:,} of {total:,} pictures prepared")

    yield count
