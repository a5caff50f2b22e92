"""The command `sample`: grids, arrays, files, and the training images beside them."""

import shutil
import sys
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest

import minigan as mg
from minigan.cli import sample as sample_module
from minigan.data.files.npz import load_arrays, save_arrays
from minigan.data.files.png import load_png
from tests.support.commands import refused, run
from tests.support.inspected_runs import SHAPES
from tests.support.pictures import noise
from tests.support.ranks import job, minigan, needs_mpi
from tests.support.training_runs import content


def test_sample(runs, tmp_path, capsys):
    file = tmp_path / "a.npy"
    assert run("sample", runs["color"], "--n", 20, "--seed", 3, "--out", file) == 0
    assert capsys.readouterr().out == f"20 images (16, 24, 3) in {file}\n"
    images = np.load(file)
    assert images.shape == (20, *SHAPES["color"]) and images.dtype == np.uint8
    assert run("sample", runs["color"], "--n", 4, "--seed", 3, "--out", tmp_path / "b.PNG") == 0
    grid = load_png(tmp_path / "b.PNG")
    assert grid.shape == (2 * 18 + 2, 2 * 26 + 2, 3)
    np.testing.assert_array_equal(grid[2:18, 2:26], images[0])
    assert run("sample", runs["conditional"], "--label", 3, "--n", 2, "--out", file) == 0
    assert run("sample", runs["conditional"], "--n", 4, "--out", tmp_path / "c.npy") == 0
    third = np.load(tmp_path / "c.npy")[3]
    assert np.load(file).shape == (2, 28, 28, 1) and not np.array_equal(np.load(file)[0], third)


def test_one_sample_alone_is_the_first_of_many(runs, tmp_path):
    """In the net's own size, without a frame."""
    for name in ("plain", "conditional", "color"):
        assert run("sample", runs[name], "--n", 1, "--out", tmp_path / "one.png") == 0
        assert run("sample", runs[name], "--n", 64, "--out", tmp_path / "many.npy") == 0
        one, many = load_png(tmp_path / "one.png"), np.load(tmp_path / "many.npy")
        np.testing.assert_array_equal(one, many[0])


def test_a_label_alone_is_as_in_a_mixed_draw(runs, tmp_path):
    """For the same z; by --statistics batch it is not, as in the published program."""
    equal = {}
    for statistics in ("frozen", "batch"):
        for label in ("", "--label 7"):
            words = ["--n", 30, "--statistics", statistics, *label.split()]
            file = tmp_path / f"{statistics}{label}.npy"
            assert run("sample", runs["conditional"], *words, "--out", file) == 0
        mixed, sevens = (
            np.load(tmp_path / f"{statistics}{each}.npy") for each in ("", "--label 7")
        )
        equal[statistics] = np.array_equal(mixed[7::10], sevens[7::10])
    assert equal == {"frozen": True, "batch": False}


@pytest.mark.parametrize(
    "words, message",
    (
        (["nowhere", "--out", "a.png"], "nowhere is not the folder of a run"),
        (["{plain}"], "say where to write: --out FILE.png, --out FILE.npy, or --each DIR"),
        (["--out", "a.png"], "the following arguments are required: RUN"),
        (["{plain}", "--out", "a.jpg"], "--out must end in .png or .npy, got 'a.jpg'"),
        (["nowhere", "--out", "a.png", "--n", 0], "--n must be a whole number of at least 1, got"),
        (["nowhere", "--out", "a.png", "--seed", -1], "--seed must be a whole number of at least"),
        (["{plain}", "--out", "a.png", "--label", 3], "--label needs classes"),
        (["{conditional}", "--out", "a.png", "--label", 10], "--label must be in 0 .. 9, got 10"),
        (
            ["{plain}", "--out", "a.png", "--statistics", "batch"],
            "mnist samples by running statist",
        ),
        (["{plain}", "--out", "a.png", "--statistics", ""], "--statistics must be one of frozen,"),
        (
            ["{plain}", "--out", "a.png", "--best"],
            "best-generator.npz does not exist: --evaluate-every keeps one",
        ),
        (["{plain}", "--out", "no/a.png"], "cannot write no/a.png: No such file or directory"),
    ),
)
def test_mistakes_of_sample(words, message, runs, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in refused(capsys, "sample", *(str(word).format(**runs) for word in words))
    assert list(tmp_path.iterdir()) == []


def pictures(folder):
    """-> relative path -> image (h, w, c), of all files below the folder"""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): load_png(path) for path in found}


