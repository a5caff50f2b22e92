"""The commands export and import: what they write, round trips, and mistakes."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import safetensors.numpy

from minigan import training
from minigan.cli import train as train_command
from minigan.data.files.npz import load_arrays, save_arrays, unpack
from minigan.errors import ConfigError
from minigan.export.import_run import import_run
from minigan.inspection.open_run import draw_z, freeze_discriminator, load_net
from minigan.report import page
from minigan.training.open_game import open_game, open_images
from minigan.training.run_folder import Run
from tests.support.commands import refused, run
from tests.support.inspected_runs import RUNS, train
from tests.support.networks import assert_close, assert_same_arrays
from tests.support.pictures import noise
from tests.support.torch_dcgan import make_nets
from tests.support.torch_or_skip import import_torch
from tests.support.training_runs import metrics, open_game_module

pytestmark = pytest.mark.usefixtures("images_of_noise")
SOME = [
    name if name in ("conditional", "plain") else pytest.param(name, marks=pytest.mark.slow)
    for name in RUNS
]


@pytest.fixture(scope="module")
def trained(runs, tmp_path_factory):
    """-> a run whose samples are those of its checkpoint: others have enlarged weights."""
    folder = shutil.copytree(runs["plain"], tmp_path_factory.mktemp("trained") / "run")
    (file,) = list((folder / "checkpoints").glob("step-*3.npz"))
    sections, _ = unpack(load_arrays(file), file)
    save_arrays(folder / "generator.npz", sections["G average"])
    return folder


@pytest.fixture
def without_plots(monkeypatch):
    """They take longer than these runs."""
    monkeypatch.setattr(train_command, "finish", lambda run, log: None)
    monkeypatch.setattr(page, "draw_losses", lambda history: b"")


def compute(file, **given):
    """-> what onnxruntime computes of an .onnx file; None is left out."""
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    given = {name: array for name, array in given.items() if array is not None}
    (y,) = session.run(None, given)
    return y


def facts(file):
    """-> the metadata of an .onnx file."""
    return {entry.key: entry.value for entry in onnx.load(file).metadata_props}


@pytest.mark.parametrize("name", RUNS)
def test_g_as_onnx_draws_the_samples(name, runs, tmp_path, capsys):
    file = tmp_path / "g.onnx"
    assert run("export", runs[name], file) == 0
    assert capsys.readouterr().out.startswith(f"{file}: G of step ")
    game, _ = open_game(Run(runs[name]))
    z = draw_z(game, 20, 0).astype("f4")
    labels = game.labels(game.classes_in_turn(20))
    images = compute(file, z=z, labels=labels).transpose(0, 2, 3, 1)
    assert run("sample", runs[name], "--n", 20, "--out", tmp_path / "a.npy") == 0
    pixels = (images - game.preset.pixel_min) * 255 / (1 - game.preset.pixel_min)
    difference = pixels - np.load(tmp_path / "a.npy")
    assert np.abs(difference).max() < 0.53  # they are rounded
    one = compute(file, z=z[3:4], labels=None if labels is None else labels[3:4])
    assert np.abs(one.transpose(0, 2, 3, 1) - images[3:4]).max() < 1e-3  # of one image alone


@pytest.mark.parametrize("name", SOME)
def test_d_as_onnx(name, runs, tmp_path, capsys):
    file = tmp_path / "d.onnx"
    assert run("export", runs[name], file, "--net", "D") == 0
    assert capsys.readouterr().out.startswith(f"{file}: D of step 3, ")
    game, metadata = open_game(Run(runs[name]))
    load_net(game.D, "D", Run(runs[name]), print)
    if name == "conditional":  # its BatchNorm has no statistics but those of a batch
        freeze_discriminator(game, game.D, open_images(game, metadata, None, print))
        assert facts(file)["statistics"].startswith("of one batch of real images")
    else:
        assert facts(file)["statistics"] == "running"
    x = np.random.default_rng(0).uniform(-1, 1, (5, *game.D.in_shape)).astype("f4")
    labels = game.labels(np.arange(5))
    logits = compute(file, image=x.transpose(0, 3, 1, 2), labels=labels)
    assert_close(logits, game.D.forward(x, train=False, labels=labels), name, 1e-5)


def test_what_an_onnx_file_says(runs, trained, tmp_path):
    file = tmp_path / "g.onnx"
    assert run("export", trained, file) == 0
    said = facts(file)
    assert (
        said.pop("minigan")
        == json.loads((trained / "config.json").read_text())["versions"]["minigan"]
    )
    assert said == {
        "preset": "mnist",
        "net": "G",
        "step": "3",
        "image": "NCHW: (n, 1, 28, 28), -1 is black and 1 is white",
        "statistics": "running",
        "z": "(n, 8), N(0, 1)",
        "weights": "averaged",
    }
    assert run("export", runs["conditional"], file) == 0
    said = facts(file)
    assert said["step"] == "unknown"  # its weights were changed since
    assert said["image"] == "NCHW: (n, 1, 28, 28), 0 is black and 1 is white"
    assert said["z"] == "(n, 100), uniform on [-1, 1)"
    assert said["labels"] == "(n, 10), 1 for the class and 0 for all others"
    assert said["statistics"].startswith("of one batch of z")
    assert run("export", trained, file, "--net", "D") == 0
    assert facts(file)["logit"] == "(n, 1), of loss bce: larger is more real"
    assert run("export", trained, file, "--net", "G-unaveraged") == 0
    assert facts(file)["weights"] == "not averaged"


def test_g_before_it_is_averaged(trained, tmp_path):
    """The average is what samples are drawn from; the weights that the next step starts from are
    in the checkpoint alone."""
    for name, net in (("a", "G"), ("b", "G-unaveraged")):
        assert run("export", trained, tmp_path / f"{name}.safetensors", "--net", net) == 0
    file = trained / "checkpoints/step-00000003.npz"
    sections, _ = unpack(load_arrays(file), file)
    for name, section in (("a", "G average"), ("b", "G")):
        arrays = safetensors.numpy.load_file(tmp_path / f"{name}.safetensors")
        expected = {f"G.{key}": array for key, array in sections[section].items()}
        assert_same_arrays(arrays, expected)
    z = np.random.default_rng(0).standard_normal((3, 8)).astype("f4")
    assert run("export", trained, tmp_path / "a.onnx") == 0
    assert run("export", trained, tmp_path / "b.onnx", "--net", "G-unaveraged") == 0
    assert (
        np.abs(compute(tmp_path / "a.onnx", z=z) - compute(tmp_path / "b.onnx", z=z)).max() > 1e-4
    )


@pytest.mark.parametrize("name", SOME)
def test_a_round_trip_gives_the_same_samples(name, runs, tmp_path, capsys):
    """The same bits, from a file that says itself which preset it is of."""
    file, copy = tmp_path / "weights.safetensors", tmp_path / "copy"
    assert run("export", runs[name], file) == 0
    assert capsys.readouterr().out.startswith(f"{file}: G and D of step unknown, ")
    assert run("import", file, "--out", copy) == 0
    line = capsys.readouterr().out
    assert f"with the weights of weights.safetensors: train it with --resume {copy}" in line
    samples = []
    for i, folder in enumerate((runs[name], copy)):
        assert run("sample", folder, "--n", 30, "--out", tmp_path / f"{i}.npy") == 0
        samples.append(np.load(tmp_path / f"{i}.npy"))
    np.testing.assert_array_equal(*samples)
    again = tmp_path / "again.safetensors"
    assert run("export", copy, again) == 0
    assert_same_arrays(*map(safetensors.numpy.load_file, (again, file)))
    options = [
        json.loads((folder / "config.json").read_text())["options"] for folder in (runs[name], copy)
    ]
    assert options[0] | {"threads": None, "compile": None} == options[1]


@pytest.mark.slow
def test_every_command_takes_an_imported_run(trained, tmp_path):
    file, copy = tmp_path / "weights.safetensors", tmp_path / "copy"
    assert run("export", trained, file) == 0
    assert run("import", file, "--steps", 2, "--out", copy) == 0
    for command in ("plot", "interpolate", "filters", "activations", "features", "animate"):
        assert run(command, copy) == 0
    assert run("train", "--resume", copy) == 0
    assert all((copy / name).exists() for name in ("losses.png", "report.html"))


def test_an_imported_run_is_trained_like_any_other(trained, tmp_path, without_plots):
    file, copy = tmp_path / "weights.safetensors", tmp_path / "copy"
    assert run("export", trained, file) == 0
    assert run("import", file, "--steps", 2, "--threads", 1, "--out", copy) == 0
    assert run("report", copy) == 0  # nothing is missing at step 0
    assert run("train", "--resume", copy) == 0
    rows = metrics(copy)
    assert [row["step"] for row in rows] == ["0", "1", "2"] and rows[0]["loss_g"] == ""
    assert all(float(row["loss_g"]) > 0 for row in rows[1:])
    assert (copy / "samples/step-00000002.png").exists() and (copy / "real.png").exists()
    assert run("train", "--resume", copy, "--steps", 3) == 0
    record = json.loads((copy / "config.json").read_text())
    assert record["imported"] == {"files": file.name, "step": 3, "nets": ["D", "G"]}
    assert record["data"] == "0" * 16 and [entry["step"] for entry in record["resumed"]] == [0, 2]


def test_training_goes_on_from_the_weights(trained, tmp_path, without_plots):
    """The first step from imported weights is Adam's first: by lr in every weight of D."""
    file, copy = tmp_path / "weights.safetensors", tmp_path / "copy"
    assert run("export", trained, file) == 0
    assert run("import", file, "--steps", 1, "--ema", 0, "--threads", 1, "--out", copy) == 0
    assert run("train", "--resume", copy) == 0
    steps = []
    for net in ("G", "D"):
        before, after = (
            unpack(load_arrays(path), path)[0][net] for path in Run(copy).checkpoints.found()
        )
        steps.append(np.abs(after["0.W"] - before["0.W"]).max())
    np.testing.assert_allclose(steps, (8e-3, 4e-3), rtol=1e-2)


