"""Runs: their folder, going on bit for bit, stopping, sampling. Small nets on a few random pictures."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import minigan.training.loop
from minigan.cli.main import main
from tests.pictures import dataset, noise
from tests.support.strict_cupy import make_module

ROOT = Path(__file__).parents[1]
SMALL = ["--width", "4", "--batch-size", "16", "--z-dim", "8"]


@pytest.fixture(autouse=True)
def few_pictures(monkeypatch):
    monkeypatch.setattr(minigan.training.loop, "load_dataset", noise(100))
    monkeypatch.setattr(
        minigan.training.loop, "finish", lambda run, log, tables: None
    )  # its own tests: test_report.py


def train(*options):
    return main(["train", *SMALL, *map(str, options)])


def rows(folder):
    with open(folder / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_folder_of_a_run(tmp_path, capsys):
    out = tmp_path / "runs" / "a"
    assert train("--steps", 9, "--sample-every", 4, "--out", out, "--seed", 5) == 0
    record = json.loads((out / "config.json").read_text())
    assert (
        record["options"]["steps"] == 9
        and record["options"]["seed"] == 5
        and record["options"]["width"] == 4
    )
    assert record["options"]["dataset"] == "mnist" and set(record["versions"]) >= {
        "minigan",
        "numpy",
        "python",
    }
    assert [int(row["step"]) for row in rows(out)] == list(range(1, 10))
    assert [int(row["epoch"]) for row in rows(out)] == [1] * 7 + [
        2
    ] * 2  # 100 pictures: 6 batches of 16 and one of 4
    for row in rows(out):
        at_sample = int(row["step"]) in (4, 8, 9)
        empty = {"frechet", "classifier_score", "classes_missed"} | (
            set() if at_sample else {"sample_spread", "top_class"}
        )
        assert {
            name for name, value in row.items() if value == ""
        } == empty  # nothing is evaluated where nobody asked for it
        assert all(np.isfinite(float(value)) for name, value in row.items() if name not in empty)
        assert 0 < float(row["d_x"]) < 1 and 0 < float(row["d_gz"]) < 1
    names = [path.name for path in sorted((out / "samples").iterdir())]
    assert names == [
        "step-00000000.png",
        "step-00000004.png",
        "step-00000008.png",
        "step-00000009.png",
    ]
    with Image.open(out / "samples" / names[-1]) as picture:
        assert picture.size == (8 * 30 + 2, 8 * 30 + 2) and picture.mode == "L"
    kept = [path.name for path in sorted((out / "checkpoints").iterdir())]
    assert kept == ["step-00000008.npz", "step-00000009.npz"]
    with np.load(out / "generator.npz", allow_pickle=False) as file:
        assert {"0.W", "2.gain", "2.running_mean"} <= set(file.files)
        assert all(file[name].dtype == np.float32 for name in file.files)
    lines = capsys.readouterr().out.splitlines()
    assert any("images/s" in line and "loss D" in line and "left" in line for line in lines)
    assert "\r" not in "".join(lines)


def test_fixed_z(tmp_path):
    """The grids of a run show the same z: with a learning rate next to 0 they are nearly the same picture."""
    assert train("--steps", 2, "--sample-every", 1, "--lr-g", 1e-12, "--out", tmp_path / "a") == 0
    pictures = [
        np.asarray(Image.open(p)).astype(int)
        for p in sorted((tmp_path / "a" / "samples").iterdir())
    ]
    assert (
        np.abs(pictures[1] - pictures[2]).mean()
        < np.abs(pictures[1] - pictures[1][::-1]).mean() / 4
    )


UNEQUAL = (
    "images_per_s",
    "sample_spread",
    "top_class",
)  # columns of a time, and of samples, which a stop brings too
PRESETS = (  # every rule, optimizer and kind of layer is in one of them
    "mnist",
    "fredriksson-mnist",
    "shibuya-mnist",
    "tensorflow-mnist",
    "radford-mnist-conditional",
    "jayathilaka-faces:sgd",
    "jayathilaka-faces:rmsprop",
)


@pytest.mark.parametrize("preset", PRESETS)
def test_going_on_gives_the_same_bytes(preset, tmp_path):
    """Across the end of an epoch, with stops at, before and behind sample steps."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    options = ["--preset", preset, "--seed", 3, "--sample-every", 5]
    assert train(*options, "--steps", 20, "--out", whole) == 0
    assert train(*options, "--steps", 3, "--out", parts) == 0
    for end in (5, 12, 20):
        assert main(["train", "--resume", str(parts), "--steps", str(end)]) == 0
    assert (whole / "generator.npz").read_bytes() == (parts / "generator.npz").read_bytes()
    last = "checkpoints/step-00000020.npz"
    assert (whole / last).read_bytes() == (parts / last).read_bytes()
    assert (whole / "samples/step-00000020.png").read_bytes() == (
        parts / "samples/step-00000020.png"
    ).read_bytes()
    for a, b in zip(rows(whole), rows(parts), strict=True):
        assert {k: v for k, v in a.items() if k not in UNEQUAL} == {
            k: v for k, v in b.items() if k not in UNEQUAL
        }
    records = [json.loads((folder / "config.json").read_text()) for folder in (whole, parts)]
    assert [entry["step"] for entry in records[1].pop("resumed")] == [3, 5, 12]
    assert records[0] == records[1]


