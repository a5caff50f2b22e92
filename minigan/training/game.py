"""A game: both nets, their optimizers and z. Everything that is learned or drawn, except the data.

All random numbers of a run come from its seed, in separate streams, so that none depends on how
often another was used.
"""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator

from minigan import optimizers
from minigan.arrays import Array, Backend
from minigan.averaging import Average
from minigan.backends import get_backend
from minigan.backends.cpu.threads import blas
from minigan.backends.fusion import has_kernels
from minigan.checks import expect_choice, expect_size, ignore_float_errors
from minigan.concurrency import InUse
from minigan.copying import Copyable
from minigan.data import Batches, to_pixels
from minigan.data.files.npz import Sections
from minigan.errors import ConfigError, TrainingError
from minigan.frozen_statistics import freeze_statistics, samples_by_batch, with_own_statistics
from minigan.gan import MEASURED, Players, Result, update_generator
from minigan.layers import Sequential
from minigan.parallel.group import ALONE, Group
from minigan.presets.shibuya import update_jointly
from minigan.training.captured_round import CapturedRound, CapturedSampler
from minigan.training.checkpoint import MOST_STEPS, restore_generator
from minigan.training.config import Config
from minigan.training.nan_trace import broken_array
from minigan.training.switches import switched_preset

STREAMS = {  # random streams of a run
    "G": 0, "D": 1, "z": 2, "fixed z": 3, "data": 4, "sample": 5, "real": 6, "evaluation": 7,
}  # fmt: skip
STAIR = 1000  # steps with the same rates, if they decay by the step
STATISTICS = ("frozen", "batch")  # of BatchNorm, in samples; see sampled_net


def make_backend(config: Config, ranks: Group | None = None) -> Backend:
    """-> the backend of a run; on CPUs, several ranks have one thread each by default."""
    shared = ranks is not None and ranks.size > 1 and config.backend == "numpy"
    threads = config.threads or (1 if shared else None)
    options: dict[str, Any] = dict(precision=config.precision, compile=config.compile)
    return get_backend(config.backend, threads=threads, ranks=ranks, **options)


