"""Pictures decoded once, in parallel, into one file of pixels that later runs map into memory.

A folder in the cache holds one set of pictures in one shape:

    pixels-*      count * h * w * c bytes: the readable pictures, in the order of the listing
    index.json    count, classes, labels, what was skipped, SHA-256 of the pixels. Written last:
                  without it the rest is work that was not finished
    listing       names of all pictures, while the work goes on
    journal       a line of JSON for each block of pictures that is done, while the work goes on
    lock          locked by the process that works; the system unlocks it when that process ends, however it ends

A block's line goes into the journal after its pixels went into the file, with their CRC-32. So a process
may be killed at any instant: the next one believes the journal as far as the pixels bear it out, cuts off
what is behind, and goes on. The result is the same to the byte as without the kill.

A finished file of pixels is never written again, only replaced: another process may be training on it.
It is read and compared with its SHA-256 whenever it is opened, about 0.6 s for each GB.
"""

import hashlib
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
from time import monotonic, sleep
from typing import NamedTuple

import numpy as np

from minigan.backends.threads import available_cpus
from minigan.data.decode import Unreadable, decode, printable
from minigan.data.fit import Fit
from minigan.data.listing import Record, read_listing, take_stock, write_listing
from minigan.data.published import sha256_of
from minigan.errors import DataError

VERSION = 1          # of everything written here, and of what decode.py makes of a picture
BLOCK = 256          # pictures in a block, at most; and
BLOCK_BYTES = 4 << 20  # their pixels, at most (or one picture): a few blocks are in memory
MOST_SKIPPED = 0.05  # share of the files that may be unreadable
EVERY = 10.0         # s between lines on progress


class Prepared(NamedTuple):
    """What the cache holds of one set."""

    images: np.ndarray       # (count, h, w, c) uint8, memory-mapped
    labels: np.ndarray | None
    classes: tuple[str, ...]
    skipped: list            # [name, reason] of every file that cannot be read
    sha256: str              # of the pixels
    files: int               # readable or not


class _Stale(Exception):
    """Why the cache does not hold the set; empty where it holds nothing of it."""


def prepare(source, folder: Path, shape: tuple[int, int, int], fit: Fit, limit: int | None,
            say: Callable[[str], object], before: Callable[[int], object] = lambda count: None) -> Prepared:
    """The pictures of a source, from the cache or put into it.

    source  a Tree or Archive of listing.py
    folder  in the cache, for this source, shape, fit and limit alone
    before  called with the number of files before the work begins; it may raise
    Raises DataError: no pictures, too many unreadable ones, the folder cannot be written.
    """
    stock = take_stock(source)
    if stock.count == 0:
        raise DataError(f"{source.path}: no pictures in it (.jpg, .jpeg, .png, .webp, .bmp or .gif; hidden files do not count)")
    try:
        return _open(folder, stock, shape)
    except _Stale:
        pass
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / "lock", source, say):
            try:
                return _open(folder, stock, shape)  # another process made it meanwhile
            except _Stale as stale:
                if str(stale):
                    say(f"{source.path}: {stale}: preparing the pictures again")
            before(stock.count)
            _Build(source, folder, stock, shape, fit, say).run(limit)
            try:
                return _open(folder, stock, shape)
            except _Stale as stale:
                raise DataError(f"{folder}: {stale} already now: is the disk in order?") from stale


def _pixels_path(folder, stock) -> Path:
    return folder / f"pixels-{stock.fingerprint[:16]}"  # changed pictures go into another file