def test_going_on_in_a_new_process(tmp_path):
    """The documented commands, on the real thing, each in a process of its own."""
    data = os.environ.get("MINIGAN_DATA", "")
    dataset = "mnist" if any(Path(data).glob("**/train-images*")) else "strokes"

    def run(*options):
        subprocess.run(
            [sys.executable, ROOT / "examples/train_mnist.py", *map(str, options)],
            check=True,
            capture_output=True,
        )

    options = ["--dataset", dataset, "--width", 4, "--batch-size", 32, "--seed", 3]
    run(*options, "--steps", 3, "--out", tmp_path / "a")
    run("--resume", tmp_path / "a", "--steps", 6)
    run(*options, "--steps", 6, "--out", tmp_path / "b")
    assert (tmp_path / "a/generator.npz").read_bytes() == (
        tmp_path / "b/generator.npz"
    ).read_bytes()


def test_another_seed_is_another_run(tmp_path):
    for seed in (0, 1):
        assert train("--steps", 1, "--seed", seed, "--out", tmp_path / str(seed)) == 0
    assert (tmp_path / "0/generator.npz").read_bytes() != (
        tmp_path / "1/generator.npz"
    ).read_bytes()


def test_going_on_forgets_what_came_after_the_checkpoint(tmp_path):
    """As after a kill between two checkpoints: rows and pictures of steps that will be done again."""
    out = tmp_path / "a"
    assert train("--steps", 4, "--out", out) == 0
    with open(out / "metrics.csv", "a") as file:
        file.write("5,1,9,9,9,9,9,9\n6,1,9,9")
    assert main(["train", "--resume", str(out), "--steps", "6"]) == 0
    assert [int(row["step"]) for row in rows(out)] == [1, 2, 3, 4, 5, 6]
    assert "9" not in {row["loss_g"] for row in rows(out)}


def test_nothing_to_do(tmp_path, capsys):
    assert train("--steps", 2, "--out", tmp_path / "a") == 0
    before = {p: p.read_bytes() for p in (tmp_path / "a").rglob("*") if p.is_file()}
    assert main(["train", "--resume", str(tmp_path / "a")]) == 0
    assert "nothing to do: it has 2 steps" in capsys.readouterr().out
    assert before == {p: p.read_bytes() for p in (tmp_path / "a").rglob("*") if p.is_file()}


def test_epochs_end_where_steps_would(tmp_path):
    assert train("--epochs", 2, "--out", tmp_path / "a") == 0
    assert rows(tmp_path / "a")[-1]["step"] == "14"
    assert rows(tmp_path / "a")[-1]["epoch"] == "2"


def test_dry_run_writes_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert train("--dry-run") == 0
    assert list(tmp_path.iterdir()) == []
    out = capsys.readouterr().out
    assert "ConvTranspose2d 8->4, k4 s2 p1" in out and "nothing was written" in out