def test_images_come_when_it_is_trained(runs, tmp_path, capsys, without_plots):
    """A run from elsewhere has other images; the first ones that it is trained on are its own."""
    file, copy = tmp_path / "weights.safetensors", tmp_path / "copy"
    assert run("export", runs["color"], file, "--net", "G") == 0
    options = ("--images", tmp_path, "--steps", 1, "--threads", 1)
    assert run("import", file, *options, "--out", copy) == 0
    assert "NOTE: weights.safetensors has no D: it starts untrained" in capsys.readouterr().out
    assert "data" not in json.loads((copy / "config.json").read_text())
    assert run("filters", copy) == 0 and run("activations", copy, "--layer", "D.0") == 0
    assert run("train", "--resume", copy) == 0
    record = json.loads((copy / "config.json").read_text())
    assert record["options"]["images"] == str(tmp_path) and record["data"] == "0" * 16


def test_the_images_of_the_exported_run_are_still_the_right_ones(
    trained, tmp_path, monkeypatch, capsys
):
    """Their fingerprint is in the file. They are listed as by this version, not as by the first."""
    file, copy = tmp_path / "weights.safetensors", tmp_path / "copy"
    assert run("export", trained, file) == 0
    assert run("import", file, "--threads", 1, "--out", copy) == 0
    listed = []

    def load(name, *folder, as_text, **options):
        listed.append(as_text)
        data = noise(50)(name, *folder, **options)
        return replace(data, fingerprint="1" * 16)

    monkeypatch.setattr(open_game_module, "load_dataset", load)
    for words in (("train", "--resume", copy, "--steps", 1), ("activations", copy)):
        assert "are not those that the run was trained on" in refused(capsys, *words)
    assert listed == [False, False]


