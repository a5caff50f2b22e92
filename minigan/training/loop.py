"""The training loop."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from math import ceil, isfinite
from pathlib import Path
from typing import Any

import numpy as np

from minigan.checks import ignore_float_errors
from minigan.data import Batches, Dataset, remarks
from minigan.data.base import Log, are_names
from minigan.data.files.messages import counted, some
from minigan.errors import ConfigError, RunError, TrainingError
from minigan.gan import LOSSES, MEASURED
from minigan.parallel.group import ALONE, Group
from minigan.parallel.mpi import world
from minigan.training.checkpoint import Snapshot
from minigan.training.collapse import CollapseMonitor
from minigan.training.config import EPOCH, Config, changes, new_config, resumed_config, versions
from minigan.training.few_pictures import fit_to_few
from minigan.training.game import STREAMS, Game
from minigan.training.nan_trace import locate_nan
from minigan.training.open_game import expect_pictures, expect_same_images, is_old, load_images
from minigan.training.periodic_evaluation import PeriodicEvaluation, make_evaluation
from minigan.training.progress import Interrupted, Progress, interrupts
from minigan.training.ranks import SilentRun, expect_ranks_fit, expect_same, expect_same_state
from minigan.training.run_folder import Run
from minigan.training.writer import Writer

Rows = list[dict[str, Any]]  # of metrics.csv
OnStep = Callable[[dict[str, Any], np.ndarray | None], object]
Write = Callable[..., None]
READ_EVERY = 10  # steps between readings of the losses: on a GPU a reading waits for the steps


@ignore_float_errors
def train(
    options: dict[str, Any],
    *,
    data_dir: str | None = None,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    dry_run: bool = False,
    on_step: OnStep | None = None,
    log: Log = print,
) -> Run | None:
    """Train from the start, or resume a run. -> Run when it is done, None after a dry run.

    options      Config's fields as a dict, only those that the user gave
    data_dir     folder with the data set's files, or None for the usual places
    out, resume  folder to create, or folder of the run to resume
    on_step      gets each step's row of metrics.csv, and its samples if a grid was drawn, or None
    log          gets each line for the user
    Raises MiniganError; Interrupted after SIGINT, SIGTERM or SIGHUP, once everything is saved.
    These signals reach the main thread alone: in another one, the run goes on.
    All ranks that mpiexec started train the run together, each with its rows of every batch; rank 0
    alone writes and reports.
    """
    ranks = world()
    if ranks.rank:
        log, on_step = lambda line: None, None
    metadata: dict[str, Any] = {}
    if resume is not None:
        if out is not None:
            raise ConfigError("--resume continues in the run's folder: omit --out")
        run = Run(resume)
        saved, metadata = run.load_config()
        metadata.pop("ranks", None)  # of its last end
        config = resumed_config(saved, options)
        expect_pictures(config, "--images")
    else:
        config = new_config(options)
        run = Run(new_folder(config, ranks) if out is None else out)
        if out is not None and ranks.rank == 0:
            run.expect_free()
    if ranks.rank:
        run = SilentRun(run.folder)
    game = Game(config, ranks)
    expect_ranks_fit(ranks, game, options)
    old = resume is not None and is_old(metadata)
    data = ranks.in_turn(lambda: load_images(config, game.preset, data_dir, log, old))
    expect_same(ranks, "images", data.fingerprint)
    if are_names(data.classes):
        classes = [f"{number} is {title}" for number, title in enumerate(data.classes)]
        log(f"{len(classes)} classes, by number: {some(classes, 20)}")
        if resume is None and len(classes) > 1 and game.preset.any_size and not game.preset.classes:
            log(f"NOTE: --classes {len(classes)} lets G learn them, and draw the one you ask for")
    if data.note:
        log(f"*** NOTE: {data.note} ***")
    for line in remarks(data):
        log(f"WARNING: {line}")
    batches = make_batches(game, data, ranks)
    if resume is None:
        config, lines = fit_to_few(config, options, batches, game.preset.images_per_round)
        for line in lines:
            log(f"NOTE: {line}")
        game.config, batches.flip = config, config.flip

    def steps_in(epochs: float) -> int:
        return ceil(epochs * batches.per_epoch / game.preset.images_per_round)

    last_step = config.steps or steps_in(config.epochs or 0)
    if game.preset.decay is not None and last_step > (zero := steps_in(sum(game.preset.decay))):
        log(f"WARNING: both learning rates of {config.preset} are 0 after step {zero}: end there")

    if resume is not None:
        expect_same_images(data, metadata, "restore them, or start another run with --out")
    evaluation = None
    if config.evaluate_every:  # first: there may be no classifier
        best = run.checkpoints.best_distance()
        evaluation = make_evaluation(game, data, data_dir, metadata, best, log)
    if dry_run:
        first = 0 if resume is None else run.checkpoints.load(game, batches, log)
        losses = game.read(game.round(batches))
        log(f"{game.G.summary()}\n\n{game.D.summary()}\n")
        shown = ", ".join(f"{name} {losses[name]:.3f}" for name in LOSSES)
        log(f"one step on {data.name}: {shown}")
        more = max(0, last_step - first)
        log(f"dry run: {counted(more, 'step')} would go to {run.folder}; nothing was written")
        return None
    if config.dataset == "auto":
        config = replace(config, dataset=data.name)  # a resumed run must not choose again
    if config.backend == "numpy":  # nor must it if numba comes or goes
        config = replace(config, compile=game.backend.compiled)
    installed = versions(game.backend) | ({"ranks": str(ranks.size)} if ranks.size > 1 else {})
    if "data" not in metadata and (resume is None or "imported" in metadata):  # its first images
        metadata |= {"note": data.note, "data": data.fingerprint, "images": len(data.images)}
        metadata |= {"classes": list(data.classes), "versions": installed}
    if resume is None:
        run = run.create(config, metadata, another_name=out is None)
    with run.locked():
        if resume is not None:
            run.expect_checkpoints()
        step = 0 if resume is None else run.checkpoints.load(game, batches, log)
        expect_same_state(ranks, game, batches, step)
        if resume is not None:
            changed = changes(saved, config) if step < last_step else {}
            news = [f", {name} {new!r} (was {old!r})" for name, (old, new) in changed.items()]
            log(f"resuming {run.folder} at step {step}{''.join(news)}")
            if step < last_step:
                run.forget_after(step)
                entry = {"step": step, "changed": changed, "versions": installed}
                before = metadata.get("resumed")
                metadata["resumed"] = [*(before if isinstance(before, list) else []), entry]
                run.save_config(config, metadata)
        if step == 0:
            run.save_real(real_grid(game, data), game.preset.grid)
        if step >= last_step:
            if not run.checkpoints.generator_file.exists():
                run.checkpoints.save(Snapshot(game, batches, step))
            log(
                f"nothing to do: it has {step} steps, the end is {last_step}; "
                "give a larger --steps or --epochs"
            )
            return run
        precision = f", {config.precision}" if game.backend.captures_graphs else ""
        log(
            f"{config.preset} on {data.name}, {config.backend}{precision}, seed {config.seed}: "
            f"steps {step} to {last_step}, in {run.folder}"
        )
        epoch = batches.per_epoch / game.preset.images_per_round
        every = round(epoch) if config.sample_every == EPOCH else int(config.sample_every)
        monitor = CollapseMonitor(data)
        end = (step, last_step, max(1, every))
        pace = loop(game, batches, run, *end, monitor, evaluation, on_step, log)
        if pace:
            run.save_config(config, metadata | {"ranks": pace})
        if game.captured is not None:
            game.captured.close()
    if evaluation is not None:
        log(evaluation.outcome(run.quoted))
    log(
        f"done: {run.samples}/step-{last_step:08d}.png; losses do not show how good it is: compare "
        "it with real.png, or try minigan evaluate; "
        f"draw more with: minigan sample {run.quoted} --n 64 --out grid.png"
    )
    return run


def new_folder(config: Config, ranks: Group = ALONE) -> Path:
    """-> runs/<time>-<preset>, for a run without --out; the same on all ranks."""
    now = np.array([int(f"{datetime.now():%Y%m%d%H%M%S}")])
    digits = str(ranks.all_gather(now)[0, 0])
    return Path("runs") / f"{digits[:8]}-{digits[8:]}-{config.preset.replace(':', '-')}"


def make_batches(game: Game, data: Dataset, ranks: Group = ALONE) -> Batches:
    """-> the batches of a run, of which each rank prepares its rows."""
    config = game.config
    names = ("shuffle", "drop_last", "flip")
    options: dict[str, Any] = {name: getattr(config, name) for name in names}
    options["labels"] = data.labels if game.preset.classes else None
    options["pixel_min"] = game.preset.pixel_min
    batches = Batches(data.images, config.batch_size, [config.seed, STREAMS["data"]], **options)
    if ranks.size > 1 and game.preset.images_per_round == 1:
        batches.shard = ranks.shard  # with more in a round, a whole batch may meet a smaller one
    return batches


def real_grid(game: Game, data: Dataset) -> np.ndarray:
    """-> as many real images as a sample grid has, in the same order of classes."""
    rows, columns = game.preset.grid
    rng, count, classes = game.stream("real"), rows * columns, game.preset.classes
    if not classes:
        count = min(count, len(data.images))
        return data.images[np.sort(rng.choice(len(data.images), count, replace=False))]
    of_class = [np.flatnonzero(data.labels == i) for i in range(classes)]
    return np.stack([data.images[rng.choice(of_class[i % classes])] for i in range(count)])


def loop(
    game: Game,
    batches: Batches,
    run: Run,
    step: int,
    last_step: int,
    sample_every: int,
    monitor: CollapseMonitor,
    evaluation: PeriodicEvaluation | None,
    on_step: OnStep | None,
    log: Log,
) -> str:
    """Steps step+1 .. last_step -> how ranks spent their time; "" for one process.

    On a stop signal to any rank, all finish the step, save, and raise Interrupted.

    A failing disk does not end it: what could not be written is reported, and tried again. Raises
    TrainingError at the first loss or gradient that is not finite, or if the end cannot be saved.
    """
    unread: list[tuple[int, int, dict[str, Any]]] = []  # (step, epoch, result), on the device
    checkpoints, ranks, first = run.checkpoints, game.ranks, step

    with (
        interrupts() as interrupted,
        Progress(step, last_step, log) as progress,
        run.metrics() as write_rows,
        Writer(game.backend.captures_graphs, log) as writer,
    ):
        if step == 0:
            run.save_samples(game.sample_grid(), 0, game.preset.grid)
            if ranks.rank == 0:
                checkpoints.save(Snapshot(game, batches, 0))
        ranks.barrier()
        progress.start_clock()
        ranks.seconds = 0.0
        while step < last_step:
            ranks.step = step + 1
            result = game.round(batches)
            step += 1
            unread.append((step, batches.epoch + 1, result))
            at_sample = step % sample_every == 0 or step == last_step
            evaluate = evaluation is not None and evaluation.due(step, last_step)
            # the signal is read once: a later one ends the next step
            flags = np.array([max(interrupted[:1], default=0), evaluate])
            stop, evaluate = ranks.all_gather(flags).max(axis=0)  # the same on all ranks
            if not (step % READ_EVERY == 0 or at_sample or evaluate or stop):
                continue
            if at_sample or stop:
                expect_same_state(ranks, game, batches, step)
            if ranks.rank:  # rank 0 alone reads and writes
                unread.clear()
                if at_sample:
                    game.sample_grid()
                if evaluation is not None and evaluate:
                    evaluation.measure(game.sample(evaluation.samples, game.stream("evaluation")))
                if at_sample or evaluate or stop:
                    ranks.barrier()
                if stop:
                    break
                continue

            rows = [{"step": at, "epoch": epoch, **game.read(got)} for at, epoch, got in unread]
            images = sum(got["images"] for *_, got in unread)
            unread.clear()
            rate = progress.update(rows[-1], images, steps=len(rows))
            rows = [{**row, "images_per_s": round(rate, 1)} for row in rows]
            expect_finite(rows, game, batches, run, write_rows, writer, log)
            if at_sample or evaluate or stop:
                writer.look(wait=True)  # one snapshot at a time
            samples = game.sample_grid() if at_sample else None
            for line in monitor.look(rows, samples):
                log(f"WARNING: step {step}: {line}")
                writer.write("copy", step, checkpoints.keep_newest)
            if evaluation is not None and evaluate:
                with evaluation.timed():
                    drawn = game.sample(evaluation.samples, game.stream("evaluation"))
                    metrics = evaluation.measure(drawn)
                    if metrics["frechet"] < evaluation.best:
                        best = checkpoints.save_best
                        writer.write("best", step, best, Snapshot(game, batches, step), metrics)
                        writer.look(wait=True)
                        if "best" not in writer.failed:
                            evaluation.best = metrics["frechet"]
                rows[-1] |= metrics
            writer.write("rows", step, write_rows, rows, at_sample or stop)
            if at_sample:
                writer.write("samples", step, run.save_samples, samples, step, game.preset.grid)
            if at_sample or stop or "checkpoint" in writer.failed:
                # last: if killed earlier, it is all repeated
                writer.write("checkpoint", step, checkpoints.save, Snapshot(game, batches, step))
            if on_step is not None:
                writer.look(wait=True)  # the caller may look into the folder
                for row in rows:
                    on_step(dict(row), samples if row is rows[-1] else None)
            if at_sample or evaluate or stop:
                ranks.barrier()
            if at_sample or evaluate or stop or on_step is not None:
                progress.start_clock()
            if stop and step < last_step:
                break
    unsaved, unlogged = map(writer.failed.get, ("checkpoint", "rows"))
    saved = writer.written.get("checkpoint", first)
    pace = ""
    if ranks.size > 1:
        share = min(ranks.seconds / max(progress.seconds, 1e-9), 1.0)
        pace = f"{ranks.size}: {share:.0%} of the time of a step in collectives"
        if game.backend.captures_graphs:
            pace += " of MPI; those of NCCL are part of the graph, and not measured"
        log(f"ranks {pace}")
    if step < last_step:
        end = "everything is saved; resume"
        if unsaved:
            end = f"but it could not be saved; resume at step {saved}"
        log(f"stopped after step {step}, {end} with: --resume {run.quoted}")
        raise Interrupted(int(stop), run.folder)
    if unsaved:
        raise TrainingError(
            f"{unsaved}; the last good checkpoint is of step {saved}: "
            f"then resume with --resume {run.quoted}"
        )
    if unlogged:
        raise TrainingError(f"{unlogged}; the checkpoint of step {step} is written")
    return pace


def expect_finite(
    rows: Rows, game: Game, batches: Batches, run: Run, write_rows: Write, writer: Writer, log: Log
) -> None:
    """Raises TrainingError if a loss or gradient is not finite: the step, and the first layer."""
    for i, row in enumerate(rows):
        wrong = [name for name in MEASURED if not isfinite(row[name])]
        if wrong:
            writer.look(wait=True)
            with suppress(RunError):  # the greater problem is reported instead
                write_rows(rows[: i + 1], True)
            start = run.checkpoints.load(game, batches, log=lambda line: None)
            log(f"{wrong[0]} is not finite: playing again from step {start}, to find the layer")
            place = locate_nan(game, batches, row["step"] - start)
            raise TrainingError(
                f"step {row['step']}: {wrong[0]} is {row[wrong[0]]}{place}. The checkpoint of "
                f"step {start} is kept: resume it with a smaller --lr-d and --lr-g (with the "
                "same it ends the same way), or start another run with another --seed"
            )
