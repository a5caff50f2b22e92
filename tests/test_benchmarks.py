"""The benchmarks measure what they say: counts, twins, messages, and the table in the README."""

import json
from dataclasses import asdict
from importlib.util import find_spec
from math import e

import numpy as np
import pytest

import minigan as mg
from benchmarks import (
    bands,
    contenders,
    layers,
    machine,
    nets,
    quality,
    report,
    results,
    scaling,
    search,
    step,
)
from benchmarks.contenders import minigan_learner
from benchmarks.contenders.plan import pixel_order, turn
from benchmarks.race import BenchmarkError, Team
from minigan.cli.costs import net_flops, step_flops
from minigan.data import load_dataset
from minigan.data.files.npz import load_arrays
from minigan.evaluation import Classifier, split
from minigan.evaluation.classifier import classifier_file
from minigan.presets import get_preset
from minigan.presets.own import PRESETS
from minigan.training.config import new_config
from minigan.gan import LOSSES

PACKAGES = {
    "torch": "torch",
    "torch-cl": "torch",
    "keras": "tensorflow",
    "jax": "jax",
    "dezero": "dezero",
}
SMALL = dict(batch=6, width=4, image=None, device="cpu")


def build(preset, **options):
    return nets.build(preset, 2, mg.get_backend("numpy"), **options)


# -- FLOPs --------------------------------------------------------------------------------------


def test_flops_of_a_small_net_by_hand():
    """G: Linear 3->8, ConvTranspose2d 2->1 of 2x2 pixels, kernel 3; D: Conv2d 1->2 onto 2x2 pixels, kernel 3, Linear 8->1."""
    G = mg.Sequential(
        [
            mg.Linear(8),
            mg.Reshape((2, 2, 2)),
            mg.BatchNorm(),
            mg.ConvTranspose2d(1, 3, stride=2, padding="same"),
        ]
    )
    D = mg.Sequential(
        [mg.Conv2d(2, 3, stride=2, padding="same"), mg.LeakyReLU(0.2), mg.Flatten(), mg.Linear(1)]
    )
    for net, shape in ((G, (3,)), (D, (4, 4, 1))):
        net.setup(shape, backend=mg.get_backend("numpy"), rng=np.random.default_rng(0))
    linear_g, transposed, convolution, linear_d = 2 * 3 * 8, 2 * 4 * 9 * 2, 2 * 4 * 9 * 2, 2 * 8
    forward = linear_g + transposed
    in_g = forward + forward + transposed  # forward, dW, dx but for z's
    in_d = (
        3 * (convolution + linear_d)
        + 2 * (convolution + linear_d)
        + (convolution + linear_d)
        + 2 * linear_d
    )
    assert step_flops(G, D, 5, nets.RULES) == 5 * (in_g + in_d)
    assert net_flops(G) == (forward, linear_g)


@pytest.mark.parametrize("preset, gflop", [("fredriksson-mnist", 115), ("pytorch-64", 291)])
def test_flops_of_the_real_nets(preset, gflop):
    both = build(preset)
    assert round(step_flops(both.G, both.D, 128, nets.RULES) * 1e-9) == gflop


# -- twins --------------------------------------------------------------------------------------


def test_pixel_order_turns_and_moves_channels():
    image = np.arange(12).reshape(2, 2, 3)
    assert (
        image.ravel()[pixel_order(image.shape, turned=False, channels_first=True)].tolist()
        == image.transpose(2, 0, 1).ravel().tolist()
    )
    assert (
        pixel_order(image.shape, turned=True, channels_first=False).tolist()
        == image[::-1, ::-1].ravel().tolist()
    )


