"""The command `train`: from the options to the report."""

import json
import sys

import pytest

from minigan.cli import train as train_command
from minigan.data import load_dataset
from tests.support.commands import files, refused, run
from tests.support.pictures import noise
from tests.support.training_runs import open_game_module

SMALL = ("--width", 4, "--batch-size", 16, "--z-dim", 8, "--threads", 1)


@pytest.fixture(autouse=True)
def few_images(monkeypatch):
    monkeypatch.setattr(open_game_module, "load_dataset", noise(40))


@pytest.fixture
def without_report(monkeypatch):
    monkeypatch.setattr(train_command, "finish", lambda run, log: None)


def test_a_run_and_its_report(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # the curves are tested elsewhere
    assert run("train", *SMALL, "--steps", 2, "--out", tmp_path / "a") == 0
    *_, done, curves, made = capsys.readouterr().out.splitlines()
    assert done.startswith("done: ") and curves.startswith("losses.png was left out: plots need")
    assert made == f"to look at: progress.gif, report.html in {tmp_path / 'a'}"
    options = json.loads((tmp_path / "a/config.json").read_text())["options"]
    assert (options["width"], options["steps"], options["batch_size"]) == (4, 2, 16)
    page = (tmp_path / "a/report.html").read_text("utf-8")
    assert "ConvTranspose2d 8-&gt;4, k4 s2 p1" in page and "D: input" in page


def test_a_resumed_run(tmp_path, capsys, without_report):
    out = tmp_path / "a"
    assert run("train", *SMALL, "--steps", 1, "--out", out) == 0
    before = files(out)
    line = refused(capsys, "train", "--resume", out, "--width", 8, "--steps", 2)
    assert "--width 8 does not fit the run, which has 4: leave it out to resume" in line
    assert f"{out} exists: continue with --resume {out}" in refused(
        capsys, "train", *SMALL, "--out", out
    )
    assert files(out) == before
    assert run("train", "--resume", out, "--width", 4, "--steps", 2) == 0  # the same width is fine
    assert (out / "checkpoints/step-00000002.npz").exists()
    assert run("train", "--resume", out) == 0
    assert "nothing to do: it has 2 steps" in capsys.readouterr().out


def test_a_run_like_another(tmp_path, without_report, capsys):
    first, second = tmp_path / "a", tmp_path / "b"
    assert run("train", *SMALL, "--loss", "hinge", "--steps", 2, "--out", first) == 0
    assert run("train", "--like", first, "--epochs", 1, "--limit", 16, "--out", second) == 0
    of_first, of_second = (
        json.loads((folder / "config.json").read_text())["options"] for folder in (first, second)
    )
    assert of_second == of_first | {"steps": None, "epochs": 1, "limit": 16}
    line = refused(capsys, "train", "--like", first, "--resume", second)
    assert "--like starts another run" in line


def test_a_folder_without_a_name_is_a_mistake(capsys, monkeypatch):
    """As of a variable that is not set: it is not the current folder."""
    line = refused(capsys, "train", *SMALL, "--images", "")
    assert "the name of a file or folder is empty" in line


def test_pictures_come_from_one_place(tmp_path, capsys):
    line = refused(capsys, "train", *SMALL, "--images", tmp_path, "--data-dir", tmp_path)
    assert "--data-dir is for data sets: give the pictures with --images alone" in line


def test_a_dry_run_writes_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("train", *SMALL, "--dry-run") == 0
    out = capsys.readouterr().out
    assert "ConvTranspose2d 8->4, k4 s2 p1" in out and "nothing was written" in out
    assert list(tmp_path.iterdir()) == []


def test_damaged_images_are_one_line_and_nothing_replaces_them(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(open_game_module, "load_dataset", load_dataset)
    header = b"\x00\x00\x08\x03\x00\x00\xea\x60\x00\x00\x00\x1c\x00\x00\x00\x1c"  # MNIST's
    (tmp_path / "train-images-idx3-ubyte").write_bytes(header + bytes(1000))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(b"\x00\x00\x08\x01\x00\x00\xea\x60")
    before = files(tmp_path)
    for name in ("mnist", "auto"):  # a folder that was named is not replaced by Strokes
        options = ["--dataset", name, "--data-dir", tmp_path, "--out", tmp_path / "a"]
        line = refused(capsys, "train", *options)
        assert str(tmp_path / "train-images-idx3-ubyte") in line
    assert files(tmp_path) == before


def test_cupy_without_cupy(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    line = refused(capsys, "train", "--backend", "cupy", "--out", tmp_path / "a")
    assert "CuPy is not installed" in line and "pip install" in line
    assert not (tmp_path / "a").exists()