def test_the_preset_may_be_said_and_changes_nothing(tmp_path, without_plots):
    """Though a preset's own nets have changed since, and the file is of the earlier ones."""
    made, file, copy = tmp_path / "made", tmp_path / "w.safetensors", tmp_path / "copy"
    options = dict(preset="color32", width=1, batch_size=4, threads=1, upsample="transposed")
    train(made, **options, dataset="cifar10")
    assert run("export", made, file) == 0
    assert run("import", file, "--preset", "color32", "--threads", 1, "--out", copy) == 0
    assert json.loads((copy / "config.json").read_text())["options"]["upsample"] == "transposed"


def test_an_imported_run_of_own_pictures_asks_for_them(trained, tmp_path):
    """Not for the data set of its preset."""
    pictures, made = tmp_path / "p.npy", tmp_path / "made"
    np.save(pictures, noise(20)("mnist").images)
    options = dict(preset="mnist", width=1, batch_size=4, threads=1, steps=1, images=str(pictures))
    training.train(options, out=made, log=lambda line: None)
    file, copy = tmp_path / "weights.safetensors", tmp_path / "copy"
    assert run("export", made, file) == 0
    assert run("import", file, "--steps", 1, "--threads", 1, "--out", copy) == 0
    game, metadata = open_game(Run(copy))
    with pytest.raises(ConfigError, match="no pictures yet: give their folder with --data-dir"):
        open_images(game, metadata, None, print)
    assert open_images(game, metadata, str(pictures), print).name == "folder"


