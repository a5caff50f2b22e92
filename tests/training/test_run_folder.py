"""The folder of a run: made once, locked, its rows kept, damage reported in one line."""

import errno
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import minigan as mg
from minigan import training
from minigan.training import run_folder
from minigan.training.config import new_config
from minigan.training.run_folder import COLUMNS, Run
from tests.support.training_runs import content, metrics, names, resume, train

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(tmp_path):
    """A new run in tmp_path/run."""
    return Run(tmp_path / "run").create(new_config({"width": 4}), {"note": "hello"})


def test_a_new_folder(run):
    assert names(run.folder) == ["checkpoints", "config.json", "lock", "metrics.csv", "samples"]
    assert run.metrics_file.read_text() == ",".join(COLUMNS) + "\n"
    config, metadata = run.load_config()
    assert config == new_config({"width": 4}) and metadata == {"note": "hello"}


def test_the_record_stays_until_the_new_one_is_whole(run, monkeypatch):
    before = content(run.folder)
    monkeypatch.setattr(os, "replace", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run.save_config(new_config({"width": 4}), {"note": "new"})
    assert content(run.folder) == before


def test_nothing_is_overwritten(run, tmp_path):
    config = new_config({})
    with pytest.raises(mg.RunError, match=r"run exists: continue with --resume .*run, or choose"):
        Run(run.folder).create(config, {})
    for name in ("run-2", "run-3"):
        other = Run(run.folder).create(config, {}, another_name=True)
        assert other.folder == tmp_path / name
    (tmp_path / "file").write_text("mine")
    for out in ("file", "file/run"):
        with pytest.raises(mg.RunError):
            Run(tmp_path / out).create(config, {})
    with pytest.raises(mg.RunError):  # another name does not help
        Run(tmp_path / "file/run").create(config, {}, another_name=True)
    assert (tmp_path / "file").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    Run(tmp_path / "empty").create(config, {})  # an empty folder is taken


def test_of_several_processes_that_create_a_run_one_succeeds(tmp_path):
    """And the folder has its config. Locks are of open files: threads stand in for processes."""
    for i in range(10):
        folder, outcomes, barrier = tmp_path / str(i), {}, threading.Barrier(4)

        def create(seed, folder=folder, outcomes=outcomes, barrier=barrier):
            barrier.wait()
            try:
                outcomes[seed] = Run(folder).create(new_config({"seed": seed}), {})
            except mg.RunError as error:
                outcomes[seed] = str(error)

        threads = [threading.Thread(target=create, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (winner,) = (seed for seed, outcome in outcomes.items() if isinstance(outcome, Run))
        assert Run(folder).load_config()[0].seed == winner
        for seed in set(outcomes) - {winner}:
            assert re.search("another process is training|exists: continue", outcomes[seed])


def test_a_folder_that_cannot_be_listed_is_taken(tmp_path, monkeypatch):
    """As one of mode 300 is: its files can still be made and opened by their names."""

    def listdir(folder):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "listdir", listdir)
    (tmp_path / "a").mkdir()
    train(tmp_path / "a", steps=2)
    monkeypatch.undo()
    assert (tmp_path / "a/checkpoints/step-00000002.npz").exists()
    monkeypatch.setattr(os, "listdir", listdir)
    with pytest.raises(mg.RunError, match="exists: continue with"):
        train(tmp_path / "a", steps=2)


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the root user may write anywhere"
)
def test_no_permission(tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(mg.RunError, match="Permission denied: choose another --out"):
        Run(tmp_path / "locked/run").create(new_config({}), {})


def test_one_process_trains_in_a_folder(tmp_path):
    out = tmp_path / "a"
    train(out, steps=2)
    code = (
        "import sys, time; from minigan.training.run_folder import Run\n"
        "with Run(sys.argv[1]).locked(): print('locked', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as other:
        assert other.stdout.readline() == b"locked\n"
        before = content(out)
        with pytest.raises(mg.RunError, match=f"another process is training in {out}: wait for"):
            resume(out, steps=3)
        assert content(out) == before
        other.kill()
    resume(out, steps=3)  # a crash leaves no lock behind


@pytest.mark.parametrize(
    "damage",
    (b"", b"{", b"[]", b"3", b'{"options": {}}', b'{"options": {"width": "wide"}}', b"\xff\xfe"),
)
def test_a_damaged_config(damage, run):
    run.config_file.write_bytes(damage)
    with pytest.raises(mg.RunError, match=rf"{run.config_file} is damaged") as caught:
        training.train({}, resume=run.folder, log=print)
    assert "\n" not in str(caught.value) and run.config_file.read_bytes() == damage


@pytest.mark.parametrize("text", ('{"model": 1}', "[1]"))
def test_the_config_of_another_program(text, tmp_path):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(mg.RunError, match=r"not written by minigan \(it holds no options\)"):
        Run(tmp_path).load_config()


def test_what_is_not_the_folder_of_a_run(tmp_path):
    for folder, why in ((tmp_path, "has no config.json"), (tmp_path / "none", "does not exist")):
        with pytest.raises(mg.RunError, match=f"is not the folder of a run: it {why}"):
            Run(folder).load_config()


# -- rows ----------------------------------------------------------------------------------------


def row(step, **more):
    return {"step": step, "epoch": 1, "loss_g": step / 2, **more}


def test_rows_are_appended(run):
    with run.metrics() as append:
        append([row(1), row(2)])
        append([row(3, frechet=1.5)], sync=True)
    found = metrics(run.folder)
    assert [each["step"] for each in found] == ["1", "2", "3"]
    assert [each["frechet"] for each in found] == ["", "", "1.5"]


def test_rows_that_could_not_be_written_are_written_with_the_next_ones(run, monkeypatch):
    """A full disk takes a part of a row: it is cut off again."""

    class FullDisk:
        def __init__(self, file):
            self.file, self.full = file, False

        def __getattr__(self, name):
            return getattr(self.file, name)

        def __enter__(self):
            return self

        def __exit__(self, *exception):
            self.file.close()

        def write(self, data):
            if self.full:
                return self.file.write(data[: len(data) // 2])
            return self.file.write(data)

    disk = FullDisk(open(run.metrics_file, "ab", buffering=0))
    monkeypatch.setattr("builtins.open", lambda *arguments, **options: disk)
    with run.metrics() as append:
        append([row(1)])
        disk.full = True
        good = os.stat(run.metrics_file).st_size
        for step in (2, 3):
            message = f"cannot write {run.metrics_file}: {os.strerror(errno.ENOSPC)}: free some"
            with pytest.raises(mg.RunError, match=message):
                append([row(step)])
            assert os.stat(run.metrics_file).st_size == good
        disk.full = False
        append([row(4)])
    monkeypatch.undo()
    assert [each["step"] for each in metrics(run.folder)] == ["1", "2", "3", "4"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_run_whose_rows_cannot_be_written_ends_with_an_error(tmp_path, monkeypatch):
    out = tmp_path / "a"
    train(out, steps=2)

    def open_file(path, mode="rb"):
        full = path.name == "metrics.csv" and mode == "ab"
        return open("/dev/full", mode, buffering=0) if full else open(path, mode)

    monkeypatch.setattr(run_folder, "open_regular", open_file)
    end = "free some space; the checkpoint of step 4 is written"
    with pytest.raises(mg.RunError, match=f"cannot write {out / 'metrics.csv'}: No space.*{end}"):
        resume(out, steps=4)
    assert (out / "checkpoints/step-00000004.npz").exists()


def test_rows_after_the_checkpoint_are_dropped(run):
    old = "\n".join(["step,epoch,loss_d_real", "1,1,0.5", "2,1,0.25", "x,1,1", "3,1,1", "4"])
    run.metrics_file.write_text(old)
    temporary = run.samples / ".step-1.png-abc.tmp"
    temporary.write_text("")
    run.forget_after(2)
    rows = metrics(run.folder)
    assert [each["step"] for each in rows] == ["1", "2"]
    assert tuple(rows[0]) == COLUMNS and rows[1]["loss_d_real"] == "0.25"
    assert not temporary.exists()
    run.metrics_file.unlink()
    run.forget_after(2)
    assert metrics(run.folder) == []


def test_a_row_cut_short_is_no_earlier_step(run):
    run.metrics_file.write_text("step,epoch\n1,1\n20,1\n2")  # of step 21
    run.forget_after(20)
    assert [each["step"] for each in metrics(run.folder)] == ["1", "20"]


def test_what_came_after_a_checkpoint_does_not_come_back(tmp_path):
    """One that could not be read for a moment: the run has gone on from the one before."""
    out = tmp_path / "a"
    train(out, steps=6, sample_every=2)
    newest = out / "checkpoints/step-00000006.npz"
    content = newest.read_bytes()
    newest.write_bytes(b"")
    resume(out, steps=5, sample_every=5)
    grids = [f"step-{step:08d}.png" for step in (0, 2, 4, 5)]
    assert sorted(path.name for path in (out / "samples").iterdir()) == grids
    aside = out / "checkpoints/passed-step-00000006.npz"
    assert aside.exists() and not newest.exists()
    aside.write_bytes(content)
    lines = resume(out, steps=7)
    assert any("at step 5" in line for line in lines)
    assert [each["step"] for each in metrics(out)] == list("1234567")


def test_a_file_system_that_cannot_flush(tmp_path, monkeypatch):
    def cannot(descriptor):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "fsync", cannot)
    lines = train(tmp_path / "a", steps=2)
    assert not any("cannot write" in line for line in lines or [])


def test_strange_metrics_do_no_harm(tmp_path):
    out = tmp_path / "a"
    train(out, steps=2)
    for damage, steps in ((None, 3), (b"step\xff\n\xb2,1\n1,1,0,0,0,0,0,0\n9,9\n", 4)):
        (out / "metrics.csv").unlink()
        if damage:
            (out / "metrics.csv").write_bytes(damage)
        resume(out, steps=steps)
        assert (out / "metrics.csv").read_text().splitlines()[-1].startswith(f"{steps},")


def test_rows_with_thousands_of_digits(tmp_path):
    train(tmp_path / "a", steps=2)
    with open(tmp_path / "a/metrics.csv", "a") as file:
        file.write(",".join(["9" * 5000] * len(COLUMNS)) + "\n" + "1" * 10**6)
    resume(tmp_path / "a", steps=3)
    assert [each["step"] for each in metrics(tmp_path / "a")] == ["1", "2", "3"]


@pytest.mark.parametrize("resumed", (None, 3, {}, "text"))
def test_a_list_of_resumptions_that_is_none(resumed, tmp_path):
    train(tmp_path / "a", steps=2)
    run = Run(tmp_path / "a")
    config, metadata = run.load_config()
    run.save_config(config, {**metadata, "resumed": resumed})
    resume(run.folder, steps=3)
    assert [entry["step"] for entry in run.load_config()[1]["resumed"]] == [2]


@pytest.mark.parametrize("name", ("samples", "checkpoints"))
def test_nothing_is_changed_behind_a_link(name, tmp_path):
    """A folder from somebody else may lead to the user's own files."""
    out, mine = tmp_path / "a", tmp_path / "mine"
    train(out, steps=4, sample_every=2)
    os.rename(out / name, mine)
    (mine / ".step-1-x.tmp").write_text("mine")
    (out / name).symlink_to(mine)
    before = content(mine)
    with pytest.raises(mg.RunError, match=f"{out / name} is a link: put the folder that it leads"):
        resume(out, steps=8)
    assert content(mine) == before


def test_grids_are_pictures(run):
    images = np.random.default_rng(0).integers(0, 256, (6, 5, 4, 3), np.uint8)
    run.samples.rmdir()  # it is made again
    run.save_samples(images, 7, (1, 6))
    run.save_real(images, (1, 6))
    for path in (run.samples / "step-00000007.png", run.real_file):
        with Image.open(path) as picture:
            assert picture.format == "PNG" and picture.size == (6 * 6 + 2, 5 + 4)
