"""Rounds of the game as a whole, and batches of pictures: on a GPU recorded once, then launched. On a CPU several processes play a round.

Images, labels and z are written to where the round reads them, then `backend.capture` has it played: see backends/cupy_graph.py
and backends/numpy_crew.py. A batch that is smaller, at the end of an epoch, is played step by step.

On a GPU the images stay there as bytes, where they take no more than half of what is free: then a batch is a list of
numbers. Otherwise batches are prepared on the host, as floats. What a round measured stays on the GPU too, in a row of
its own, until somebody reads it; there are ROWS of them.
"""

import weakref
from collections.abc import Callable, Iterator
from itertools import count, zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np

from minigan.backends import Array
from minigan.data import Batches
from minigan.gan import play_round
from minigan.layers import Sequential
from minigan.training.run_folder import MEASURED

if TYPE_CHECKING:
    from minigan.training.loop import Game

ROWS = 64  # rounds whose results are kept on the device
PART = 2**24  # bytes of images that are sent to it at a time


class Recorded:
    """Plays the rounds of a Game."""

    pixels: Array | None = None  # all images, on the device

    def __init__(self, game: "Game"):
        self.game: Game = weakref.proxy(
            game
        )  # whose own this is: no circle, or processes would outlive it for a while
        self.backend = game.backend
        size, batches = game.config.batch_size, range(game.rules.batches)
        self.images = [self.backend.inbox((size, *game.config.image_shape)) for _ in batches]
        self.numbers = [self.backend.inbox((size,), np.int32) for _ in batches]
        self.labels = (
            [self.backend.inbox((size, game.preset.classes)) for _ in batches]
            if game.preset.classes
            else []
        )
        self.z_sizes = game.rules.z_sizes(size)  # of a round with whole batches
        self.z = [
            self.backend.inbox((n, game.config.z_dim)) for n in self.z_sizes
        ]  # one for each drawing
        self.rows, self.turn = self.backend.empty((ROWS, len(MEASURED))), 0
        self.batches: Batches | None = None  # those that pixels are of
        self.drawn: list[tuple[Array, Array | None]] = []  # of the present round
        self.replay: Callable[[], dict[str, Any]] | None = None  # the round with whole batches

    def round(self, batches: Batches) -> dict[str, Any]:
        """-> {"row": what MEASURED names, on the device; "images": how many real ones there were}"""
        if batches is not self.batches:
            self.batches, self.pixels = batches, self.keep(batches)
        self.drawn = [self.send_batch(i, batches) for i in range(self.game.rules.batches)]
        size = self.game.config.batch_size
        if all(len(x) == size for x, _ in self.drawn):
            for i, n in enumerate(self.z_sizes):
                self.send_z(i, n)
            if self.replay is None:
                self.replay = self.backend.capture(weak(self.play_whole), size)
            result = self.replay()
        else:
            inboxes = count()
            result = self.play(iter(self.drawn), lambda n: self.send_z(next(inboxes), n))
        self.turn = (self.turn + 1) % ROWS
        row = self.rows[self.turn]
        self.backend.collect([result[name] for name in MEASURED], row)
        return {"row": row, "images": sum(len(x) for x, _ in self.drawn)}

    def close(self) -> None:
        """Let go of what plays whole rounds, the other processes or the graph. The next round makes it anew."""
        self.replay = None

    def play(self, batches: Iterator[Any], draw_z: Callable[[int], Array]) -> dict[str, Any]:
        """One round -> as gan.play_round"""
        game = self.game
        return play_round(
            game.G, game.D, game.optimizers, lambda: next(batches), draw_z, game.rules
        )

    def play_whole(self) -> dict[str, Any]:
        """The round with whole batches, from the inboxes: what is captured."""
        share = self.backend.share
        batches = (
            (share(x.array), share(of_x.array) if of_x else None)
            for x, of_x in zip_longest(self.images, self.labels)
        )
        z = (share(self.z[i].array) for i in range(len(self.z_sizes)))
        return self.play(batches, lambda n: next(z))

    # -- what a round reads ------------------------------------------------------------------

    def send_z(self, i: int, n: int) -> Array:
        """Draw z for the i-th time in this round -> (n, z_dim)"""
        while (
            len(self.z) <= i
        ):  # where batches of a round differ in size, there may be more drawings
            most = self.game.rules.fakes("G", self.game.config.batch_size)
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
            self.numbers[i].open(len(chosen))[...] = (
                chosen if flips is None else np.where(flips, -1 - chosen, chosen)
            )
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


class Painter:
    """Draws pictures of G, a whole batch at each launch of what a GPU has recorded; elsewhere this is G's forward."""

    net: Sequential | None = None  # the G that was recorded
    replay: Callable[[], Array]

    def __init__(self, game: "Game"):
        self.game: Game = weakref.proxy(game)
        size = game.config.batch_size
        self.z = game.backend.inbox((size, game.config.z_dim))
        self.labels = (
            game.backend.inbox((size, game.preset.classes)) if game.preset.classes else None
        )

    def paint(self, generator: np.random.Generator, numbers: np.ndarray) -> Array:
        """Random numbers for z, class numbers (batch_size,) -> G's output for a whole batch, in sampling mode"""
        game, size = self.game, self.game.config.batch_size
        game.fill_z(self.z.open(size), generator)
        self.z.send()
        if self.labels is not None:
            self.labels.open(size)[...] = game.one_hot[numbers]
            self.labels.send()
        if not game.backend.records:
            return self.forward()
        if self.net is not game.drawn_from:
            self.net, self.replay = game.drawn_from, game.backend.capture(weak(self.forward))
        return self.replay()

    def forward(self) -> Array:
        return self.game.drawn_from.forward(
            self.z.array, train=False, labels=None if self.labels is None else self.labels.array
        )


def weak(method: Callable[[], Any]) -> Callable[[], Any]:
    """-> function that does what a bound method does, and does not keep its object."""
    reference = weakref.WeakMethod(method)

    def call() -> Any:
        alive = reference()
        assert alive is not None, "who calls it holds the object"
        return alive()

    return call