@pytest.mark.parametrize("name", [*PACKAGES, "minigan-threads"])
def test_twins_play_the_same_game(name):
    """Losses of three steps, and sampled pictures: uneven padding, dense layers, BatchNorm of both kinds."""
    if find_spec(PACKAGES.get(name, "minigan")) is None:
        pytest.skip(f"{PACKAGES[name]} is not installed")
    with Team() as team:
        workers = {}
        for preset in report.NETS:  # those that are in the README's table
            results = []
            for who in ("minigan", name):
                target, variant = contenders.target(who)
                arguments = {"preset": preset, **SMALL, **variant}
                if who in workers:
                    workers[who].make(target, arguments)
                else:
                    workers[who] = team.add(who, target, arguments)
                assert workers[who] is not None, team.absent
                results.append(
                    (workers[who].call("probes"), np.array(workers[who].call("losses", steps=3)))
                )
            (our_pixels, ours), (their_pixels, theirs) = results
            np.testing.assert_allclose(their_pixels, our_pixels, atol=step.PIXELS, err_msg=preset)
            np.testing.assert_allclose(theirs[0], ours[0], rtol=1e-4, err_msg=preset)
            np.testing.assert_allclose(theirs, ours, rtol=1e-2, err_msg=preset)


def test_contenders_that_disagree_are_not_timed():
    class Liar:
        def call(self, method, **arguments):
            return [[0.7, 0.7, 0.71]] * 3

    class Honest:
        def call(self, method, **arguments):
            return [[0.7, 0.7, 0.7]] * 3

    team = Team()
    team.workers = {"minigan": Honest(), "torch": Liar()}
    with pytest.raises(
        BenchmarkError, match=r"torch and minigan disagree at the first step.*nothing was timed"
    ):
        step.check(team, "step", log=lambda line: None)


# -- commands -----------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch):
    for module in (step, layers, scaling):
        monkeypatch.setattr(module, "TURN", 1e-3)
    monkeypatch.setattr("benchmarks.race.REST", 0.0)
    monkeypatch.setattr("benchmarks.gemm.EDGE", 64)


def test_step_names_who_is_missing_and_writes_a_record(tmp_path, capsys, monkeypatch, quick):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Prescott")
    lacking = "raise ModuleNotFoundError(\"No module named 'dezero'\", name='dezero')"
    (tmp_path / "dezero.py").write_text(lacking)  # stands before an installed one
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    file = tmp_path / "result.json"
    arguments = [
        "--preset",
        "mnist",
        "--width",
        "2",
        "--batch",
        "4",
        "--rounds",
        "2",
        "--against",
        "dezero",
        "--json",
        str(file),
    ]
    assert step.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "dezero         not installed: pip install dezero" in printed
    unset = next(
        line for line in printed.splitlines() if line.startswith("unset for the contenders: ")
    )
    assert (
        "OPENBLAS_CORETYPE" in unset.split()
    )  # others may be set beside it, by a package that was imported
    assert step.main(arguments) == 0  # measured again: the record is replaced
    (record,) = results.load(file)
    ours, missing = record["contenders"]
    assert ours["name"] == "minigan" and len(ours["seconds"]) == 2 and ours["peak_mib"] > 10
    assert missing["name"] == "dezero" and "seconds" not in missing
    assert "Prescott" not in record["machine"]["blas"]


def test_what_is_not_installed_is_said_so():
    with pytest.raises(contenders.Missing, match=r"^not installed: pip install no_such_framework$"):
        contenders.need("no_such_framework")


def test_layers_and_scaling_run(tmp_path, capsys, monkeypatch, quick):
    monkeypatch.setattr(scaling, "AXES", {"batch": (2, 4), "width": (1, 2)})
    file = tmp_path / "result.json"
    small = ["--preset", "mnist", "--rounds", "1", "--json", str(file)]
    assert (
        layers.main(
            [*small, "--width", "2", "--batch", "4", "--rungs", "minigan", "--layers", "all"]
        )
        == 0
    )
    assert scaling.main([*small, "--width", "2", "--batch", "4", "--axes", "batch,width"]) == 0
    printed = capsys.readouterr().out
    assert "G.10 ConvTranspose2d 4->2, k4 s2 p1" in printed and "time per image ~ batch^" in printed
    assert [record["what"] for record in results.load(file)] == ["layers", "scaling"]


