"""The commands that look inside a run: pages of unlike networks, and mistakes."""

import shutil

import numpy as np
import pytest
from PIL import Image, ImageSequence

from minigan.data.files.npz import save_arrays
from minigan.data.files.png import load_png
from minigan.inspection import features, interpolation
from minigan.inspection.features import draw_features, last_map
from minigan.inspection.interpolation import draw_interpolation
from minigan.inspection.maps import draw_filters, draw_layer, draw_stages
from minigan.inspection.open_run import (
    draw_z,
    freeze_discriminator,
    generate,
    load_net,
    real_images,
)
from minigan.inspection.page_layout import save_page
from minigan.training.open_game import open_game, open_images
from minigan.training.run_folder import Run
from tests.support.commands import refused, run
from tests.support.inspected_runs import RUNS
from tests.support.pictures import noise
from tests.support.training_runs import open_game_module

pytestmark = pytest.mark.usefixtures("images_of_noise")


def assert_page(file, block):
    """The file is the page of this block, byte for byte."""
    save_page(file.with_name("expected.png"), block)
    assert file.read_bytes() == file.with_name("expected.png").read_bytes()


def opened(folder):
    """-> Game with D as it is inspected, and its images."""
    game, metadata = open_game(Run(folder))
    data = open_images(game, metadata, None, print)
    load_net(game.D, "D", Run(folder), print)
    freeze_discriminator(game, game.D, data)
    return game, data


