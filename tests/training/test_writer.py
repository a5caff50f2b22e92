"""Files are written while a GPU goes on: the same files, in the same order, and nothing is lost.

The GPU is the stand-in for CuPy; a thread writes there as on a real one.
"""

import errno
import os
import signal
import sys
import threading

import pytest

import minigan as mg
from minigan.backends.gpu import gemm
from minigan.training import loop
from minigan.training.game import Game
from minigan.training.progress import Interrupted
from minigan.training.writer import MOST_WAITING, Writer
from tests.support.long_form import slow
from tests.support.strict_cupy import make_module
from tests.support.training_runs import comparable, content, metrics, names, resume, train

GPU = dict(backend="cupy", threads=None, lr_g=2e-4, lr_d=2e-4)


@pytest.fixture
def stand_in(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", make_module())
    monkeypatch.setattr(gemm, "WORKSPACE", 1024)
    return sys.modules["cupy"]


def in_writer():
    return threading.current_thread().name.startswith("minigan-writer")


def no_thread_is_left():
    return not any(thread.name.startswith("minigan-writer") for thread in threading.enumerate())


def assert_same_run(a, b):
    """The same files with the same bytes, but for times."""
    found, expected = content(a), content(b)
    assert found.keys() == expected.keys()
    for name in found.keys() - {"metrics.csv", "config.json"}:
        assert found[name] == expected[name], name
    assert comparable(metrics(a)) == comparable(metrics(b))


# -- the writer alone


@pytest.mark.parametrize("aside", (False, True))
def test_all_is_written_in_order_and_failures_are_reported(aside):
    done, lines = [], []

    def write(number):
        done.append((number, in_writer()))
        if number in (2, 3):
            raise mg.RunError("full")

    with Writer(aside, lines.append) as writer:
        for number, what in enumerate(("rows", "samples", "checkpoint")):
            writer.write(what, 7, write, number)
        writer.look(wait=True)
        assert writer.failed == {"checkpoint": "full"}
        assert writer.written == {"rows": 7, "samples": 7}
        for number in (3, 4):
            writer.write("checkpoint", 5 + number, write, number)
    assert done == [(number, aside) for number in range(5)]
    assert lines == ["WARNING: step 7: full; training goes on, and tries again"]  # once
    assert writer.failed == {} and writer.written["checkpoint"] == 9 and no_thread_is_left()


def test_what_could_be_written_later_is_not_missing():
    """Also if the failure is reported only then."""
    go, lines = threading.Event(), []

    def fail():
        go.wait(20)
        raise mg.RunError("full")

    with Writer(True, lines.append) as writer:
        writer.write("rows", 1, fail)
        writer.write("rows", 2, go.is_set)
        assert lines == []
        go.set()
    assert len(lines) == 1 and writer.failed == {} and writer.written == {"rows": 2}


@pytest.mark.parametrize("aside", (False, True))
def test_a_failure_of_another_kind_is_raised(aside):
    with pytest.raises(ZeroDivisionError), Writer(aside, print) as writer:
        writer.write("rows", 1, divmod, 1, 0)
        writer.look(wait=True)
    assert no_thread_is_left()


def test_a_disk_that_does_not_answer_stops_the_steps_before_memory_is_full():
    answer, lines = threading.Event(), []
    with Writer(True, lines.append) as writer:
        for step in range(MOST_WAITING):
            writer.write("rows", step, answer.wait, 20)
        threading.Timer(0.05, answer.set).start()
        writer.write("rows", MOST_WAITING, answer.wait, 20)  # returns after the answer
        assert answer.is_set() and not writer.pending


# -- whole runs


@pytest.mark.parametrize("every", (slow(1), 2))
def test_the_files_are_those_of_a_run_that_waits(every, stand_in, tmp_path, monkeypatch):
    """Written in the same order; also if the next ones follow after each step."""
    order, orders, replace = [], [], os.replace

    def note(source, target):
        order.append((os.path.relpath(target, os.path.dirname(source)), in_writer()))
        replace(source, target)

    monkeypatch.setattr(os, "replace", note)
    for name, kind in (("aside", Writer), ("waits", lambda aside, log: Writer(False, log))):
        monkeypatch.setattr(loop, "Writer", kind)
        order.clear()
        train(tmp_path / name, **GPU, steps=5, sample_every=every, ema=0.9)
        orders.append([target for target, _ in order])
        assert any(thread for _, thread in order) == (name == "aside")
    assert orders[0] == orders[1] and no_thread_is_left()
    assert_same_run(tmp_path / "aside", tmp_path / "waits")


def test_a_slow_disk_does_not_stop_the_steps(stand_in, tmp_path, monkeypatch):
    """The first flush of the files of step 4 ends when two more steps are done."""
    play, steps, went_on, waited = Game.round, [], threading.Event(), []

    def count(self, batches):
        result = play(self, batches)
        steps.append(1)
        if len(steps) == 6:
            went_on.set()
        return result

    def slow_fsync(descriptor):
        if in_writer() and not waited:
            waited.append(went_on.wait(20))

    monkeypatch.setattr(Game, "round", count)
    monkeypatch.setattr(os, "fsync", slow_fsync)
    train(tmp_path / "a", **GPU, steps=7, sample_every=4)
    assert waited == [True] and len(steps) == 7


@pytest.mark.slow
def test_at_most_one_state_is_in_memory(stand_in, tmp_path, monkeypatch):
    """Also if the disk is slower than the steps, and if it is full."""
    most, replace = [], os.replace
    for count, full in ((1, False), (6, False), (6, True)):
        stand_in.device.most_pinned = 0

        def write(source, target, full=full):
            if full and in_writer() and target.name != "metrics.csv":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            replace(source, target)

        monkeypatch.setattr(os, "replace", write)
        try:
            train(tmp_path / f"{count} {full}", **GPU, steps=count, sample_every=1)
        except mg.TrainingError:
            assert full
        most.append(stand_in.device.most_pinned)
    assert most[1] < 1.1 * most[0] and most[2] < 1.1 * most[0], most


def test_a_full_disk_is_reported_and_what_is_missing_is_written_later(
    stand_in, tmp_path, monkeypatch
):
    """The grid and the checkpoint of step 8 fail; that of step 10 is written instead."""
    full, lines = tmp_path / "full", []
    play, replace, steps, failures = Game.round, os.replace, [], []
    failed = threading.Event()

    def fail_twice(source, target):
        if in_writer() and len(failures) < 2:
            failures.append(target.name)
            if len(failures) == 2:
                failed.set()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    def count(self, batches):
        steps.append(1)
        assert len(steps) < 10 or failed.wait(20)
        return play(self, batches)

    monkeypatch.setattr(os, "replace", fail_twice)
    monkeypatch.setattr(Game, "round", count)
    train(full, lines.append, **GPU, steps=12, sample_every=8)
    assert failures == ["step-00000008.png", "generator.npz"]
    for name in ("samples/step-00000008.png", "generator.npz"):
        problem = f"WARNING: step 8: cannot write {full / name}: No space left on device"
        assert sum(line.startswith(problem) for line in lines) == 1
    assert names(full / "checkpoints") == ["step-00000010.npz", "step-00000012.npz"]
    assert names(full / "samples") == ["step-00000000.png", "step-00000012.png"]
    assert len(metrics(full)) == 12


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs /proc")
@pytest.mark.parametrize(
    "file, message",
    (
        ("generator.npz", "the last good checkpoint is of step 4: then resume with"),
        pytest.param("metrics.csv", "the checkpoint of step 6 is written", marks=pytest.mark.slow),
    ),
)
def test_an_end_that_cannot_be_saved_is_an_error(file, message, stand_in, tmp_path, monkeypatch):
    """With exit code 1, and no file lost."""
    folder, fsync, steps, play = tmp_path / "a", os.fsync, [], Game.round
    rows = []  # descriptors of metrics.csv, whose flush is the first of a step

    def count(self, batches):
        steps.append(1)
        return play(self, batches)

    def fail(descriptor):
        name = os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))
        if in_writer() and len(steps) == 6 and name.startswith((file, f".{file}")):
            rows.append(name)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return fsync(descriptor)

    monkeypatch.setattr(Game, "round", count)
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(mg.TrainingError, match=message):
        train(folder, **GPU, steps=6, sample_every=4)
    assert rows
    kept = ["step-00000004.npz", "step-00000006.npz"][: 1 + (file == "metrics.csv")]
    assert names(folder / "checkpoints")[-len(kept) :] == kept
    assert not [name for name in content(folder) if name.endswith(".tmp")] and no_thread_is_left()
    monkeypatch.setattr(os, "fsync", fsync)
    resume(folder, steps=8)
    assert len(metrics(folder)) == 8


