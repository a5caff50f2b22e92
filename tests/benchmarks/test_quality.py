"""quality.py: two that train, compared at equal steps and at equal time."""

from argparse import Namespace
from dataclasses import asdict

import numpy as np
import pytest

import minigan as mg
from benchmarks import agreement, contenders, quality, results
from benchmarks.contenders import minigan_learner
from benchmarks.contenders.operations import rotate
from minigan.data import load_dataset
from minigan.data.files.npz import load_arrays
from minigan.evaluation import Classifier, split
from minigan.evaluation.classifier import classifier_file
from minigan.training import game as game_module
from minigan.training.config import new_config
from minigan.training.loop import train
from tests.support.mean_pixel import MeanPixel
from tests.support.pictures import dataset

SHORT = ["--dataset", "strokes", "--width", "2", "--seeds", "2", "--steps", "3", "--every", "2"]
SHORT += ["--preset", "fredriksson-fnn", "--samples", "500"]


def load_torch_learner():
    """-> the module; skips the test without PyTorch."""
    path = "benchmarks.contenders.torch_learner"
    return pytest.importorskip(path, exc_type=contenders.Missing)


def task(folder, preset, **options):
    """-> arguments of a Learner: images of noise, three batches of 4 and one of 2 in an epoch."""
    fixed = {"preset": preset, "batch_size": 4, "width": 2, "steps": 9, "dataset": "strokes"}
    config = new_config({**fixed, **options})
    images = np.random.default_rng(0).integers(0, 256, (14, *config.image_shape), np.uint8)
    np.save(folder / "images.npy", images)
    return {"config": asdict(config), "images": str(folder / "images.npy")}


def test_verdict_counts():
    """Twice as fast, and at equal steps the same but for one point."""
    distances = [[8.0, 4.0, 1.0], [8.8, 4.4, 1.1]]

    def row(name, seconds, factor):
        curves = [
            {"seconds": seconds, "distance": [values[0] * factor, *values[1:]]}
            for values in distances
        ]
        return {"name": name, "curves": curves, "peak_mib": 1.0, "idle": 0.0, "versions": {}}

    rows = [row("minigan", [1.0, 2.0, 3.0], 1.0), row("torch", [2.0, 4.0, 6.0], 100.0)]
    facts = {"cpu": "Abacus", "threads": 2, "python": "3", "blas": "openblas"}
    net = {"preset": "mnist", "width": 2, "batch": 4, "data": "strokes", "steps": [1, 2, 3]}
    evaluator = {"samples": 1000, "floor": 0.5, "judge": {"name": "0"}}
    absent = {"name": "torch-cl", "absent": "slower"}
    record = {**net, **evaluator, "machine": facts, "contenders": [*rows, absent]}
    lines = "\n".join(quality.table(record))
    assert (
        "equal steps: the intervals overlap at 2 of 3 points; at step 3 1.00 x torch's distance"
        in lines
    )
    assert "minigan 3.0 s, torch 6.0 s (2.00 x minigan's)" in lines
    assert (
        "equal time: minigan is ahead at 3 of 3 points, beyond the intervals at 3, and behind "
        "beyond them at 0; after 3.0 s" in lines
    )


@pytest.fixture
def strokes(tmp_path, monkeypatch):
    """Strokes, and a classifier of them that has learned nothing."""
    data = load_dataset("strokes", limit=2600)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(quality, "load_images", lambda *arguments: data)
    real = split(data, None, "crop")
    classifier = Classifier((28, 28, 1), 10, mg.get_backend("numpy"), np.random.default_rng(0))
    classifier.save(classifier_file(real))


def check_quality(tmp_path, capsys, *arguments):
    """Run quality.py -> its record."""
    file = tmp_path / "result.json"
    code = quality.main([*SHORT, *arguments, "--json", str(file)])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    assert "torch: relative difference at steps 1 to 3" in captured.out
    assert "equal steps: the intervals overlap at" in captured.out
    (record,) = results.load(file)
    assert record["steps"] == [2, 3] and record["data"] == "strokes" and record["floor"] > 0
    assert [row["name"] for row in record["contenders"]] == ["minigan", "torch"]
    for row in record["contenders"]:
        assert len(row["curves"]) == 2
        for curve in row["curves"]:
            assert curve["seconds"] == sorted(curve["seconds"])
            assert len(curve["distance"]) == 2 and min(curve["distance"]) > 0
    assert str(tmp_path) not in file.read_text()
    return record


@pytest.fixture
def evaluated(monkeypatch):
    """Images of zeros, and MeanPixel."""
    monkeypatch.setattr(quality, "Evaluator", MeanPixel)
    data = dataset(np.zeros((300, 28, 28, 1), np.uint8), name="strokes")
    monkeypatch.setattr(quality, "load_images", lambda *arguments: data)


