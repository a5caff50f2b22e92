"""minigan from Python: train, load, and what they return."""

import builtins
import os
import runpy
import shutil
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import minigan as mg
from minigan.api import Samples
from minigan.cli.main import main
from minigan.training.config import new_config
from minigan.training.game import Game
from minigan.training.progress import Interrupted
from tests.support.pictures import noise
from tests.support.training_runs import open_game_module

SMALL = dict(preset="mnist", width=2, batch_size=4, z_dim=4, threads=1, log=lambda line: None)


@pytest.fixture(autouse=True)
def few_images(monkeypatch, tmp_path):
    monkeypatch.setattr(open_game_module, "load_dataset", noise(30))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(open_game_module, "load_dataset", noise(30))
        return mg.train(**SMALL, steps=4, out=tmp_path_factory.mktemp("runs") / "run")


def test_a_run_is_trained_and_described(run):
    assert run.config.width == 2 and (run.folder / "report.html").exists()
    assert "mnist" in repr(run) and str(run.folder) in repr(run)
    assert list(run.history.metrics["step"]) == [1, 2, 3, 4]
    assert repr(run.history).startswith(f"History of {run.folder}: 4 steps")


def test_samples_are_those_of_the_command_line(run, tmp_path):
    file = tmp_path / "samples.npy"
    assert main(["sample", str(run.folder), "--n", "5", "--seed", "3", "--out", str(file)]) == 0
    samples = run.sample(5, seed=3)
    assert isinstance(samples, Samples) and samples.dtype == np.uint8
    np.testing.assert_array_equal(samples, np.load(file))
    np.testing.assert_array_equal(mg.load(run.folder).sample(5, seed=3), samples)


def test_samples_and_histories_show_themselves(run):
    pytest.importorskip("matplotlib")
    for shown in (run.sample(2), run.history):
        assert shown._repr_png_().startswith(b"\x89PNG")
    samples = run.sample(2)
    for other in (samples[0], samples[:0], samples / 255, samples > 3, samples[..., [0, 0]]):
        assert other._repr_png_() is None  # no images: a notebook shows numbers


def test_a_history_without_steps_shows_why(run, tmp_path):
    shutil.copytree(run.folder, tmp_path / "new")
    (tmp_path / "new/metrics.csv").write_bytes(
        (run.folder / "metrics.csv").read_bytes().splitlines(True)[0]
    )
    history = mg.load(tmp_path / "new").history
    assert "has no rows yet" in repr(history) and history._repr_png_() is None


def test_a_run_is_explored(run, tmp_path):
    assert run.explore() == run.folder / "explorer.html"
    with np.errstate(all="raise"):
        other = run.explore(tmp_path / "page.html")
    assert other.read_bytes() == (run.folder / "explorer.html").read_bytes()
    with pytest.raises(mg.ConfigError, match=r"^out must end in .html, got"):
        run.explore(tmp_path / "page.txt")


def test_on_step_gets_every_row_and_the_grids():
    seen = []
    run = mg.train(
        **SMALL, steps=12, sample_every=5, on_step=lambda row, samples: seen.append((row, samples))
    )
    assert [row["step"] for row, _ in seen] == list(range(1, 13))
    metrics = run.history.metrics
    assert [row["loss_g"] for row, _ in seen] == pytest.approx(list(metrics["loss_g"]))
    shapes = {row["step"]: samples.shape for row, samples in seen if samples is not None}
    assert shapes == dict.fromkeys((5, 10, 12), (64, 28, 28, 1))


def test_what_on_step_does_with_its_row_changes_nothing():
    run = mg.train(**SMALL, steps=2, on_step=lambda row, samples: row.clear())
    assert list(run.history.metrics["step"]) == [1, 2]


def test_an_exception_of_on_step_ends_the_training_and_loses_nothing():
    def stop(row, samples):
        raise ValueError("enough")

    with pytest.raises(ValueError, match="enough"):
        mg.train(**SMALL, steps=30, sample_every=10, out="run", on_step=stop)
    assert list(mg.load("run").history.metrics["step"]) == list(range(1, 11))
    assert mg.train(resume="run", log=SMALL["log"]).history.metrics["step"][-1] == 30


