"""Features of D and a linear SVM on top: cells against loops, the SVM against what is known of it, and the program on toy pictures."""

import shutil
import sys

import numpy as np
import pytest

import minigan as mg
import minigan.training.loop
from minigan import ConfigError, RunError
from minigan.cli.main import main
from minigan.data.files.npz import load_arrays, save_arrays
from minigan.evaluation import svm
from minigan.inspection.open_run import (
    hold_discriminator,
    open_discriminator,
    open_still,
    untrained,
)
from minigan.inspection.partial_passes import activations
from minigan.inspection.pooled_features import cells, feature_count, features, map_layers, pool
from minigan.layers import Conv2d, Flatten, LeakyReLU, Linear
from minigan.presets import get_preset
from tests.pictures import dataset, noise
from tests.programs import load_program

SHAPE = (16, 16, 1)
TRAIN = (
    "--image-size",
    16,
    "--width",
    3,
    "--z-dim",
    8,
    "--batch-size",
    16,
    "--lr-g",
    2e-3,
    "--lr-d",
    1e-3,
    "--beta1",
    0.5,
)


def pictures(count, shape=SHAPE, seed=0):
    """-> images of ten classes in turn: waves in a direction of the class's own, which begin anywhere. Pixels tell little of it."""
    rng, (rows, columns) = np.random.default_rng(seed), np.mgrid[: shape[0], : shape[1]]
    images = np.empty((count, *shape), np.uint8)
    for i, image in enumerate(images):
        angle = np.pi * (i % 10) / 10
        wave = np.sin(
            1.3 * (rows * np.cos(angle) + columns * np.sin(angle)) + rng.uniform(0, 2 * np.pi)
        )
        image[...] = np.clip(128 + 90 * wave + rng.normal(0, 25, wave.shape), 0, 255)[..., None]
    return images


def load(name, data_dir=None, *, image_shape=SHAPE, **options):
    return dataset(pictures(1000, image_shape), name)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """-> folder of a run of a few steps on those pictures."""
    folder = tmp_path_factory.mktemp("runs") / "toy"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(minigan.training.loop, "load_dataset", load)
        patch.setattr(minigan.training.loop, "finish", lambda run, log, tables: None)
        assert (
            main(
                [
                    "train",
                    "--dataset",
                    "strokes",
                    *map(str, TRAIN),
                    "--steps",
                    "40",
                    "--out",
                    str(folder),
                ]
            )
            == 0
        )
    return folder


@pytest.fixture
def program(monkeypatch):
    """The program, for few pictures."""
    monkeypatch.setattr(minigan.training.loop, "load_dataset", load)
    monkeypatch.setattr(minigan.training.loop, "finish", lambda run, log, tables: None)
    monkeypatch.setattr("minigan.evaluation.reference_images.LEAST", 50)
    return load_program("features_table")


# -- cells ----------------------------------------------------------------------


@pytest.mark.parametrize("h, w", ((16, 16), (7, 7), (14, 5), (4, 9), (3, 2), (1, 1), (1, 13)))
def test_pool_is_that_of_plain_loops(h, w):
    """Row r, from r to r + 1, is in cell i where it shares something with i·h/g to (i + 1)·h/g."""
    maps = (
        np.random.default_rng(0).standard_normal((3, h, w, 2)) - 5
    )  # below 0: a maximum that begins with 0 would be wrong
    tall, wide = min(h, 4), min(w, 4)
    wanted = np.full((3, tall, wide, 2), -np.inf)
    for n, i, j, c in np.ndindex(wanted.shape):
        for r in range(h):
            for q in range(w):
                if (
                    (r + 1) * tall > i * h
                    and r * tall < (i + 1) * h
                    and (q + 1) * wide > j * w
                    and q * wide < (j + 1) * w
                ):
                    wanted[n, i, j, c] = max(wanted[n, i, j, c], maps[n, r, q, c])
    np.testing.assert_array_equal(pool(maps), wanted)


def test_how_seven_rows_are_cut():
    assert [list(range(7))[part] for part in cells(7)] == [[0, 1], [1, 2, 3], [3, 4, 5], [5, 6]]


