"""Pictures -> batches of floats, in an order that a resumed run repeats exactly.

The pictures stay uint8, in memory or in a file; a batch becomes floats when it is prepared. The
order of an epoch, and which pictures are mirrored, depend on the seed and the number of the epoch
alone, so that the two numbers `epoch` and `position` are all that a checkpoint needs.

While a batch is trained on, one background thread prepares the next, so that training does not
wait for a disk. Pictures that are memory-mapped it reads from their file and not through the
map: a disk that fails is then an error to catch, where a map would end the process. The rows
of a batch are read in its own order: in the file's they came no faster, neither from memory nor
from an SSD. What training waits for a batch is measured by benchmarks/data.py.
"""

from __future__ import annotations

import mmap
import os
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from minigan.checks import expect_size
from minigan.errors import ConfigError, DataError

if TYPE_CHECKING:
    from concurrent.futures import Future

SMALLEST_BATCH = 2  # images in a batch: BatchNorm has no statistics of one
BUFFERS = 3  # the batch drawn last, the one before it, and the one that is being prepared
SHUFFLES = ("epoch", "once", "never")
FLIPS = 1  # behind seed and epoch: the stream of random numbers that mirrors

Batch = tuple[np.ndarray, np.ndarray | None]  # images, labels


class Batches:
    """Batches(images, batch_size, seed): draw() again and again.

    images      (count, h, w, c) uint8
    batch_size  the last batch of an epoch is smaller where it does not divide the count;
                a last batch of one single image is left out
    seed        whole number, or a sequence of them
    labels      (count,), drawn along with the images
    shuffle     "epoch": a new order in each; "once": one order for all of them; "never": as they lie
    drop_last   leave out a last batch that is smaller
    flip        mirror each image left to right with probability 1/2, anew in each epoch
    low         what pixel 0 becomes: -1.0 or 0.0; 255 becomes 1

    epoch, position  how many epochs, and batches in this one, were drawn: what seek() takes

    In a forked child it goes on by itself, from the same place. The thread ends with the object and with the program.
    """

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
        low: float = -1.0,
    ):
        if images.dtype != np.uint8:
            raise DataError(f"Batches: expected uint8 images, got {images.dtype}")
        if labels is not None and len(labels) != len(images):
            raise DataError(
                f"Batches: expected a label for each of the {len(images)} images, got {len(labels)}"
            )
        if shuffle not in SHUFFLES:
            raise ConfigError(
                f"Batches: shuffle must be one of {', '.join(SHUFFLES)}, got {shuffle!r}"
            )
        expect_low("Batches", low)
        self.images, self.batch_size = (
            images,
            expect_size("Batches: batch_size", batch_size, least=SMALLEST_BATCH),
        )
        self.labels, self.shuffle, self.flip, self.low = labels, shuffle, flip, low
        if len(images) < self.batch_size:
            raise ConfigError(
                f"Batches: batch_size {self.batch_size} is larger than the whole set, {len(images)} images"
            )
        self.seed = list(seed) if isinstance(seed, Sequence) else [seed]
        full, rest = divmod(len(images), self.batch_size)
        self.per_epoch = full + (rest >= SMALLEST_BATCH and not drop_last)
        self.pixels = np.empty((self.batch_size, *images.shape[1:]), np.uint8)
        self.buffers = [
            (
                np.empty(self.pixels.shape, np.float32),
                None if labels is None else np.empty(self.batch_size, labels.dtype),
            )
            for _ in range(BUFFERS)
        ]
        self.file = open_map(images)
        self.process: int | None = None
        self.turn = 0  # whose buffer is next
        self.seek(epoch=0, position=0)

    def seek(self, epoch: int, position: int) -> None:
        """Go to batch `position` (0 .. per_epoch) of an epoch, counted from 0."""
        if not (epoch >= 0 and 0 <= position <= self.per_epoch):
            raise ConfigError(
                f"there is no batch {position} in epoch {epoch}: an epoch has {self.per_epoch}"
            )
        self.epoch, self.position = epoch, position
        self.next: Future[Batch] | None = None  # what is being prepared is another batch

    def draw(self) -> Batch:
        """-> the next batch: images (n, h, w, c) float32 in [low, 1], labels (n,) or None.

        Both are the caller's until the draw after the next begins, which may write over them: of
        three draws in a row, the second leaves the first's arrays alone, the third does not.
        Raises DataError where the pictures cannot be read; the next draw tries the same batch again.
        """
        if self.process != os.getpid():
            self._start()
        future, self.next = self.next or self._prepare_next(), None
        batch = future.result()
        self.epoch, self.position = self._after()
        self.turn = (self.turn + 1) % BUFFERS
        self.next = self._prepare_next()
        return batch

    def choose(self) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
        """-> the next batch as numbers: of its images (n,), which of them are mirrored (n,), labels (n,); None for what there is not.

        In the place of draw(), for whoever has the images already.
        """
        if self.process != os.getpid():
            self._start()
        self.next = None
        epoch, position = self._after()
        chosen, flips = self.thread.submit(
            self._choose, epoch, position - 1
        ).result()  # there, as the order is the thread's
        self.epoch, self.position = epoch, position
        return chosen, flips, None if self.labels is None else self.labels[chosen]

    def read(self, pixels: np.ndarray, chosen: np.ndarray) -> None:
        """pixels[k] = image chosen[k], uint8. Raises DataError."""
        if self.file is None:
            np.take(
                self.images, chosen, axis=0, out=pixels, mode="clip"
            )  # mode "raise" would take a copy
        else:
            self.file.read_into(pixels, chosen)

    def _start(self) -> None:
        """A thread for this process, and an order that it can rely on: a fork may have come amid a shuffle."""
        from concurrent.futures import ThreadPoolExecutor

        self.process, self.next = os.getpid(), None
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="minigan-batches")
        self.order, self.flips = (
            np.arange(len(self.images)),
            np.empty(len(self.images) if self.flip else 0, np.uint8),
        )
        self.ordered: int | None = None  # epoch of the order, and of the flips
        self.flipped: int | None = None

    def _after(self) -> tuple[int, int]:
        """-> epoch and position when one more batch is drawn."""
        if self.position == self.per_epoch:
            return self.epoch + 1, 1
        return self.epoch, self.position + 1

    def _prepare_next(self) -> Future[Batch]:
        # Jobs are done one after the other: one that seek() has made useless is over before the next uses its buffer.
        epoch, position = self._after()
        return self.thread.submit(self._prepare, epoch, position - 1, *self.buffers[self.turn])

    # -- in the thread --------------------------------------------------------------------------

    def _prepare(
        self, epoch: int, position: int, floats: np.ndarray, labels: np.ndarray | None
    ) -> Batch:
        self._arrange(epoch)
        start = position * self.batch_size
        chosen = self.order[start : start + self.batch_size]
        pixels, floats = self.pixels[: len(chosen)], floats[: len(chosen)]
        self.read(pixels, chosen)
        if self.flip:
            for i in np.flatnonzero(self.flips[chosen]):
                pixels[i] = pixels[i, :, ::-1]
        to_floats(pixels, floats, self.low)
        if labels is not None and self.labels is not None:
            labels = labels[: len(chosen)]
            np.take(self.labels, chosen, out=labels, mode="clip")
        return floats, labels

    def _choose(self, epoch: int, position: int) -> tuple[np.ndarray, np.ndarray | None]:
        self._arrange(epoch)
        chosen = self.order[position * self.batch_size : (position + 1) * self.batch_size].copy()
        return chosen, self.flips[chosen] if self.flip else None

    def _arrange(self, epoch: int) -> None:
        """Order and flips of an epoch, which depend on nothing that was before."""
        of = epoch if self.shuffle == "epoch" else 0
        if self.ordered != of:
            self.ordered = None
            self.order.sort()  # back to 0, 1, 2, ...
            if self.shuffle != "never":
                np.random.default_rng([*self.seed, of]).shuffle(self.order)
            self.ordered = of
        if self.flip and self.flipped != epoch:
            self.flips[:] = np.random.default_rng([*self.seed, epoch, FLIPS]).integers(
                0, 2, len(self.flips), np.uint8
            )
            self.flipped = epoch


