"""Whole runs: what they leave, resuming bit for bit, signals, disks that fail."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime as real_datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import minigan as mg
from minigan import training
from minigan.data.files.npz import load_arrays, unpack
from minigan.gan import MEASURED
from minigan.presets import MODULES, get_preset
from minigan.training import loop, open_game
from minigan.training.checkpoint import Checkpoints
from minigan.training.config import new_config, resumed_config
from minigan.training.game import Game
from minigan.training.progress import Interrupted
from minigan.training.run_folder import Run
from tests.support.games import make_game
from tests.support.long_form import long_form
from tests.support.made_run import change_record
from tests.support.pictures import dataset, noise
from tests.support.strict_cupy import make_module
from tests.support.training_runs import (
    SMALL,
    checkpoint,
    comparable,
    content,
    metrics,
    names,
    open_game_module,
    resume,
    train,
)

ROOT = Path(__file__).parents[2]
PROGRAM = [sys.executable, "-m", "minigan"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
COMMAND = [*PROGRAM, "train", "--width", "4", "--batch-size", "16", "--z-dim", "8"]
COMMAND += ["--threads", "1", "--dataset", "strokes", "--limit", "64"]


# -- what a run leaves ---------------------------------------------------------------------------


def test_the_folder_of_a_run(tmp_path):
    out = tmp_path / "runs" / "a"
    lines = train(out, steps=9, sample_every=4)
    record = json.loads((out / "config.json").read_text())
    options = record["options"]
    assert (options["steps"], options["seed"], options["width"]) == (9, 3, 4)
    assert options["dataset"] == "mnist"  # chosen by "auto"
    assert set(record["versions"]) >= {"minigan", "numpy", "python"}
    rows = metrics(out)
    assert [int(row["step"]) for row in rows] == list(range(1, 10))
    assert [int(row["epoch"]) for row in rows] == [1] * 7 + [2] * 2
    for row in rows:
        empty = {"frechet", "classifier_score", "classes_missed"}  # nothing is evaluated
        if int(row["step"]) not in (4, 8, 9):
            empty |= {"sample_spread", "top_class"}
        assert {name for name, value in row.items() if value == ""} == empty
        assert all(np.isfinite(float(value)) for name, value in row.items() if name not in empty)
        assert 0 < float(row["d_x"]) < 1 and 0 < float(row["d_gz"]) < 1
    assert names(out / "samples") == [f"step-{step:08d}.png" for step in (0, 4, 8, 9)]
    with Image.open(out / "samples/step-00000009.png") as picture:
        assert picture.size == (8 * 30 + 2, 8 * 30 + 2) and picture.mode == "L"
    assert names(out / "checkpoints") == ["step-00000008.npz", "step-00000009.npz"]
    with np.load(out / "generator.npz", allow_pickle=False) as file:
        assert {"0.W", "2.gain", "2.running_mean"} <= set(file.files)
        assert all(file[name].dtype == np.float32 for name in file.files)
    assert any("images/s" in line and "loss D" in line and "left" in line for line in lines)
    assert "\r" not in "".join(lines) and lines[-1].startswith("done: ")


def test_the_grids_of_a_run_show_the_same_z(tmp_path):
    """With a learning rate close to 0 they are nearly the same picture."""
    train(tmp_path / "a", steps=2, sample_every=1, lr_g=1e-12)
    paths = sorted((tmp_path / "a/samples").iterdir())
    _, a, b = (np.asarray(Image.open(path)).astype(int) for path in paths)
    assert np.abs(a - b).mean() < np.abs(a - a[::-1]).mean() / 4


def test_another_seed_is_another_run_and_the_same_seed_the_same(tmp_path):
    for name, seed in (("a", 0), ("b", 1), ("c", 0)):
        train(tmp_path / name, steps=1, seed=seed)
    a, b, c = ((tmp_path / name / "generator.npz").read_bytes() for name in "abc")
    assert a == c != b


def test_epochs_end_where_steps_would(tmp_path):
    train(tmp_path / "a", epochs=2)
    last = metrics(tmp_path / "a")[-1]
    assert (last["step"], last["epoch"]) == ("14", "2")


@pytest.mark.parametrize(
    "preset, steps", (("mnist", (0, 7, 14)), ("radford-mnist-conditional", (0, 4, 7)))
)
def test_a_grid_each_epoch(preset, steps, tmp_path):
    """Of seven batches: a step takes one, or two, so that an epoch has 3.5 steps."""
    train(tmp_path / "a", preset=preset, width=2, epochs=2, sample_every="epoch")
    assert names(tmp_path / "a/samples") == [f"step-{step:08d}.png" for step in steps]


def test_real_images_are_of_the_classes_of_the_samples():
    """Image i is of class i % 10, and filled with i."""
    game, _ = make_game("radford-mnist-conditional", width=1)
    images = np.arange(40, dtype=np.uint8)[:, None, None, None].repeat(28, 1).repeat(28, 2)
    found = loop.real_grid(game, dataset(images))[:, 0, 0, 0]
    np.testing.assert_array_equal(found % 10, game.classes_in_turn(len(found)))


def test_images_per_second_are_of_all_steps_and_without_the_time_of_sampling(tmp_path, monkeypatch):
    """A step takes a second, a grid a hundred. The losses are read after steps 7, 10 and 14."""
    now = [0.0]

    def taking(seconds, method):
        def call(*arguments):
            now[0] += seconds
            return method(*arguments)

        return call

    monkeypatch.setattr("minigan.training.progress.monotonic", lambda: now[0])
    for name, seconds in (("round", 1), ("sample_grid", 100)):
        monkeypatch.setattr(Game, name, taking(seconds, getattr(Game, name)))
    train(tmp_path / "a", steps=14, sample_every=7)
    rates = [float(row["images_per_s"]) for row in metrics(tmp_path / "a")]
    assert rates == 7 * [14.3] + 3 * [16] + 4 * [(3 * 16 + 4) / 4]  # 100 images in seven batches


def test_pictures_that_are_a_mistake_are_named_before_training(tmp_path, monkeypatch):
    flat = dataset(np.full((64, 28, 28, 1), 255, np.uint8))
    monkeypatch.setattr(open_game_module, "load_dataset", lambda *_, **__: flat)
    lines = train(tmp_path / "a", steps=1)
    assert lines[0].startswith("WARNING: the pictures hardly vary: the standard deviation")


def test_a_dry_run_shows_both_nets_and_one_step(tmp_path, monkeypatch):
    """That it writes nothing is tested in tests/cli/test_train.py."""
    monkeypatch.chdir(tmp_path)
    lines = []
    assert training.train({**SMALL}, dry_run=True, log=lines.append) is None
    nets, step, end = lines[-3:]
    assert "ConvTranspose2d 8->4, k4 s2 p1" in nets and "Conv2d 1->4, k4 s2 p1" in nets
    assert step.startswith("one step on mnist: loss_d_real ")
    assert end.startswith("dry run: 28 steps would go to ")


def test_a_substitute_for_mnist_cannot_be_missed(tmp_path, monkeypatch):
    note = "training on Strokes, NOT on MNIST: no network"
    found = dataset(np.zeros((40, 28, 28, 1), np.uint8), "strokes", note)
    monkeypatch.setattr(open_game_module, "load_dataset", lambda *names, **options: found)
    assert f"*** NOTE: {note} ***" in train(tmp_path / "a", steps=1)
    record = json.loads((tmp_path / "a/config.json").read_text())
    assert record["note"] == note and record["options"]["dataset"] == "strokes"


def test_runs_that_start_in_the_same_second_get_different_names(tmp_path, monkeypatch):
    class Clock:
        @staticmethod
        def now():
            return real_datetime(2026, 1, 2, 3, 4, 5)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loop, "datetime", Clock)
    for _ in range(3):
        train(None, steps=1)
    name = "20260102-030405-mnist"
    assert names(tmp_path / "runs") == [name, f"{name}-2", f"{name}-3"]


def test_nothing_of_a_run_is_pickled(tmp_path, monkeypatch):
    import pickle

    def refuse(*arguments, **options):
        raise AssertionError("pickle")

    for name in ("dump", "dumps", "load", "loads", "Pickler", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    train(tmp_path / "a", steps=2)
    resume(tmp_path / "a", steps=3)


# -- resuming ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",  # every round, optimizer and kind of layer is in one of them
    (
        dict(preset="mnist"),
        dict(preset="mnist", threads=2, ema=0.9, flip=True),
        dict(preset="fredriksson-mnist"),
        dict(preset="shibuya-mnist", joint_update=True),
        dict(preset="tensorflow-mnist"),
        dict(preset="radford-mnist-conditional", width=2),
        dict(preset="jayathilaka-faces:sgd"),
        dict(preset="jayathilaka-faces:rmsprop"),
        dict(preset="mnist", backend="plain", threads=None),
    ),
    ids=lambda options: " ".join(map(str, options.values())),
)
def test_resuming_gives_the_same_bytes(options, tmp_path):
    """Across the end of an epoch, with stops before, at and after sample steps."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    options = dict(options, sample_every=3)
    train(whole, **options, steps=9)
    train(parts, **options, steps=2)
    for end in (3, 7, 9):
        resume(parts, steps=end)
    a, b = content(whole), content(parts)
    for name in ("generator.npz", "checkpoints/step-00000009.npz", "samples/step-00000009.png"):
        assert a[name] == b[name]
    assert comparable(metrics(whole)) == comparable(metrics(parts))
    records = [json.loads((folder / "config.json").read_text()) for folder in (whole, parts)]
    assert [entry["step"] for entry in records[1].pop("resumed")] == [2, 3, 7]
    assert records[0] == records[1]