@pytest.mark.parametrize("preset", ["fredriksson-mnist", "shibuya-svhn"])
def test_layers_agree_with_torch(preset, capsys, quick):
    """Every layer alone, forward, dx and dW, in both layouts."""
    pytest.importorskip("torch")
    arguments = [
        "--preset",
        preset,
        "--width",
        "4",
        "--batch",
        "3",
        "--rounds",
        "1",
        "--layers",
        "all",
    ]
    assert layers.main(arguments) == 0, capsys.readouterr().err
    assert "torch-cl" in capsys.readouterr().out


def test_exponent():
    assert scaling.exponent([1, 2, 4], [3, 12, 48]) == pytest.approx(2)
    assert scaling.exponent([1], [3]) is None


@pytest.mark.parametrize(
    "command, arguments, said",
    [
        (step, ["--against", "torch,caffe"], "--against: unknown contender 'caffe'"),
        (step, ["--preset", "nothing"], "unknown preset 'nothing'"),
        (step, ["--batch", "1"], "--batch must be at least 2, got 1"),
        (step, ["--threads", "100000"], "--threads must be 1 to"),
        (step, ["--what", "sleep"], "--what must be step or sample"),
        (step, ["--backend", "abacus"], "--backend must be one of numpy, cupy"),
        (step, ["--json", "no/such/folder/file.json"], "there is no such folder"),
        (step, ["--frobnicate"], "unrecognized arguments: --frobnicate"),
        (layers, ["--layers", "G.99"], "--layers: no layer 'G.99'"),
        (layers, ["--rungs", "fast"], "--rungs: unknown version 'fast'"),
        (scaling, ["--axes", "depth"], "--axes: unknown axis 'depth'"),
        (scaling, ["--plot", "plot.exe"], "--plot must be a .png or .svg"),
        (
            quality,
            ["--against", "torch,keras"],
            "--against: unknown contender 'keras': choose of torch,torch-cl",
        ),
        (quality, ["--against", ","], "--against: unknown contender ''"),
        (quality, ["--preset", "shibuya-svhn"], "--preset must be one of mnist, color32"),
        (quality, ["--seeds", "1"], "--seeds must be 2 to 10, got 1"),
        (quality, ["--every", "0"], "--every must be at least 1, got 0"),
        (quality, ["--steps", "0"], "--steps must be"),
        (quality, ["--dataset", "letters"], "--dataset must be one of"),
        (search, ["width=x"], "--width must be"),
        (search, ["net=k7"], "candidate 'net=k7': cannot read 'net=k7'"),
        (search, ["seed=3"], "it takes NAME=VALUE, of "),
        (search, ["--seconds", "0"], "--seconds must be at least 0.001"),
        (search, ["--averages", "0,1"], "--averages must be decays"),
        (search, ["--json", "no/such/folder/file.json"], "there is no such folder"),
        (quality, ["--json", "no/such/folder/file.json"], "there is no such folder"),
        (report, ["no-such-file.json"], "no-such-file.json is not a result file"),
    ],
)
def test_wrong_options_give_one_line(command, arguments, said, capsys):
    assert command.main(arguments) == 2
    captured = capsys.readouterr()
    assert said in captured.err and captured.err.count("\n") == 1 and not captured.out


# -- quality ------------------------------------------------------------------------------------


def test_band_is_students_interval_of_the_logarithms():
    stats = pytest.importorskip("scipy.stats")
    assert {n: round(stats.t.ppf(0.975, n - 1), 3) for n in range(2, 11)} == bands.T
    assert bands.band([3.0, 3.0, 3.0]) == pytest.approx((3, 3, 3))
    assert bands.band([1.0, e**2]) == pytest.approx(
        (e ** (1 - 12.706), e, e ** (1 + 12.706))
    )  # s = √2, n = 2
    values = [4.0, 5.0, 7.0, 5.5, 30.0]
    logs = np.log(values)
    low, high = stats.t.interval(0.95, 4, logs.mean(), stats.sem(logs))
    assert np.log(bands.band(values)) == pytest.approx((low, logs.mean(), high), rel=1e-3)