def _open(folder, stock, shape) -> Prepared:
    """What is in the folder, if it is whole and of these pictures. Raises _Stale."""
    path, row = _pixels_path(folder, stock), int(np.prod(shape))
    try:
        index = json.loads((folder / "index.json").read_bytes())
        if (index["version"], index["source"]) != (VERSION, stock.fingerprint):
            raise _Stale("the pictures have changed since they were prepared")
        count, classes, runs = index["count"], index["classes"], index["labels"]
        if not (path.stat().st_size == count * row > 0 and sha256_of(path) == index["sha256"]):
            raise _Stale("what was prepared of the pictures is damaged")
        labels = None if runs is None else _labels(runs, count, len(classes))
        images = np.memmap(path, np.uint8, "r", shape=(count, *shape))
        skipped = [[str(name), str(reason)] for name, reason in index["skipped"]]
        return Prepared(images, labels, tuple(map(str, classes)), skipped, index["sha256"], int(index["files"]))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _Stale("what was prepared of the pictures is gone" if (folder / "index.json").is_file() else "") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise _Stale("what was prepared of the pictures is damaged") from error


def _labels(runs, count, classes) -> np.ndarray:
    """[[label, how many], ...] -> (count,) int32. Raises ValueError and the like where they do not fit."""
    label, length = np.array(runs, np.int32).reshape(-1, 2).T
    if length.sum() != count or label.min() < 0 or label.max() >= classes:
        raise ValueError
    return np.repeat(label, length)


@contextmanager
def _writing(folder) -> Iterator[None]:
    """OSError of what is written in here -> DataError."""
    try:
        yield
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{folder}: prepared pictures cannot be written there ({error.strerror or error}): free some space, "
                        "see that you may write there, or set XDG_CACHE_HOME to another folder") from error


@contextmanager
def _locked(path, source, say) -> Iterator[None]:
    """Alone with the folder, after every other process that works on it."""
    with open(path, "ab") as file:
        waiting = False
        while not _try_lock(file):
            if not waiting:
                say(f"{source.path}: another process is preparing these pictures: waiting for it")
            waiting = True
            sleep(0.2)
        try:
            yield
        finally:
            _unlock(file)


if sys.platform == "win32":
    import msvcrt

    def _try_lock(file) -> bool:
        try:
            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True

    def _unlock(file) -> None:
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)
else:
    import fcntl

    def _try_lock(file) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(file) -> None:
        fcntl.flock(file, fcntl.LOCK_UN)