def test_weights_are_averaged_if_they_are(trained, tmp_path):
    """A resumed run may have ended averaging, and not yet saved."""
    copy, file = shutil.copytree(trained, tmp_path / "copy"), tmp_path / "g.onnx"
    record = json.loads((copy / "config.json").read_text())
    record["options"]["ema"] = 0.0
    (copy / "config.json").write_text(json.dumps(record))
    assert run("export", copy, file) == 0
    assert (facts(file)["weights"], facts(file)["step"]) == ("averaged", "3")


@pytest.mark.slow
def test_a_folder_of_pictures_is_named_at_last(tmp_path, capsys, without_plots):
    """Of a preset for pictures, imported without any."""
    made = tmp_path / "made"
    options = dict(preset="radford-64:imagenet", width=1, z_dim=4, batch_size=4, threads=1)
    train(made, **options, images=str(tmp_path))
    file, copy = tmp_path / "weights.safetensors", tmp_path / "copy"
    assert run("export", made, file) == 0
    assert str(tmp_path).encode() not in file.read_bytes()  # a path says who one is
    assert run("import", file, "--steps", 1, "--threads", 1, "--out", copy) == 0
    assert "give --images DIR" in refused(capsys, "train", "--resume", copy)
    assert "give their folder with --data-dir" in refused(capsys, "evaluate", copy)
    assert run("train", "--resume", copy, "--images", tmp_path) == 0
    options = json.loads((copy / "config.json").read_text())["options"]
    assert (options["dataset"], options["images"]) == ("folder", str(tmp_path))


@pytest.mark.parametrize(
    "words, message",
    (
        ("export nowhere g.onnx", "is not the folder of a run"),
        ("export plain g.pth", "FILE must end in .onnx or .safetensors, got 'g.pth'"),
        ("export plain g", "FILE must end in .onnx or .safetensors, got 'g'"),
        ("export plain g.onnx --net C", "--net must be G, D, G-unaveraged, got 'C'"),
        ("export plain g.onnx --best", "--evaluate-every keeps one, given time"),
        ("export plain no/g.onnx", "cannot write no/g.onnx: No such file or directory"),
        ("import", "the following arguments are required: FILE"),
        ("import no.safetensors --preset mnist", "cannot read no.safetensors: No such file"),
        ("import plain --preset radford-64", "expected files of one net, such as 200_gen"),
        ("import a.npz --preset mnist", "expected a .safetensors file or a folder of"),
        (
            "import w.safetensors --preset mnis",
            "w.safetensors is of preset mnist: leave --preset out",
        ),
        (
            "import w.safetensors --width 5",
            "G.0.W must be float32 (8, 180) for G.0 (Linear 8->180)",
        ),
        ("import w.safetensors --out plain", "plain exists: continue with --resume plain, or"),
        ("import w.safetensors --steps x", "expected a whole number, got 'x'"),
        ("import w.safetensors w.safetensors", "w.safetensors has weights of G, which another"),
        ("import d.safetensors", "d.safetensors has no generator, and a run needs one"),
        ("import text.safetensors", "text.safetensors is damaged, or no .safetensors file"),
        ("import pipe.safetensors", "cannot read pipe.safetensors: it is no regular file"),
        ("import bare.safetensors", "bare.safetensors does not say which network it is for: give"),
        ("import less.safetensors", "less.safetensors: D.0.W is missing: D has"),
        ("import more.safetensors", "more.safetensors: 'G.99.W' is no array of these networks"),
        (
            "import list.safetensors",
            "list.safetensors is damaged, or no .safetensors file (its meta",
        ),
        ("import lists.safetensors", "the options in the file's record must be texts and numbers"),
        ("import many.safetensors", "10,001 arrays: no network here has that many"),
        ("import wide.safetensors", "--width must be a whole number of at least 1 and at most"),
        ("import nan.safetensors", "G.0.W has numbers that no network has"),
    ),
)
def test_a_mistake_is_one_line(words, message, wrong, monkeypatch, capsys):
    folder, before = wrong
    monkeypatch.chdir(folder)
    assert message in refused(capsys, *words.split())
    assert sizes(folder) == before


