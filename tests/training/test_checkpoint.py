"""Checkpoints: the newest usable one counts, and a kill at any instant loses nothing."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from math import inf
from pathlib import Path

import numpy as np
import pytest

import minigan as mg
from minigan.data.files.npz import load_arrays, pack, save_arrays, unpack
from minigan.training import open_game
from minigan.training.checkpoint import Checkpoints, Snapshot
from minigan.training.run_folder import Run
from tests.support.damaged_files import little_memory, mutated
from tests.support.games import make_game
from tests.support.long_form import long_form, slow
from tests.support.memory import peak_of
from tests.support.strict_cupy import make_module
from tests.support.training_runs import comparable, content, metrics, names, resume, train

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of three steps, with checkpoints at steps 0 and 3; made once, not to be changed."""
    from tests.support.pictures import noise
    from tests.support.training_runs import open_game_module

    folder = tmp_path_factory.mktemp("trained") / "a"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(open_game_module, "load_dataset", noise(100))
        train(folder, steps=3)
    return folder


@pytest.fixture
def run(trained, tmp_path):
    """-> the folder of a copy of it."""
    return shutil.copytree(trained, tmp_path / "a")


def bit_flipped(data):
    changed = bytearray(data)
    changed[len(changed) // 2] ^= 4
    return bytes(changed)


@pytest.mark.parametrize(
    "damage",
    (
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: b"<html>login</html>" * 50,
        bit_flipped,
    ),
    ids=("empty", "truncated", "html", "bit flipped"),
)
def test_damage(damage, run):
    """The one before is used instead; if none is left, nothing changes on the disk."""
    for name in ("generator.npz", "checkpoints/step-00000003.npz"):
        (run / name).write_bytes(damage((run / name).read_bytes()))
    with pytest.raises(mg.RunError, match=f"{run / 'generator.npz'} .*damaged"):
        open_game(Run(run))
    lines = resume(run, steps=3)
    newest = run / "checkpoints/step-00000003.npz"
    assert lines[0].startswith(f"passing over a checkpoint: {newest} is damaged")
    assert lines[1] == f"resuming {run} at step 0"

    for path in (run / "checkpoints").iterdir():
        path.write_bytes(damage(path.read_bytes()))
    before = content(run)
    with pytest.raises(
        mg.RunError, match=r"no checkpoint in .* can be used \(.*damaged.*\): start"
    ):
        resume(run, steps=5)
    assert content(run) == before


HUGE = 10**400
PCG64 = dict(state=1, inc=1)


@pytest.mark.parametrize(
    "path, value",
    (
        *((("step",), value) for value in (-5, 2, 3.0, "3", None, True, HUGE)),
        *((("epoch",), value) for value in (-1, 0, 2, HUGE)),
        *((("position",), value) for value in (-1, 0, 2, 100, [1])),
        *((("optimizer_steps", "G"), value) for value in (-1, 2**60, HUGE, 3.5, "3", None)),
        (("optimizer_steps",), None),
        *((("average_steps",), value) for value in (-1, HUGE, None)),
        *((("generators", "z"), value) for value in (None, {}, [1], "PCG64")),
        *((("generators", "z", "state"), value) for value in (None, PCG64)),
        *((("generators", "z", "state", "state"), value) for value in (-1, 2**128, 1.5)),
        *((("generators", "z", "state", "inc"), value) for value in (2, 2**128)),
        (("generators", "z", "bit_generator"), "MT19937"),
        *((("generators", "z", "has_uint32"), value) for value in (None, "1")),
        *((("generators", "z", "uinteger"), value) for value in (-1, 2**40)),
    ),
    ids=lambda value: str(value)[:40],
)
def test_every_number_of_a_record_is_checked(path, value, averaged):
    game, batches, checkpoints = averaged
    file = checkpoints.folder / "step-00000003.npz"
    good = file.read_bytes()
    sections, record = unpack(load_arrays(file), file)
    place = record
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    save_arrays(file, pack(sections, record))
    lines = []
    with pytest.raises(mg.RunError, match=r"no checkpoint in .* can be used"):
        checkpoints.load(game, batches, lines.append)
    file.write_bytes(good)
    assert len(lines) == 1 and lines[0].startswith(f"passing over a checkpoint: {file}")
    assert checkpoints.load(game, batches, print) == 3


@pytest.fixture(scope="module")
def averaged(tmp_path_factory):
    """-> game, batches and one checkpoint, of step 3, with an average of G's weights."""
    game, batches = make_game("mnist", width=1, ema=0.5)
    checkpoints = Checkpoints(tmp_path_factory.mktemp("averaged"))
    for _ in range(3):
        game.round(batches)
    checkpoints.save(Snapshot(game, batches, 3))
    return game, batches, checkpoints


def test_a_checkpoint_is_not_deleted_for_later_ones_that_cannot_be_used(run):
    for step in (7, 8, 10**14):
        (run / f"checkpoints/step-{step:08d}.npz").write_bytes(b"damaged")
    for steps, passed in ((4, 3), (6, 0)):
        lines = resume(run, steps=steps)
        assert sum(line.startswith("passing over") for line in lines) == passed
        assert f"step-{steps:08d}.npz" in names(run / "checkpoints")
    aside = [f"passed-step-{step:08d}.npz" for step in (7, 8, 10**14)]
    assert set(aside) < set(names(run / "checkpoints"))


def test_a_checkpoint_of_another_architecture(run, tmp_path):
    other = tmp_path / "other"
    train(other, steps=3, width=6)
    for name in ("generator.npz", "checkpoints/step-00000000.npz", "checkpoints/step-00000003.npz"):
        shutil.copy(other / name, run / name)
    before = content(run)
    for use in (lambda: resume(run, steps=5), lambda: open_game(Run(run))):
        message = r"G.0.W is float32 \(8, 216\) in the file and float32 \(8, 144\) here"
        with pytest.raises(mg.RunError, match=message):
            use()
    assert content(run) == before


@pytest.mark.parametrize("options", ({"width": 2**12}, {"z_dim": 2**18}))
def test_networks_of_other_sizes_are_refused_before_they_are_made(options, run):
    saved, metadata = Run(run).load_config()
    Run(run).save_config(replace(saved, **options), metadata)

    def refuse():
        with pytest.raises(mg.RunError, match="it is from another architecture"):
            open_game(Run(run))

    assert peak_of(refuse) < 2**24


def test_a_run_without_checkpoints_starts_over(run):
    """As after a kill in its first second."""
    wanted = content(run)
    for name in ("checkpoints", "samples"):
        shutil.rmtree(run / name)
    for name in ("generator.npz", "metrics.csv", "real.png"):
        (run / name).unlink()
    with pytest.raises(mg.RunError, match=r"generator.npz does not exist"):
        open_game(Run(run))
    resume(run)
    found = content(run)
    for name in ("generator.npz", "real.png", "checkpoints/step-00000003.npz"):
        assert found[name] == wanted[name]
    assert len(metrics(run)) == 3


def test_a_run_whose_checkpoints_are_gone_keeps_what_it_has(run):
    """It would begin again, and overwrite its generator and its metrics."""
    shutil.rmtree(run / "checkpoints")
    before = content(run)
    with pytest.raises(mg.RunError, match=r"the checkpoints of .*a are gone.*put them back"):
        resume(run, steps=5)
    assert content(run) == before


def test_copies_under_other_names_belong_to_the_user(run):
    """They are neither resumed from nor removed."""
    for name in ("step-best.npz", "step-00000009-mine.npz"):
        shutil.copy(run / "checkpoints/step-00000003.npz", run / "checkpoints" / name)
    for steps in (5, 6):
        resume(run, steps=steps)
    assert names(run / "checkpoints") == [
        "step-00000005.npz",
        "step-00000006.npz",
        "step-00000009-mine.npz",
        "step-best.npz",
    ]


def test_pickles_are_refused(run, tmp_path):
    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "owned"),))

    np.savez(run / "generator.npz", **{"0.W": np.array([Evil()], dtype=object)})
    with pytest.raises(mg.RunError, match="damaged"):
        open_game(Run(run))
    assert not (tmp_path / "owned").exists()