class _Build:
    """The work itself, with the lock held."""

    def __init__(self, source, folder, stock, shape, fit, say):
        self.source, self.folder, self.stock, self.shape, self.fit, self.say = source, folder, stock, shape, fit, say
        self.pixels_path, self.row = _pixels_path(folder, stock), int(np.prod(shape))
        self.index_path, self.listing, self.journal = (folder / name for name in ("index.json", "listing", "journal"))
        self.files = 0                     # in the listing
        self.done = self.rows = 0          # of them, and how many were readable
        self.runs, self.skipped = [], []   # [[label, how many]], [[name, reason]]

    def run(self, limit) -> None:
        """From whatever state to a finished one. Raises DataError; OSError where it cannot be written."""
        if not self.index_path.exists() and self.recover():
            self.say(f"going on with preparing the pictures of {self.source.path}: {self.done:,} of {self.files:,} are done")
        else:
            self.begin(limit)
            shape = "x".join(map(str, self.shape))
            self.say(f"preparing {self.files:,} pictures of {self.source.path} as {shape}, once: in {self.folder}")
        try:
            self.expect_enough()
            classes = self.decode_the_rest()
        except DataError:
            self.journal.unlink(missing_ok=True)  # next time every file is tried again: a disk may have been away
            raise
        with open(self.pixels_path, "r+b") as file:
            os.fsync(file.fileno())
        self.write_whole(self.index_path, json.dumps({
            "version": VERSION, "source": self.stock.fingerprint, "files": self.files, "count": self.rows, "classes": classes,
            "labels": None if self.stock.depth is None else self.runs, "sha256": sha256_of(self.pixels_path), "skipped": self.skipped,
        }))
        for path in (self.journal, self.listing):
            path.unlink(missing_ok=True)

    def begin(self, limit) -> None:
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
        return json.dumps({"version": VERSION, "source": self.stock.fingerprint, "files": self.files})

    def write_whole(self, path, text) -> None:
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
                        if len(content) != block["rows"] * self.row or zlib.crc32(content) != block["crc"]:
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

    def note(self, block) -> None:
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
            raise DataError(f"{self.source.path}: {summary(self.skipped)} of {self.files:,} files cannot be read, more than "
                            f"{MOST_SKIPPED:.0%}: mend them or take them out")

    def decode_the_rest(self) -> list[str]:
        """Decode, write, note in the journal, until all files are done. -> names of the classes."""
        from concurrent.futures import ThreadPoolExecutor

        size = max(1, min(BLOCK, BLOCK_BYTES // self.row))
        classes = []
        records = _labelled(read_listing(self.listing), self.stock.depth, classes)
        deque(itertools.islice(records, self.done), maxlen=0)
        workers = available_cpus()
        with ExitStack() as stack:
            pixels, journal = (stack.enter_context(open(path, "ab")) for path in (self.pixels_path, self.journal))
            progress = stack.enter_context(_progress(self.done, self.files, self.say))
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")  # Pillow's, about odd files
            pool = ThreadPoolExecutor(workers)
            stack.callback(pool.shutdown, cancel_futures=True)
            waiting = deque()
            while True:
                block = list(itertools.islice(records, size))
                if block:
                    waiting.append(pool.submit(_decode_block, self.source, block, self.shape, self.fit))
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


def _labelled(records: Iterable[Record], depth, classes: list[str]) -> Iterator[tuple[Record, int]]:
    """Each record with its label. Records come in order, so a name that was not there before is a new class."""
    last = None
    for record in records:
        if depth is not None:
            name = record[0].split(b"\0")[depth]
            if name != last:
                classes.append(printable(os.fsdecode(name)))
                last = name
        yield record, len(classes) - 1


def _decode_block(source, block, shape, fit) -> tuple[memoryview, dict]:
    """-> pixels of the readable pictures, and the block's line for the journal."""
    rows, count, runs, skipped = np.empty((len(block), *shape), np.uint8), 0, [], []
    with source.opener() as open_picture:
        for record, label in block:
            try:
                with open_picture(record) as file:
                    rows[count] = decode(file, shape, fit)
            except (Unreadable, OSError) as error:
                reason = str(error) if isinstance(error, Unreadable) else error.strerror or type(error).__name__
                skipped.append([os.fsdecode(record[0]).replace("\0", "/"), reason])
                continue
            count += 1
            if runs and runs[-1][0] == label:
                runs[-1][1] += 1
            else:
                runs.append([label, 1])
    pixels = memoryview(rows[:count]).cast("B") if count else memoryview(b"")
    return pixels, {"files": len(block), "rows": count, "crc": zlib.crc32(pixels), "labels": runs, "skipped": skipped}


def summary(skipped: list, most: int = 3) -> str:
    """[[name, reason], ...] -> how many and the first few, as "2 (a.jpg: damaged; b.png: ...)"."""
    names = [printable(f"{name}: {reason}") for name, reason in skipped[:most]] + ["..."] * (len(skipped) > most)
    return f"{len(skipped):,} ({'; '.join(names)})"


@contextmanager
def _progress(done, total, say) -> Iterator[Callable[[int], None]]:
    """-> function to call with each number of pictures that are done: a bar on a terminal, else a line now and then."""
    if sys.stderr is not None and sys.stderr.isatty():
        from tqdm import tqdm

        with tqdm(initial=done, total=total, unit="picture", dynamic_ncols=True, leave=False) as bar:
            yield bar.update
        return
    due = monotonic() + EVERY

    def count(number):
        nonlocal done, due
        done += number
        if monotonic() >= due:
            due = monotonic() + EVERY
            say(f"{done:,} of {total:,} pictures prepared")

    yield count
