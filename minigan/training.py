"""The training loop, in plain sight, and what a checkpoint must hold to go on bit for bit.

The random numbers of a run come from its seed by separate streams, so that none
depends on how often another was asked.
"""

import signal
import sys
import threading
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from minigan.backends import get_backend
from minigan.checkpoint import load_network, network_state
from minigan.config import Config, new_config, resumed_config, versions
from minigan.data import Batches, load_dataset, to_pixels
from minigan.errors import ConfigError, MiniganError, RunError
from minigan.gan import play_round
from minigan.layers import Sequential
from minigan.optimizers import Adam
from minigan.presets import get_preset
from minigan.run import LOSSES, Run

STREAMS = {"G": 0, "D": 1, "z": 2, "fixed z": 3, "data": 4, "sample": 5}  # random streams of a run
SAMPLES = 64  # pictures in a sample grid
READ_EVERY = 10  # steps between readings of the losses: on a GPU a reading waits for all steps before it


class Game:
    """Both nets, their optimizers and z: all that is learnt or drawn, but for the order of the data."""

    def __init__(self, config: Config):
        self.config, self.preset = config, get_preset(config.preset)
        self.backend = get_backend(config.backend)
        h_w_c = self.preset.image_shape
        self.G = Sequential(self.preset.generator(config.width, config.z_dim, h_w_c), name="G")
        self.D = Sequential(self.preset.discriminator(config.width, h_w_c), name="D")
        self.G.setup((config.z_dim,), backend=self.backend, rng=self.stream("G"))
        self.D.setup(h_w_c, backend=self.backend, rng=self.stream("D"))
        self.optimizer_g = Adam(self.G, config.lr_g, beta1=config.beta1, **self.preset.adam)
        self.optimizer_d = Adam(self.D, config.lr_d, beta1=config.beta1, **self.preset.adam)
        self.players = {"G": (self.G, self.optimizer_g), "D": (self.D, self.optimizer_d)}
        self.z_generator = self.stream("z")

    def stream(self, name, seed=None):
        """-> numpy.random.Generator of its own for each name."""
        return np.random.default_rng([self.config.seed if seed is None else seed, STREAMS[name]])

    def draw_z(self, n, generator=None):
        """-> z (n, z_dim), N(0, 1) or U[-1, 1). The same memory at every call."""
        generator, xp = generator or self.z_generator, self.backend.xp
        z = self.backend.scratch("z", (n, self.config.z_dim))
        if self.config.z == "normal":
            self.backend.fill_normal(generator, z)
        else:
            self.backend.fill_uniform(generator, z)
            xp.multiply(z, 2.0, out=z)
            xp.subtract(z, 1.0, out=z)
        return z

    def round(self, batches):
        """One update of each player -> dict of scalars, still on the device; see gan.play_round."""
        return play_round(
            self.G, self.D, self.optimizer_g, self.optimizer_d,
            lambda: self.backend.asarray(batches.draw()), self.draw_z, self.preset.rules,
        )  # fmt: skip

    def read(self, result):
        """-> the losses of a round as numbers. On a GPU this waits for the round."""
        return {name: float(self.backend.to_host(result[name])) for name in LOSSES}

    def sample(self, n, generator):
        """-> pictures of G (n, h, w, c) uint8 on the host, in sampling mode.

        Drawn in whole batches, so that picture i is the same for every n.
        """
        size = self.config.batch_size
        pictures = np.empty((n, *self.G.out_shape), np.uint8)
        for start in range(0, n, size):
            y = self.G.forward(self.draw_z(size, generator), train=False)
            pictures[start : start + size] = to_pixels(self.backend.to_host(y))[: n - start]
        return pictures

    def state(self):
        """-> sections of host arrays, JSON-able record; for checkpoint.pack."""
        sections, steps, generators = {}, {}, {"z": self.z_generator.bit_generator.state}
        for name, (net, optimizer) in self.players.items():
            moments = optimizer.state()
            steps[name] = moments.pop("steps")
            sections[name] = network_state(net)
            sections[f"optimizer {name}"] = {moment: self.backend.to_host(array) for moment, array in moments.items()}
            for key, generator in net.store.generators.items():
                generators[f"{name}.{key}"] = generator.bit_generator.state
        return sections, {"optimizer_steps": steps, "generators": generators}

    def load(self, sections, record, source):
        """Take back what state() gave. Raises RunError where it is another game's."""
        try:
            generators = record["generators"]
            for name, (net, optimizer) in self.players.items():
                load_network(net, sections[name], source)
                optimizer.load_state({**sections[f"optimizer {name}"], "steps": record["optimizer_steps"][name]})
                for key, generator in net.store.generators.items():
                    generator.bit_generator.state = generators[f"{name}.{key}"]
            self.z_generator.bit_generator.state = generators["z"]
        except MiniganError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(f"{source} is not a whole checkpoint of minigan ({error!r}): take an older one") from error