class Game(Copyable):
    """Game(config): a preset's nets, set up and ready to play rounds and to draw samples.

    ranks  processes that play and draw together: each has a Game of the same config, calls the same
           methods, and gets the same results
    """

    not_copied = ("captured", "sampler", "frozen")
    captured: CapturedRound | None = None
    sampler: CapturedSampler | None = None
    frozen: tuple[Sequential, Sequential] | None = None  # drawn_from, and its frozen twin

    def __init__(self, config: Config, ranks: Group | None = None):
        self.config, self.preset = config, switched_preset(config)
        self.class_names: tuple[str, ...] = ()  # of a conditional run, where they are known
        self.in_use, self.process = InUse("a Game"), os.getpid()
        self.ranks = ranks or ALONE
        self.backend = make_backend(config, ranks)
        self.G = self.make_generator("G")
        D = self.preset.discriminator(config.width, config.image_shape)
        self.D = Sequential(D, name="D")
        self.D.setup(config.image_shape, backend=self.backend, rng=self.stream("D"))
        self.nets = {"G": self.G, "D": self.D}
        self.drawn_from = self.G  # the net that makes the samples
        self.average: Average | None = None
        if config.ema:
            self.drawn_from = self.nets["G average"] = self.make_generator("G average")
            self.average = Average(self.drawn_from, self.G, config.ema)
        self.rates = {"G": config.lr_g, "D": config.lr_d}
        if config.joint_update:
            self.rates["D joint"] = config.lr_g
        self.optimizers = {
            name: self.make_optimizer(self.nets[name.split()[0]], rate)
            for name, rate in self.rates.items()
        }
        self.z_generator = self.stream("z")
        self.one_hot = np.eye(self.preset.classes, dtype=self.backend.dtype)
        if self.can_be_captured():
            self.captured = CapturedRound(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """A copy that plays the same rounds from here on, given a copy of the batches."""
        other = super().__deepcopy__(memo)
        if self.captured is not None:
            other.captured = CapturedRound(other)
        return other

    def can_be_captured(self) -> bool:
        """Can a round be captured? Not if the host must intervene during it.

        It must for Dropout, which draws masks, and on a GPU for an optimizer or a layer without
        kernels.
        """
        if self.backend.captures_graphs and not all(map(has_kernels, self.nets.values())):
            return False
        if any(net.ready().generators for net in self.nets.values()):
            return False
        applies = [type(optimizer).apply for optimizer in self.optimizers.values()]
        are_fast = all(self.backend.operation_for(apply) is not apply for apply in applies)
        return are_fast or not self.backend.captures_graphs

    def make_generator(self, name: str) -> Sequential:
        """-> G before its first step; the same weights at every call."""
        config = self.config
        G = Sequential(self.preset.generator(config.width, config.z_dim, config.image_shape), name)
        G.setup((config.z_dim,), backend=self.backend, rng=self.stream("G"))
        return G

    def make_optimizer(self, net: Sequential, lr: float) -> optimizers.Optimizer:
        """-> the preset's optimizer for one net."""
        adam = {} if self.config.beta1 is None else {"beta1": self.config.beta1}
        kind: Callable[..., optimizers.Optimizer] = getattr(optimizers, self.preset.optimizer)
        return kind(net, lr, **adam, **self.preset.settings)

    def stream(self, name: str, seed: int | None = None) -> Generator:
        """-> a new numpy.random.Generator at the start of a stream."""
        return np.random.default_rng([self.config.seed if seed is None else seed, STREAMS[name]])

    # -- rounds ------------------------------------------------------------------------

    @ignore_float_errors
    def round(self, batches: Batches) -> dict[str, Any]:
        """One round of the preset -> what `read` takes, still on the device."""
        with self.in_use, blas.single_threaded():  # or sums differ while other games run
            self.leave_parent()
            self.set_rates(batches.following()[0])
            if self.captured is not None:
                result = self.captured.round(self, batches)
            else:
                result = self.eager_round(batches)
            if self.average is not None:
                self.average.update()
        return result

    def leave_parent(self) -> None:
        """In a forked child: replace the buffers that the parent's game still writes."""
        if self.process != os.getpid():
            self.process, self.sampler = os.getpid(), None
            self.captured = None if self.captured is None else CapturedRound(self)

    def eager_round(self, batches: Batches) -> dict[str, Any]:
        """The round, operation by operation."""
        counts = []

        def draw_images() -> tuple[Array, Array | None]:
            images, numbers = batches.draw()
            counts.append(len(images))
            return self.backend.asarray(images), self.labels(numbers)

        result = self.play(self.players(self.backend, draw_images, self.draw_z))
        return {**result, "images": sum(counts)}

    def players(self, backend: Backend, draw_images: Any = None, draw_z: Any = None) -> Players:
        """-> both players on a backend: the game's, or that of a captured step."""
        steppers = {name: optimizer.on(backend) for name, optimizer in self.optimizers.items()}
        generator_update: Callable[..., Result] = update_generator
        if "D joint" in steppers:
            generator_update = partial(update_jointly, joint_optimizer=steppers["D joint"])
        players = self.G.on(backend), self.D.on(backend), steppers["G"], steppers["D"]
        return Players(*players, draw_images, draw_z, generator_update, self.preset.objective)

    def play(self, players: Players) -> Result:
        """The preset's round."""
        return self.preset.round(players, **self.preset.round_options)

    def set_rates(self, epoch: int) -> None:
        """The learning rates of an epoch, counted from 0, and of the step that comes next.

        Constant, or with a linear decay, or with the inverse root of the steps: in stairs, because
        forked processes are started again when a rate changes.
        """
        if self.preset.decay is None and not self.config.lr_decay:
            return
        left = 1.0
        if self.preset.decay is not None:
            start, length = self.preset.decay
            left -= min(max(epoch - start, 0), length) / length
        if self.config.lr_decay:
            step = self.optimizers["G"].steps // STAIR * STAIR
            left /= (1.0 + step / self.config.lr_decay) ** 0.5
        for name, optimizer in self.optimizers.items():
            optimizer.lr = self.rates[name] * left

    def read(self, result: dict[str, Any]) -> dict[str, float]:
        """-> what a round measured, as numbers. On a GPU this waits for the round."""
        to_host = self.backend.to_host
        if "row" in result:  # of a captured round
            return dict(zip(MEASURED, map(float, to_host(result["row"])), strict=True))
        return {name: float(to_host(result[name])) for name in MEASURED}

    # -- z, labels, samples ------------------------------------------------------------

    def draw_z(self, n: int) -> Array:
        """-> z (n, z_dim), the next of the rounds' stream."""
        return self.backend.asarray(self.new_z(n, self.z_generator))

    def new_z(self, n: int, generator: Generator) -> np.ndarray:
        """-> z (n, z_dim) on the host."""
        z = np.empty((n, self.config.z_dim), self.backend.dtype)
        self.fill_z(z, generator)
        return z

    def fill_z(self, z: np.ndarray, generator: Generator) -> None:
        """z (n, z_dim) = N(0, 1) or U[-1, 1), drawn on the host: the same on every backend."""
        if self.config.z == "normal":
            generator.standard_normal(dtype=z.dtype, out=z)
        else:
            generator.random(dtype=z.dtype, out=z)
            np.multiply(z, 2.0, out=z)
            np.subtract(z, 1.0, out=z)

    def labels(self, numbers: Any) -> Array | None:
        """Class numbers (n,) on the host -> one-hot labels (n, classes); None without classes."""
        return self.backend.asarray(self.one_hot[numbers]) if self.preset.classes else None

    def sampled_net(self, statistics: str = "frozen") -> Sequential:
        """-> the net that makes samples, with its weights as they are now.

        statistics  what BatchNorm normalizes by in a preset whose program samples by the batch:
                    "frozen", those of the run's fixed batch: an image depends on z and class alone;
                    "batch", those of the batch it is drawn in, as in the published program
        The fixed batch is the first one of the run's grids: the same z, and the classes in turn.
        Raises ConfigError.
        """
        expect_choice("--statistics", statistics, STATISTICS)
        net, of_batch = self.drawn_from, statistics == "batch"
        if of_batch and not samples_by_batch(net):
            raise ConfigError(
                f"--statistics batch: preset {self.config.preset} samples by running statistics, "
                "which no batch changes: leave it out"
            )
        if of_batch or not samples_by_batch(net):
            return net
        if self.frozen is None or self.frozen[0] is not net:
            self.frozen = net, with_own_statistics(net)
        z = self.new_z(self.config.batch_size, self.stream("fixed z"))
        labels = self.labels(self.classes_in_turn(len(z)))
        freeze_statistics(self.frozen[1], self.backend.asarray(z), labels)
        return self.frozen[1]

    @ignore_float_errors
    def sample(
        self, n: int, generator: Generator, label: int | None = None, statistics: str = "frozen"
    ) -> np.ndarray:
        """-> samples (n, h, w, c) uint8 on the host, of G in sampling mode.

        label       class of all of them, if G is conditional; None: 0, 1, 2 ... in turn
        statistics  as in sampled_net
        """
        samples = np.empty((n, *self.G.out_shape), np.uint8)
        start = 0
        for images, _ in self.sample_batches(n, generator, label, statistics):
            samples[start : start + len(images)] = images
            start += len(images)
        return samples

    def sample_batches(
        self, n: int, generator: Generator, label: int | None = None, statistics: str = "frozen"
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """-> yields the images of `sample` batch by batch, with their class numbers.

        Drawn in whole batches, so that sample i is the same for every n, to the last bit.
        """
        size = self.config.batch_size
        self.expect_label(label)
        with self.in_use, blas.single_threaded():
            self.leave_parent()
            net = self.sampled_net(statistics)
            if self.sampler is None:
                self.sampler = CapturedSampler(self)
        sampler, starts = self.sampler, range(0, n, size)

        def numbers(start: int) -> np.ndarray:
            return self.classes_in_turn(size, start) if label is None else np.full(size, label)

        def draw(start: int, z: np.ndarray) -> np.ndarray:
            with self.in_use, blas.single_threaded():
                sampler.z.host_rows(size)[...] = z
                return self.to_images(sampler.draw(self, net, numbers(start)))

        # z is drawn for all batches on all ranks: they share one stream
        jobs = (partial(draw, start, self.new_z(size, generator)) for start in starts)
        for start, images in zip(starts, self.ranks.in_order(jobs), strict=True):
            yield images[: n - start], numbers(start)[: n - start]

    def classes_in_turn(self, n: int, start: int = 0) -> np.ndarray:
        """-> class numbers of n samples from `start` on: 0, 1, 2 ...; all 0 without classes."""
        return np.arange(start, start + n) % max(self.preset.classes, 1)

    def expect_label(self, label: int | None) -> None:
        """Raises ConfigError unless it is the number of a class, or None."""
        classes = self.preset.classes
        if label is not None and not classes:
            cure = ": train it with --classes" if self.preset.any_size else ""
            raise ConfigError(f"--label needs classes, and {self.config.preset} has none{cure}")
        if label is not None:
            expect_size("--label", label, 0, classes - 1)

    def class_title(self, number: int) -> str:
        """-> the name of a class where it is known, else its number."""
        return self.class_names[number] if self.class_names else str(number)

    @ignore_float_errors
    def images_of(self, z: Array, numbers: Any, net: Sequential | None = None) -> np.ndarray:
        """z (n, z_dim), class numbers (n,) -> images (n, h, w, c) uint8 on the host.

        net  from sampled_net, for many calls; None: a call of it
        """
        if net is None:
            net = self.sampled_net()
        return self.to_images(net.forward(z, train=False, labels=self.labels(numbers)))

    def to_images(self, output: Array) -> np.ndarray:
        """G's output -> images uint8 on the host. Raises TrainingError if it is not finite."""
        y = self.backend.to_host(output)
        if not np.all(np.isfinite(y)):
            raise TrainingError(
                f"the generator outputs NaN{broken_array(self.drawn_from)}: its training diverged; "
                "try a smaller --lr-g and --lr-d"
            )
        return to_pixels(y, self.preset.pixel_min)

    def sample_grid(self) -> np.ndarray:
        """-> the samples for the run's grids, drawn from the same z every time."""
        rows, columns = self.preset.grid
        return self.sample(rows * columns, self.stream("fixed z"))

    # -- state -------------------------------------------------------------------------

    def state(self) -> tuple[Sections, dict[str, Any]]:
        """-> sections of host arrays, JSON-able record: see data/files/npz.py."""
        sections: Sections = {}
        steps, generators = {}, {"z": self.z_generator.bit_generator.state}
        for name, net in self.nets.items():
            sections[name] = net.ready().state()
            for key, generator in net.ready().generators.items():
                generators[f"{name}.{key}"] = generator.bit_generator.state
        for name, optimizer in self.optimizers.items():
            moments = optimizer.state()
            steps[name] = moments.pop("steps")
            sections[f"optimizer {name}"] = {
                moment: self.backend.to_host(array) for moment, array in moments.items()
            }
        averaged = {} if self.average is None else {"average_steps": self.average.steps}
        return sections, {"optimizer_steps": steps, "generators": generators, **averaged}

    def load(self, sections: Sections, record: dict[str, Any], source: str | Path) -> None:
        """Restore what state() returned; raises RunError, KeyError or others if it does not fit."""
        generators = record["generators"]
        for name, net in self.nets.items():
            # an average that --resume has switched on begins as G
            saved = "G" if name == "G average" and name not in sections else name
            net.ready().load_state(sections[saved], source)
            for key, generator in net.ready().generators.items():
                restore_generator(generator, generators[f"{saved}.{key}"])
        for name, optimizer in self.optimizers.items():
            moments = sections.get(f"optimizer {name}", {})  # plain SGD has none
            steps = expect_size("steps", record["optimizer_steps"][name], 0, MOST_STEPS)
            optimizer.load_state({**moments, "steps": steps})
        if self.average is not None:
            steps = expect_size("average_steps", record.get("average_steps", 0), 0, MOST_STEPS)
            self.average.steps = steps
        restore_generator(self.z_generator, generators["z"])