def test_strokes_in_place_of_mnist_cannot_be_missed(tmp_path, capsys, monkeypatch):
    images = np.zeros((40, 28, 28, 1), np.uint8)
    note = "training on Strokes, NOT on MNIST: no network"
    monkeypatch.setattr(
        minigan.training.loop,
        "load_dataset",
        lambda *names, **options: dataset(images, "strokes", note),
    )
    assert train("--steps", 1, "--out", tmp_path / "a") == 0
    assert f"*** NOTE: {note} ***" in capsys.readouterr().out
    record = json.loads((tmp_path / "a/config.json").read_text())
    assert record["note"] == note and record["options"]["dataset"] == "strokes"


@pytest.mark.parametrize("number, code", ((signal.SIGINT, 130), (signal.SIGTERM, 143)))
def test_a_signal_ends_the_step_and_saves(number, code, tmp_path, capsys, monkeypatch):
    calls = []
    play = minigan.training.loop.Game.round

    def play_and_signal(*arguments):
        calls.append(1)
        if len(calls) == 3:
            os.kill(os.getpid(), number)
        return play(*arguments)

    monkeypatch.setattr(minigan.training.loop.Game, "round", play_and_signal)
    before = signal.getsignal(number)
    assert train("--steps", 8, "--out", tmp_path / "a") == code
    assert signal.getsignal(number) is before
    assert (
        f"stopped after step 3, all is saved; go on with: --resume {tmp_path / 'a'}"
        in capsys.readouterr().out
    )
    assert [row["step"] for row in rows(tmp_path / "a")] == ["1", "2", "3"]
    monkeypatch.undo()
    monkeypatch.setattr(minigan.training.loop, "load_dataset", noise(100))
    assert main(["train", "--resume", str(tmp_path / "a")]) == 0
    assert train("--steps", 8, "--out", tmp_path / "b") == 0
    assert (tmp_path / "a/generator.npz").read_bytes() == (
        tmp_path / "b/generator.npz"
    ).read_bytes()


