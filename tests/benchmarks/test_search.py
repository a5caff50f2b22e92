"""search.py: candidates are preset mnist with something changed."""

import pickle
from functools import partial

import numpy as np
import pytest

from benchmarks import quality, results, search
from benchmarks.search_nets import COLOR_NETS, NETS
from minigan.presets import get_preset
from minigan.presets.own import PRESETS
from minigan.training.config import new_config
from tests.support.mean_pixel import MeanPixel
from tests.support.pictures import dataset

MNIST = {"preset": "mnist", "dataset": "strokes"}


@pytest.fixture(scope="module")
def data():
    return dataset(np.zeros((300, 28, 28, 1), np.uint8), name="strokes")


def layers_of(game):
    return [layer.describe() for layer in (*game.G.layers, *game.D.layers)]


def test_a_candidate_changes_what_it_names(data):
    text = "batch_size=64 lr_g=4e-3 z=uniform beta2=0.99 real_target=0.9 net=k5"
    options, changed = search.parse_candidate(text)
    assert options == {"batch_size": 64, "lr_g": 0.004, "z": "uniform", "real_target": 0.9}
    assert changed["settings"] == {"beta2": 0.99}
    changes = "batch_size=8 width=2 net=k5 real_target=0.9"
    game, batches = search.make(MNIST, changes, data, seed=1)
    assert batches.draw()[0].shape == (8, 28, 28, 1)
    assert game.G.params["4.W"].shape == (5, 5, 2, 4)
    assert game.preset.objective.real_target == 0.9
    assert get_preset("mnist") is PRESETS["mnist"]  # nothing of it is left


def test_every_candidate_of_the_list_differs_from_the_preset():
    preset, found = new_config({"preset": "mnist"}), []
    for text in search.CANDIDATES:
        options, changed = search.parse_candidate(text)
        assert not options or any(getattr(preset, name) != options[name] for name in options), text
        found.append(str((options, changed)))
    assert len(set(found)) == len(search.CANDIDATES)


@pytest.mark.parametrize("net", NETS)
def test_every_net_makes_digits(net, data):
    game, _ = search.make(MNIST, f"net={net} width=2", data, 0)
    assert game.G.out_shape == (28, 28, 1) and game.D.out_shape == (1,)
    if net == "start3-deep":
        assert layers_of(game) == layers_of(search.make(MNIST, "width=2", data, 0)[0])


def test_color_nets_have_none_or_two_of_the_preset_s_3x3_convolutions():
    pictures = dataset(np.zeros((20, 32, 32, 3), np.uint8), name="cifar10")
    base = {"preset": "color32", "dataset": "cifar10"}
    before = layers_of(search.make(base, "width=2", pictures, 0)[0])
    for net, expected in zip(COLOR_NETS, (0, 2 * 2), strict=True):
        layers = layers_of(search.make(base, f"width=2 net={net}", pictures, 0)[0])
        assert layers.count("Conv2d 4->4, k3 s1 p1") == expected, net
        more = expected - before.count("Conv2d 4->4, k3 s1 p1")
        assert len(layers) - len(before) == more // 2 * (3 + 2), net  # D has no BatchNorm


@pytest.mark.parametrize("text", search.COLOR_CANDIDATES[1:])
def test_every_candidate_for_color_pictures_plays_a_step(text):
    pictures = dataset(np.zeros((20, 32, 32, 3), np.uint8), name="cifar10")
    preset = {"preset": "color32", "dataset": "cifar10"}
    before, _ = search.make(preset, "width=2 batch_size=8", pictures, 0)
    game, batches = search.make(preset, f"width=2 batch_size=8 {text}", pictures, 0)
    assert layers_of(before) != layers_of(game) or before.config != game.config, text
    assert np.isfinite(game.read(game.round(batches))["loss_g"])


def test_search_from_end_to_end(data, tmp_path, capsys, monkeypatch):
    """The distance of a sample is its mean pixel."""

    monkeypatch.setattr(quality, "Evaluator", MeanPixel)
    monkeypatch.setattr(search, "load_images", lambda *arguments: data)
    monkeypatch.setattr(
        search, "time_step", lambda base, text, data: (0.02, 2.0 if "=128" in text else 1.0)
    )
    file, rates = tmp_path / "result.json", " width=2 lr_g=0.1"
    arguments = ["batch_size=64" + rates, "batch_size=128" + rates, "--dataset", "strokes"]
    arguments += ["--seconds", "0.04,0.08", "--samples", "500", "--averages", "0,0.9"]
    for seeds in ("1", "2"):
        code = search.main([*arguments, "--seeds", seeds, "--json", str(file)])
        assert code == 0, capsys.readouterr().err
    printed = capsys.readouterr().out
    assert "a step of the preset: 20.0 ms" in printed and "2 seeds, their geometric mean" in printed
    one, two = results.load(file)
    assert [row["steps"] for row in one["candidates"]] == [2, 4, 1, 2]
    assert [row["seconds"] for row in one["candidates"]] == [0.04, 0.08] * 2
    for first, both in zip(one["candidates"], two["candidates"], strict=True):
        for decay in ("0.0", "0.9"):  # the same steps give the same images
            assert first["distances"][decay] == both["distances"][decay][:1]
            assert len(both["distances"][decay]) == 2
        differ = first["distances"]["0.0"] != first["distances"]["0.9"]
        assert differ or first["steps"] <= 2  # the average of few steps is close to G


def test_a_training_beside_others_is_the_same_on_one_thread(data, monkeypatch):
    monkeypatch.setattr(quality, "Evaluator", MeanPixel)
    monkeypatch.setattr(search, "load_images", lambda *arguments: data)
    candidate = "batch_size=8 width=2"
    options = search.parse([candidate, "--dataset", "strokes", "--averages", "0,0.9"])
    job = pickle.loads(pickle.dumps(partial(search.train_alone, options)))  # as it gets there
    base, evaluator = {**MNIST, "threads": 1}, MeanPixel(options, data, print)
    expected = search.train(base, candidate, data, 1, [1, 3], options.averages, evaluator)
    assert job(candidate, 1, [1, 3]) == expected


def test_r1_costs_nothing_more_where_the_preset_has_it():
    assert search.cost_of("lr_g=1e-3 r1=2 width=8") == "width=8"
    assert search.cost_of("r1=2", has_r1=False) == "r1=2" and search.cost_of("r1=0") == "r1=0"


def test_classes_that_the_images_do_not_have_are_refused(data, capsys, monkeypatch):
    monkeypatch.setattr(quality, "Evaluator", MeanPixel)
    monkeypatch.setattr(search, "load_images", lambda *arguments: data)
    assert search.main(["--dataset", "strokes", "classes=5"]) == 2
    assert "classes=5: strokes has 10 classes" in capsys.readouterr().err


def test_the_slower_candidate_has_the_larger_ratio(data, monkeypatch):
    monkeypatch.setattr(search, "ROUNDS", 3)
    monkeypatch.setattr(search, "STEPS", 1)
    seconds, ratio = search.time_step(MNIST, "batch_size=8", data)
    assert 0 < seconds < 5 and 0 < ratio < 1
