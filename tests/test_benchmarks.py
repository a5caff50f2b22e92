"""The benchmarks measure what they say: counts, twins, messages, and the table in the README."""

import json
from importlib.util import find_spec

import numpy as np
import pytest

import minigan as mg
from benchmarks import contenders, layers, machine, nets, report, results, scaling, step
from benchmarks.contenders.plan import pixel_order
from benchmarks.race import BenchmarkError, Team
from minigan.costs import net_flops, step_flops

PACKAGES = {"torch": "torch", "torch-cl": "torch", "keras": "tensorflow", "jax": "jax", "dezero": "dezero"}
SMALL = dict(batch=6, width=4, image=None, device="cpu")


def build(preset, **options):
    return nets.build(preset, 2, mg.get_backend("numpy"), **options)


# -- FLOPs --------------------------------------------------------------------------------------


def test_flops_of_a_small_net_by_hand():
    """G: Linear 3->8, ConvTranspose2d 2->1 of 2x2 pixels, kernel 3; D: Conv2d 1->2 onto 2x2 pixels, kernel 3, Linear 8->1."""
    G = mg.Sequential([mg.Linear(8), mg.Reshape((2, 2, 2)), mg.BatchNorm(), mg.ConvTranspose2d(1, 3, stride=2, padding="same")])
    D = mg.Sequential([mg.Conv2d(2, 3, stride=2, padding="same"), mg.LeakyReLU(0.2), mg.Flatten(), mg.Linear(1)])
    for net, shape in ((G, (3,)), (D, (4, 4, 1))):
        net.setup(shape, backend=mg.get_backend("numpy"), rng=np.random.default_rng(0))
    linear_g, transposed, convolution, linear_d = 2 * 3 * 8, 2 * 4 * 9 * 2, 2 * 4 * 9 * 2, 2 * 8
    forward = linear_g + transposed
    in_g = forward + forward + transposed  # forward, dW, dx but for z's
    in_d = 3 * (convolution + linear_d) + 2 * (convolution + linear_d) + (convolution + linear_d) + 2 * linear_d
    assert step_flops(G, D, 5, nets.RULES) == 5 * (in_g + in_d)
    assert net_flops(G) == (forward, linear_g)


@pytest.mark.parametrize("preset, gflop", [("fredriksson-mnist", 115), ("pytorch-64", 291)])
def test_flops_of_the_real_nets(preset, gflop):
    both = build(preset)
    assert round(step_flops(both.G, both.D, 128, nets.RULES) * 1e-9) == gflop


# -- twins --------------------------------------------------------------------------------------


def test_pixel_order_turns_and_moves_channels():
    image = np.arange(12).reshape(2, 2, 3)
    assert image.ravel()[pixel_order(image.shape, turned=False, channels_first=True)].tolist() == image.transpose(2, 0, 1).ravel().tolist()
    assert pixel_order(image.shape, turned=True, channels_first=False).tolist() == image[::-1, ::-1].ravel().tolist()


@pytest.mark.parametrize("name", PACKAGES)
def test_twins_play_the_same_game(name):
    """Losses of three steps, and sampled pictures: uneven padding, dense layers, BatchNorm of both kinds."""
    if find_spec(PACKAGES[name]) is None:
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
                results.append((workers[who].call("probes"), np.array(workers[who].call("losses", steps=3))))
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
    with pytest.raises(BenchmarkError, match=r"torch and minigan disagree at the first step.*nothing was timed"):
        step.check(team, "step", say=lambda line: None)


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
    arguments = ["--preset", "mnist", "--width", "2", "--batch", "4", "--rounds", "2", "--against", "dezero", "--json", str(file)]
    assert step.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "dezero         not installed: pip install dezero" in printed
    assert "unset for the contenders: OPENBLAS_CORETYPE" in printed
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
    assert layers.main([*small, "--width", "2", "--batch", "4", "--rungs", "minigan", "--layers", "all"]) == 0
    assert scaling.main([*small, "--width", "2", "--batch", "4", "--axes", "batch,width"]) == 0
    printed = capsys.readouterr().out
    assert "G.4 ConvTranspose2d 4->2, k4 s2 p1" in printed and "time per image ~ batch^" in printed
    assert [record["what"] for record in results.load(file)] == ["layers", "scaling"]


@pytest.mark.parametrize("preset", ["fredriksson-mnist", "shibuya-svhn"])
def test_layers_agree_with_torch(preset, capsys, quick):
    """Every layer alone, forward, dx and dW, in both layouts."""
    pytest.importorskip("torch")
    arguments = ["--preset", preset, "--width", "4", "--batch", "3", "--rounds", "1", "--layers", "all"]
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
        (report, ["no-such-file.json"], "no-such-file.json is not a result file"),
    ],
)
def test_wrong_options_give_one_line(command, arguments, said, capsys):
    assert command.main(arguments) == 2
    captured = capsys.readouterr()
    assert said in captured.err and captured.err.count("\n") == 1 and not captured.out


# -- report -------------------------------------------------------------------------------------


def record_of(what, **contenders_ms):
    rows = [
        {"name": name, "seconds": [ms / 1000] * 3, "gflops": 100.0, "peak_mib": 300.0, "versions": {"numpy": "2.0"}}
        for name, ms in contenders_ms.items()
    ]
    facts = {"cpu": "Abacus", "threads": 2, "blas": "openblas"}
    return {"what": what, "preset": "mnist", "width": 32, "batch": 128, "machine": facts, "gemm_gflops": 200.0,
            "contenders": [*rows, {"name": "dezero", "absent": "not installed"}]}  # fmt: skip


def test_report_writes_the_table_and_nothing_else(tmp_path):
    file, readme = tmp_path / "2026-01-01-abacus.json", tmp_path / "README.md"
    rows = [record_of("step", minigan=100, torch=150, **{"torch-cl": 120}, keras=90), record_of("sample", minigan=100)]
    file.write_text(json.dumps(rows))
    readme.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    assert report.main([str(file), "--readme", str(readme)]) == 0
    written = readme.read_text()
    assert "old" not in written and written.startswith("before\n") and written.endswith("\nafter\n")
    assert "| 1.20 (torch-cl) | 0.90 | - | - |" in written and "100 (50%)" in written and "`2026-01-01-abacus.json`" in written
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