def test_a_run_is_resumed_and_repeated(run):
    first = mg.train(**SMALL, steps=2, out="first")
    with pytest.raises(mg.ConfigError, match="unknown option 'step': did you mean steps"):
        mg.train(resume=first, step=4)
    first = mg.train(resume=first, steps=4, log=SMALL["log"])  # a run is its folder, too
    assert list(first.history.metrics["step"]) == [1, 2, 3, 4]
    np.testing.assert_array_equal(mg.load("first").sample(3), run.sample(3))
    again = mg.train(like=run.folder, log=SMALL["log"])
    np.testing.assert_array_equal(again.sample(3), run.sample(3))


@pytest.mark.parametrize("in_notebook", (True, False))
def test_interrupting_saves_and_returns_the_run_in_a_notebook(in_notebook, monkeypatch):
    if in_notebook:
        monkeypatch.setattr(builtins, "__IPYTHON__", True, raising=False)

    def interrupt(row, samples):
        if row["step"] == 10:
            os.kill(os.getpid(), signal.SIGINT)

    def train():
        return mg.train(**SMALL, steps=1000, out="run", on_step=interrupt)

    if in_notebook:
        assert train().folder == mg.load("run").folder
    else:
        with pytest.raises(Interrupted):
            train()
    assert 10 < mg.load("run").history.metrics["step"][-1] < 1000


def test_mistakes_get_one_line(tmp_path):
    with pytest.raises(mg.ConfigError, match=r"^unknown option 'batchsize': did you mean batch_si"):
        mg.train(batchsize=3)
    with pytest.raises(mg.RunError, match="not the folder of a run"):
        mg.load(tmp_path)
    for folder in (None, 3):
        with pytest.raises(mg.RunError, match=f"^'{folder}' cannot be the name of a file"):
            mg.load(folder)
    with pytest.raises(mg.ConfigError, match="--resume"):
        mg.train(resume=tmp_path, out="other")
    for images in ([[1, 2]], np.ma.masked_array(np.zeros((4, 8, 8)), True)):  # its mask is not kept
        with pytest.raises(
            mg.ArrayTypeError, match="expected a NumPy array of numbers or texts, got"
        ):
            mg.train(images=images)


def test_a_label_and_a_seed_are_whole_numbers(run):
    with pytest.raises(mg.ConfigError, match="seed must be a whole number of at least 0, got -1"):
        run.sample(2, seed=-1)
    config = new_config(dict(preset="radford-mnist-conditional", width=2, batch_size=2, z_dim=3))
    game = Game(config)
    for label in (7.0, True, [7], 10, -1):
        with pytest.raises(mg.ConfigError, match="--label must be a whole number of at least 0"):
            game.sample(1, game.stream("sample"), label)
    assert game.sample(1, game.stream("sample"), np.int64(7)).shape == (1, 28, 28, 1)


def test_the_tensorboard_example(monkeypatch):
    written = []

    class SummaryWriter:
        def __init__(self, folder):
            self.folder = folder

        def __enter__(self):
            return self

        def __exit__(self, *exception):
            written.append(("closed", self.folder))

        def add_scalar(self, name, value, step):
            written.append((name, step))

        def add_images(self, name, images, step, dataformats):
            written.append((name, step, images.shape, dataformats))

    monkeypatch.setitem(sys.modules, "tensorboardX", SimpleNamespace(SummaryWriter=SummaryWriter))
    train = mg.train
    monkeypatch.setattr(mg, "train", lambda on_step, **_: train(**SMALL, steps=3, on_step=on_step))
    runpy.run_path(str(Path(__file__).parents[1] / "examples" / "tensorboard.py"))
    assert ("loss_g", 3) in written and written[-1] == ("closed", "runs/tensorboard")
    assert ("samples", 3, (64, 28, 28, 1), "NHWC") in written