def test_pool_is_pytorchs():
    torch = pytest.importorskip("torch")
    maps = np.random.default_rng(0).standard_normal((2, 14, 7, 3))
    theirs = torch.nn.functional.adaptive_max_pool2d(
        torch.from_numpy(maps.transpose(0, 3, 1, 2)), 4
    )
    np.testing.assert_array_equal(pool(maps), theirs.numpy().transpose(0, 2, 3, 1))


# -- features of D --------------------------------------------------------------


def of_preset(name, width, shape):
    D = mg.Sequential(get_preset(name).discriminator(width, shape), name="D")
    D.setup(shape, backend=mg.get_backend("numpy"), rng=np.random.default_rng(0))
    return D


@pytest.mark.parametrize(
    "name, width, shape, channels",
    (
        ("color32", 64, (32, 32, 3), 64 + 128 + 256),
        ("fredriksson-mnist", 32, (28, 28, 1), 32 + 64),
        ("tensorflow-mnist", 64, (28, 28, 1), 64 + 128),  # with Dropout after the kinks
        ("shibuya-svhn", 8, (32, 32, 3), 4 + 8 + 16),
    ),
)
def test_as_many_features_as_channels_give(name, width, shape, channels):
    assert feature_count(of_preset(name, width, shape)) == 16 * channels


def test_as_many_features_as_the_paper_has():
    layers = []
    for channels, stride in ((128, 1), (128, 2), (256, 1), (256, 2), (512, 1), (512, 2)):
        layers += [Conv2d(channels, 3, stride, "same"), LeakyReLU(0.2)]
    D = mg.Sequential([*layers, Flatten(), Linear(1)], name="D")
    D.setup((32, 32, 3), backend=mg.get_backend("numpy"), rng=np.random.default_rng(0))
    assert feature_count(D) == 28_672


def test_features_are_the_pooled_maps(run, program):
    """Of the images alone, in the order of the maps, and more than a batch of them."""
    game, _ = open_still(str(run))
    assert open_discriminator(game, str(run), print) == 40
    hold_discriminator(game, game.D, load("strokes"))
    images = pictures(37)
    found = features(game, game.D, images)
    maps = activations(game.D, (images / 127.5 - 1).astype(np.float32))
    wanted = np.concatenate([pool(maps[i]).reshape(37, -1) for i in map_layers(game.D)], axis=1)
    assert found.shape == (37, 16 * (3 + 3 + 6)) and found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(features(game, game.D, images[:16]), found[:16])
    before = untrained(game)
    hold_discriminator(game, before, load("strokes"))
    assert np.abs(features(game, before, images) - found).max() > 0.1


# -- the SVM --------------------------------------------------------------------


def test_svm_of_two_points():
    """x = ±1: b = 0 by symmetry, and w²/2 + 2C(1 - w)² is least at w = 4C/(1 + 4C)."""
    pytest.importorskip("scipy.optimize")
    for C in (0.01, 0.25, 10):
        W = svm.fit(np.array([[-1], [1]], np.float32), np.array([0, 1]), 2, C, tolerance=1e-6)
        np.testing.assert_allclose(
            W, [[-4 * C / (1 + 4 * C), 4 * C / (1 + 4 * C)], [0, 0]], atol=1e-4
        )


