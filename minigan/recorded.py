"""Rounds of the game on a GPU, recorded and launched as a whole.

    round 1   step by step, to see how often z is drawn, and how much of it
    round 2   is recorded (backends/cupy_graph.py), and launched
    from 3    images, labels and z are written to where the recorded round reads them, then it is launched

A batch that is smaller, at the end of an epoch, is played step by step. The numbers are the same in every case, bit by bit.

The images stay on the GPU as bytes, where they take no more than half of what is free there: then a batch is a list
of numbers. Otherwise batches are prepared on the host, as floats. What a round measured stays on the GPU too, in a row of its
own, until somebody reads it; there are ROWS of them.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from minigan.backends import Array
from minigan.backends.inbox import Inbox
from minigan.data import Batches
from minigan.gan import play_round
from minigan.run import MEASURED

if TYPE_CHECKING:
    from minigan.training import Game

ROWS = 64  # rounds whose results are kept on the device
PART = 2**24  # bytes of images that are sent to it at a time


class Recorded:
    """Plays the rounds of a Game."""

    pixels: Array | None = None  # all images, on the device

    def __init__(self, game: "Game"):
        self.game, self.backend = game, game.backend
        size, batches = game.config.batch_size, range(game.rules.batches)
        self.images = [self.backend.inbox((size, *game.config.image_shape)) for _ in batches]
        self.numbers = [self.backend.inbox((size,), np.int32) for _ in batches]
        self.labels = [self.backend.inbox((size, game.preset.classes)) for _ in batches] if game.preset.classes else []
        self.z: list[Inbox] = []  # one for each drawing in a round
        self.z_sizes: list[int] = []  # of a round with whole batches
        self.rows, self.turn = self.backend.empty((ROWS, len(MEASURED))), 0
        self.batches: Batches | None = None  # those that pixels are of
        self.drawn: list[tuple[Array, Array | None]] = []  # of the present round
        self.replay: Callable[[], dict[str, Any]] | None = None

    def round(self, batches: Batches) -> dict[str, Any]:
        """-> {"row": what MEASURED names, on the device; "images": how many real ones there were}"""
        if batches is not self.batches:
            self.batches, self.pixels = batches, self.keep(batches)
        self.drawn = [self.send_batch(i, batches) for i in range(self.game.rules.batches)]
        whole = all(len(x) == self.game.config.batch_size for x, _ in self.drawn)
        if not whole or not self.z_sizes:
            sizes: list[int] = []
            result = self.play(lambda n: self.draw_z(sizes, n))
            self.z_sizes = sizes if whole else self.z_sizes
        else:
            for i, n in enumerate(self.z_sizes):
                self.send_z(i, n)
            if self.replay is None:
                self.replay = self.backend.capture(self.play_again)
            result = self.replay()
        self.turn = (self.turn + 1) % ROWS
        row = self.rows[self.turn]
        self.backend.collect([result[name] for name in MEASURED], row)
        return {"row": row, "images": result["images"]}

    def play(self, draw_z: Callable[[int], Array]) -> dict[str, Any]:
        """One round with the images that were drawn -> as gan.play_round"""
        game, images = self.game, iter(self.drawn)
        return play_round(game.G, game.D, game.optimizers, lambda: next(images), draw_z, game.rules)

    def play_again(self) -> dict[str, Any]:
        """The same with the z that was sent: what is recorded."""
        z: Iterator[Array] = (self.z[i].array[:n] for i, n in enumerate(self.z_sizes))
        return self.play(lambda n: next(z))

    # -- what a round reads ------------------------------------------------------------------

    def draw_z(self, sizes: list[int], n: int) -> Array:
        """-> z (n, z_dim); n is noted in sizes"""
        sizes.append(n)
        return self.send_z(len(sizes) - 1, n)

    def send_z(self, i: int, n: int) -> Array:
        """Draw z for the i-th time in this round -> (n, z_dim)"""
        while len(self.z) <= i:
            most = self.game.config.batch_size * self.game.rules.generator_batch
            self.z.append(self.backend.inbox((most, self.game.config.z_dim)))
        self.game.fill_z(self.z[i].open(n), self.game.z_generator)
        return self.z[i].send()

    def send_batch(self, i: int, batches: Batches) -> tuple[Array, Array | None]:
        """The i-th batch of a round -> images, labels, on the device"""
        if self.pixels is None:
            images, numbers = batches.draw()
            self.images[i].open(len(images))[...] = images
            x = self.images[i].send()
        else:
            chosen, flips, numbers = batches.choose()
            self.numbers[i].open(len(chosen))[...] = chosen if flips is None else np.where(flips, -1 - chosen, chosen)
            x = self.images[i].array[: len(chosen)]
            self.backend.gather_images(self.pixels, self.numbers[i].send(), x, batches.low)
        if not self.labels:
            return x, None
        self.labels[i].open(len(x))[...] = self.game.one_hot[numbers]
        return x, self.labels[i].send()

    def keep(self, batches: Batches) -> Array | None:
        """-> all images (count, h, w, c) uint8 on the device; None where they are too many"""
        images = batches.images
        if images.nbytes > self.backend.free_memory() // 2:
            return None
        pixels = self.backend.empty(images.shape, np.uint8)
        step = max(1, PART // images[:1].nbytes)
        for start in range(0, len(images), step):
            part = np.arange(start, min(len(images), start + step))
            memory = np.empty((len(part), *images.shape[1:]), np.uint8)
            batches.read(memory, part)
            self.backend.put(memory, pixels[start : start + len(part)])
        return pixels
