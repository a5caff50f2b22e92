"""Whole rounds of the game, and whole batches of samples, captured.

Images, labels and z go to staging buffers; then the round captured by `backend.capture` reads them
there. On a GPU it is recorded once as a CUDA graph and launched; on a CPU several processes run it.
A smaller batch, at the end of an epoch, is run operation by operation.

On a GPU, all images stay in its memory as bytes if they take at most half of the free memory: a
batch is then a list of indices. Otherwise batches are prepared on the host, as floats. The
measurements of a round also stay on the GPU, in a row of a table, until they are read.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from minigan.arrays import Array, Backend
from minigan.arrays.backend import Stateful
from minigan.backends.fusion import has_kernels
from minigan.data import Batches
from minigan.gan import MEASURED, Result
from minigan.layers import Sequential

Game = Any  # training/game.py, which imports this file
ROWS = 64  # rounds whose measurements stay on the device
PART = 2**24  # bytes of images to upload at a time

# The objects here keep no reference to the Game that owns them: the game passes itself. So its
# processes end with it, and not only when the garbage collector finds a cycle.


class CapturedRound:
    """Plays the rounds of a Game."""

    def __init__(self, game: Game):
        config, preset, self.backend = game.config, game.preset, game.backend
        size, batches = config.batch_size, range(preset.images_per_round)
        buffer = self.backend.staging_buffer
        self.size = size
        self.images = [buffer((size, *config.image_shape)) for _ in batches]
        self.numbers = [buffer((size,), np.int32) for _ in batches]
        self.labels = [buffer((size, preset.classes)) for _ in batches if preset.classes]
        self.z = [buffer((size * multiple, config.z_dim)) for multiple in preset.z_per_round]
        self.rows = self.backend.xp.empty((ROWS, len(MEASURED)), self.backend.dtype)
        self.row = 0
        self.pixels: Array | None = None  # all images, on the device
        self.batches: Batches | None = None  # the ones whose images `pixels` holds
        self.replay: Callable[[], Result] | None = None  # the round with whole batches

    def round(self, game: Game, batches: Batches) -> dict[str, Any]:
        """-> {"row": the values of MEASURED, on the device; "images": number of real images}"""
        if batches is not self.batches:
            self.batches, self.pixels = batches, self.keep(batches)
        drawn = [self.upload_batch(game, i, batches) for i in range(len(self.images))]
        if all(len(x) == self.size for x, _ in drawn):
            for i, z in enumerate(self.z):
                self.upload_z(game, i, len(z.array))
            if self.replay is None:
                optimizers = game.optimizers.values()
                stateful: list[Stateful] = [game.G.ready(), game.D.ready(), *optimizers]
                self.replay = self.backend.capture(self.make_step_of(game), stateful, self.size)
            result = self.replay()
        else:
            images, indices = iter(drawn), iter(range(len(self.z)))
            players = game.players(
                self.backend, lambda: next(images), lambda n: self.upload_z(game, next(indices), n)
            )
            result = game.play(players)
        self.row = (self.row + 1) % ROWS
        if self.row == 0:  # somebody may keep the results of earlier rounds
            self.rows = self.backend.xp.empty(self.rows.shape, self.rows.dtype)
        row = self.rows[self.row]
        self.backend.collect([result[name] for name in MEASURED], row)
        return {"row": row, "images": sum(len(x) for x, _ in drawn)}

    def make_step_of(self, game: Game) -> Callable[[Backend], Callable[[], Result]]:
        """-> function (backend) -> the round with whole batches, from the staging buffers."""
        make_players = game.players
        play_round: Callable[..., Result] = game.preset.round
        options = game.preset.round_options
        images = [buffer.array for buffer in self.images]
        labels = [buffer.array for buffer in self.labels] or [None] * len(images)
        z = [buffer.array for buffer in self.z]

        def make_step(backend: Backend) -> Callable[[], Result]:
            players = make_players(backend)

            def shard(array: Array | None) -> Array:
                return None if array is None else backend.shard(array)

            def step() -> Result:
                batches = zip(map(shard, images), map(shard, labels), strict=True)
                draws = map(shard, z)
                players.draw_images = lambda: next(batches)
                players.draw_z = lambda n: next(draws)
                return play_round(players, **options)

            return step

        return make_step

    def close(self) -> None:
        """Release the processes or the graph of whole rounds; the next round makes them again."""
        self.replay = None

    # -- what a round reads ------------------------------------------------------------

    def upload_z(self, game: Game, i: int, n: int) -> Array:
        """Draw the i-th z of this round -> (n, z_dim)"""
        game.fill_z(self.z[i].host_rows(n), game.z_generator)
        return self.z[i].upload()

    def upload_batch(self, game: Game, i: int, batches: Batches) -> tuple[Array, Array | None]:
        """The i-th batch of a round -> images, labels, on the device"""
        if self.pixels is None:
            images, numbers = batches.draw()
            rows = self.images[i].host_rows(len(images))
            batches.prepared(rows)[...] = batches.prepared(images)
            x = self.images[i].upload()
        else:
            chosen, flips, numbers = batches.choose()
            if flips is not None:
                chosen = np.where(flips, -1 - chosen, chosen)
            self.numbers[i].host_rows(len(chosen))[...] = chosen
            x = self.images[i].array[: len(chosen)]
            pixel_min = game.preset.pixel_min
            self.backend.gather_images(self.pixels, self.numbers[i].upload(), x, pixel_min)
        if not self.labels:
            return x, None
        self.labels[i].host_rows(len(x))[...] = game.one_hot[numbers]
        return x, self.labels[i].upload()

    def keep(self, batches: Batches) -> Array | None:
        """-> all images (count, h, w, c) uint8 on the device; None if they are too many"""
        images = batches.images
        if images.nbytes > self.backend.free_memory() // 2:
            return None
        pixels = self.backend.xp.empty(images.shape, np.uint8)
        step = max(1, PART // images[:1].nbytes)
        for start in range(0, len(images), step):
            part = np.arange(start, min(len(images), start + step))
            memory = np.empty((len(part), *images.shape[1:]), np.uint8)
            batches.read(memory, part)
            self.backend.put(memory, pixels[start : start + len(part)])
        return pixels


class CapturedSampler:
    """Draws batches of samples: on a GPU one launch each, elsewhere G's forward."""

    net: Sequential | None = None  # the G that was captured
    replay: Callable[[], Array]

    def __init__(self, game: Game):
        size, buffer = game.config.batch_size, game.backend.staging_buffer
        self.size, self.z = size, buffer((size, game.config.z_dim))
        self.labels = buffer((size, game.preset.classes)) if game.preset.classes else None

    def draw(self, game: Game, net: Sequential, numbers: np.ndarray) -> Array:
        """Class numbers (batch_size,), and z in `self.z` -> net's output for a whole batch.

        net  from game.sampled_net
        """
        self.z.upload()
        if self.labels is not None:
            self.labels.host_rows(self.size)[...] = game.one_hot[numbers]
            self.labels.upload()
        if self.net is not net:
            make_step = partial(self.make_step, net)
            if game.backend.captures_graphs and has_kernels(net):
                self.replay = game.backend.capture(make_step, [])
            else:
                self.replay = make_step(game.backend)
            self.net = net  # last: a capture may be interrupted
        return self.replay()

    def make_step(self, net: Sequential, backend: Backend) -> Callable[[], Array]:
        net, z = net.on(backend), self.z.array
        labels = None if self.labels is None else self.labels.array
        return lambda: net.forward(z, train=False, labels=labels)