def test_a_loss_that_is_not_finite_waits_for_the_checkpoint(stand_in, tmp_path, monkeypatch):
    """It is found while that of step 4 is written, which is then the newest."""
    read, replace, found, steps = Game.read, os.replace, threading.Event(), []

    def broken(self, result):
        steps.append(1)
        if len(steps) == 8:
            threading.Timer(0.2, found.set).start()
        return read(self, result) | ({"loss_g": float("nan")} if len(steps) > 4 else {})

    def write(source, target):
        assert not in_writer() or target.name != "step-00000004.npz" or found.wait(20)
        replace(source, target)

    monkeypatch.setattr(Game, "read", broken)
    monkeypatch.setattr(os, "replace", write)
    monkeypatch.setattr(loop, "locate_nan", lambda game, batches, steps: f" after {steps} step")
    with pytest.raises(
        mg.TrainingError, match=r"nan after 1 step\. The checkpoint of step 4 is kept"
    ):
        train(tmp_path / "a", **GPU, steps=8, sample_every=4)
    assert len(metrics(tmp_path / "a")) == 5 and no_thread_is_left()


def test_a_signal_waits_for_what_is_being_written(stand_in, tmp_path, monkeypatch):
    """It comes while the files of step 4 are written, and step 5 is saved after them."""
    folder, sent, replace, lines = tmp_path / "a", threading.Event(), os.replace, []
    play, steps = Game.round, []

    def count(self, batches):
        steps.append(1)
        if len(steps) == 5:
            os.kill(os.getpid(), signal.SIGTERM)
            sent.set()
        return play(self, batches)

    def write(source, target):
        if in_writer():
            assert sent.wait(20)
        replace(source, target)

    monkeypatch.setattr(Game, "round", count)
    monkeypatch.setattr(os, "replace", write)
    with pytest.raises(Interrupted) as caught:
        train(folder, lines.append, **GPU, steps=20, sample_every=4)
    assert caught.value.exit_code == 143 and no_thread_is_left()
    assert any(line.startswith("stopped after step 5, everything is saved") for line in lines)
    assert names(folder / "checkpoints") == ["step-00000004.npz", "step-00000005.npz"]
    assert [row["step"] for row in metrics(folder)] == ["1", "2", "3", "4", "5"]