def test_ctrl_c_from_outside(tmp_path):
    """A whole process, whose exit code a shell sees."""
    command = [
        sys.executable,
        "-m",
        "minigan",
        "train",
        *SMALL,
        "--dataset",
        "strokes",
        "--steps",
        "100000",
        "--out",
        str(tmp_path / "a"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        while not (tmp_path / "a/generator.npz").exists() and process.poll() is None:
            time.sleep(0.05)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=60)
    assert process.returncode == 130 and error == ""
    assert out.splitlines()[-1].startswith("stopped after step ")


def test_on_the_cupy_backend(tmp_path, monkeypatch):
    """The whole program through the strict stand-in for CuPy, losses equal to NumPy's. (Small rates: large ones make rounding larger.)"""
    monkeypatch.setitem(sys.modules, "cupy", make_module())
    rates = ("--lr-g", 2e-4, "--lr-d", 2e-4, "--beta1", 0.5)
    for backend in ("numpy", "cupy"):
        assert (
            train(
                "--backend",
                backend,
                *rates,
                "--steps",
                8,
                "--sample-every",
                5,
                "--out",
                tmp_path / backend,
            )
            == 0
        )
    for a, b in zip(rows(tmp_path / "numpy"), rows(tmp_path / "cupy"), strict=True):
        for name in minigan.training.loop.LOSSES:
            assert float(a[name]) == pytest.approx(float(b[name]), rel=1e-3)
    monkeypatch.delitem(sys.modules, "cupy")
    assert (
        main(["sample", str(tmp_path / "cupy"), "--out", str(tmp_path / "s.png")]) == 0
    )  # drawn without a GPU


def test_sampling(tmp_path, capsys):
    out = tmp_path / "a"
    assert train("--preset", "fredriksson-mnist", "--steps", 3, "--out", out) == 0

    def sample(n, name, *options):
        assert (
            main(["sample", str(out), "--n", str(n), "--out", str(tmp_path / name), *options]) == 0
        )

    sample(70, "s.npy")
    pictures = np.load(tmp_path / "s.npy", allow_pickle=False)
    assert pictures.shape == (70, 28, 28, 1) and pictures.dtype == np.uint8 and pictures.std() > 0
    sample(5, "t.npy")
    np.testing.assert_array_equal(
        np.load(tmp_path / "t.npy"), pictures[:5]
    )  # picture i is the same for every n
    sample(5, "u.npy", "--seed", "1")
    assert not np.array_equal(np.load(tmp_path / "u.npy"), pictures[:5])
    sample(7, "g.png")
    with Image.open(tmp_path / "g.png") as picture:
        assert picture.size == (3 * 30 + 2, 3 * 30 + 2)
        np.testing.assert_array_equal(np.asarray(picture)[2:30, 2:30], pictures[0, :, :, 0])


def test_bar_on_a_terminal(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert train("--steps", 12, "--out", tmp_path / "a") == 0
    captured = capsys.readouterr()
    for part in (
        "epoch",
        "12/12",
        "images/s",
        "loss D",
        "G ",
        "D(x)",
        "D(G(z))",
        "<",
    ):  # "<": the time left
        assert part in captured.err
    assert "images/s" not in captured.out


def test_moments_of_another_optimizer_or_network_are_refused():
    import minigan as mg

    def optimizer(out, make=mg.Adam):
        net = mg.Sequential([mg.Linear(out)])
        net.setup((3,), backend=mg.get_backend("numpy"), rng=np.random.default_rng(0))
        return make(net)

    with pytest.raises(mg.RunError, match="of another optimizer"):
        optimizer(2).load_state(optimizer(2, mg.RMSprop).state())
    with pytest.raises(
        mg.RunError, match=r"expected m of \(\d+,\), got \(\d+,\): of another network"
    ):
        optimizer(2).load_state(optimizer(200).state())


def test_a_signal_at_the_worst_moment(tmp_path, capsys, monkeypatch):
    """It comes when a step without saving is over: the next step ends the run, and what is said is true."""
    update = minigan.training.loop.Progress.update

    def update_and_signal(self, row, images, steps):
        if row["step"] == 10:
            os.kill(os.getpid(), signal.SIGINT)
        return update(self, row, images, steps)

    monkeypatch.setattr(minigan.training.loop.Progress, "update", update_and_signal)
    assert train("--steps", 15, "--out", tmp_path / "a") == 130
    assert "stopped after step 11, all is saved" in capsys.readouterr().out
    assert (tmp_path / "a/checkpoints/step-00000011.npz").exists()
    assert [row["step"] for row in rows(tmp_path / "a")] == [str(step) for step in range(1, 12)]


def test_a_signal_in_the_last_step_finds_a_finished_run(tmp_path, capsys, monkeypatch):
    save = minigan.training.loop.Run.save

    def save_and_signal(self, game, batches, step):
        if step == 3:
            os.kill(os.getpid(), signal.SIGINT)
        save(self, game, batches, step)

    monkeypatch.setattr(minigan.training.loop.Run, "save", save_and_signal)
    assert train("--steps", 3, "--out", tmp_path / "a") == 0
    assert "done" in capsys.readouterr().out


def test_runs_of_one_second_get_names_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    class Still:
        @staticmethod
        def now():
            return minigan_datetime(2026, 1, 2, 3, 4, 5)

    from datetime import datetime as minigan_datetime

    monkeypatch.setattr(minigan.training.loop, "datetime", Still)
    for _ in range(3):
        assert train("--steps", 1) == 0
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == [
        "20260102-030405-mnist",
        "20260102-030405-mnist-2",
        "20260102-030405-mnist-3",
    ]


@pytest.mark.skipif(os.name != "posix", reason="needs a shell with pipes")
@pytest.mark.parametrize("into", ("| head -1", "> /dev/full"))
def test_a_run_goes_on_when_nobody_listens(into, tmp_path):
    command = f"{sys.executable} -m minigan train {' '.join(SMALL)} --dataset strokes --steps 12 --out {tmp_path / 'a'} {into}"
    result = subprocess.run(
        command,
        shell=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert result.returncode == 0 and result.stderr == ""
    assert (tmp_path / "a/checkpoints/step-00000012.npz").exists()