def test_each_sample_is_a_file(runs, tmp_path):
    for name in ("plain", "color"):
        words = ("--n", 21, "--seed", 2, "--each", tmp_path / name, "--out", tmp_path / "a.npy")
        assert run("sample", runs[name], *words) == 0
        found = pictures(tmp_path / name)
        assert list(found) == [f"{i:05}.png" for i in range(21)]
        np.testing.assert_array_equal(np.stack([*found.values()]), np.load(tmp_path / "a.npy"))


def test_conditional_samples_are_in_a_folder_for_each_class(runs, tmp_path):
    words = ("--n", 21, "--each", tmp_path / "each", "--out", tmp_path / "a.npy")
    assert run("sample", runs["conditional"], *words) == 0
    found, samples = pictures(tmp_path / "each"), np.load(tmp_path / "a.npy")
    assert len(found) == 21
    for path, image in found.items():
        label, name = path.split("/")
        i = int(name.removesuffix(".png"))
        assert int(label) == i % 10
        np.testing.assert_array_equal(image, samples[i])


def test_training_images_are_those_that_the_networks_saw(runs, images_of_noise, tmp_path, capsys):
    data = noise(50)("mnist", image_shape=(28, 28, 1))
    assert run("sample", runs["plain"], "--n", 30, "--real", tmp_path / "real") == 0
    assert capsys.readouterr().out == f"30 training images in {tmp_path / 'real'}\n"
    found = [image.tobytes() for image in pictures(tmp_path / "real").values()]
    assert len(set(found)) == 30 and set(found) <= {image.tobytes() for image in data.images}

    words = ("--n", 99, "--real", tmp_path / "all", "--label", 3)
    assert run("sample", runs["conditional"], *words) == 0
    assert ", all there are of class 3" in capsys.readouterr().out
    threes = {image.tobytes() for image in data.images[data.labels == 3]}
    assert {image.tobytes() for image in pictures(tmp_path / "all" / "3").values()} == threes


def test_training_images_are_drawn_by_the_seed_into_folders_of_their_classes(
    runs, images_of_noise, tmp_path
):
    data, drawn = noise(50)("mnist"), []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        words = ("--n", 9, "--seed", seed, "--real", tmp_path / name)
        assert run("sample", runs["conditional"], *words) == 0
        for path, image in pictures(tmp_path / name).items():
            (number,) = np.flatnonzero((data.images == image).all(axis=(1, 2, 3)))
            assert path.startswith(f"{data.labels[number]}/")
        drawn.append(content(tmp_path / name))
    assert drawn[0] == drawn[1] != drawn[2]


def test_the_best_g_is_sampled(with_best, tmp_path):
    for name, best in (("last", []), ("best", ["--best"])):
        assert run("sample", with_best, *best, "--n", 4, "--out", tmp_path / f"{name}.npy") == 0
    last, best = np.load(tmp_path / "last.npy"), np.load(tmp_path / "best.npy")
    assert not np.array_equal(last, best)
    np.testing.assert_array_equal(mg.load(with_best).sample(4, best=True), best)


@pytest.mark.slow
def test_many_samples_take_the_memory_of_one_batch(runs, tmp_path, monkeypatch):
    peaks = []
    for n in (200, 3000):
        tracemalloc.start()
        assert run("sample", runs["plain"], "--n", n, "--out", tmp_path / "a.npy") == 0
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert np.load(tmp_path / "a.npy").shape == (3000, 28, 28, 1)
    assert peaks[1] < peaks[0] + 2**20  # 3,000 images are 2.2 MiB


def test_a_folder_with_files_in_it_is_refused(runs, tmp_path, capsys):
    (tmp_path / "old.png").write_bytes(b"")
    for option in ("--each", "--real"):
        assert "is not empty: give a new folder" in refused(
            capsys, "sample", runs["plain"], option, tmp_path
        )
    assert "File exists" in refused(capsys, "sample", runs["plain"], "--each", tmp_path / "old.png")
    assert [path.name for path in tmp_path.iterdir()] == ["old.png"]


def test_samples_and_training_images_do_not_mix(runs, tmp_path, capsys):
    words = ("sample", runs["plain"], "--n", 2, "--each", tmp_path / "a")
    line = refused(capsys, *words, "--real", tmp_path / "b/../a")
    assert "--each and --real are both" in line and "another folder" in line
    assert pictures(tmp_path) == {}


