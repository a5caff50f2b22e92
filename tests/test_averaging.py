"""The average of G's weights: against its formula, in a run, and against a run without it."""

import csv
import json

import numpy as np
import pytest

import minigan as mg
import minigan.training.loop
from minigan.averaging import Average
from minigan.cli.main import main
from minigan.data.files.npz import load_arrays, unpack
from minigan.training.config import new_config
from minigan.training.game import Game
from minigan.training.open_game import open_game
from minigan.training.run_folder import Run
from tests.pictures import noise

TRAIN = (
    "train",
    "--width",
    4,
    "--batch-size",
    16,
    "--z-dim",
    8,
    "--seed",
    3,
    "--steps",
    12,
    "--sample-every",
    6,
)


@pytest.fixture(autouse=True)
def few_pictures(monkeypatch):
    monkeypatch.setattr(minigan.training.loop, "load_dataset", noise(100))
    monkeypatch.setattr(minigan.training.loop, "finish", lambda run, log, tables: None)


def run(*options):
    return main(list(map(str, options)))


def two_nets(backend):
    def net():
        made = mg.Sequential([mg.Linear(6), mg.BatchNorm(), mg.Tanh()], name="G")
        made.setup((3,), backend=backend, rng=np.random.default_rng(0))
        return made

    return net(), net()


@pytest.mark.parametrize("decay", (0.0, 0.5, 0.9, 0.999))
def test_is_the_weighted_mean_of_all_steps(make_backend, decay):
    backend, rng = make_backend("float64"), np.random.default_rng(1)
    net, source = two_nets(backend)
    average, seen = Average(net, source, decay), []
    for t in range(1, 8):
        for array in (source.store.flat_params, *source.buffers.values()):
            array[...] = backend.asarray(rng.standard_normal(array.shape))
        arrays = {**source.params, **source.buffers}
        seen.append({name: backend.to_host(array).copy() for name, array in arrays.items()})
        average.update()
        weights = np.array(
            [decay ** (t - 1 - i) for i in range(t)]
        )  # 0⁰ = 1: without decay, the last step alone
        for name, array in {**net.params, **net.buffers}.items():
            expected = sum(
                w * each[name] for w, each in zip(weights / weights.sum(), seen, strict=True)
            )
            np.testing.assert_allclose(backend.to_host(array), expected, rtol=1e-12, atol=1e-14)
    assert average.steps == 7 and all(
        np.array_equal(backend.to_host(source.params[name]), seen[-1][name])
        for name in source.params
    )


def test_float32_stays_float32(make_backend):
    backend = make_backend("float32")
    net, source = two_nets(backend)
    Average(net, source, 0.9).update()
    assert all(array.dtype == np.float32 for array in (*net.params.values(), *net.buffers.values()))


def test_the_game_goes_on_as_without_it(tmp_path):
    for name, options in (("without", ("--ema", 0)), ("with", ("--ema", 0.9))):
        assert run(*TRAIN, *options, "--out", tmp_path / name) == 0
    plain, averaged = (
        unpack(load_arrays(tmp_path / name / "checkpoints/step-00000012.npz"), "")
        for name in ("without", "with")
    )
    for section, arrays in plain[0].items():
        for name, array in arrays.items():
            assert np.array_equal(array, averaged[0][section][name])
    assert set(averaged[0]) - set(plain[0]) == {"G average"} and averaged[1]["average_steps"] == 12
    start = "samples/step-00000000.png"
    assert (tmp_path / "with" / start).read_bytes() == (
        tmp_path / "without" / start
    ).read_bytes()  # nothing to average yet
    end = "samples/step-00000012.png"
    assert (tmp_path / "with" / end).read_bytes() != (tmp_path / "without" / end).read_bytes()


def test_pictures_are_of_the_average(tmp_path):
    """Grids while it trains, generator.npz, `sample`: all from one net."""
    out = tmp_path / "a"
    assert run(*TRAIN, "--ema", 0.9, "--out", out) == 0
    sections, _ = unpack(load_arrays(out / "checkpoints/step-00000012.npz"), "")
    saved = load_arrays(out / "generator.npz")
    assert saved.keys() == sections["G average"].keys()
    assert all(np.array_equal(saved[name], sections["G average"][name]) for name in saved)
    assert not np.array_equal(saved["0.W"], sections["G"]["0.W"])
    assert run("sample", out, "--n", 20, "--out", tmp_path / "a.npy") == 0
    game, _ = open_game(Run(out))
    assert np.array_equal(
        np.load(tmp_path / "a.npy"), game.sample(20, game.stream("sample", seed=0))
    )
    z = game.draw_z(20, game.stream("sample", seed=0))
    plain = Game(
        new_config(
            {"preset": "mnist", "width": 4, "batch_size": 16, "z_dim": 8, "seed": 3, "ema": 0.0}
        )
    )
    for name, array in {**plain.G.params, **plain.G.buffers}.items():
        array[...] = sections["G average"][name]
    assert np.array_equal(plain.pictures(z, None), game.pictures(z, None))


def test_going_on_gives_the_same_bytes(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run(*TRAIN, "--ema", 0.9, "--out", whole) == 0
    assert run(*TRAIN[:-4], "--steps", 5, "--sample-every", 6, "--ema", 0.9, "--out", parts) == 0
    assert run("train", "--resume", parts, "--steps", 12) == 0
    for name in ("generator.npz", "checkpoints/step-00000012.npz", "samples/step-00000012.png"):
        assert (whole / name).read_bytes() == (parts / name).read_bytes()


def test_a_run_from_before_there_was_an_average_goes_on(tmp_path):
    out = tmp_path / "a"
    assert run(*TRAIN, "--ema", 0, "--out", out) == 0
    record = json.loads((out / "config.json").read_text())
    assert record["options"].pop("ema") == 0
    (out / "config.json").write_text(json.dumps(record))
    assert run("train", "--resume", out, "--steps", 14) == 0
    assert "G average" not in unpack(load_arrays(out / "checkpoints/step-00000014.npz"), "")[0]


def test_mistakes_in_one_line(tmp_path, capsys):
    for value in (1, -0.1, "nan"):
        assert run(*TRAIN, "--ema", value, "--out", tmp_path / "a") == 2
        assert "--ema must be at least 0 and below 1" in capsys.readouterr().err
    out = tmp_path / "b"
    assert run(*TRAIN, "--ema", 0.9, "--out", out) == 0
    capsys.readouterr()
    assert run("train", "--resume", out, "--ema", 0, "--steps", 14) == 2
    assert "does not fit the run" in capsys.readouterr().err
    with open(out / "metrics.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 12  # nothing was lost by it
