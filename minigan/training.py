"""The training loop, in plain sight, and what a checkpoint must hold to go on bit for bit.

The random numbers of a run come from its seed by separate streams, so that none
depends on how often another was asked.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from minigan.backends import get_backend
from minigan.checkpoint import CURE, load_network, network_state
from minigan.config import Config, new_config, resumed_config, versions
from minigan.data import Batches, load_dataset, to_pixels
from minigan.errors import ConfigError, MiniganError, RunError
from minigan.gan import play_round
from minigan.layers import Sequential
from minigan.optimizers import Adam
from minigan.presets import get_preset
from minigan.progress import Interrupted, Progress, interrupts
from minigan.run import LOSSES, Run

STREAMS = {"G": 0, "D": 1, "z": 2, "fixed z": 3, "data": 4, "sample": 5}  # random streams of a run
SAMPLES = 64  # pictures in a sample grid
READ_EVERY = 10  # steps between readings of the losses: on a GPU a reading waits for all steps before it


class Game:
    """Both nets, their optimizers and z: all that is learnt or drawn, but for the order of the data."""

    def __init__(self, config: Config):
        self.config, self.preset = config, get_preset(config.preset)
        self.backend = get_backend(config.backend, threads=config.threads)
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
            lambda: self.backend.asarray(batches.draw()[0]), self.draw_z, self.preset.rules,
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
            y = self.backend.to_host(self.G.forward(self.draw_z(size, generator), train=False))
            if not np.all(np.isfinite(y)):
                raise RunError("the generator gives NaN: its training went astray; try a smaller --lr-g and --lr-d")
            pictures[start : start + size] = to_pixels(y)[: n - start]
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
            raise RunError(f"{source} is not a whole checkpoint of minigan ({error!r}): {CURE}") from error


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
        if out is not None:
            run.expect_free()
    game = Game(config)
    data = load_dataset(config.dataset, data_dir)
    dataset, note = data.name, data.note
    if note:
        say(f"*** NOTE: {note} ***")
    batches = Batches(data.images, config.batch_size, seed=[config.seed, STREAMS["data"]])
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
        about["resumed"] = [*about.get("resumed", []), {"step": step, "versions": versions(game.backend)}]
        run.save_config(config, about)
    else:
        step = 0
        config = replace(config, dataset=dataset)  # what `auto` came to: a resumed run must not choose again
        about = {"note": note, "versions": versions(game.backend)}
        run = run.create(config, about, another_name=out is None)
    say(f"{config.preset} on {dataset}, {config.backend}, seed {config.seed}: steps {step} to {last_step}, in {run.folder}")
    loop(game, batches, run, step, last_step, config.sample_every, say)
    say(f"done: {run.samples}/step-{last_step:08d}.png; draw more with: minigan sample {run.folder} --n 64 --out grid.png")
    return run


def loop(
    game: Game, batches: Batches, run: Run, step: int, last_step: int, sample_every: int, say: Callable[[str], object]
) -> None:
    """Steps step+1 .. last_step. After SIGINT or SIGTERM: ends the step, saves, raises Interrupted."""
    unread = []  # (step, epoch, result) of steps whose losses are still on the device
    with interrupts() as interrupted, Progress(step, last_step, say) as progress, run.metrics() as log:
        if step == 0:
            run.save(game, batches, 0)
            run.save_samples(game.sample(SAMPLES, game.stream("fixed z")), 0)
        while step < last_step:
            result = game.round(batches)
            step += 1
            unread.append((step, batches.epoch + 1, result))
            stop = bool(interrupted)  # asked once: a signal from here on ends the next step
            at_sample = step % sample_every == 0 or step == last_step
            if step % READ_EVERY == 0 or at_sample or stop:
                rows = [{"step": at, "epoch": epoch, **game.read(result)} for at, epoch, result in unread]
                rate = progress.update(rows[-1], images=sum(result["images"] for *_, result in unread), steps=len(rows))
                log([{**row, "images_per_s": round(rate, 1)} for row in rows])
                unread.clear()
            if at_sample or stop:
                run.save(game, batches, step)
            if at_sample:
                run.save_samples(game.sample(SAMPLES, game.stream("fixed z")), step)
            if at_sample or stop:
                progress.start_clock()
            if stop and step < last_step:
                break
    if step < last_step:
        say(f"stopped after step {step}, all is saved; go on with: --resume {run.folder}")
        raise Interrupted(interrupted[0])
