"""Pictures -> shuffled batches in [-1, 1], in an order that a resumed run repeats exactly.

The pictures stay uint8 in memory; a batch becomes floats when it is drawn. The order of
an epoch depends on the seed and the number of the epoch alone, so that the two numbers
`epoch` and `position` are all that a checkpoint needs.
"""

from collections.abc import Sequence

import numpy as np

from minigan.checks import expect_size
from minigan.errors import ConfigError, DataError

SMALLEST_BATCH = 2  # images in a batch: BatchNorm has no statistics of one


class Batches:
    """Batches(images, batch_size, seed): draw() again and again.

    images      (count, h, w, c) uint8
    batch_size  the last batch of an epoch is smaller where it does not divide the count;
                a last batch of one single image is left out
    seed        whole number, or a sequence of them
    """

    def __init__(self, images: np.ndarray, batch_size: int, seed: int | Sequence[int] = 0):
        if images.dtype != np.uint8:
            raise DataError(f"Batches: expected uint8 images, got {images.dtype}")
        self.images, self.batch_size = images, expect_size("Batches: batch_size", batch_size, least=SMALLEST_BATCH)
        if len(images) < self.batch_size:
            raise ConfigError(f"Batches: batch_size {self.batch_size} is larger than the whole set, {len(images)} images")
        self.seed = list(seed) if isinstance(seed, Sequence) else [seed]
        full, rest = divmod(len(images), self.batch_size)
        self.per_epoch = full + (rest >= SMALLEST_BATCH)
        self.pixels = np.empty((self.batch_size, *images.shape[1:]), np.uint8)
        self.floats = np.empty(self.pixels.shape, np.float32)
        self.order = np.arange(len(images))
        self.seek(epoch=0, position=0)

    def seek(self, epoch: int, position: int) -> None:
        """Go to batch `position` (0 .. per_epoch) of an epoch, counted from 0."""
        if not (epoch >= 0 and 0 <= position <= self.per_epoch):
            raise ConfigError(f"there is no batch {position} in epoch {epoch}: an epoch has {self.per_epoch}")
        self.epoch, self.position = epoch, position
        self.order.sort()  # back to 0, 1, 2, ...: the shuffle depends on nothing that was before
        np.random.default_rng([*self.seed, epoch]).shuffle(self.order)

    def draw(self) -> np.ndarray:
        """-> next batch (n, h, w, c) float32 in [-1, 1]. The same memory at every call."""
        if self.position == self.per_epoch:
            self.seek(self.epoch + 1, 0)
        start = self.position * self.batch_size
        chosen = self.order[start : start + self.batch_size]
        self.position += 1
        pixels, floats = self.pixels[: len(chosen)], self.floats[: len(chosen)]
        np.take(self.images, chosen, axis=0, out=pixels, mode="clip")  # mode "raise" would take a copy
        to_floats(pixels, floats)
        return floats


def to_floats(pixels: np.ndarray, floats: np.ndarray) -> None:
    """uint8 0..255 -> float32 in [-1, 1], written; 0 and 255 become -1 and 1 exactly."""
    floats[...] = pixels
    np.divide(floats, 127.5, out=floats)
    np.subtract(floats, 1.0, out=floats)


def to_pixels(floats: np.ndarray) -> np.ndarray:
    """float in [-1, 1] -> uint8 0..255, rounded; beyond the range is clipped."""
    return np.clip(np.rint((floats + 1.0) * 127.5), 0, 255).astype(np.uint8)