@pytest.mark.parametrize(
    "a, b, said",
    [
        ((1, 3), (2, 4), True),
        ((1, 4), (2, 3), True),
        ((1, 2), (2, 3), True),
        ((1, 2), (2.1, 3), False),
    ],
)
def test_overlap(a, b, said):
    one, other = bands.Band(a[0], 0.0, a[1]), bands.Band(b[0], 0.0, b[1])
    assert bands.overlap(one, other) == bands.overlap(other, one) == said


def test_curves_at_equal_times():
    fast = {"seconds": [1.0, 2.0, 4.0], "distance": [8.0, 4.0, 1.0]}
    slow = {"seconds": [2.0, 4.0, 8.0], "distance": [8.0, 4.0, 1.0]}
    assert [bands.at(instant, *fast.values()) for instant in (1, 2, 3, 4)] == pytest.approx(
        [8, 4, 2, 1]
    )
    when = bands.instants([fast, slow])
    assert when == [2, 3, 4]  # from the slow one's first to the fast one's last
    assert bands.by_time([slow, slow], when)[1] == pytest.approx((32**0.5,) * 3)
    assert [each.mean for each in bands.by_steps([fast, slow])] == pytest.approx([8, 4, 1])
    assert bands.instants([fast, {"seconds": [5.0, 6.0, 7.0]}]) == []


def test_verdict_counts():
    """Twice as fast, and at equal steps the same but for one point."""
    distances = [[8.0, 4.0, 1.0], [8.8, 4.4, 1.1]]

    def row(name, seconds, factor):
        curves = [
            {"seconds": seconds, "distance": [values[0] * factor, *values[1:]]}
            for values in distances
        ]
        return {"name": name, "curves": curves, "peak_mib": 1.0, "idle": 0.0, "versions": {}}

    record = {
        "preset": "mnist",
        "width": 2,
        "batch": 4,
        "data": "strokes",
        "samples": 1000,
        "floor": 0.5,
        "steps": [1, 2, 3],
        "judge": {"name": "0"},
        "machine": {"cpu": "Abacus", "threads": 2, "python": "3", "blas": "openblas"},
        "contenders": [
            row("minigan", [1.0, 2.0, 3.0], 1.0),
            row("torch", [2.0, 4.0, 6.0], 100.0),
            {"name": "torch-cl", "absent": "slower"},
        ],
    }
    lines = "\n".join(quality.table(record))
    assert (
        "equal steps: the bands overlap at 2 of 3 points; at step 3 1.00 x torch's distance"
        in lines
    )
    assert "minigan 3.0 s, torch 6.0 s (2.00 x minigan's)" in lines
    assert (
        "equal time: minigan is ahead at 3 of 3 points, beyond the bands at 3, and behind beyond them at 0; after 3.0 s"
        in lines
    )


def lesson_of(folder, preset, **options):
    """-> arguments of a Learner: random images, three batches of 4 and one of 2 in an epoch."""
    config = new_config({"preset": preset, "batch_size": 4, "width": 2, "steps": 9, **options})
    images = np.random.default_rng(0).integers(0, 256, (14, *config.image_shape), np.uint8)
    np.save(folder / "images.npy", images)
    return {"config": asdict(config), "images": str(folder / "images.npy")}