def test_the_best_checkpoint_is_kept_apart(tmp_path):
    """`save` does not delete it, `load` does not use it, and its metrics are read again."""
    game, batches = make_game("mnist", width=1)
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.best_distance() == inf
    checkpoints.save_best(Snapshot(game, batches, 1), {"frechet": 2.5, "classifier_score": 3.0})
    for step in (1, 2, 3):
        game.round(batches)
        checkpoints.save(Snapshot(game, batches, step))
    expected = ["best.npz", "step-00000002.npz", "step-00000003.npz"]
    assert names(checkpoints.folder) == expected
    assert checkpoints.best_distance() == 2.5
    best, last = (load_arrays(tmp_path / name) for name in ("best-generator.npz", "generator.npz"))
    assert not np.array_equal(best["0.W"], last["0.W"])
    assert checkpoints.load(game, batches, print) == 3
    checkpoints.best_file.write_bytes(b"damaged")
    assert checkpoints.best_distance() == inf


def test_the_newest_can_be_set_aside(tmp_path, monkeypatch):
    game, batches = make_game("mnist", width=1)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.keep_newest()  # there is none yet
    for step in range(1, 5):
        checkpoints.save(Snapshot(game, batches, step))
        if step == 2:
            checkpoints.keep_newest()
    expected = ["kept-step-00000002.npz", "step-00000003.npz", "step-00000004.npz"]
    assert names(checkpoints.folder) == expected
    monkeypatch.setattr(os, "replace", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        checkpoints.keep_newest()
    assert names(checkpoints.folder) == expected  # no half of a copy


@pytest.mark.parametrize("count", (200, long_form("mutants")))
def test_mutated_checkpoints_and_configs(count, many, tally, tmp_path, trained):
    """Whatever the bytes: success, or RunError; quickly, and without another file."""
    arrays = {
        "0.W": np.arange(6, dtype=np.float32).reshape(2, 3),
        "json": np.frombuffer(b'{"step": 1}', np.uint8),
    }
    small, run = tmp_path / "small.npz", Run(tmp_path)
    save_arrays(small, arrays)
    run.config_file.write_bytes((trained / "config.json").read_bytes())
    good, config = small.read_bytes(), run.config_file.read_bytes()
    before, rng, slowest = names(tmp_path), random.Random(1), 0.0
    with little_memory():
        for _ in range(many(count)):
            start = time.perf_counter()
            small.write_bytes(mutated(good, rng))
            run.config_file.write_bytes(mutated(config, rng))
            for kind, read in (
                ("checkpoint", lambda: load_arrays(small)),
                ("config", run.load_config),
            ):
                try:
                    read()
                    tally[f"{kind}s read"] += 1
                except mg.RunError as error:
                    assert "\n" not in str(error)
                    tally[f"RunError of a {kind}"] += 1
            slowest = max(slowest, time.perf_counter() - start)
    assert names(tmp_path) == before and slowest < 2
    assert any(name.endswith("read") for name in tally)  # the mutants are not all hopeless
    assert {"RunError of a config", "RunError of a checkpoint"} <= set(tally)


# -- kills -----------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys, threading, time
from minigan import training
from tests.support.pictures import noise
from tests.support.strict_cupy import make_module
from tests.support.training_runs import SMALL, open_game_module
sys.modules["cupy"] = make_module()
open_game_module.load_dataset = noise(100)
state, slow, mark = {"writing": 0}, float(sys.argv[1]), sys.argv[2]
def slowly(name):  # a disk so slow that many kills fall into a write
    original = getattr(os, name)
    def call(*arguments):
        state["writing"] += 1
        time.sleep(slow)
        result = original(*arguments)
        time.sleep(slow)
        state["writing"] -= 1
        return result
    setattr(os, name, call)
for name in ("fsync", "replace"):
    slowly(name)
def die(after):
    time.sleep(after)
    with open(mark, "a") as file:
        file.write(f"{int(state['writing'] > 0)}")
    os.kill(os.getpid(), signal.SIGKILL)
if float(sys.argv[3]) > 0:
    threading.Thread(target=die, args=(float(sys.argv[3]),), daemon=True).start()
steps, folder = int(sys.argv[4]), sys.argv[5]
if os.path.exists(f"{folder}/config.json"):
    training.train({"steps": steps}, resume=folder, log=lambda line: None)
else:
    options = {**SMALL, "steps": steps, "sample_every": 3, "backend": sys.argv[6]}
    options["threads"] = 1 if options["backend"] == "numpy" else None
    training.train(options, out=folder, log=lambda line: None)
"""


def run_and_kill(mark, after, slow, steps, folder, backend):
    """A process that kills itself after this many seconds, or ends before that. -> exit code"""
    arguments = map(str, (slow, mark, after, steps, folder, backend))
    command = [sys.executable, "-c", KILLED, *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT).returncode


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.parametrize("backend", ("numpy", pytest.param("cupy", marks=pytest.mark.long)))
@pytest.mark.parametrize("kills", (slow(6), long_form("kills")))
def test_kills_at_any_instant_lose_nothing(kills, backend, many, tmp_path, tally, monkeypatch):
    """A run that is killed again and again, and resumed, ends with the bytes of one that is not."""
    kills, longer = many(kills), 1 if backend == "numpy" else 3  # to start
    whole, killed, mark = tmp_path / "whole", tmp_path / "killed", tmp_path / "kills"
    rng, count, code, steps = random.Random(0), 0, None, 9 + 12 * longer * kills
    while code != 0:
        after = longer * rng.uniform(0.5, 1.5) if count < kills else 0  # before the first file, too
        code = run_and_kill(mark, after, 0.02 if after else 0, steps, killed, backend)
        assert code in (0, -signal.SIGKILL), code
        count += code != 0
    monkeypatch.setitem(sys.modules, "cupy", make_module())
    threads = 1 if backend == "numpy" else None
    train(whole, steps=steps, sample_every=3, backend=backend, threads=threads)
    a, b = content(whole), content(killed)
    last = ("generator.npz", "real.png", f"samples/step-{steps:08d}.png")
    for name in [*last, *(name for name in a if name.startswith("checkpoints/"))]:
        assert a[name] == b.get(name), name
    assert comparable(metrics(whole)) == comparable(metrics(killed))
    tally["kills"], tally["of them during a write"] = count, mark.read_text().count("1")
    assert count == kills