def train(
    options: dict[str, Any], *, data_dir: str | None = None, out: str | Path | None = None, resume: str | Path | None = None,
    dry_run: bool = False, say: Callable[[str], object] = print,
) -> Run | None:  # fmt: skip
    """Train from the start, or go on in a run's folder. -> Run when it is done, None after a dry run.

    options   dict of Config's fields, those that the user gave
    data_dir  folder with MNIST's files, or None for the usual places
    out       folder to make; resume: folder to go on in
    say       called with each line for the user
    Raises MiniganError; Interrupted after SIGINT or SIGTERM, when all is saved.
    """
    if resume is not None:
        if out is not None:
            raise ConfigError("--resume goes on in the run's own folder: leave --out away")
        run = Run(resume)
        saved, about = run.load_config()
        config = resumed_config(saved, options)
    else:
        config = new_config(options)
        run = Run(out or Path("runs") / f"{datetime.now():%Y%m%d-%H%M%S}-{config.preset}")
        run.expect_free()
    game = Game(config)
    images, dataset, note = load_dataset(config.dataset, data_dir)
    if note:
        say(f"*** NOTE: {note} ***")
    batches = Batches(images, config.batch_size, seed=[config.seed, STREAMS["data"]])
    last_step = config.steps or config.epochs * batches.per_epoch

    if dry_run:
        losses = game.read(game.round(batches))
        say(f"{game.G.summary()}\n\n{game.D.summary()}\n")
        say(f"one step on {dataset}: " + ", ".join(f"{name} {losses[name]:.3f}" for name in LOSSES))
        say(f"dry run: {last_step} steps would go to {run.folder}; nothing was written")
        return None
    if resume is not None:
        step = run.load(game, batches)
        say(f"going on from step {step} of {run.folder}")
        if step >= last_step:
            say(f"nothing to do: it has {step} steps, the end is {last_step}; give a larger --steps or --epochs")
            return run
        run.save_config(config, about)
    else:
        step = 0
        config = replace(config, dataset=dataset)  # what `auto` came to: a resumed run must not choose again
        run.create(config, {"note": note, "versions": versions(game.backend)})
    say(f"{config.preset} on {dataset}, {config.backend}, seed {config.seed}: steps {step} to {last_step}, in {run.folder}")
    loop(game, batches, run, step, last_step, config.sample_every, say)
    say(f"done: {run.samples}/step-{last_step:08d}.png; draw more with: minigan sample {run.folder} --n 64 --out grid.png")
    return run


def loop(
    game: Game, batches: Batches, run: Run, step: int, last_step: int, sample_every: int, say: Callable[[str], object]
) -> None:
    """Steps step+1 .. last_step. After SIGINT or SIGTERM: ends the step, saves, raises Interrupted."""
    unread = []  # (step, epoch, result) of steps whose losses are still on the device
    with interrupts() as interrupted, Progress(step, last_step, batches.per_epoch, say) as progress, run.metrics() as log:
        if step == 0:
            run.save_samples(game.sample(SAMPLES, game.stream("fixed z")), 0)
            run.save(game, batches, 0)
        while step < last_step and not interrupted:
            result = game.round(batches)
            step += 1
            unread.append((step, batches.epoch + 1, result))
            at_sample = step % sample_every == 0 or step == last_step
            if step % READ_EVERY == 0 or at_sample or interrupted:
                rows = [{"step": at, "epoch": epoch, **game.read(result)} for at, epoch, result in unread]
                rate = progress.update(rows[-1], images=sum(result["images"] for *_, result in unread), steps=len(rows))
                log([{**row, "images_per_s": round(rate, 1)} for row in rows])
                unread.clear()
            if at_sample:
                run.save_samples(game.sample(SAMPLES, game.stream("fixed z")), step)
            if at_sample or interrupted:
                run.save(game, batches, step)
                progress.start_clock()
    if interrupted:
        say(f"stopped after step {step}, all is saved; go on with: --resume {run.folder}")
        raise Interrupted(interrupted[0])


class Interrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM came, and all was saved. exit_code is what a shell expects: 130 or 143."""

    def __init__(self, number):
        super().__init__(number)
        self.exit_code = 128 + number


@contextmanager
def interrupts():
    """-> list that gets the number of the first SIGINT or SIGTERM; a second one ends the program at once."""
    caught = []
    if threading.current_thread() is not threading.main_thread():
        yield caught  # signals go to the main thread alone
        return

    def catch(number, frame):
        if caught:
            raise KeyboardInterrupt
        caught.append(number)

    before = {number: signal.signal(number, catch) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Progress:
    """A bar where stderr is a terminal, else a plain line every few seconds."""

    SECONDS = 5.0  # between plain lines

    def __init__(self, step, last_step, per_epoch, say):
        self.first, self.step, self.last_step, self.per_epoch, self.say = step, step, last_step, per_epoch, say
        self.seconds = 0.0  # spent in steps, without sampling and saving
        self.bar = None

    def __enter__(self):
        if sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(initial=self.step, total=self.last_step, unit="step", dynamic_ncols=True)
        self.start_clock()
        self.line_due = self.clock
        return self

    def __exit__(self, *exception):
        if self.bar is not None:
            self.bar.close()

    def start_clock(self):
        self.clock = monotonic()

    def update(self, row, images, steps):
        """row: the last step's numbers; images, steps: since the last call -> images per second."""
        spent = max(monotonic() - self.clock, 1e-9)
        self.start_clock()
        self.seconds += spent
        self.step = row["step"]
        rate = images / spent
        text = (
            f"{rate:.0f} images/s  loss D {row['loss_d_real'] + row['loss_d_fake']:.3f} G {row['loss_g']:.3f}"
            f"  D(x) {row['d_x']:.2f} D(G(z)) {row['d_gz']:.2f}"
        )
        if self.bar is not None:
            self.bar.set_description(f"epoch {row['epoch']}", refresh=False)
            self.bar.set_postfix_str(text, refresh=False)
            self.bar.update(steps)
        elif self.clock >= self.line_due or self.step == self.last_step:
            self.line_due = self.clock + self.SECONDS
            left = self.seconds / (self.step - self.first) * (self.last_step - self.step)
            self.say(f"epoch {row['epoch']}  step {self.step}/{self.last_step}  {text}  {left // 60:.0f}:{left % 60:02.0f} left")
        return rate