def clouds(n=300, d=6, classes=4):
    """Points about a centre for each class, which overlap."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, n)
    return (rng.standard_normal((classes, d))[labels] + rng.standard_normal((n, d))).astype(
        np.float32
    ), labels


def test_svm_is_scikit_learns():
    pytest.importorskip("sklearn")
    from sklearn.svm import LinearSVC

    x, labels = clouds()
    theirs = LinearSVC(C=0.03, tol=1e-8, max_iter=100_000).fit(x, labels)
    W = svm.fit(x, labels, 4, 0.03, tolerance=1e-6)
    np.testing.assert_allclose(W, np.vstack([theirs.coef_.T, theirs.intercept_]), atol=2e-4)
    assert svm.right(W, x, labels) == round(theirs.score(x, labels) * len(x))


def test_where_it_begins_says_nothing():
    """L curves by 1 or more everywhere, so W is no further from the best one than its gradient is long."""
    pytest.importorskip("scipy.optimize")
    x, labels = clouds()
    cold = svm.fit(x, labels, 4, 0.1, tolerance=1e-6)
    warm = svm.fit(x, labels, 4, 0.1, svm.fit(x, labels, 4, 0.01), tolerance=1e-6)
    steepest = 0.1 * 2 * np.abs(x.T @ np.where(np.arange(4) == labels[:, None], 1, -1)).max()
    assert np.linalg.norm(warm - cold) <= 2 * 1e-6 * steepest * np.sqrt(warm.size)


def test_no_weights_are_better():
    """The loss written out once more, of W and of W moved a little both ways."""
    pytest.importorskip("scipy.optimize")
    x, labels = clouds()

    def loss(W):
        total = np.square(W).sum() / 2
        for k in range(4):
            for each, label in zip(x.astype(float), labels, strict=True):
                total += (
                    0.1 * max(0, 1 - (1 if label == k else -1) * (each @ W[:-1, k] + W[-1, k])) ** 2
                )
        return total

    W = svm.fit(x, labels, 4, 0.1, tolerance=1e-6).astype(float)
    for seed in range(4):
        step = 0.01 * np.random.default_rng(seed).standard_normal(W.shape)
        assert loss(W) < min(loss(W + step), loss(W - step))


def test_standardised_in_place():
    x = np.random.default_rng(0).normal(3, 5, (50, 4)).astype(np.float32)
    x[:, 2] = 7
    before = x.copy()
    mean, spread = svm.standardise(x)
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(x.std(axis=0), [1, 1, 0, 1], rtol=1e-5)
    np.testing.assert_allclose((before - mean) / spread, x, rtol=1e-6)


def test_how_C_is_chosen(monkeypatch):
    """By the fifth that is held out; of equals the smaller, and no more are tried after the first that does worse."""
    tried = []
    monkeypatch.setattr(
        svm,
        "fit",
        lambda x, labels, classes, C, start, *_: tried.append((len(x), C, start)) or len(tried),
    )
    counts = iter([5, 7, 7, 6, 9])
    monkeypatch.setattr(
        svm,
        "right",
        lambda W, x, labels: (
            next(counts) if len(x) == 4 and labels.tolist() == [16, 17, 18, 19] else None
        ),
    )
    W, C = svm.learn(np.zeros((20, 3), np.float32), np.arange(20), 4)
    assert W == 5 and svm.CS.index(C) == 1
    assert tried == [
        (16, svm.CS[0], None),
        (16, svm.CS[1], 1),
        (16, svm.CS[2], 2),
        (16, svm.CS[3], 3),
        (20, svm.CS[1], 2),
    ]


# -- the program ----------------------------------------------------------------


def rows(text):
    """-> name of a row: its columns"""
    table = [
        line
        for line in text.splitlines()
        if line.endswith(tuple("0123456789")) and "%" in line and len(line.split()) > 5
    ]
    return {line[:36].strip(): line[36:].split() for line in table}


def test_table_of_a_run(program, run, capsys):
    pytest.importorskip("scipy.optimize")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    program.features_table([str(run)])
    out = capsys.readouterr().out
    table = rows(out)
    assert list(table) == ["D of mnist, 40 steps", "the same D before its first step", "pixels"]
    assert [row[:2] for row in table.values()] == [["192", "800"], ["192", "800"], ["256", "800"]]
    trained, at_first, plain = (float(row[3].rstrip("%")) for row in table.values())
    assert trained > 80 and at_first > 80 and 20 < plain < 65
    assert (
        "200 images (held out of 1,000: no published test)" in out
        and "D has seen the images that are held out" in out
    )
    assert "not the paper's number, which is 82.8% with 28,672" in out
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_one_row_is_of_the_checkpoint_and_one_of_the_first_weights(program, run, tmp_path, capsys):
    """A D that has unlearnt everything tells nothing any more; before its first step it did."""
    pytest.importorskip("scipy.optimize")
    broken = shutil.copytree(run, tmp_path / "broken")
    (path,) = broken.glob("checkpoints/*40.npz")
    save_arrays(
        path, {name: array * (name[:2] != "D/") for name, array in load_arrays(path).items()}
    )
    program.features_table([str(broken)])
    trained, at_first, _ = (
        float(row[3].rstrip("%")) for row in rows(capsys.readouterr().out).values()
    )
    assert trained < 20 and at_first > 80


def test_images_whose_labels_say_nothing_are_guessed(program, run, monkeypatch, capsys):
    """What the table says does not come from the labels of the test."""
    pytest.importorskip("scipy.optimize")
    data = load("strokes")
    mixed = np.random.default_rng(0).permutation(data.labels)
    monkeypatch.setattr(
        minigan.training.loop,
        "load_dataset",
        lambda name, data_dir=None, **options: mg.data.Dataset(
            name, data.images, mixed, data.classes, data.fingerprint, None
        ),
    )
    program.features_table([str(run)])
    assert all(float(row[3].rstrip("%")) < 20 for row in rows(capsys.readouterr().out).values())


def test_published_test_images_and_fewer_for_the_memory(program, run, monkeypatch, capsys):
    pytest.importorskip("scipy.optimize")
    monkeypatch.setattr("minigan.evaluation.reference_images.TESTED", ("strokes",))
    monkeypatch.setattr(
        "minigan.evaluation.reference_images.load_test",
        lambda *_: (pictures(70, seed=1), np.arange(70) % 10),
    )
    monkeypatch.setattr(program, "MEMORY", 4 * 192 * 500)
    program.features_table([str(run), "--n", "300"])
    out = capsys.readouterr().out
    assert "70 images (its published test images)" in out and "held out" not in out
    assert [row[1] for row in rows(out).values()] == ["300"] * 3
    program.features_table([str(run)])
    assert [row[1] for row in rows(capsys.readouterr().out).values()] == ["500", "500", "375"]


def test_without_a_run_one_is_trained_and_gone_on_with(program, monkeypatch, tmp_path, capsys):
    pytest.importorskip("scipy.optimize")
    train, out = program.train, str(tmp_path / "new")
    small = {"image_size": "16x16", "width": 2, "z_dim": 4, "batch_size": 16}
    monkeypatch.setattr(
        program,
        "train",
        lambda options, **more: train(
            options if more.get("resume") else {**options, **small}, **more
        ),
    )
    monkeypatch.setattr("minigan.evaluation.reference_images.TESTED", ())
    for steps, end in (("4", "4"), ("6", "6"), ("6", "6")):
        program.features_table(["--steps", steps, "--out", out, "--n", "200"])
        text = capsys.readouterr().out
        assert f"D of color32, {end} steps" in text and "features of cifar10" in text


def test_mistakes_are_told_in_a_line(program, run, monkeypatch, tmp_path):
    def mistake(*options, kind=ConfigError):
        with pytest.raises(kind) as caught:
            program.features_table(list(map(str, options)))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    def trained(name, *options):
        assert (
            main(
                [
                    "train",
                    *map(str, options),
                    "--steps",
                    "1",
                    "--batch-size",
                    "20",
                    "--out",
                    str(tmp_path / name),
                ]
            )
            == 0
        )
        return tmp_path / name

    pytest.importorskip("scipy.optimize")
    assert "--n" in mistake(run, "--n", 5)
    assert "leave them, or RUN, out" in mistake(run, "--steps", 5)
    assert "is not the folder of a run" in mistake(tmp_path / "none", kind=RunError)
    with monkeypatch.context() as patch:
        patch.setattr(minigan.training.loop, "load_dataset", noise(1000))
        assert "D of preset radford-mnist-conditional is told the class" in mistake(
            trained("conditional", "--preset", "radford-mnist-conditional", "--width", 2)
        )
        assert "D has no convolutions" in mistake(
            trained("linear", "--preset", "shibuya-fnn", "--width", 8)
        )
    data = load("strokes")
    for labels, classes, words in (
        (None, (), "has no labels to learn"),
        (np.zeros(1000, int), ("cat",), "of one class"),
    ):
        with monkeypatch.context() as patch:
            changed = mg.data.Dataset(
                "strokes", data.images, labels, classes, data.fingerprint, None
            )
            patch.setattr(
                minigan.training.loop,
                "load_dataset",
                lambda name, data_dir=None, **options: changed,
            )
            assert words in mistake(run)
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    assert mistake(run).endswith("pip install scipy")