@pytest.mark.slow
def test_resuming_in_a_new_process(tmp_path):
    """The documented program, each time in a new process."""

    def run(*options):
        program = ROOT / "examples/train_mnist.py"
        command = [sys.executable, program, *map(str, options)]
        subprocess.run(command, check=True, capture_output=True)

    options = ["--dataset", "strokes", "--limit", 64, "--width", 4, "--batch-size", 32]
    run(*options, "--steps", 3, "--out", tmp_path / "a")
    run("--resume", tmp_path / "a", "--steps", 6)
    run(*options, "--steps", 6, "--out", tmp_path / "b")
    a, b = (tmp_path / name / "generator.npz" for name in "ab")
    assert a.read_bytes() == b.read_bytes()


def test_resuming_forgets_what_came_after_the_checkpoint(tmp_path):
    """As after a kill between two checkpoints: rows of steps that will be repeated."""
    train(tmp_path / "a", steps=4)
    with open(tmp_path / "a/metrics.csv", "a") as file:
        file.write("5,1,9,9,9,9,9,9\n6,1,9,9")
    resume(tmp_path / "a", steps=6)
    rows = metrics(tmp_path / "a")
    assert [row["step"] for row in rows] == ["1", "2", "3", "4", "5", "6"]
    assert "9" not in {row["loss_g"] for row in rows}