@pytest.fixture(scope="module")
def wrong(trained, tmp_path_factory):
    """-> a folder with a run and files that cannot be imported; their sizes."""
    folder = tmp_path_factory.mktemp("wrong")
    shutil.copytree(trained, folder / "plain")
    assert run("export", trained, folder / "w.safetensors") == 0
    assert run("export", trained, folder / "d.safetensors", "--net", "D") == 0
    arrays = safetensors.numpy.load_file(folder / "w.safetensors")
    with safetensors.safe_open(folder / "w.safetensors", "numpy") as file:
        record = json.loads(file.metadata()["minigan"])

    def save(name, arrays, **changes):
        metadata = {"minigan": json.dumps(record | changes)}
        safetensors.numpy.save_file(arrays, folder / f"{name}.safetensors", metadata)

    (folder / "text.safetensors").write_text("no header")
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe.safetensors")
    safetensors.numpy.save_file(arrays, folder / "bare.safetensors")
    save("less", {name: array for name, array in arrays.items() if name != "D.0.W"})
    save("more", {**arrays, "G.99.W": arrays["G.0.W"]})
    save("list", arrays, options=[1])
    save("lists", arrays, options=record["options"] | {"background": ["white"]})
    save("many", {f"main.{i}.weight": np.zeros(0, "f4") for i in range(10_001)})
    save("wide", arrays, options=record["options"] | {"width": 10**6})
    save("nan", {**arrays, "G.0.W": arrays["G.0.W"] * np.nan})
    return folder, sizes(folder)


def sizes(folder):
    """-> path -> bytes of every file in it."""
    return {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_a_pickle_is_refused_with_the_line_that_converts_it(tmp_path, capsys, monkeypatch):
    """The line works: what it writes is imported."""
    torch = import_torch()
    monkeypatch.chdir(tmp_path)
    G, _ = make_nets(torch, 2, 5, 3)
    name = 'it\'s $HOME; "G".pth'
    torch.save(G.state_dict(), name)
    line = refused(capsys, "import", name, "--preset", "pytorch-64")
    command = line.partition("convert it first: python ")[2]
    assert not (tmp_path / "runs").exists()
    subprocess.run(f"{sys.executable} {command}", shell=True, check=True)
    options = dict(preset="pytorch-64", width=2, z_dim=5)
    import_run([name.replace("pth", "safetensors")], options, out="run", log=lambda line: None)


def test_packages_that_are_missing(trained, tmp_path, monkeypatch, capsys):
    file = tmp_path / "a.safetensors"
    assert run("export", trained, file) == 0
    for name in ("onnx", "safetensors", "safetensors.numpy"):
        monkeypatch.setitem(sys.modules, name, None)
    line = refused(capsys, "export", trained, tmp_path / "a.onnx")
    assert line.endswith("pip install onnx")
    for words in (("export", trained, tmp_path / "b.safetensors"), ("import", file)):
        assert refused(capsys, *words).endswith("pip install safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_the_names_of_classes_come_with_the_weights(tmp_path, capsys, monkeypatch, without_plots):

    def load(*arguments, **options):
        names = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
        return replace(noise(50)(*arguments, **options), classes=names)

    monkeypatch.setattr(open_game_module, "load_dataset", load)
    options = dict(preset="color32", classes=10, width=2, z_dim=4, batch_size=4, threads=1)
    train(tmp_path / "made", **options, images=str(tmp_path))
    file, copy = tmp_path / "weights.safetensors", tmp_path / "copy"
    assert run("export", tmp_path / "made", file) == 0
    assert run("import", file, "--steps", 1, "--threads", 1, "--out", copy) == 0
    assert (
        f"train it with --resume {copy} --images DIR, of the same pictures"
        in capsys.readouterr().out
    )
    assert run("sample", copy, "--label", "nine", "--n", 2, "--out", tmp_path / "a.png") == 0
    assert json.loads((copy / "config.json").read_text())["images"] == 50
    assert run("train", "--resume", copy, "--images", tmp_path) == 0