def test_minigan_learns_as_train_does(tmp_path, monkeypatch):
    """The same losses as `minigan train` with the same options, bit for bit."""
    arguments = lesson_of(tmp_path, "mnist", seed=3, dataset="strokes", ema=0.9)
    learner = minigan_learner.Learner(**arguments)
    learner.run(9)
    data = mg.data.Dataset("strokes", np.load(arguments["images"]), None, (), "0" * 16, None)
    monkeypatch.setattr("minigan.training.loop.load_data", lambda *a: data)
    monkeypatch.setattr("minigan.training.loop.finish", lambda *a, **b: None)
    options = dict(
        preset="mnist", batch_size=4, width=2, steps=9, seed=3, dataset="strokes", ema=0.9
    )
    run = mg.training.train(options, out=tmp_path / "run", log=lambda line: None)
    saved = load_arrays(run.generator_file)
    for name, array in mg.checkpoint.learner.game.drawn_from.ready().state().items():
        np.testing.assert_array_equal(array, saved[name])


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("preset", ["mnist", "color32"])
def test_learners_begin_alike(tmp_path, preset, channels_last):
    """The same weights, and the same batches over two epochs, the small last ones too; all exactly."""
    pytest.importorskip("torch")
    from benchmarks.contenders import torch_learner

    arguments = lesson_of(tmp_path, preset, flip=True, seed=7)
    ours, theirs = (
        minigan_learner.Learner(**arguments),
        torch_learner.Learner(**arguments, channels_last=channels_last),
    )
    for net, twin in ((ours.game.G, theirs.G), (ours.game.D, theirs.D)):
        parameters = list(net.ready().params.values())
        turned = [parameter.detach().numpy() for parameter in twin.parameters()]
        assert len(parameters) == len(turned)
        for values, other in zip(
            parameters, turned, strict=True
        ):  # in another order: turned, channels first
            np.testing.assert_array_equal(np.sort(values, axis=None), np.sort(other, axis=None))
    sizes = []
    for _ in range(8):
        images, _ = ours.batches.draw()
        np.testing.assert_array_equal(
            images,
            turn(
                theirs.images(theirs.batches.draw()[0]).permute(0, 2, 3, 1).numpy(), theirs.turned
            ),
        )
        sizes.append(len(images))
    assert sizes == [4, 4, 4, 2] * 2


@pytest.mark.parametrize(
    "preset", ["mnist", "jindal-mnist64", "fredriksson-mnist", "fredriksson-fnn"]
)
def test_learners_play_by_the_rules_of_the_preset(tmp_path, preset):
    """Soft targets, G first, Adam's other epsilon, both distributions of z: losses of a whole epoch and one step, and then
    pictures, drawn from the average of G's weights."""
    pytest.importorskip("torch")
    from benchmarks.contenders import torch_learner

    arguments = lesson_of(tmp_path, preset, lr_g=1e-4, lr_d=1e-4, ema=0.7)
    learners = (
        minigan_learner.Learner(**arguments),
        torch_learner.Learner(**arguments, channels_last=True),
    )
    ours, theirs = (np.array(learner.losses(5)) for learner in learners)
    np.testing.assert_allclose(theirs[0], ours[0], rtol=1e-5)
    np.testing.assert_allclose(theirs, ours, rtol=1e-3)
    ours, theirs = (
        learner.probes() for learner in learners
    )  # with the statistics that have run with them
    np.testing.assert_allclose(theirs, ours, atol=step.PIXELS)
    averaged, as_it_is, apart = learners[0].game.drawn_from, learners[0].game.G, []
    for (name, values), other in zip(
        averaged.params.items(), learners[1].drawn_from.parameters(), strict=True
    ):
        mean, last = (np.sort(array, axis=None) for array in (values, as_it_is.params[name]))
        np.testing.assert_allclose(np.sort(other.detach().numpy(), axis=None), mean, atol=1e-5)
        apart.append(np.abs(mean - last).max())
    assert max(apart) > 3e-5
    assert LOSSES[:3] == minigan_learner.LOSSES and learners[0].steps() == learners[1].steps() == 9


