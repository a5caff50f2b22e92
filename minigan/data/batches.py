"""Pictures -> batches of floats, in an order that a resumed run repeats exactly.

The pictures stay uint8, in memory or in a file; a batch is converted when it is prepared. The order
of an epoch, and which pictures are mirrored, depend only on the seed and the number of the epoch,
so `epoch` and `position` are all that a checkpoint needs.

While a batch is trained on, a background thread prepares the next one, so that training does not
wait for a disk. Memory-mapped pictures are read from their file, not through the map: a failing
disk, or a file that became shorter, then raises an error, while reading through the map would crash
the process. A file that is written to meanwhile is noticed: its pictures are others.
benchmarks/data.py measures how long training waits for a batch.
"""

from __future__ import annotations

import mmap
import os
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from minigan.checks import expect_choice, expect_size, ignore_float_errors
from minigan.concurrency import InUse, Workers
from minigan.copying import Copyable
from minigan.data.files.messages import as_data_errors
from minigan.errors import ConfigError, DataError

if TYPE_CHECKING:
    from concurrent.futures import Future

SMALLEST_BATCH = 2  # images in a batch: BatchNorm has no statistics of one
BUFFERS = 3  # the batch drawn last, the one before it, and the one that is being prepared
SHUFFLES = ("epoch", "once", "never")
pread: Any = getattr(os, "pread", None)  # Windows lacks it, and reads through the map
FLIPS = 1  # after seed and epoch: the random stream for mirroring
LOST = (
    "the pictures can no longer be read ({}): is the disk still there? "
    "Start again, or continue with --resume"
)

Batch = tuple[np.ndarray, np.ndarray | None]  # images, labels


def batches_in_epoch(n: int, batch_size: int, drop_last: bool) -> int:
    """-> how many batches n images make; fewer than a batch are repeated in it."""
    full, rest = divmod(max(n, batch_size), batch_size)
    return full + (rest >= SMALLEST_BATCH and not drop_last)