def test_resuming_forgets_how_ranks_spent_their_time(tmp_path):
    train(tmp_path / "a", steps=2)
    change_record(Run(tmp_path / "a"), ranks="2: 5% of the time of a step in collectives")
    resume(tmp_path / "a", steps=3)
    assert "ranks" not in record_of(tmp_path / "a")


def test_nothing_to_do(tmp_path):
    train(tmp_path / "a", steps=2)
    before = content(tmp_path / "a")
    lines = resume(tmp_path / "a")
    assert "nothing to do: it has 2 steps, the end is 2; give a larger --steps or" in lines[-1]
    assert content(tmp_path / "a") == before
    lines = resume(tmp_path / "a", lr_g=1e-3)
    assert "was" not in "".join(lines) and content(tmp_path / "a") == before
    (tmp_path / "a/generator.npz").unlink()
    resume(tmp_path / "a")
    assert content(tmp_path / "a") == before


def test_a_dry_run_of_a_resumed_one_begins_where_it_ended(tmp_path):
    train(tmp_path / "a", steps=4)
    before, lines = content(tmp_path / "a"), []
    training.train({"steps": 6}, resume=tmp_path / "a", dry_run=True, log=lines.append)
    assert "dry run: 2 steps would go to" in lines[-1]
    assert content(tmp_path / "a") == before
    shown = next(line for line in lines if line.startswith("one step on"))
    resume(tmp_path / "a", steps=5)
    assert f"loss_g {float(metrics(tmp_path / 'a')[-1]['loss_g']):.3f}" in shown