def test_a_class_whose_name_is_no_folder_gets_its_number(runs, tmp_path, monkeypatch):
    """config.json may come from somebody else."""
    names = ("../up", "..", ".", "", "a/b", "cat", "x", "y", "\N{SNOWMAN}", "\x00")
    open_game = sample_module.open_game

    def renamed(*arguments, **options):
        game, metadata = open_game(*arguments, **options)
        game.class_names = names
        return game, metadata

    monkeypatch.setattr(sample_module, "open_game", renamed)
    in_ascii = SimpleNamespace(getfilesystemencoding=lambda: "ascii")  # as in the locale C
    monkeypatch.setattr(sample_module, "sys", in_ascii)
    assert run("sample", runs["conditional"], "--n", 10, "--each", tmp_path / "a" / "each") == 0
    folders = {path.parent.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png")}
    assert folders == {
        f"a/each/{name}" for name in ("0", "1", "2", "3", "4", "cat", "x", "y", "8", "9")
    }


# ---- on ranks


def expect_the_bytes_of_one_process(run_folder, folder, size, *words, environment=None):
    """The same words, on this process and on ranks."""

    def sample_on_ranks(*words):
        return minigan(size, *words, environment=environment).returncode

    for name, sample in (("one", run), ("ranks", sample_on_ranks)):
        place = folder / name
        place.mkdir()
        files = ("--out", place / "a.npy"), ("--out", place / "grid.png", "--each", place / "each")
        for out in files:
            assert sample("sample", run_folder, *words, *out) == 0
    found, expected = content(folder / "ranks"), content(folder / "one")
    assert len(found) > 2 and found == expected


@needs_mpi
def test_two_ranks_write_the_bytes_of_one_process(runs, tmp_path):
    """Of images that fill no round of batches."""
    words, environment = ("--n", 21, "--seed", 3), {"WHOLE": "1"}
    expect_the_bytes_of_one_process(runs["color"], tmp_path, 2, *words, environment=environment)


@needs_mpi
@pytest.mark.slow
@pytest.mark.parametrize("size, n", ((2, 64), (3, 1), (3, 130)))
@pytest.mark.parametrize("statistics", ("frozen", "batch"))
def test_any_number_of_ranks_writes_the_bytes_of_one_process(
    size, n, statistics, runs, tmp_path, hide_numba
):
    hide_numba()
    words = ("--n", n, "--statistics", statistics)
    expect_the_bytes_of_one_process(runs["conditional"], tmp_path, size, *words)


def sample_each(*words):
    """`minigan sample` on two ranks, each with its words."""
    first, second = ([sys.executable, "-m", "minigan", "sample", *each] for each in words)
    return job(1, *first[1:], ":", "-n", "1", *second)


@needs_mpi
@pytest.mark.slow
def test_ranks_must_have_the_same_options_and_files(runs, tmp_path):
    other, out = tmp_path / "other", ["--out", tmp_path / "a.npy"]
    shutil.copytree(runs["plain"], other)
    generator = load_arrays(other / "generator.npz")
    save_arrays(other / "generator.npz", {name: -array for name, array in generator.items()})
    for second, message in (
        ([runs["plain"], "--n", 3, *out], "other options"),
        ([runs["plain"], "--seed", 3, *out], "other options"),
        ([runs["plain"], "--real", tmp_path / "real"], "other options"),
        ([other, *out], "other files of the run"),
        ([tmp_path / "nowhere", *out], "is not the folder of a run"),
    ):
        done = sample_each([runs["plain"], *out], second)
        assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
        assert message in done.stderr and not (tmp_path / "a.npy").exists()


@needs_mpi
@pytest.mark.slow
@pytest.mark.parametrize(
    "words, message",
    [
        (["{plain}", "--n", "0", "--out", "a.png"], "--n must be"),
        (["nowhere", "--out", "a.png"], "is not the folder of a run"),
        (["{plain}"], "say where to write"),
        (["{plain}", "--label", "3", "--out", "a.png"], "--label needs classes"),
        (["{plain}", "--out", "no/a.png"], "cannot write no/a.png"),
        (["{plain}", "--best", "--out", "a.png"], "best-generator.npz does not exist"),
    ],
)
def test_mistakes_on_ranks_are_one_line(words, message, runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = minigan(3, "sample", *(word.format(**runs) for word in words))
    assert (done.returncode, done.stdout) == (2, "") and done.stderr.count("\n") == 1
    assert message in done.stderr and list(tmp_path.iterdir()) == []


@needs_mpi
@pytest.mark.slow
@pytest.mark.parametrize("rank", (0, 1))
@pytest.mark.parametrize("fault", ("raise", "SIGKILL", "SIGTERM"))
def test_a_fault_on_any_rank_ends_all_and_leaves_no_file(fault, rank, runs, tmp_path):
    words = ("sample", runs["plain"], "--n", 100, "--out", tmp_path / "a.npy")
    done = minigan(3, *words, fault=f"{fault}-draw", rank=rank)
    assert done.returncode and done.stderr.count("\n") == 1
    if fault != "SIGKILL":
        assert done.returncode == (1 if fault == "raise" else 143) and done.stdout == ""
        assert f"minigan: error: rank {rank} of 3: " in done.stderr
    assert not (tmp_path / "a.npy").exists()