class Batches(Copyable):
    """Batches(images, batch_size, seed): call draw() again and again.

    images      (count, h, w, c) uint8
    batch_size  the last batch of an epoch is smaller if the count is not a multiple; a last batch
                of a single image is left out. If there are fewer images, a batch repeats them, all
                mirrored or none
    seed        whole number, or a sequence of them
    labels      (count,), drawn along with the images
    shuffle     "epoch": a new order in each; "once": one order for all; "never": as stored
    drop_last   leave out a smaller last batch
    flip        mirror each image left to right with probability 1/2, drawn again in each epoch
    pixel_min   what pixel 0 becomes: -1.0 or 0.0; 255 becomes 1

    epoch, position  epochs completed, and batches drawn from this one: the arguments of seek()
    shard            function: rows of a whole batch -> those that draw() prepares; the other rows
                     are left as they are. None: all. A smaller batch is prepared as a whole

    A copy draws the same batches from here on, without `shard`, and so does a forked child. The
    thread ends with the object and the program.
    """

    shard: Callable[[np.ndarray], np.ndarray] | None = None

    def __init__(
        self,
        images: np.ndarray,
        batch_size: int,
        seed: int | Sequence[int] = 0,
        *,
        labels: np.ndarray | None = None,
        shuffle: str = "epoch",
        drop_last: bool = False,
        flip: bool = False,
        pixel_min: float = -1.0,
    ):
        n = len(images)
        batch_size = expect_size("Batches: batch_size", batch_size, SMALLEST_BATCH)
        if images.dtype != np.uint8:
            raise DataError(f"Batches: expected uint8 images, got {images.dtype}")
        if labels is not None and len(labels) != n:
            raise DataError(f"Batches: expected {n} labels, one per image, got {len(labels)}")
        expect_choice("Batches: shuffle", shuffle, SHUFFLES)
        if n == 0:
            raise DataError("Batches: expected images, got none")
        expect_pixel_min("Batches", pixel_min)
        self.images, self.batch_size = images, batch_size
        self.labels = None if labels is None else np.asarray(labels)
        self.shuffle, self.flip, self.pixel_min = shuffle, flip, pixel_min
        self.drop_last = drop_last
        self.seed = list(seed) if isinstance(seed, Sequence) else [seed]
        self.per_epoch = batches_in_epoch(n, batch_size, drop_last)
        self.pixels = np.empty((batch_size, *images.shape[1:]), np.uint8)
        self.buffers = [np.empty(self.pixels.shape, np.float32) for _ in range(BUFFERS)]
        self.descriptor: int | None = None  # of the file under a memory map
        whole: Any = images  # that images are views of
        while isinstance(whole.base, np.ndarray):
            whole = whole.base
        is_map = isinstance(whole, np.memmap) and isinstance(whole.base, mmap.mmap)
        if pread and is_map and whole.mode != "c" and whole.filename and images.flags.c_contiguous:
            self.file = whole.filename
            self.start = whole.offset + images.ctypes.data - whole.ctypes.data  # in the file
            with as_data_errors(self.file):
                self.descriptor = os.open(self.file, os.O_RDONLY)
                weakref.finalize(self, os.close, self.descriptor)
                self.modified: int | None = os.fstat(self.descriptor).st_mtime_ns
        self.process: int | None = None  # the owner of the thread
        self.in_use = InUse("a Batches object")
        self.arranged: int | None = None  # the epoch of the current order and flips
        self.slot = 0  # the next buffer
        self.seek(epoch=0, position=0)

    def __copy__(self) -> Batches:
        names = ("labels", "shuffle", "drop_last", "flip", "pixel_min")
        options: dict[str, Any] = {name: getattr(self, name) for name in names}
        other = Batches(self.images, self.batch_size, self.seed, **options)
        other.seek(self.epoch, self.position)
        return other

    def __deepcopy__(self, memo: dict[int, Any]) -> Batches:
        return self.__copy__()  # nothing writes to images and labels

    def seek(self, epoch: int, position: int) -> None:
        """Go to batch `position` (0 .. per_epoch) of an epoch, both counted from 0."""
        if not (epoch >= 0 and 0 <= position <= self.per_epoch):
            raise ConfigError(f"no batch {position} in epoch {epoch}, which has {self.per_epoch}")
        self.epoch, self.position = epoch, position
        self.next: Future[Batch] | None = None  # the one being prepared is another batch

    def draw(self) -> Batch:
        """-> the next batch: images (n, h, w, c) float32 in [pixel_min, 1], labels (n,) or None.

        The arrays stay valid through the next call of draw(); the call after it overwrites them.
        Raises DataError if the pictures cannot be read; the next draw tries the same batch again.
        """
        with self.in_use:
            self.ensure_thread()
            future, self.next = self.next or self.prepare_next(), None
            batch: Batch = future.result()
            self.epoch, self.position = self.following()
            self.slot = (self.slot + 1) % BUFFERS
            self.next = self.prepare_next()
            return batch

    def choose(self) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
        """-> the next batch as indices of its images (n,), which of them are mirrored (n,) or None,
        labels (n,) or None. For a caller that already has the images, instead of draw().
        """
        with self.in_use:
            self.ensure_thread()
            self.next = None
            epoch, position = self.following()
            # In the thread, which may still be arranging another epoch.
            chosen, flips = self.thread.submit(self.select, epoch, position).result()
            self.epoch, self.position = epoch, position
            return chosen, flips, None if self.labels is None else self.labels[chosen]

    def read(self, pixels: np.ndarray, chosen: np.ndarray) -> None:
        """pixels[k] = image chosen[k], uint8. Raises DataError."""
        if self.descriptor is None:
            np.take(self.images, chosen, axis=0, out=pixels, mode="clip")  # "raise" would copy
            return
        size = self.images[:1].nbytes
        with as_data_errors(self.file, LOST):
            known, self.modified = self.modified, None  # after an error all is reported
            for k, i in enumerate(chosen.tolist()):
                content = pread(self.descriptor, size, self.start + i * size)
                if len(content) < size:
                    raise OSError("it ends too early")
                pixels[k] = np.frombuffer(content, np.uint8).reshape(pixels.shape[1:])
            self.modified = os.fstat(self.descriptor).st_mtime_ns
            if known not in (None, self.modified):
                raise OSError("their file has been written to")

    def ensure_thread(self) -> None:
        """Start a thread in each process: a forked child does not have its parent's."""
        if self.process != os.getpid():
            self.process, self.next = os.getpid(), None
            self.thread = Workers(1, "minigan-batches")
            weakref.finalize(self, self.thread.close)

    def following(self) -> tuple[int, int]:
        """-> epoch and position after one more batch."""
        return self.epoch + self.position // self.per_epoch, self.position % self.per_epoch + 1

    def prepare_next(self) -> Future[Batch]:
        # The thread does one job at a time: a batch that seek() made useless is finished before
        # the next one uses its buffer.
        return self.thread.submit(self.prepare, *self.following(), self.buffers[self.slot])

    # -- in the thread --------------------------------------------------------------------------

    def prepare(self, epoch: int, position: int, floats: np.ndarray) -> Batch:
        chosen, flips = self.select(epoch, position)
        floats, mine = floats[: len(chosen)], self.prepared(chosen)
        pixels = self.pixels[: len(mine)]
        self.read(pixels, mine)
        if flips is not None:
            flipped = self.prepared(flips) > 0
            pixels[flipped] = pixels[flipped, :, ::-1]
        to_floats(pixels, self.prepared(floats), self.pixel_min)
        return floats, None if self.labels is None else self.labels[chosen]

    def prepared(self, rows: np.ndarray) -> np.ndarray:
        """rows (n, ...) of a batch -> those that draw() prepares, a view."""
        return rows if self.shard is None or len(rows) < self.batch_size else self.shard(rows)

    def select(self, epoch: int, position: int) -> tuple[np.ndarray, np.ndarray | None]:
        """-> indices of the images of batch position - 1, which of them are mirrored or None.

        Order and flips of an epoch do not depend on earlier epochs.
        """
        if self.arranged != epoch:
            order, rng = np.arange(len(self.images)), np.random.default_rng
            if self.shuffle != "never":
                rng([*self.seed, epoch if self.shuffle == "epoch" else 0]).shuffle(order)
            self.flips = rng([*self.seed, epoch, FLIPS]).integers(0, 2, len(order), np.uint8)
            self.order, self.arranged = np.resize(order, max(len(order), self.batch_size)), epoch
        chosen = self.order[(position - 1) * self.batch_size : position * self.batch_size]
        return chosen, self.flips[chosen] if self.flip else None


def expect_pixel_min(what: str, pixel_min: float) -> None:
    """Raises ConfigError unless pixel_min is -1 or 0."""
    if pixel_min not in (-1.0, 0.0):
        raise ConfigError(f"{what}: pixel_min must be -1.0 or 0.0, got {pixel_min!r}")


def to_floats(pixels: np.ndarray, floats: np.ndarray, pixel_min: float = -1.0) -> None:
    """uint8 0..255 -> float32 in [pixel_min, 1], written; 0 and 255 become the ends exactly."""
    expect_pixel_min("to_floats", pixel_min)
    floats[...] = pixels
    np.divide(floats, 127.5 if pixel_min else 255, out=floats)
    if pixel_min:
        np.subtract(floats, 1.0, out=floats)


@ignore_float_errors
def to_pixels(floats: np.ndarray, pixel_min: float = -1.0) -> np.ndarray:
    """float in [pixel_min, 1] -> uint8 0..255, rounded; values outside are clipped."""
    expect_pixel_min("to_pixels", pixel_min)
    scaled = (floats + 1.0) * 127.5 if pixel_min else floats * 255
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