def test_quality_from_end_to_end(tmp_path, capsys, monkeypatch, quick):
    """Two seeds of few steps on Strokes, by a judge that knows nothing."""
    pytest.importorskip("torch")
    pytest.importorskip("matplotlib")
    data = load_dataset("strokes", limit=2600)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(quality, "load_data", lambda *arguments: data)
    Classifier((28, 28, 1), 10, mg.get_backend("numpy"), np.random.default_rng(0)).save(
        classifier_file(split(data, None, "crop"))
    )
    file, picture = tmp_path / "result.json", tmp_path / "quality.png"
    arguments = [
        "--dataset",
        "strokes",
        "--width",
        "2",
        "--seeds",
        "2",
        "--steps",
        "30",
        "--every",
        "20",
        "--samples",
        "500",
    ]
    assert (
        quality.main(
            [*arguments, "--against", "torch", "--json", str(file), "--plot", str(picture)]
        )
        == 0
    ), capsys.readouterr().err
    printed = capsys.readouterr().out
    assert (
        "torch: relative difference at steps 1 to 3" in printed
        and "equal steps: the bands overlap at" in printed
    )
    (record,) = results.load(file)
    assert record["steps"] == [20, 30] and record["data"] == "strokes" and record["floor"] > 0
    assert [row["name"] for row in record["contenders"]] == ["minigan", "torch"]
    for row in record["contenders"]:
        assert len(row["curves"]) == 2
        for curve in row["curves"]:
            assert (
                curve["seconds"] == sorted(curve["seconds"])
                and len(curve["distance"]) == 2
                and min(curve["distance"]) > 0
            )
    ours, theirs = (
        [curve["distance"][0] for curve in row["curves"]] for row in record["contenders"]
    )
    assert ours != theirs and ours == pytest.approx(theirs, rel=0.5)  # z is each one's own
    assert picture.read_bytes().startswith(b"\x89PNG") and str(tmp_path) not in file.read_text()
    assert quality.main([*arguments, "--samples", "501000"]) == 2
    assert "--samples must be 500 to 520, as strokes has" in capsys.readouterr().err


# -- search -------------------------------------------------------------------------------------


def test_candidates_are_the_preset_with_something_changed():
    options, changed = search.parse_candidate(
        "batch_size=64 lr_g=4e-3 z=uniform beta2=0.99 real_target=0.9 net=k5"
    )
    assert options == {"batch_size": 64, "lr_g": 0.004, "z": "uniform"} and changed["settings"] == {
        "beta2": 0.99
    }
    assert changed["rules"].real_target == 0.9 and changed["rules"].same_z
    data = mg.data.Dataset(
        "strokes", np.zeros((300, 28, 28, 1), np.uint8), None, (), "0" * 16, None
    )
    game, batches = search.make("batch_size=64 net=k5", data, seed=1)
    assert batches.draw()[0].shape == (64, 28, 28, 1) and game.G.params["4.W"].shape == (
        5,
        5,
        16,
        32,
    )
    assert get_preset("mnist") is PRESETS["mnist"]  # nothing of it is left
    for text in search.CANDIDATES:
        game, batches = search.make(text and text + " width=2", data, 0)
        assert game.G.out_shape == (28, 28, 1) and game.D.out_shape == (1,)
    plain, _ = search.make("", data, 0)
    assert len({str(search.parse_candidate(text)) for text in search.CANDIDATES}) == len(
        search.CANDIDATES
    )
    for text in search.CANDIDATES[1:]:  # what a candidate sets is not what the preset has anyway
        options, _ = search.parse_candidate(text)
        assert not options or any(
            getattr(plain.config, name) != value for name, value in options.items()
        ), text
    same, _ = search.make("net=start3-deep", data, 0)
    assert [layer.describe() for layer in same.G.layers] == [
        layer.describe() for layer in plain.G.layers
    ]