@pytest.mark.parametrize("name", RUNS)
def test_every_command_draws_its_page_of_every_run(name, runs, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(features, "UNITS", 2)
    game, data = opened(runs[name])
    path = "spherical" if game.config.z == "normal" else "linear"
    x, labels = real_images(game, data, np.array([7]))
    title = "training image 7, of class 7"
    pages = {
        "interpolate": draw_interpolation(game, path, None, 0),
        "filters": draw_filters(game),
        "activations --image 7": draw_stages(game.D, x, labels, data.images[7], title),
        "features": draw_features(game, data, last_map(game.D)),
    }
    for line, page in pages.items():
        command, *options = line.split()
        file = tmp_path / f"{command}.png"
        assert run(command, runs[name], *options, "--out", file) == 0
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 1 + (command == "features") and lines[-1].startswith(f"{file}: ")
        assert_page(file, page)


@pytest.mark.parametrize(
    "name, label, path",
    (("plain", None, "spherical"), ("conditional", 3, "linear"), ("conditional", None, "linear")),
)
def test_the_page_of_an_interpolation(name, label, path, runs, tmp_path, capsys):
    """Each row goes from one sample to the next, in one class."""
    options = [] if label is None else ["--label", label]
    file = tmp_path / "a.png"
    assert run("interpolate", runs[name], *options, "--seed", 2, "--out", file) == 0
    assert capsys.readouterr().out == f"{file}: {path} interpolation between random z\n"
    in_all_classes = name == "conditional" and label is None
    page, rows, side, gap = load_png(file), 10 if in_all_classes else 9, 56, 3
    assert page.shape[1:] == (9 * side + 8 * gap + 2 * 20, 1)
    bottom = page[-20 - rows * side - (rows - 1) * gap : -20, 20:-20]
    step = side + gap
    shown = [
        [bottom[i * step : i * step + side, j * step : j * step + side] for j in range(9)]
        for i in range(rows)
    ]
    assert not np.array_equal(shown[0][0], shown[1][0])
    game, _ = open_game(Run(runs[name]))
    z, classes = draw_z(game, rows, 2), np.arange(rows) if in_all_classes else label or 0
    for column, points in ((0, z), (8, np.roll(z, -1, axis=0))):
        images = generate(game, points, classes).repeat(2, 1).repeat(2, 2)
        assert all(np.array_equal(shown[i][column], images[i]) for i in range(rows))


@pytest.mark.parametrize(
    "name, ending, size",
    (
        ("plain", "gif", (366, 366)),
        ("conditional", "gif", (456, 186)),
        ("color", "webp", (424, 296)),
    ),
)
def test_an_animation(name, ending, size, runs, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(interpolation, "FRAMES", 4)
    file = tmp_path / f"walk.{ending}"
    assert run("interpolate", runs[name], "--out", file) == 0
    times = []
    with Image.open(file) as image:
        for frame in ImageSequence.Iterator(image):
            frame.load()
            times.append(frame.info["duration"])
        assert image.size == size and image.info["loop"] == 0
    assert sum(times) == 1800 and len(times) <= 36  # equal frames may be kept as one
    assert "36 frames, 1.8 s" in capsys.readouterr().out


def test_sums_of_picked_samples(runs, tmp_path, capsys):
    picks = {"plain": ["3,14,15", "92,65,35", "89,79,32"], "conditional": ["0,10,20", "31,41", "2"]}
    picks["color"] = picks["plain"]
    for name, pick in picks.items():
        assert run("arithmetic", runs[name], "--out", tmp_path / "c.png", "--pick") == 0
        assert load_png(tmp_path / "c.png").shape[0] > 500
        said = capsys.readouterr().out
        assert "choose three groups, as in: minigan arithmetic" in said
        example = said.partition("--pick ")[2].split()
        assert run("arithmetic", runs[name], "--out", tmp_path / "b.png", "--pick", *example) == 0
        capsys.readouterr()
        assert run("arithmetic", runs[name], "--out", tmp_path / "a.png", "--pick", *pick) == 0
        page = load_png(tmp_path / "a.png")
        assert page.shape[0] > 300 and page.shape[2] == (3 if name == "color" else 1)
        line = capsys.readouterr().out
        assert "a.png: A - B + C" in line and ("pixels wide" in line) == (name != "color")


@pytest.mark.parametrize("layer", ("G", "G.1", "D.1", "D.13"))
def test_activations_of_any_layer(layer, runs, tmp_path, capsys):
    words = ["--layer", layer, "--image", 3, "--out", tmp_path / "a.png"]
    assert run("activations", runs["conditional"], *words) == 0
    assert "class 3" in capsys.readouterr().out
    game, data = opened(runs["conditional"])
    if layer.startswith("G"):
        net, z, title = game.sampled_net(), draw_z(game, 4, 0)[3:], "sample 3, of class 3"
        x, labels, image = game.backend.asarray(z), game.labels([3]), generate(game, z, 3)[0]
    else:
        net, image, title = game.D, data.images[3], "training image 3, of class 3"
        x, labels = real_images(game, data, np.array([3]))
    _, _, index = layer.partition(".")
    if index:
        page = draw_layer(net, int(index), x, labels, image, title)
    else:
        page = draw_stages(net, x, labels, image, title)
    assert_page(tmp_path / "a.png", page)


def test_features_of_a_chosen_layer(runs, tmp_path, capsys):
    assert run("features", runs["plain"], "--layer", "D.1", "--out", tmp_path / "a.png") == 0
    assert "a.png: units of D.1 (LeakyReLU 0.2), and what" in capsys.readouterr().out


@pytest.mark.parametrize(
    "line, message",
    (
        ("interpolate nowhere", "is not the folder of a run"),
        ("filters plain --out a.jpg", "--out must end in .png, got 'a.jpg'"),
        ("filters plain --out a.gif", "--out must end in .png, got 'a.gif'"),
        ("interpolate plain --out walk", "--out must end in .png or .gif or .webp"),
        ("interpolate plain --path straight", "--path must be one of linear, spherical, got"),
        ("interpolate plain --label 3", "--label needs classes"),
        ("interpolate conditional --label 10", "--label must be in 0 .. 9, got 10"),
        ("interpolate plain --seed -1", "--seed must be a whole number of at least 0"),
        ("activations plain --layer D.99", "there is no 'D.99': choose one of G.0 ("),
        ("features plain --layer G.0", "there is no 'G.0': choose one of D.0 ("),
        (
            "activations plain --image 50",
            "--image must be a whole number of at least 0 and at most",
        ),
        ("activations plain --layer G --image -1", "--image must be a whole number"),
        ("arithmetic plain --classes 7 seven", "--classes must be in 0 .. 9, got seven"),
        ("arithmetic color", "are in color: list samples with --pick"),
        ("arithmetic plain --pick 1,2 3", "--pick: expected three groups such as 3,14"),
        ("arithmetic plain --pick 1 2 x", "--pick: expected numbers of samples below 4096"),
        ("arithmetic conditional --pick 1 2 3,4", "group C mixes the classes 3, 4: choose samples"),
        ("arithmetic plain --pick 1 2 3 --classes 1 2", "both choose the groups: give one"),
        ("filters", "the following arguments are required: RUN"),
    ),
)
def test_a_mistake_is_one_line(line, message, runs, monkeypatch, capsys):
    folder = runs["plain"].parent
    monkeypatch.chdir(folder)
    before = sorted(folder.rglob("*"))
    assert message in refused(capsys, *line.split())
    assert sorted(folder.rglob("*")) == before


def test_samples_of_too_few_classes(runs, capsys, monkeypatch):
    monkeypatch.setattr("minigan.inspection.sample_groups.DRAWN", 100)
    line = refused(capsys, "arithmetic", runs["plain"])
    assert "of 100 samples are clearly of class '7': train longer, or list samples" in line


def test_runs_that_lack_something(runs, tmp_path, monkeypatch, capsys):
    broken = shutil.copytree(runs["plain"], tmp_path / "broken")
    for checkpoint in (broken / "checkpoints").iterdir():
        checkpoint.write_bytes(b"no archive")
    assert run("filters", broken) == 2
    shown = capsys.readouterr()
    assert "passing over a checkpoint" in shown.out and "has no usable checkpoint" in shown.err
    shutil.rmtree(broken / "checkpoints")
    assert "has no usable checkpoint, and only checkpoints" in refused(capsys, "features", broken)
    assert run("interpolate", broken) == 0  # G is enough
    game, _ = open_game(Run(broken))
    game.G.ready().flat_params[:] = np.nan
    save_arrays(broken / "generator.npz", game.G.ready().state())
    assert "the generator outputs NaN" in refused(capsys, "interpolate", broken, code=1)
    assert "NaN" in refused(capsys, "activations", broken, "--layer", "G.0", code=1)
    (broken / "generator.npz").unlink()
    assert "generator.npz does not exist: wait" in refused(capsys, "interpolate", broken)


def test_images_that_have_changed(runs, monkeypatch, capsys):
    data = noise(50)("mnist")
    changed = type(data)(data.name, data.images, data.labels, data.classes, "1" * 16, None)
    monkeypatch.setattr(open_game_module, "load_dataset", lambda *names, **options: changed)
    line = refused(capsys, "features", runs["plain"])
    assert "are not those that the run was trained on" in line