def test_out_and_resume_exclude_each_other(tmp_path):
    with pytest.raises(mg.ConfigError, match="--resume continues in the run's folder"):
        training.train({}, resume=tmp_path, out=tmp_path)


def test_an_option_that_would_make_another_run_is_refused(tmp_path):
    train(tmp_path / "a", steps=2)
    before = content(tmp_path / "a")
    with pytest.raises(mg.ConfigError, match=r"--batch-size 4 does not fit the run, which"):
        resume(tmp_path / "a", batch_size=4, steps=4)
    assert content(tmp_path / "a") == before


def record_of(folder):
    return json.loads((folder / "config.json").read_text())


def test_a_run_keeps_its_kernels(tmp_path, hide_numba):
    pytest.importorskip("numba", reason="numba is not installed")
    train(tmp_path / "a", steps=1)
    assert record_of(tmp_path / "a")["options"]["compile"] is True
    assert "numba" in record_of(tmp_path / "a")["versions"]
    hide_numba()
    before = content(tmp_path / "a")
    with pytest.raises(mg.BackendError, match=r"compiled kernels need numba .* --no-compile"):
        resume(tmp_path / "a", steps=2)
    assert content(tmp_path / "a") == before
    lines = resume(tmp_path / "a", steps=2, compile=False)
    assert any("at step 1, steps 2 (was 1), compile False (was True)" in line for line in lines)
    record = record_of(tmp_path / "a")
    assert record["options"]["compile"] is False
    assert "numba" not in record["resumed"][0]["versions"]


def test_a_run_without_kernels_and_one_that_is_older_are_resumed_without(tmp_path):
    train(tmp_path / "a", steps=2, compile=False)
    train(tmp_path / "b", steps=1, compile=False)
    record = record_of(tmp_path / "b")
    del record["options"]["compile"]
    (tmp_path / "b/config.json").write_text(json.dumps(record))
    resume(tmp_path / "b", steps=2)
    assert weights_of(tmp_path / "b")[1] == weights_of(tmp_path / "a")[1]
    assert (tmp_path / "b/generator.npz").read_bytes() == (
        tmp_path / "a/generator.npz"
    ).read_bytes()
    assert not open_game(Run(tmp_path / "a"))[0].backend.compiled  # nor are samples drawn by them


def weights_of(folder):
    """-> the parameters and statistics of both nets in the newest checkpoint"""
    newest = max((folder / "checkpoints").glob("step-*.npz"))
    sections, record = unpack(load_arrays(newest), newest)
    return sections, record


@pytest.mark.parametrize(
    "options",
    (
        dict(threads=1),
        pytest.param(dict(threads=2), marks=pytest.mark.slow),
        dict(backend="plain", threads=None),
    ),
    ids=str,
)
def test_another_rate_is_used_from_the_step_on_and_recorded(options, tmp_path):
    train(tmp_path / "a", steps=2, ema=0, lr_g=0.001, **options)
    before, _ = weights_of(tmp_path / "a")
    lines = resume(tmp_path / "a", steps=4, lr_g=1e-12, lr_d=0.5)
    after, _ = weights_of(tmp_path / "a")
    moved = {
        name: max(
            np.abs(after[name][key] - before[name][key]).max()
            for key in before[name]
            if "running" not in key
        )
        for name in "GD"
    }
    assert moved["G"] < 1e-6 and moved["D"] > 0.1
    assert any("at step 2, steps 4 (was 2), lr_g 1e-12 (was 0.001), lr_d 0.5" in s for s in lines)
    resume(tmp_path / "a", steps=5, lr_g=0.002)
    resume(tmp_path / "a", steps=6)
    record = json.loads((tmp_path / "a/config.json").read_text())
    assert record["options"]["lr_g"] == 0.002 and record["options"]["lr_d"] == 0.5
    found = [(entry["step"], entry["changed"].get("lr_g")) for entry in record["resumed"]]
    assert found == [(2, [0.001, 1e-12]), (4, [1e-12, 0.002]), (5, None)]