def test_search_from_end_to_end(tmp_path, capsys, monkeypatch):
    """On Strokes, by a judge that knows nothing."""
    data = load_dataset("strokes", limit=2600)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(search, "load_data", lambda *arguments: data)
    monkeypatch.setattr(search, "race", lambda text, data: (0.02, 2.0 if "8" in text else 1.0))
    Classifier((28, 28, 1), 10, mg.get_backend("numpy"), np.random.default_rng(0)).save(
        classifier_file(split(data, None, "crop"))
    )
    file = tmp_path / "result.json"
    arguments = [
        "--dataset",
        "strokes",
        "width=2 lr_g=0.1",
        "width=2 batch_size=8 lr_g=0.1",
        "--seconds",
        "0.1",
        "--samples",
        "500",
    ]
    for seeds in (1, 2):
        assert (
            search.main(
                [*arguments, "--averages", "0,0.9", "--seeds", str(seeds), "--json", str(file)]
            )
            == 0
        ), capsys.readouterr().err
    printed = capsys.readouterr().out
    assert "a step of the preset: 20.0 ms" in printed and "2 seeds, their geometric mean" in printed
    one, two = results.load(file)
    assert [row["steps"] for row in one["candidates"]] == [5, 2]
    for first, both in zip(one["candidates"], two["candidates"], strict=True):
        for decay in ("0.0", "0.9"):  # of the same steps the same pictures
            assert (
                first["distances"][decay] == both["distances"][decay][:1]
                and len(both["distances"][decay]) == 2
            )
        assert first["distances"]["0.0"] != first["distances"]["0.9"]


def test_a_race_tells_who_is_slower():
    data = mg.data.Dataset(
        "strokes", np.zeros((300, 28, 28, 1), np.uint8), None, (), "0" * 16, None
    )
    seconds, ratio = search.race("batch_size=8", data)
    assert 0 < seconds < 5 and 0 < ratio < 1


# -- report -------------------------------------------------------------------------------------


def record_of(what, **contenders_ms):
    rows = [
        {
            "name": name,
            "seconds": [ms / 1000] * 3,
            "gflops": 100.0,
            "peak_mib": 300.0,
            "versions": {"numpy": "2.0"},
        }
        for name, ms in contenders_ms.items()
    ]
    facts = {"cpu": "Abacus", "threads": 2, "blas": "openblas"}
    return {
        "what": what,
        "preset": "mnist",
        "width": 32,
        "batch": 128,
        "machine": facts,
        "gemm_gflops": 200.0,
        "contenders": [*rows, {"name": "dezero", "absent": "not installed"}],
    }


def test_report_writes_the_table_and_nothing_else(tmp_path):
    file, readme = tmp_path / "2026-01-01-abacus.json", tmp_path / "README.md"
    rows = [
        record_of("step", minigan=100, torch=150, **{"torch-cl": 120}, keras=90),
        record_of("sample", minigan=100),
    ]
    file.write_text(json.dumps(rows))
    readme.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    assert report.main([str(file), "--readme", str(readme)]) == 0
    written = readme.read_text()
    assert "old" not in written and written.startswith("before\n") and written.endswith("\nafter\n")
    assert (
        "| 1.20 (torch-cl) | 0.90 | - | - |" in written
        and "100 (50%)" in written
        and "`2026-01-01-abacus.json`" in written
    )
    assert str(tmp_path) not in written
    assert report.main([str(file), "--readme", str(readme)]) == 0
    assert readme.read_text() == written


def test_report_without_markers_leaves_the_document(tmp_path, capsys):
    file, readme = tmp_path / "r.json", tmp_path / "README.md"
    file.write_text(json.dumps([record_of("step", minigan=100)]))
    readme.write_text("nothing here\n")
    assert report.main([str(file), "--readme", str(readme)]) == 2
    assert "has no <!-- performance:begin -->" in capsys.readouterr().err
    assert readme.read_text() == "nothing here\n"


def test_environment_of_a_contender(monkeypatch):
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    environment = machine.clean_environment(EXTRA="2")
    assert not [name for name in environment if name.startswith(("OPENBLAS", "OMP"))]
    assert environment["EXTRA"] == "2" and "PATH" in environment