def test_on_step_finds_the_files_of_its_step(stand_in, tmp_path):
    seen = []

    def look(row, samples):
        step = row["step"]
        rows = [int(each["step"]) for each in metrics(tmp_path / "a")]
        files = [*(tmp_path / "a").glob(f"*/step-{step:08d}.*")]
        seen.append((step, samples is not None, len(files), step in rows))

    loop.train(dict(GPU, width=4, batch_size=16, steps=5, sample_every=2), out=tmp_path / "a",
               on_step=look, log=lambda line: None)  # fmt: skip
    assert seen == [
        (step, step in (2, 4, 5), 2 * (step in (2, 4, 5)), True) for step in range(1, 6)
    ]


def test_an_exception_of_on_step_leaves_no_thread(stand_in, tmp_path):
    def fail(row, samples):
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        loop.train(dict(GPU, width=4, batch_size=16, steps=9, sample_every=3), out=tmp_path / "a",
                   on_step=fail, log=lambda line: None)  # fmt: skip
    assert no_thread_is_left()
    assert names(tmp_path / "a/checkpoints") == ["step-00000000.npz", "step-00000003.npz"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("operation", (5, *(slow(each) for each in (0, 1, 2, 3, 4, 6, 7, 8, 9))))
def test_a_kill_while_the_thread_writes_loses_nothing(operation, stand_in, tmp_path, monkeypatch):
    """At each flush and each renaming of the files of step 4; training is some steps further."""
    killed, whole, calls = tmp_path / "killed", tmp_path / "whole", []
    child = os.fork()
    if child == 0:
        try:
            for name in ("fsync", "replace"):
                original = getattr(os, name)

                def call(*arguments, original=original):
                    if in_writer():
                        calls.append(1)
                        if len(calls) == operation + 1:
                            os.kill(os.getpid(), signal.SIGKILL)
                    return original(*arguments)

                setattr(os, name, call)
            train(killed, **GPU, steps=6, sample_every=4)
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    resume(killed)
    train(whole, **GPU, steps=6, sample_every=4)
    assert_same_run(killed, whole)