class PixelFile:
    """The file under a memory map, read row by row."""

    def __init__(self, path: str | Path, start: int, row: int):
        self.path, self.start, self.row = path, start, row
        try:
            self.file = open(self.path, "rb", buffering=0)
        except OSError as error:
            raise self.trouble(error.strerror) from error
        weakref.finalize(self, self.file.close)

    def read_into(self, pixels: np.ndarray, chosen: np.ndarray) -> None:
        """pixels[k] = row chosen[k]. Raises DataError."""
        rows = pixels.reshape(-1).data
        try:
            for k, i in enumerate(chosen.tolist()):
                if (
                    self.read_at(rows[k * self.row : (k + 1) * self.row], self.start + i * self.row)
                    != self.row
                ):
                    raise self.trouble("it ends too early")
        except OSError as error:
            if isinstance(error, DataError):
                raise
            raise self.trouble(error.strerror or error) from error

    def read_at(self, row: memoryview, offset: int) -> int:
        """-> bytes read."""
        if hasattr(
            os, "preadv"
        ):  # a position of its own for each call: a forked child shares the file's
            read: int = os.preadv(self.file.fileno(), [row], offset)
            return read
        self.file.seek(offset)
        return self.file.readinto(row)

    def trouble(self, reason: object) -> DataError:
        return DataError(
            f"{self.path}: the pictures cannot be read any more ({reason}): is the disk still there? "
            "Start again, or go on with --resume: what is missing is prepared anew"
        )


def open_map(images: np.ndarray) -> PixelFile | None:
    """-> the file, where the images are a whole memory map; None where they are in memory, or a part of a map."""
    if not (
        isinstance(images, np.memmap)
        and isinstance(images.base, mmap.mmap)
        and images.flags.c_contiguous
    ):
        return None
    return (
        None
        if images.filename is None
        else PixelFile(images.filename, images.offset, images[:1].nbytes)
    )


def expect_low(what: str, low: float) -> None:
    """Raises ConfigError unless low is -1 or 0."""
    if low not in (-1.0, 0.0):
        raise ConfigError(f"{what}: low must be -1.0 or 0.0, what pixel 0 becomes, got {low!r}")


def to_floats(pixels: np.ndarray, floats: np.ndarray, low: float = -1.0) -> None:
    """uint8 0..255 -> float32 in [low, 1], written; 0 and 255 become low and 1 exactly. low: -1 or 0."""
    expect_low("to_floats", low)
    floats[...] = pixels
    np.divide(floats, 127.5 if low else 255, out=floats)
    if low:
        np.subtract(floats, 1.0, out=floats)


def to_pixels(floats: np.ndarray, low: float = -1.0) -> np.ndarray:
    """float in [low, 1] -> uint8 0..255, rounded; beyond the range is clipped. low: -1 or 0."""
    expect_low("to_pixels", low)
    return np.clip(np.rint((floats + 1.0) * 127.5 if low else floats * 255), 0, 255).astype(
        np.uint8
    )
