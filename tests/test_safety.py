"""Nothing is ever lost, and nothing gets in: kills, disks that fail, files from strangers, numbers that go wrong."""

import errno
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import minigan as mg
import minigan.files
import minigan.training.loop
from minigan.cli.main import main
from minigan.data.files.npz import load_arrays, save_arrays
from minigan.training.collapse import ALIKE, GRACE, STEPS, CollapseMonitor
from tests.support.damaged_files import little_memory, mutated
from tests.support.long_form import long_form
from tests.pictures import dataset, noise

ROOT = Path(__file__).parents[1]
SMALL = ["--width", "4", "--batch-size", "16", "--z-dim", "8"]


@pytest.fixture
def few_pictures(monkeypatch):
    monkeypatch.setattr(minigan.training.loop, "load_dataset", noise(100))
    monkeypatch.setattr(minigan.training.loop, "finish", lambda run, log, tables: None)


def train(*options):
    return main(["train", *SMALL, *map(str, options)])


def content(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# -- kills ---------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys, threading, time
import minigan.data.files.npz, minigan.training.loop
from minigan.cli.main import main
from tests.pictures import noise
minigan.training.loop.load_dataset = noise(100)
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
sys.exit(main(sys.argv[4:]))
"""


def run_and_kill(mark, after, slow, *arguments):
    """One process that kills itself after so many seconds, or ends before. -> exit code"""
    command = [sys.executable, "-c", KILLED, str(slow), str(mark), str(after), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT).returncode


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.parametrize("kills", (4, long_form("kills")))
def test_kills_at_any_instant_lose_nothing(kills, many, tmp_path, tally):
    """A run that is killed again and again, and gone on with, comes to the bytes of one that was left in peace."""
    kills = many(kills)
    whole, killed, mark = tmp_path / "whole", tmp_path / "killed", tmp_path / "kills"
    options = [*SMALL, "--sample-every", 3, "--seed", 3, "--threads", 1]
    rng, count, code, steps, slow = random.Random(0), 0, None, 15 + 12 * kills, 0.02
    command = ["train", *options, "--steps", steps, "--out", killed]
    while code != 0:
        after = rng.uniform(0.5, 2.0) if count < kills else 0  # from before the first file on
        code = run_and_kill(mark, after, slow, *command)
        assert code in (0, -signal.SIGKILL), code
        count += code != 0
        if (killed / "config.json").exists():
            command = ["train", "--resume", killed, "--steps", steps]
    assert run_and_kill(mark, 0, 0, "train", *options, "--steps", steps, "--out", whole) == 0
    a, b = content(whole), content(killed)
    last = {
        name
        for name in a
        if name.startswith("checkpoints/") or name in ("generator.npz", "real.png")
    }
    for name in last | {f"samples/step-{steps:08d}.png"}:
        assert a[name] == b.get(name), name
    rows = [[line.split(b",")[:9] for line in each["metrics.csv"].splitlines()] for each in (a, b)]
    assert rows[0] == rows[1]
    tally["kills"], tally["of them inside of a write"] = count, mark.read_text().count("1")
    assert count == kills


# -- two processes, signals ----------------------------------------------------------------------


def test_a_second_process_is_refused(tmp_path, capsys, few_pictures):
    assert train("--steps", 2, "--out", tmp_path / "a") == 0
    code = (
        "import sys, time; from minigan.training.run_folder import Run\n"
        "with Run(sys.argv[1]).locked(): print('locked', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "a")], stdout=subprocess.PIPE, cwd=ROOT
    ) as other:
        assert other.stdout.readline() == b"locked\n"
        before = content(tmp_path / "a")
        assert main(["train", "--resume", str(tmp_path / "a"), "--steps", "3"]) == 2
        assert (
            f"another process is training in {tmp_path / 'a'}: wait for it"
            in capsys.readouterr().err
        )
        assert content(tmp_path / "a") == before
        other.kill()
    assert (
        main(["train", "--resume", str(tmp_path / "a"), "--steps", "3"]) == 0
    )  # a crash leaves no lock behind


# -- disks that fail -----------------------------------------------------------------------------


@pytest.mark.parametrize("call", ("fsync", "replace"))
def test_training_goes_on_through_a_full_disk(call, tmp_path, capsys, monkeypatch, few_pictures):
    """The checkpoint of step 4 cannot be written; it is tried again, and the run comes to the same end."""
    whole, full = tmp_path / "whole", tmp_path / "full"
    assert train("--steps", 24, "--sample-every", 4, "--out", whole) == 0
    original, state = getattr(os, call), {"full": False}
    round_ = minigan.training.loop.Game.round

    def fail(*arguments):
        if state["full"]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(*arguments)

    def play(self, batches):
        state["steps"] = state.get("steps", 0) + 1
        state["full"] = 4 <= state["steps"] < 18
        return round_(self, batches)

    monkeypatch.setattr(minigan.files.os, call, fail)
    monkeypatch.setattr(minigan.training.loop.Game, "round", play)
    assert train("--steps", 24, "--sample-every", 4, "--out", full) == 0
    out = capsys.readouterr().out
    assert f"WARNING: step 4: cannot write {full / 'generator.npz'}: No space left on device" in out
    a, b = content(whole), content(full)
    for name in ("generator.npz", "checkpoints/step-00000024.npz", "samples/step-00000024.png"):
        assert a[name] == b[name]
    assert len(b["metrics.csv"].splitlines()) == 25
    assert not [name for name in b if name.endswith(".tmp")]


def test_an_end_that_cannot_be_saved_is_said(tmp_path, capsys, monkeypatch, few_pictures):
    assert train("--steps", 4, "--out", tmp_path / "a") == 0
    before = content(tmp_path / "a")
    save = minigan.training.loop.Run.save

    def fail(self, game, batches, step):
        monkeypatch.setattr(
            minigan.files.os,
            "fsync",
            lambda *a: (_ for _ in ()).throw(OSError(28, os.strerror(28))),
        )
        try:
            save(self, game, batches, step)
        finally:
            monkeypatch.undo()

    monkeypatch.setattr(minigan.training.loop, "load_dataset", noise(100))
    monkeypatch.setattr(minigan.training.loop.Run, "save", fail)
    assert main(["train", "--resume", str(tmp_path / "a"), "--steps", "6"]) == 2
    assert (
        "the last good checkpoint is of step 4: then go on with --resume" in capsys.readouterr().err
    )
    after = content(tmp_path / "a")
    assert all(after[name] == before[name] for name in before if name.startswith("checkpoints/"))


def test_a_folder_that_vanishes(tmp_path, capsys, monkeypatch, few_pictures):
    """An unplugged disk: training goes on, and when it is back, so are the checkpoints."""
    round_, steps = minigan.training.loop.Game.round, []

    def play(self, batches):
        steps.append(1)
        if len(steps) == 6:
            (tmp_path / "a").rename(tmp_path / "away")
        if len(steps) == 13:
            (tmp_path / "away").rename(tmp_path / "a")
        return round_(self, batches)

    monkeypatch.setattr(minigan.training.loop.Game, "round", play)
    assert train("--steps", 20, "--sample-every", 5, "--out", tmp_path / "a") == 0
    assert "WARNING: step 10: cannot write" in capsys.readouterr().out
    assert (tmp_path / "a/checkpoints/step-00000020.npz").exists() and not (
        tmp_path / "away"
    ).exists()
    assert len((tmp_path / "a/metrics.csv").read_text().splitlines()) == 21


# -- files from strangers ------------------------------------------------------------------------


@pytest.mark.parametrize("count", (300, long_form("mutants")))
def test_mutated_checkpoints_and_configs(count, many, tally, tmp_path, few_pictures):
    """Whatever the bytes: success, or RunError; quickly, and without a file more."""
    count = many(count)
    assert train("--steps", 1, "--out", tmp_path / "a") == 0
    arrays = {
        "0.W": np.arange(6, dtype=np.float32).reshape(2, 3),
        "json": np.frombuffer(b'{"step": 1}', np.uint8),
    }
    save_arrays(tmp_path / "small.npz", arrays)
    good, config = (tmp_path / "small.npz").read_bytes(), (tmp_path / "a/config.json").read_bytes()
    before, rng, slowest = set(content(tmp_path)), random.Random(1), 0.0
    with little_memory():
        for _ in range(count):
            start = time.perf_counter()
            (tmp_path / "small.npz").write_bytes(mutated(good, rng))
            try:
                load_arrays(tmp_path / "small.npz")
                tally["checkpoints read"] += 1
            except mg.RunError as error:
                assert "\n" not in str(error)
                tally["RunError of a checkpoint"] += 1
            (tmp_path / "a/config.json").write_bytes(mutated(config, rng))
            try:
                minigan.training.loop.Run(tmp_path / "a").load_config()
                tally["configurations read"] += 1
            except mg.RunError as error:
                assert "\n" not in str(error)
                tally["RunError of a configuration"] += 1
            slowest = max(slowest, time.perf_counter() - start)
    assert set(content(tmp_path)) == before and slowest < 2
    assert len(tally) == 4  # success is among them, too


def test_nothing_of_a_run_is_pickled(tmp_path, few_pictures, monkeypatch):
    import pickle

    def refuse(*arguments, **options):
        raise AssertionError("pickle")

    for name in ("dump", "dumps", "load", "loads", "Pickler", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    assert train("--steps", 2, "--out", tmp_path / "a") == 0
    assert main(["train", "--resume", str(tmp_path / "a"), "--steps", "3"]) == 0
    assert main(["sample", str(tmp_path / "a"), "--out", str(tmp_path / "s.png")]) == 0


# -- numbers that go wrong -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "player, name, place",
    (
        ("D", "2.W", "D.2 (Conv2d 4->8, k4 s2 p1): its W is no longer finite"),
        ("G", "2.gain", "G.2 (BatchNorm 16): its gain is no longer finite"),
        ("D", "12.b", "D.12 (Linear 144->1): its b is no longer finite"),
    ),
)
@pytest.mark.parametrize("value", (np.nan, np.inf))
def test_numbers_that_are_none_stop_the_run_and_name_the_layer(
    player, name, place, value, tmp_path, capsys, monkeypatch, few_pictures
):
    """A parameter breaks in step 7; the losses are read in step 10; the message is about step 7 and the layer."""
    round_ = minigan.training.loop.Game.round
    monkeypatch.setattr(minigan.training.loop.Game, "steps_played", 0, raising=False)

    def play(self, batches):
        if (
            batches.epoch == 0 and batches.position == 6
        ):  # so it happens again when the steps are repeated
            self.nets[player].params[name].reshape(-1)[1 % self.nets[player].params[name].size] = (
                value
            )
        return round_(self, batches)

    monkeypatch.setattr(minigan.training.loop.Game, "round", play)
    assert train("--steps", 20, "--sample-every", 5, "--out", tmp_path / "a") == 2
    error = capsys.readouterr().err
    assert error.startswith("minigan: error: step 7: loss_") and error.count("\n") == 1
    assert f"first in {place}. The checkpoint of step 5 is kept" in error and "--lr-d" in error
    assert sorted(path.name for path in (tmp_path / "a/checkpoints").iterdir()) == [
        "step-00000000.npz",
        "step-00000005.npz",
    ]
    assert (tmp_path / "a/metrics.csv").read_text().splitlines()[-1].startswith("7,")


def test_an_overflow_within_a_layer_is_found(tmp_path, capsys, few_pictures):
    """A learning rate far too large: some product overflows, and the message says in which layer."""
    far_too_large = ("--preset", "shibuya-fnn", "--lr-d", 1, "--lr-g", 1, "--beta1", 0.99)
    assert train("--steps", 400, "--sample-every", 50, *far_too_large, "--out", tmp_path / "a") in (
        0,
        2,
    )
    error = capsys.readouterr().err
    assert not error or "first in " in error


def rows_of(losses, first=1):
    return [
        {"step": first + i, "loss_d_real": loss / 2, "loss_d_fake": loss / 2}
        for i, loss in enumerate(losses)
    ]


def two_classes():
    """Half of the pictures bright above, half below."""
    images = np.random.default_rng(0).integers(0, 40, (200, 8, 8, 1), np.uint8)
    images[::2, :4] += 200
    images[1::2, 4:] += 200
    return minigan.data.Dataset("two", images, np.arange(200) % 2, ("above", "below"), "0", None)


def test_alarms():
    data = two_classes()
    monitor = CollapseMonitor(data)
    rows = rows_of([1.0], GRACE)
    assert monitor.look(rows, data.images[:64]) == [] and rows[0]["sample_spread"] == pytest.approx(
        1, abs=0.1
    )
    assert rows[0]["top_class"] == pytest.approx(0.5, abs=0.05)
    rows = rows_of([1.0], GRACE)
    (line,) = monitor.look(rows, data.images[:64:2])
    assert "100% of the samples are like class 'above'" in line and rows[0]["top_class"] == 1
    same = np.repeat(data.images[:1], 64, axis=0)
    rows = rows_of([1.0], GRACE)
    (line,) = monitor.look(rows, same)  # the class is not said a second time
    assert "look alike" in line and rows[0]["sample_spread"] < ALIKE
    assert CollapseMonitor(data).look(rows_of([1.0], GRACE - 1), same) == []  # too early to tell


def test_the_alarm_for_a_discriminator_that_has_won():
    monitor = CollapseMonitor(dataset(two_classes().images))
    assert monitor.look(rows_of([0.001] * (STEPS - 1)), None) == []
    assert monitor.look(rows_of([0.5]), None) == []  # back in the game
    assert monitor.look(rows_of([0.001] * (STEPS - 1)), None) == []
    (line,) = monitor.look(rows_of([0.001]), None)
    assert "it has won" in line
    assert monitor.look(rows_of([0.001] * STEPS), None) == []  # once


def test_an_alarm_puts_a_checkpoint_aside(tmp_path, capsys, monkeypatch, few_pictures):
    monkeypatch.setattr("minigan.training.collapse.GRACE", 6)
    assert train("--steps", 12, "--sample-every", 3, "--lr-g", 1e-6, "--out", tmp_path / "a") == 0
    out = capsys.readouterr().out
    assert out.count("the samples look alike") == 1 and "WARNING: step 6: " in out
    names = {path.name for path in (tmp_path / "a/checkpoints").iterdir()}
    assert names == {"kept-step-00000003.npz", "step-00000009.npz", "step-00000012.npz"}
    assert main(["train", "--resume", str(tmp_path / "a"), "--steps", "13"]) == 0


# -- a long run ----------------------------------------------------------------------------------


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs /proc")
@pytest.mark.parametrize("steps", (600, long_form("run-steps")))
def test_memory_and_handles_of_a_long_run(steps, many, tally, tmp_path):
    steps = many(steps)
    code = (
        "import os, sys\n"
        "import minigan.training.loop\n"
        "from minigan.cli.main import main\n"
        "from tests.pictures import noise\n"
        "minigan.training.loop.load_dataset = noise(100)\n"
        "seen, round_ = {}, minigan.training.loop.Game.round\n"
        "def look():\n"
        "    resident = int(open('/proc/self/statm').read().split()[1]) * os.sysconf('SC_PAGE_SIZE')\n"
        "    return resident, len(os.listdir('/proc/self/fd'))\n"
        "def play(self, batches):\n"
        "    seen['n'] = seen.get('n', 0) + 1\n"
        "    if seen['n'] in (200, int(sys.argv[1])): seen[seen['n']] = look()\n"
        "    return round_(self, batches)\n"
        "minigan.training.loop.Game.round = play\n"
        "code = main(['train', *sys.argv[2:], '--steps', sys.argv[1]])\n"
        "(a, x), (b, y) = seen[200], seen[int(sys.argv[1])]\n"
        "print(code, b - a, y - x)\n"
    )
    options = [*SMALL, "--sample-every", "100", "--threads", "2", "--out", str(tmp_path / "a")]
    result = subprocess.run(
        [sys.executable, "-c", code, str(steps), *options], capture_output=True, text=True, cwd=ROOT
    )
    exit_code, grown, handles = map(int, result.stdout.splitlines()[-1].split())
    tally["steps"], tally["bytes more after them than after 200"] = steps, grown
    assert exit_code == 0 and handles == 0
    assert grown < 5 * 2**20, f"{grown / 2**20:.1f} MiB more"
