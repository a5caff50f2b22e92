"""The training loop, in plain sight, and what a checkpoint must hold to go on bit for bit.

The random numbers of a run come from its seed by separate streams, so that none
depends on how often another was asked.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from math import ceil, isfinite
from pathlib import Path
from typing import Any

import numpy as np

from minigan import optimizers
from minigan.arrays.staging import Inbox
from minigan.averaging import Average
from minigan.backends import Array, get_backend
from minigan.data import Batches, Dataset, load_dataset, to_pixels
from minigan.data.files.npz import Sections, load_arrays
from minigan.errors import ConfigError, DataError, MiniganError, RunError
from minigan.evaluation.during_training import Watch, make_watch
from minigan.gan import play_round
from minigan.layers import Sequential
from minigan.presets import Preset, get_preset
from minigan.training.captured_round import Painter, Recorded
from minigan.training.collapse import Alarms
from minigan.training.config import Config, new_config, resumed_config, versions
from minigan.training.nan_trace import find_astray
from minigan.training.progress import Interrupted, Progress, interrupts
from minigan.training.run_folder import LOSSES, MEASURED, Run

STREAMS = {
    "G": 0,
    "D": 1,
    "z": 2,
    "fixed z": 3,
    "data": 4,
    "sample": 5,
    "real": 6,
    "evaluation": 7,
}  # random streams of a run
NO_LABELS = "--label is for a conditional run: {} knows no classes"
READ_EVERY = (
    10  # steps between readings of the losses: on a GPU a reading waits for all steps before it
)


class Game:
    """Both nets, their optimizers and z: all that is learnt or drawn, but for the order of the data."""

    def __init__(self, config: Config):
        self.config, self.preset = config, get_preset(config.preset)
        self.rules = replace(self.preset.rules, joint=config.joint_update)
        self.backend = get_backend(
            config.backend, threads=config.threads, precision=config.precision
        )
        h_w_c = config.image_shape
        self.G = self.make_generator("G")
        self.D = Sequential(self.preset.discriminator(config.width, h_w_c), name="D")
        self.D.setup(h_w_c, backend=self.backend, rng=self.stream("D"))
        self.nets = {"G": self.G, "D": self.D}
        self.drawn_from = self.G  # the net that makes the pictures to look at
        self.average: Average | None = None
        if config.ema:
            self.drawn_from = self.nets["G average"] = self.make_generator("G average")
            self.average = Average(self.drawn_from, self.G, config.ema)
        self.rates = {"G": config.lr_g, "D": config.lr_d}
        self.optimizers = {
            "G": self.make_optimizer(self.G, config.lr_g),
            "D": self.make_optimizer(self.D, config.lr_d),
        }
        if config.joint_update:
            self.rates["D joint"] = config.lr_g
            self.optimizers["D joint"] = self.make_optimizer(self.D, config.lr_g)
        self.z_generator = self.stream("z")
        self.z: Inbox | None = None  # where draw_z writes
        self.one_hot = np.eye(self.preset.classes, dtype=self.backend.dtype)
        self.recorded = Recorded(self) if self.can_be_recorded() else None
        self.painter: Painter | None = None  # of whole batches of pictures

    def can_be_recorded(self) -> bool:
        """May a round be played as a whole? Not where the host steps in amid it: to draw for Dropout, to tell an optimizer its numbers."""
        by_device = not self.backend.records or all(
            optimizer.change is not type(optimizer).apply for optimizer in self.optimizers.values()
        )
        return by_device and not any(net.ready().generators for net in self.nets.values())

    def make_generator(self, name: str) -> Sequential:
        """-> G before its first step, of the same weights at every call."""
        G = Sequential(
            self.preset.generator(self.config.width, self.config.z_dim, self.config.image_shape),
            name=name,
        )
        G.setup((self.config.z_dim,), backend=self.backend, rng=self.stream("G"))
        return G

    def make_optimizer(self, net: Sequential, lr: float) -> optimizers.Optimizer:
        """-> the preset's optimizer for one net."""
        adam = {} if self.config.beta1 is None else {"beta1": self.config.beta1}
        kind: Callable[..., optimizers.Optimizer] = getattr(optimizers, self.preset.optimizer)
        return kind(net, lr, **adam, **self.preset.settings)

    def stream(self, name: str, seed: int | None = None) -> np.random.Generator:
        """-> numpy.random.Generator of its own for each name."""
        return np.random.default_rng([self.config.seed if seed is None else seed, STREAMS[name]])

    def draw_z(self, n: int, generator: np.random.Generator | None = None) -> Array:
        """-> z (n, z_dim), N(0, 1) or U[-1, 1). The same memory at every call."""
        if self.z is None or n > len(self.z.array):
            self.z = self.backend.inbox((n, self.config.z_dim))
        self.fill_z(self.z.open(n), generator or self.z_generator)
        return self.z.send()

    def fill_z(self, z: np.ndarray, generator: np.random.Generator) -> None:
        """z (n, z_dim), on the host so that every backend runs the same experiment, is written."""
        if self.config.z == "normal":
            generator.standard_normal(dtype=z.dtype, out=z)
        else:
            generator.random(dtype=z.dtype, out=z)
            np.multiply(z, 2.0, out=z)
            np.subtract(z, 1.0, out=z)

    def labels(self, numbers: Any) -> Array | None:
        """Class numbers (n,) on the host -> one-hot labels (n, classes) on the device; None where the nets take none."""
        return self.backend.asarray(self.one_hot[numbers]) if self.preset.classes else None

    def round(self, batches: Batches) -> dict[str, Any]:
        """One update of each player -> what `read` takes, still on the device; see gan.play_round."""
        self.set_rates(batches.epoch)
        result = self.play(batches) if self.recorded is None else self.recorded.round(batches)
        if self.average is not None:
            self.average.update()
        return result

    def play(self, batches: Batches) -> dict[str, Any]:
        """The round, step by step."""

        def draw_images() -> tuple[Array, Array | None]:
            images, numbers = batches.draw()
            return self.backend.asarray(images), self.labels(numbers)

        return play_round(self.G, self.D, self.optimizers, draw_images, self.draw_z, self.rules)

    def set_rates(self, epoch: int) -> None:
        """The learning rates of an epoch, counted from 0: constant; with a decay, then in a line to 0."""
        if self.preset.decay is None:
            return
        start, length = self.preset.decay
        left = 1.0 - min(max(epoch - start, 0), length) / length
        for name, optimizer in self.optimizers.items():
            optimizer.lr = self.rates[name] * left

    def read(self, result: dict[str, Any]) -> dict[str, float]:
        """-> what a round measured, as numbers. On a GPU this waits for the round."""
        if "row" in result:  # of a recorded round
            return dict(zip(MEASURED, map(float, self.backend.to_host(result["row"])), strict=True))
        return {name: float(self.backend.to_host(result[name])) for name in MEASURED}

    def sample(
        self, n: int, generator: np.random.Generator, label: int | None = None
    ) -> np.ndarray:
        """-> pictures of G (n, h, w, c) uint8 on the host, in sampling mode.

        label  class of all of them, where G is conditional; None: 0, 1, 2 ... in turn
        Drawn in whole batches, so that picture i is the same for every n.
        """
        size, classes = self.config.batch_size, self.preset.classes
        self.expect_label(label)
        pictures = np.empty((n, *self.G.out_shape), np.uint8)
        for start in range(0, n, size):
            numbers = (
                np.arange(start, start + size) % max(classes, 1)
                if label is None
                else np.full(size, label)
            )
            pictures[start : start + size] = self.draw_pictures(numbers, generator)[: n - start]
        return pictures

    def draw_pictures(self, numbers: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Class numbers (batch_size,) -> a batch of pictures of G, of z drawn anew (batch_size, h, w, c) uint8, in sampling mode."""
        if self.painter is None:
            self.painter = Painter(self)
        return self.developed(self.painter.paint(generator, numbers))

    def expect_label(self, label: int | None) -> None:
        """Raises ConfigError unless it is the number of a class, or None."""
        classes = self.preset.classes
        if label is not None and not 0 <= label < classes:
            raise ConfigError(
                f"--label must be in 0 .. {classes - 1}, got {label}"
                if classes
                else NO_LABELS.format(self.config.preset)
            )

    def pictures(self, z: Array, numbers: Any) -> np.ndarray:
        """z (n, z_dim) on the device, class numbers (n,) -> pictures of G (n, h, w, c) uint8 on the host, in sampling mode."""
        return self.developed(self.drawn_from.forward(z, train=False, labels=self.labels(numbers)))

    def developed(self, output: Array) -> np.ndarray:
        """G's output -> pictures uint8 on the host. Raises RunError where it is not finite."""
        y = self.backend.to_host(output)
        if not np.all(np.isfinite(y)):
            raise RunError(
                "the generator gives NaN: its training went astray; try a smaller --lr-g and --lr-d"
            )
        return to_pixels(y, self.preset.black)

    def sample_grid(self) -> np.ndarray:
        """-> the pictures of the run's sample grids: of the same z at every call."""
        rows, columns = self.preset.grid
        return self.sample(rows * columns, self.stream("fixed z"))

    def state(self) -> tuple[Sections, dict[str, Any]]:
        """-> sections of host arrays, JSON-able record; for checkpoint.pack."""
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
        """Take back what state() gave. Raises RunError where it is another game's."""
        try:
            generators = record["generators"]
            for name, net in self.nets.items():
                net.ready().load_state(sections[name], source)
                for key, generator in net.ready().generators.items():
                    generator.bit_generator.state = generators[f"{name}.{key}"]
            for name, optimizer in self.optimizers.items():
                moments = sections.get(f"optimizer {name}", {})  # plain SGD has none
                optimizer.load_state({**moments, "steps": record["optimizer_steps"][name]})
            if self.average is not None:
                self.average.steps = int(record["average_steps"])
            self.z_generator.bit_generator.state = generators["z"]
        except MiniganError:
            raise
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            raise RunError(f"{source} is not a whole checkpoint of minigan ({error!r})") from error


def finish(*arguments: Any, **named: Any) -> None:
    from minigan.report.page import finish

    finish(*arguments, **named)


def train(
    options: dict[str, Any],
    *,
    data_dir: str | None = None,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    dry_run: bool = False,
    log: Callable[[str], object] = print,
) -> Run | None:
    """Train from the start, or go on in a run's folder. -> Run when it is done, None after a dry run.

    options   dict of Config's fields, those that the user gave
    data_dir  folder with the data set's files, or None for the usual places
    out       folder to make; resume: folder to go on in
    log       called with each line for the user
    Raises MiniganError; Interrupted after SIGINT or SIGTERM, when all is saved.
    """
    if resume is not None:
        if out is not None:
            raise ConfigError("--resume goes on in the run's own folder: leave --out away")
        run = Run(resume)
        saved, metadata = run.load_config()
        config = resumed_config(saved, options)
    else:
        config = new_config(options)
        run = Run(
            out
            or Path("runs") / f"{datetime.now():%Y%m%d-%H%M%S}-{config.preset.replace(':', '-')}"
        )
        if out is not None:
            run.expect_free()
    game = Game(config)
    data = load_data(config, game.preset, data_dir, log)
    if data.note:
        log(f"*** NOTE: {data.note} ***")
    batches = Batches(
        data.images,
        config.batch_size,
        [config.seed, STREAMS["data"]],
        labels=data.labels if game.preset.classes else None,
        shuffle=config.shuffle,
        drop_last=config.drop_last,
        flip=config.flip,
        low=game.preset.black,
    )
    epoch = batches.per_epoch / game.rules.batches  # steps in one
    last_step = config.steps or ceil((config.epochs or 0) * epoch)

    if dry_run:
        losses = game.read(game.round(batches))
        log(f"{game.G.summary()}\n\n{game.D.summary()}\n")
        log(
            f"one step on {data.name}: "
            + ", ".join(f"{name} {losses[name]:.3f}" for name in LOSSES)
        )
        log(f"dry run: {last_step} steps would go to {run.folder}; nothing was written")
        return None
    if resume is None:
        config = replace(
            config, dataset=data.name
        )  # what `auto` came to: a resumed run must not choose again
        metadata = {"note": data.note, "data": data.fingerprint, "versions": versions(game.backend)}
    watch = None
    if config.evaluate_every:  # before anything is made: it may be that there is no judge
        watch = make_watch(config, data, data_dir, game.backend, metadata, run.load_best(), log)
    if resume is None:
        run = run.create(config, metadata, another_name=out is None)
    with run.locked():
        step = (
            0
            if resume is None
            else go_on(run, config, metadata, game, batches, data, last_step, log)
        )
        if step == 0:
            run.save_real(real_pictures(game, data), game.preset.grid)
        if step >= last_step:
            log(
                f"nothing to do: it has {step} steps, the end is {last_step}; give a larger --steps or --epochs"
            )
            if not run.report_file.exists():  # stopped in its last second
                finish(run, log, tables=(game.G.summary(), game.D.summary()))
            return run
        engine = f"{config.backend}, {config.precision}" if game.backend.records else config.backend
        log(
            f"{config.preset} on {data.name}, {engine}, seed {config.seed}: steps {step} to {last_step}, in {run.folder}"
        )
        sample_every = (
            max(1, round(epoch)) if isinstance(config.sample_every, str) else config.sample_every
        )  # EPOCH
        loop(game, batches, run, step, last_step, sample_every, Alarms(data), watch, log)
        if game.recorded is not None:
            game.recorded.close()
        finish(run, log, tables=(game.G.summary(), game.D.summary()))
    if watch is not None:
        log(watch.outcome(run.folder))
    log(
        f"done: {run.samples}/step-{last_step:08d}.png; draw more with: minigan sample {run.folder} --n 64 --out grid.png"
    )
    return run


def go_on(
    run: Run,
    config: Config,
    metadata: dict[str, Any],
    game: Game,
    batches: Batches,
    data: Dataset,
    last_step: int,
    log: Callable[[str], object],
) -> int:
    """Take a run up again where it stopped -> the step that it stands at. Raises RunError, DataError."""
    if metadata.get("data") != data.fingerprint:
        raise DataError(
            f"the images are not those that the run began with ({metadata.get('data')} then, {data.fingerprint} now): "
            "put them back as they were, or start another run with --out"
        )
    step = run.load(game, batches, log)
    log(f"going on from step {step} of {run.folder}")
    if step < last_step:
        run.forget_after(step)
        metadata["resumed"] = [
            *metadata.get("resumed", []),
            {"step": step, "versions": versions(game.backend)},
        ]
        run.save_config(config, metadata)
    return step


def open_game(run: Run, best: bool = False, backend: str = "numpy") -> tuple[Game, dict[str, Any]]:
    """-> Game with G as the run has saved it, last or at its best; what config.json says besides. Raises RunError.

    Where pictures are drawn from an average, G is that.
    """
    config, metadata = run.load_config()
    game = Game(replace(config, backend=backend, threads=None, precision="fp32", ema=0.0))
    file = run.best_generator_file if best else run.generator_file
    game.G.ready().load_state(load_arrays(file), file)
    return game, metadata


def open_images(
    game: Game, metadata: dict[str, Any], data_dir: str | None, log: Callable[[str], object]
) -> Dataset:
    """-> the images that a run was trained on. Raises DataError where they are others now.

    metadata     what config.json says besides
    data_dir  where they are, or None: where they were
    """
    config = game.config
    if config.dataset == "folder" and data_dir is not None:
        config, data_dir = (
            replace(config, images=os.path.abspath(os.path.expanduser(data_dir))),
            None,
        )
    data = load_data(config, game.preset, data_dir, log)
    if metadata.get("data") != data.fingerprint:
        raise DataError(
            f"the images of {data.name} are not those that the run was trained on ({metadata.get('data')} then, {data.fingerprint} now): "
            "say where those are with --data-dir"
        )
    return data


def load_data(
    config: Config, preset: Preset, data_dir: str | None, log: Callable[[str], object]
) -> Dataset:
    """-> the images that a run trains on, with labels where its nets want them. Raises ConfigError, DataError."""
    name = config.dataset
    if (
        name == "auto" and preset.data != "mnist"
    ):  # MNIST has Strokes to stand in for it, where it cannot be had
        name = preset.data
    if name == "folder" and config.images is None:
        raise ConfigError(
            f"preset {preset.name} trains on a folder of your pictures: give --images DIR, or a set as --dataset cifar10"
        )
    data = load_dataset(
        name,
        data_dir,
        image_shape=config.image_shape,
        images=config.images,
        fit=config.fit,
        limit=config.limit,
        log=log,
    )
    classes = 0 if data.labels is None else len(np.unique(data.labels))
    if preset.classes and (classes != preset.classes or len(data.classes) != preset.classes):
        raise ConfigError(
            f"preset {preset.name} learns {preset.classes} classes, and the images of {data.name} are of {classes}: "
            "take mnist, fashion-mnist, kmnist, or a folder with that many sub-folders"
        )
    return data


def real_pictures(game: Game, data: Dataset) -> np.ndarray:
    """-> as many real images as a sample grid has, in the same order of classes."""
    rows, columns = game.preset.grid
    rng, count, classes = game.stream("real"), rows * columns, game.preset.classes
    if not classes:
        return data.images[
            np.sort(rng.choice(len(data.images), min(count, len(data.images)), replace=False))
        ]
    return np.stack(
        [data.images[rng.choice(np.flatnonzero(data.labels == i % classes))] for i in range(count)]
    )


def loop(
    game: Game,
    batches: Batches,
    run: Run,
    step: int,
    last_step: int,
    sample_every: int,
    alarms: Alarms,
    watch: Watch | None,
    log: Callable[[str], object],
) -> None:
    """Steps step+1 .. last_step. After SIGINT or SIGTERM: ends the step, saves, raises Interrupted.

    A disk that fails does not end it: one line says so, and what could not be written is tried again.
    Raises RunError at the first loss or gradient that is not a finite number, or where the end cannot be saved.
    """
    unread: list[
        tuple[int, int, dict[str, Any]]
    ] = []  # (step, epoch, result) of steps whose losses are still on the device
    unsaved: RunError | None = (
        None  # why the last checkpoint, and the last rows of the metrics, could not be written
    )
    unlogged: RunError | None = None
    saved = step  # the step of the last one that was

    def attempt(write: Callable[..., object], *arguments: Any) -> RunError | None:
        """-> None, or the RunError of what could not be written, which has been said."""
        try:
            write(*arguments)
        except RunError as error:
            log(f"WARNING: step {step}: {error}; training goes on, and tries again")
            return error
        return None

    with (
        interrupts() as interrupted,
        Progress(step, last_step, log) as progress,
        run.metrics() as write_rows,
        np.errstate(all="ignore"),  # numbers that go wrong are looked for here, and told in words
    ):
        if step == 0:
            run.save_samples(game.sample_grid(), 0, game.preset.grid)
            run.save(game, batches, 0)
        while step < last_step:
            result = game.round(batches)
            step += 1
            unread.append((step, batches.epoch + 1, result))
            stop = bool(interrupted)  # asked once: a signal from here on ends the next step
            at_sample = step % sample_every == 0 or step == last_step
            measured = watch is not None and watch.due(step, last_step)
            if step % READ_EVERY == 0 or at_sample or measured or stop:
                rows = [
                    {"step": at, "epoch": epoch, **game.read(result)}
                    for at, epoch, result in unread
                ]
                rate = progress.update(
                    rows[-1], images=sum(result["images"] for *_, result in unread), steps=len(rows)
                )
                rows = [{**row, "images_per_s": round(rate, 1)} for row in rows]
                unread.clear()
                expect_finite(rows, game, batches, run, write_rows)
                pictures = game.sample_grid() if at_sample else None
                for line in alarms.look(rows, pictures):
                    log(f"WARNING: step {step}: {line}")
                    attempt(run.keep_newest)
                if watch is not None and measured:
                    with watch.counted():
                        figures = watch.measure(
                            game.sample(watch.samples, game.stream("evaluation"))
                        )
                        if figures["frechet"] < watch.least and not attempt(
                            run.save_best, game, batches, step, figures
                        ):
                            watch.least = figures["frechet"]
                    rows[-1] |= figures
                unlogged = attempt(write_rows, rows, at_sample or stop)
                if at_sample:
                    attempt(run.save_samples, pictures, step, game.preset.grid)
                if (
                    at_sample or stop or unsaved
                ):  # last: what a kill leaves undone before it is done again
                    unsaved = attempt(run.save, game, batches, step)
                    saved = saved if unsaved else step
                if at_sample or measured or stop:
                    progress.start_clock()
            if stop and step < last_step:
                break
    if step < last_step:
        end = (
            "all is saved; go on"
            if not unsaved
            else f"but it could not be saved; go on from step {saved}"
        )
        log(f"stopped after step {step}, {end} with: --resume {run.folder}")
        raise Interrupted(interrupted[0])
    if unsaved:
        raise RunError(
            f"{unsaved}; the last good checkpoint is of step {saved}: then go on with --resume {run.folder}"
        )
    if unlogged:
        raise RunError(f"{unlogged}; the checkpoint of step {step} is written")


def expect_finite(
    rows: list[dict[str, Any]],
    game: Game,
    batches: Batches,
    run: Run,
    write_rows: Callable[..., None],
) -> None:
    """Raises RunError where a loss or gradient is NaN or infinite: at which step, and in which layer first."""
    for i, row in enumerate(rows):
        astray = [name for name in MEASURED if not isfinite(row[name])]
        if astray:
            with suppress(RunError):  # the greater trouble is told
                write_rows(rows[: i + 1], True)
            start = run.load(game, batches, log=lambda line: None)
            where = find_astray(game, batches, row["step"] - start)
            raise RunError(
                f"step {row['step']}: {astray[0]} is {row[astray[0]]}{where}. The checkpoint of step {start} is kept, but going on "
                "from it comes to the same: start another run with a smaller --lr-d and --lr-g, or another --seed"
            )