def test_quality_from_end_to_end(tmp_path, capsys, monkeypatch, evaluated, quick):
    """minigan against itself: the same distances. And the figure."""
    pytest.importorskip("matplotlib")
    learners = dict.fromkeys(("minigan", "torch"), contenders.LEARNERS["minigan"])
    monkeypatch.setattr(contenders, "LEARNERS", learners)
    picture = tmp_path / "quality.png"
    record = check_quality(tmp_path, capsys, "--against", "torch", "--plot", str(picture))
    ours, theirs = ([c["distance"] for c in row["curves"]] for row in record["contenders"])
    assert ours == theirs and ours[0] != ours[1]
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_folder_of_pictures(tmp_path):
    """Its place is not recorded."""
    options = quality.parse(["--preset", "color32", "--images", str(tmp_path / "photos")])
    assert options.config.images == str(tmp_path / "photos")
    assert quality.described(options.config)["images"] == "photos"
    assert quality.described(quality.parse([]).config)["images"] is None


def test_real_images_are_the_floor(strokes):
    options = Namespace(config=new_config({"dataset": "strokes"}), data_dir=None, samples=500)
    evaluator = quality.Evaluator(options, quality.load_images(), print)
    assert evaluator.record()["samples"] == 500
    assert 0 < evaluator.floor < evaluator.distance(np.zeros((500, 28, 28, 1), np.uint8))
    options.samples = 521
    with pytest.raises(mg.ConfigError, match="--samples must be 500 to 520, the images of strokes"):
        quality.Evaluator(options, quality.load_images(), print)


@pytest.mark.slow
def test_quality_against_torch(tmp_path, capsys, evaluated):
    """In real processes."""
    load_torch_learner()
    record = check_quality(tmp_path, capsys, "--against", "torch")
    ours, theirs = ([c["distance"][0] for c in row["curves"]] for row in record["contenders"])
    assert ours != theirs and ours == pytest.approx(theirs, rel=0.5)  # each draws its own z


def test_minigan_trains_as_the_command_does(tmp_path, monkeypatch):
    """The same weights as of `minigan train` with the same options, bit for bit."""
    options = dict(seed=3, ema=0.9)
    arguments = task(tmp_path, "mnist", **options)
    learner = minigan_learner.Learner(**arguments)
    learner.run(9)
    data = dataset(np.load(arguments["images"]), name="strokes")
    monkeypatch.setattr("minigan.training.loop.load_images", lambda *a: data)
    options |= dict(preset="mnist", batch_size=4, width=2, steps=9, dataset="strokes")
    run = train(options, out=tmp_path / "run", log=lambda line: None)
    saved = load_arrays(run.checkpoints.generator_file)
    for name, array in learner.game.drawn_from.ready().state().items():
        np.testing.assert_array_equal(array, saved[name])


@pytest.mark.slow
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("preset", ["mnist", "color32"])
def test_learners_start_alike(tmp_path, preset, channels_last):
    """The same weights, and the same batches over two epochs, the small last ones too; exactly."""
    torch_learner = load_torch_learner()
    arguments = task(tmp_path, preset, flip=True, seed=7)
    ours = minigan_learner.Learner(**arguments)
    theirs = torch_learner.Learner(**arguments, channels_last=channels_last)
    for net, twin in ((ours.game.G, theirs.G), (ours.game.D, theirs.D)):
        for values, other in zip(net.params.values(), twin.parameters(), strict=True):
            others = other.detach().numpy()  # rotated, channels first
            np.testing.assert_array_equal(*(np.sort(each, axis=None) for each in (values, others)))
    sizes = []
    for _ in range(8):
        images, _ = ours.batches.draw()
        others = theirs.to_tensor(theirs.batches.draw()[0]).permute(0, 2, 3, 1).numpy()
        np.testing.assert_array_equal(images, rotate(others, theirs.rotated))
        sizes.append(len(images))
    assert sizes == [4, 4, 4, 2] * 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "preset", ["mnist", "color32", "jindal-mnist64", "fredriksson-mnist", "fredriksson-fnn"]
)
def test_learners_play_the_presets_round(tmp_path, preset, monkeypatch):
    """Soft targets, R1 and rates that fall, G first, Adam's other epsilon, both distributions of z.

    Losses of a whole epoch and one step; then images, drawn from the average of G's weights.
    """
    torch_learner = load_torch_learner()
    for module in (torch_learner, game_module):
        monkeypatch.setattr(module, "STAIR", 2)
    options = dict(lr_decay=1) if preset == "color32" else {}
    arguments = task(tmp_path, preset, lr_g=1e-4, lr_d=1e-4, ema=0.7, **options)
    ours = minigan_learner.Learner(**arguments)
    theirs = torch_learner.Learner(**arguments, channels_last=True)
    our_losses, their_losses = np.array(ours.losses(5)), np.array(theirs.losses(5))
    np.testing.assert_allclose(their_losses[0], our_losses[0], rtol=1e-5)
    np.testing.assert_allclose(their_losses, our_losses, rtol=1e-3)
    agreement.expect_same_images(theirs.probes(), ours.probes())
    average, last, apart = ours.game.drawn_from.params, ours.game.G.params, []
    for name, other in zip(average, theirs.drawn_from.parameters(), strict=True):
        mean = np.sort(average[name], axis=None)
        np.testing.assert_allclose(np.sort(other.detach().numpy(), axis=None), mean, atol=1e-5)
        apart.append(np.abs(mean - np.sort(last[name], axis=None)).max())
    assert max(apart) > 3e-5
    assert ours.steps() == theirs.steps() == 9
