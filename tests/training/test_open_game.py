"""Runs on a folder of pictures: classes by name, old runs, and the runs inside the folder."""

import json

import pytest

import minigan as mg
from minigan.data import load_dataset
from minigan.training import open_game
from minigan.training.open_game import open_images, parse_label
from minigan.training.run_folder import Run
from tests.support.commands import refused, run
from tests.support.made_run import change_record
from tests.support.pictures import noise, put
from tests.support.training_runs import open_game_module, resume, train

CONDITIONAL = dict(preset="radford-mnist-conditional", width=2, z_dim=8, batch_size=10, steps=1)


@pytest.fixture(autouse=True)
def folders(monkeypatch, tmp_path):
    monkeypatch.setattr(open_game_module, "load_dataset", load_dataset)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "cache"))


@pytest.fixture
def pictures(tmp_path):
    """-> a folder of ten classes, 1 to 10."""
    return put(tmp_path / "p", [f"{i}/{k}.png" for i in range(1, 11) for k in range(2)])


def test_classes_are_shown_kept_and_asked_for_by_name(pictures, tmp_path, capsys):
    lines = train(tmp_path / "run", images=str(pictures), **CONDITIONAL)
    assert "10 classes, by number: 0 is 1, 1 is 2, 2 is 3, " in "\n".join(lines)
    record = json.loads((tmp_path / "run/config.json").read_text())
    assert record["classes"] == [str(i) for i in range(1, 11)] and record["images"] == 20
    game, metadata = open_game(Run(tmp_path / "run"))
    assert [parse_label(game, label) for label in ("10", "1", "0", None)] == [9, 0, 0, None]
    data = open_images(game, metadata, None, print)
    assert data.labels.tolist() == [i // 2 for i in range(20)]
    out = tmp_path / "a.npy"
    assert run("sample", tmp_path / "run", "--label", "10", "--n", 2, "--out", out) == 0
    assert f"2 images (28, 28, 1) of class 10 in {out}" in capsys.readouterr().out
    line = refused(capsys, "sample", tmp_path / "run", "--label", "cat", "--out", out)
    assert line.startswith("--label must be in 0 .. 9, or a name: 1, 2, 3, 4, 5, ..., got cat")


def test_pictures_that_have_moved(pictures, tmp_path, capsys):
    folder = tmp_path / "run"
    train(folder, images=str(pictures), **CONDITIONAL)
    moved = pictures.rename(tmp_path / "moved")
    line = refused(capsys, "train", "--resume", folder, "--steps", 2)
    assert line == f"{pictures} is not there: say with --images where it is now"
    line = refused(capsys, "activations", folder, "--out", tmp_path / "a.png")
    assert line.endswith("is not there: say with --data-dir where it is now")
    game, metadata = open_game(Run(folder))
    assert len(open_images(game, metadata, str(moved), print).images) == 20
    assert run("train", "--resume", folder, "--steps", 2, "--images", moved) == 0


def test_a_data_set_is_looked_for_in_the_folder_that_is_given(tmp_path, monkeypatch):
    folders = []

    def load(name, data_dir, **options):
        folders.append(data_dir)
        return noise(100)(name, **options)

    monkeypatch.setattr(open_game_module, "load_dataset", load)
    train(tmp_path / "a", steps=1)
    game, metadata = open_game(Run(tmp_path / "a"))
    open_images(game, metadata, "there", print)
    assert folders == [None, "there"]


def test_classes_that_a_limit_cuts_off(pictures, tmp_path):
    options = dict(preset="color32", width=2, batch_size=2, steps=1, images=str(pictures))
    with pytest.raises(mg.ConfigError, match=r"in the first 4 pictures \(--limit\)"):
        train(tmp_path / "a", limit=4, classes=10, **options)


def test_minigans_own_nets_learn_the_classes_that_are_named(pictures, tmp_path, capsys):
    options = dict(preset="color32", width=2, batch_size=10, steps=1, images=str(pictures))
    line = "NOTE: --classes 10 lets G learn them, and draw the one you ask for"
    assert line in train(tmp_path / "plain", **options)
    assert line not in resume(tmp_path / "plain", steps=2)
    assert line not in train(tmp_path / "run", classes=10, **options)
    out = tmp_path / "a.npy"
    assert run("sample", tmp_path / "run", "--label", "10", "--n", 2, "--out", out) == 0
    assert f"2 images (32, 32, 3) of class 10 in {out}" in capsys.readouterr().out
    line = refused(capsys, "sample", tmp_path / "plain", "--label", "1", "--out", out)
    assert line == "--label needs classes, and color32 has none: train it with --classes"
    with pytest.raises(mg.ConfigError, match="give --classes 10, or leave it out"):
        train(tmp_path / "other", classes=9, **options)
    with pytest.raises(mg.ConfigError, match=r"has 0: use a folder of that many .* or --classes 0"):
        train(tmp_path / "other", classes=2, **{**options, "images": str(pictures / "1")})
    assert not (tmp_path / "other").exists()


def test_a_limit_that_leaves_classes_out(tmp_path, monkeypatch):
    monkeypatch.setattr(open_game_module, "load_dataset", noise(3))
    with pytest.raises(mg.ConfigError, match=r"\(--limit\): give a larger --limit, or none"):
        train(tmp_path / "run", preset="radford-mnist-conditional", limit=3)


def test_the_names_of_a_published_set_are_known(tmp_path):
    folder = tmp_path / "run"
    options = {**CONDITIONAL, "dataset": "strokes", "limit": 100}
    train(folder, **options)
    record = json.loads((folder / "config.json").read_text())
    record["options"]["dataset"] = "fashion-mnist"  # of 0.2.0, which kept no names
    del record["classes"]
    (folder / "config.json").write_text(json.dumps(record))
    game, _ = open_game(Run(folder))
    assert parse_label(game, "Sandal") == 5 and game.class_title(5) == "Sandal"


@pytest.mark.parametrize(
    "change, words",
    (
        (["stray.png"], "has 0 (1 of its pictures lie beside the folders: stray.png)"),
        (["11/1.png"], "has 11 (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)"),
    ),
)
def test_folders_that_are_not_the_classes_of_a_preset(change, words, pictures, tmp_path):
    put(pictures, change)
    with pytest.raises(mg.ConfigError) as caught:
        train(tmp_path / "run", images=str(pictures), **CONDITIONAL)
    assert f"learns 10 classes, and {pictures} {words}" in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_run_of_0_2_0_keeps_its_order_of_classes(pictures, tmp_path):
    """It was trained with the classes 1, 10, 2, 3 ...: it goes on so, and its record stays old."""
    folder = tmp_path / "run"
    train(folder, images=str(pictures), **CONDITIONAL)
    put(pictures, [f"{i}/3.tif" for i in range(1, 11)])  # which 0.2.0 did not take
    old = load_dataset("folder", images=pictures, image_shape=(28, 28, 1), as_text=True)
    record = json.loads((folder / "config.json").read_text())
    del record["classes"], record["images"]
    (folder / "config.json").write_text(json.dumps(record | {"data": old.fingerprint}))
    for steps in (2, 3):
        lines = "\n".join(resume(folder, steps=steps))
        assert "0 is 1, 1 is 10, 2 is 2" in lines and f"resuming {folder} at step" in lines
    game, metadata = open_game(Run(folder))
    assert open_images(game, metadata, None, print).classes[:3] == ("1", "10", "2")
    with pytest.raises(mg.ConfigError, match=r"--label must be in 0 \.\. 9, got 10"):
        parse_label(game, "10")  # its names are not known: a number, and no guess
    change_record(Run(folder), data="0" * 16)
    with pytest.raises(mg.DataError, match=r"\(0000.* now; images: unknown then, 20 now\)"):
        resume(folder, steps=4)


def test_a_run_inside_the_pictures_is_not_trained_on(tmp_path, monkeypatch, capsys):
    folder = put(tmp_path / "photos", [f"{i}.png" for i in range(20)])
    monkeypatch.chdir(folder)
    sizes = ("--image-size", 16, "--width", 2, "--z-dim", 8, "--batch-size", 8)
    options = ("--images", ".", *sizes, "--threads", 1)
    monkeypatch.setattr("minigan.cli.train.finish", lambda run, log: None)
    for out in ([], ["--out", "b"]):
        assert run("train", *options, "--steps", 1, *out) == 0
    (first,) = (folder / "runs").iterdir()
    assert run("sample", first, "--n", 4, "--out", ".") == 0
    assert run("train", *options, "--steps", 1, "--out", "c") == 0
    for made in (first, folder / "b", folder / "c"):
        assert json.loads((made / "config.json").read_text())["images"] == 20
    assert run("train", "--resume", first, "--steps", 2) == 0
    assert f"left out 3 runs of minigan: b, c, runs/{first.name}" in capsys.readouterr().out