def test_a_rate_that_decays_falls_from_its_new_value(tmp_path):
    preset = next(name for name in MODULES if get_preset(name).decay)
    start, length = get_preset(preset).decay
    game = Game(resumed_config(new_config(dict(preset=preset, width=2)), dict(lr_g=0.004)))
    game.set_rates(start + length // 2)
    assert game.optimizers["G"].lr == pytest.approx(0.004 * (1 - (length // 2) / length))


def test_the_steps_of_whole_epochs_are_not_rounded_up(monkeypatch):
    """11 batches, 5 in a round, 25 times: 55 rounds, but 25·(11/5) is a little more."""
    monkeypatch.setattr(open_game_module, "load_dataset", noise(176))
    options = dict(SMALL, batch_size=16, d_steps=5, epochs=25, steps=None)
    lines = []
    training.train(options, dry_run=True, log=lines.append)
    assert any("dry run: 55 steps would go" in line for line in lines), lines


def test_an_end_after_the_rates_are_0_is_a_warning(tmp_path):
    preset = next(name for name in MODULES if get_preset(name).decay)
    for epochs, count in ((200, 0), (201, 1)):
        lines, options = [], dict(preset=preset, width=2, epochs=epochs, batch_size=60)
        training.train({**SMALL, **options}, dry_run=True, log=lines.append)
        assert sum("are 0 after step" in line for line in lines) == count, lines


def test_a_dangling_link_is_not_taken_for_another_run(tmp_path, monkeypatch):
    """A disk that is not mounted: no other name would help."""
    monkeypatch.chdir(tmp_path)
    os.symlink("nowhere", "runs")
    with pytest.raises(mg.RunError, match="cannot make the folder"):
        train(None, steps=1)


def test_commands_to_copy_quote_the_folder(tmp_path):
    lines = train(tmp_path / "my run", steps=1)
    assert f"minigan sample '{tmp_path}/my run' --n 64" in lines[-1]


def test_an_average_may_be_switched_on_and_off(tmp_path):
    train(tmp_path / "a", steps=2, ema=0)
    resume(tmp_path / "a", steps=3, ema=0.9)
    sections, record = weights_of(tmp_path / "a")
    assert record["average_steps"] == 1
    for name, array in sections["G"].items():  # the mean of one step
        assert np.allclose(sections["G average"][name], array, rtol=1e-6)
    resume(tmp_path / "a", steps=4, ema=0.5)
    following, record = weights_of(tmp_path / "a")
    for name, mean in following["G average"].items():
        weight = 0.5 / (1 - 0.5**2)
        expected = sections["G average"][name] * (1 - weight) + following["G"][name] * weight
        assert record["average_steps"] == 2 and np.allclose(mean, expected, rtol=1e-4, atol=1e-6)
    resume(tmp_path / "a", steps=5, ema=0)
    sections, record = weights_of(tmp_path / "a")
    assert "G average" not in sections and "average_steps" not in record
    generator = load_arrays(tmp_path / "a/generator.npz")
    assert all(np.array_equal(generator[name], array) for name, array in sections["G"].items())
    resume(tmp_path / "a", steps=6, ema=0.9)
    assert weights_of(tmp_path / "a")[1]["average_steps"] == 1


def test_other_images_are_refused(tmp_path, monkeypatch):
    train(tmp_path / "a", steps=2)
    found = replace(dataset(np.zeros((100, 28, 28, 1), np.uint8)), fingerprint="1" * 16)
    monkeypatch.setattr(open_game_module, "load_dataset", lambda *names, **options: found)
    with pytest.raises(mg.DataError, match=r"are not those that the run was trained on \(0000"):
        resume(tmp_path / "a", steps=4)


# -- weight averaging in a run ---------------------------------------------------------------------


def test_the_game_goes_on_as_without_an_average(tmp_path):
    for name, ema in (("without", 0.0), ("with", 0.9)):
        train(tmp_path / name, preset="shibuya-fnn", lr_g=1e-2, steps=4, ema=ema)
    (plain, _), (averaged, record) = (
        checkpoint(tmp_path / name, 4) for name in ("without", "with")
    )
    for section, arrays in plain.items():
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, averaged[section][name])
    assert set(averaged) - set(plain) == {"G average"} and record["average_steps"] == 4
    a, b = content(tmp_path / "without"), content(tmp_path / "with")
    assert a["samples/step-00000000.png"] == b["samples/step-00000000.png"]  # nothing to average
    assert a["samples/step-00000004.png"] != b["samples/step-00000004.png"]


def test_samples_are_drawn_from_the_average(tmp_path):
    """Grids during training, generator.npz, and what is sampled later: all from one net."""
    out = tmp_path / "a"
    train(out, preset="shibuya-fnn", lr_g=1e-2, steps=4, ema=0.9)
    sections, _ = checkpoint(out, 4)
    with np.load(out / "generator.npz") as saved:
        assert set(saved.files) == set(sections["G average"])
        for name in saved.files:
            np.testing.assert_array_equal(saved[name], sections["G average"][name])
    assert not np.array_equal(sections["G average"]["0.W"], sections["G"]["0.W"])
    run = loop.Run(out)
    game, _ = open_game(run)
    grid = game.sample_grid()
    run.save_samples(grid, 99, game.preset.grid)
    a, b = content(out), content(out)
    assert a["samples/step-00000099.png"] == b["samples/step-00000004.png"]


# -- signals ---------------------------------------------------------------------------------------


def signal_at(monkeypatch, owner, name, when, number=signal.SIGINT):
    """Send this process a signal at the first call of owner.name for which when(...) is true."""
    original, sent = getattr(owner, name), []

    def wrapped(*arguments, **options):
        if not sent and when(*arguments, **options):
            sent.append(True)
            os.kill(os.getpid(), number)
        return original(*arguments, **options)

    monkeypatch.setattr(owner, name, wrapped)


@pytest.mark.parametrize("name, code", (("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)))
@pytest.mark.skipif(os.name != "posix", reason="os.kill ends the process on Windows")
def test_a_signal_ends_the_step_and_saves(name, code, tmp_path, monkeypatch):
    number = getattr(signal, name)
    before, lines = signal.getsignal(number), []
    with monkeypatch.context() as patch:
        signal_at(patch, Game, "round", lambda game, batches: batches.position == 2, number)
        with pytest.raises(Interrupted) as caught:
            train(tmp_path / "a", log=lines.append, steps=6)
    assert caught.value.exit_code == code and signal.getsignal(number) is before
    resumes = f"everything is saved; resume with: --resume {tmp_path / 'a'}"
    assert f"stopped after step 3, {resumes}" in lines
    assert [row["step"] for row in metrics(tmp_path / "a")] == ["1", "2", "3"]
    resume(tmp_path / "a")
    train(tmp_path / "b", steps=6)
    a, b = ((tmp_path / name / "generator.npz").read_bytes() for name in "ab")
    assert a == b


def test_runs_in_two_threads_are_those_of_each_alone(tmp_path):
    """Of one preset and of two, on processes and by the definitions."""
    options = [dict(threads=2), dict(threads=None, backend="plain"), dict(preset="shibuya-mnist")]
    for i, own in enumerate(options):
        train(tmp_path / f"alone {i}", steps=4, **own)
    with ThreadPoolExecutor(2) as pool:
        for pair in ((0, 0), (0, 1), (1, 2)):
            runs = [(tmp_path / f"{pair} {place}", i) for place, i in enumerate(pair)]
            jobs = [pool.submit(train, out, steps=4, **options[i]) for out, i in runs]
            for job, (out, i) in zip(jobs, runs, strict=True):
                job.result()
                assert comparable(metrics(out)) == comparable(metrics(tmp_path / f"alone {i}"))
                alone = tmp_path / f"alone {i}" / "generator.npz"
                assert (out / "generator.npz").read_bytes() == alone.read_bytes()


def test_a_signal_at_the_worst_moment(tmp_path, monkeypatch):
    """It comes when a step without saving is over: the next step ends the run, and saves."""
    lines = []
    when = lambda self, row, images, steps: row["step"] == 10  # noqa: E731
    signal_at(monkeypatch, loop.Progress, "update", when)
    with pytest.raises(Interrupted):
        train(tmp_path / "a", log=lines.append, steps=15)
    assert any(line.startswith("stopped after step 11, everything is saved") for line in lines)
    assert (tmp_path / "a/checkpoints/step-00000011.npz").exists()
    assert [row["step"] for row in metrics(tmp_path / "a")] == [str(i) for i in range(1, 12)]


def test_a_signal_in_the_last_step_finds_a_finished_run(tmp_path, monkeypatch):
    signal_at(monkeypatch, Checkpoints, "save", lambda self, snapshot: snapshot.step == 3)
    assert train(tmp_path / "a", steps=3)[-1].startswith("done: ")


def test_ctrl_c_from_outside(tmp_path):
    """A whole process, whose exit code a shell sees."""
    with subprocess.Popen(
        [*COMMAND, "--steps", "100000", "--out", str(tmp_path / "a")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    ) as process:
        while not (tmp_path / "a/generator.npz").exists() and process.poll() is None:
            time.sleep(0.02)
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=60)
    assert process.returncode == 130 and error == ""
    assert out.splitlines()[-1].startswith("stopped after step ")


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs a shell with pipes")
@pytest.mark.parametrize("into", ("| head -1", "> /dev/full"))
def test_a_run_goes_on_when_nobody_listens(into, tmp_path):
    command = f"{' '.join(COMMAND)} --steps 2 --out {tmp_path / 'a'}"
    result = subprocess.run(
        f"{command} {into}", shell=True, capture_output=True, text=True, env=ENVIRONMENT
    )
    lost = "minigan: error: the output cannot be written: No space left on device\n"
    assert (result.returncode, result.stderr) == ((0, "") if "|" in into else (1, lost))
    assert (tmp_path / "a/checkpoints/step-00000002.npz").exists()


# -- disks that fail -------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ("fsync", "replace"))
def test_training_goes_on_through_a_full_disk(call, tmp_path, monkeypatch):
    """The checkpoint of step 4 cannot be written; it is tried again, and the end is the same."""
    whole, full = tmp_path / "whole", tmp_path / "full"
    train(whole, steps=12, sample_every=4)
    original, play, state = getattr(os, call), Game.round, {"steps": 0}

    def fail(*arguments):
        if 4 <= state["steps"] < 9:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(*arguments)

    def count(self, batches):
        state["steps"] += 1
        return play(self, batches)

    monkeypatch.setattr(os, call, fail)
    monkeypatch.setattr(Game, "round", count)
    lines = train(full, steps=12, sample_every=4)
    problem = f"cannot write {full / 'generator.npz'}: No space left on device"
    assert any(line.startswith(f"WARNING: step 4: {problem}") for line in lines)
    a, b = content(whole), content(full)
    for name in ("generator.npz", "checkpoints/step-00000012.npz", "samples/step-00000012.png"):
        assert a[name] == b[name]
    assert comparable(metrics(full)) == comparable(metrics(whole))
    assert not [name for name in b if name.endswith(".tmp")]


def test_a_checkpoint_that_failed_is_written_at_the_next_reading(tmp_path, monkeypatch):
    """The disk is full at step 12 only: step 20 is saved, though it is no sample step."""
    save = Checkpoints.save

    def save_or_fail(self, snapshot):
        if snapshot.step == 12:
            raise mg.RunError("full")
        save(self, snapshot)

    monkeypatch.setattr(Checkpoints, "save", save_or_fail)
    train(tmp_path / "a", steps=22, sample_every=12)
    assert names(tmp_path / "a/checkpoints") == ["step-00000020.npz", "step-00000022.npz"]


def test_an_end_that_cannot_be_saved_is_an_error(tmp_path, monkeypatch):
    train(tmp_path / "a", steps=4)
    before = content(tmp_path / "a/checkpoints")
    save = Checkpoints.save

    def fail(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def save_on_a_full_disk(self, snapshot):
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fail)
            save(self, snapshot)

    monkeypatch.setattr(Checkpoints, "save", save_on_a_full_disk)
    with pytest.raises(mg.RunError, match="the last good checkpoint is of step 4: then resume wi"):
        resume(tmp_path / "a", steps=6)
    assert content(tmp_path / "a/checkpoints") == before


def test_a_folder_that_vanishes(tmp_path, monkeypatch):
    """An unplugged disk: training goes on, and when it is back, so are the checkpoints."""
    play, out, away = Game.round, tmp_path / "a", tmp_path / "away"
    steps = []

    def unplug(self, batches):
        steps.append(1)
        if len(steps) == 6:
            out.rename(away)
        if len(steps) == 13:
            away.rename(out)
        return play(self, batches)

    monkeypatch.setattr(Game, "round", unplug)
    lines = train(out, steps=20, sample_every=5)
    assert any(line.startswith("WARNING: step 10: cannot write") for line in lines)
    assert (out / "checkpoints/step-00000020.npz").exists() and not away.exists()
    assert len(metrics(out)) == 20


# -- backends --------------------------------------------------------------------------------------


def test_on_the_cupy_backend(tmp_path, monkeypatch):
    """The whole run on the strict stand-in for CuPy, losses equal to those of the plain backend.

    Small rates: large ones make rounding larger.
    """
    monkeypatch.setitem(sys.modules, "cupy", make_module())
    rates = dict(lr_g=2e-4, lr_d=2e-4, beta1=0.5, threads=None)
    for backend in ("plain", "cupy"):
        train(tmp_path / backend, backend=backend, **rates, steps=4, sample_every=3)
    for a, b in zip(metrics(tmp_path / "plain"), metrics(tmp_path / "cupy"), strict=True):
        for name in MEASURED:
            assert float(a[name]) == pytest.approx(float(b[name]), rel=1e-3)
    monkeypatch.delitem(sys.modules, "cupy")
    game, _ = open_game(loop.Run(tmp_path / "cupy"))  # drawn without a GPU
    assert game.sample(3, game.stream("sample")).shape == (3, 28, 28, 1)


# -- a long run ------------------------------------------------------------------------------------

WATCHED = """
import os, sys
from minigan import training
from minigan.training.game import Game
from tests.support.pictures import noise
from tests.support.training_runs import SMALL, open_game_module
open_game_module.load_dataset = noise(100)
steps, seen, play, count = int(sys.argv[1]), {}, Game.round, [0]
def look():
    resident = int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return resident, len(os.listdir("/proc/self/fd"))
def watch(self, batches):
    count[0] += 1
    if count[0] in (steps // 3, steps):
        seen[count[0]] = look()
    return play(self, batches)
Game.round = watch
options = {**SMALL, "threads": int(sys.argv[3]), "steps": steps, "sample_every": 15}
training.train(options, out=sys.argv[2], log=lambda line: None)
(a, x), (b, y) = seen.values()
print(b - a, y - x)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs /proc")
@pytest.mark.parametrize("steps", (90, long_form("run-steps")))
def test_memory_and_handles_of_a_long_run(steps, many, tally, tmp_path):
    threads = "1" if steps == 90 else "2"
    steps = many(steps)
    command = [sys.executable, "-c", WATCHED, str(steps), str(tmp_path / "a"), threads]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    grown, handles = map(int, result.stdout.split())
    tally["steps"], tally["bytes more at the end than after a third"] = steps, grown
    assert handles == 0
    assert grown < 5 * 2**20, f"{grown / 2**20:.1f} MiB more"
