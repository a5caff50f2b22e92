"""step.py: contenders are compared, named if absent, timed; on a GPU as far as a CPU shows it."""

import sys
from argparse import Namespace

import pytest

from benchmarks import contenders, machine, nets, results, roofline, step
from benchmarks.contenders.minigan_step import Step
from benchmarks.interleaved import BenchmarkError, Workers
from minigan import get_backend
from minigan.cli.costs import step_flops
from tests.support.in_process_worker import InProcessWorker

ODD = "tests.benchmarks.test_step:Odd"
MINIGAN = "benchmarks.contenders.minigan_step:Step"
SMALL = ["--preset", "mnist", "--width", "2", "--batch", "4", "--rounds", "2"]


class Odd(Step):
    """A contender that is wrong in one respect."""

    def __init__(self, wrong, captured=False, **arguments):
        super().__init__(**arguments)
        self.wrong = wrong

    def read(self, loss):
        return super().read(loss) * (1.1 if self.wrong == "losses" else 1)

    def pixels(self, z):
        return super().pixels(z) ^ (16 if self.wrong == "pixels" else 0)

    def conv_error(self):
        return 3e-4 if self.wrong == "precision" else 1e-7

    def launch(self, times):
        if self.wrong == "launch":
            raise RuntimeError("CUDA error: an illegal\nmemory access")
        super().launch(times)


def replace(monkeypatch, **targets):
    """Let names of contenders lead to other classes; all others are minigan."""

    def target(name, table):
        return targets.get(name.replace("-", "_"), (MINIGAN, {}))

    monkeypatch.setattr(contenders, "target", target)


def quiet(line):
    pass


@pytest.mark.parametrize("preset, gflop", [("fredriksson-mnist", 115), ("pytorch-64", 291)])
def test_operations_of_the_real_nets(preset, gflop):
    both = nets.build(preset, 2, get_backend("plain"))
    assert round(step_flops(both.G, both.D, 128) * 1e-9) == gflop


def test_a_step_names_absent_contenders_and_writes_a_record(tmp_path, capsys, monkeypatch, quick):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Prescott")
    monkeypatch.setitem(sys.modules, "dezero", None)  # not installed
    monkeypatch.delitem(sys.modules, "benchmarks.contenders.dezero_step", raising=False)
    file = tmp_path / "result.json"
    arguments = [*SMALL, "--against", "dezero,minigan-plain", "--json", str(file)]
    assert step.main(arguments) == 0, capsys.readouterr().err
    printed = capsys.readouterr().out
    assert "dezero          not installed: pip install dezero" in printed
    assert "minigan, minigan-plain agree on the first steps" in printed
    (unset,) = [line for line in printed.splitlines() if line.startswith("unset for the contend")]
    assert "OPENBLAS_CORETYPE" in unset.split()
    assert step.main(arguments) == 0  # measured again: the record is replaced
    (record,) = results.load(file)
    ours, plain, missing = record["contenders"]
    assert ours["name"] == "minigan" and len(ours["seconds"]) == len(plain["seconds"]) == 2
    assert ours["peak_mib"] > 10 and len(ours["losses"]) == 3 and record["gemm_gflops"] > 0
    assert plain["name"] == "minigan-plain" and len(plain["losses"]) == 3
    assert missing == {"name": "dezero", "absent": "not installed: pip install dezero"}
    assert record["machine"]["cpu"] == machine.cpu_model() and str(tmp_path) not in file.read_text()


def test_sampling_is_measured_in_images(capsys, quick):
    arguments = [*SMALL, "--what", "sample", "--against", "minigan-plain"]
    assert step.main(arguments) == 0, capsys.readouterr().err
    printed = capsys.readouterr().out
    assert "agree on the first images" in printed and "sampling 10,000 images" in printed


@pytest.mark.parametrize(
    "what, wrong, reason",
    [
        ("step", "losses", "disagrees with minigan at the first step: losses "),
        ("sample", "pixels", "samples other images than minigan, 16 of 255 off"),
    ],
)
def test_a_contender_that_disagrees_is_not_timed(what, wrong, reason, capsys, monkeypatch, quick):
    replace(monkeypatch, torch=(ODD, {"wrong": wrong}))
    assert step.main([*SMALL, "--what", what, "--against", "torch,torch-cl"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if line.startswith("torch   ")]
    assert line.split(maxsplit=1)[1].startswith(reason)
    assert any(line.startswith("torch-cl   ") for line in lines)


@pytest.mark.slow
def test_a_step_in_real_processes(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(step, "TURN", 1e-3)
    monkeypatch.setattr(roofline, "EDGE", {"numpy": 512})
    arguments = [*SMALL, "--rounds", "1", "--against", "minigan-plain", "--threads", "1"]
    assert step.main([*arguments, "--json", str(tmp_path / "r.json")]) == 0, capsys.readouterr().err
    (record,) = results.load(tmp_path / "r.json")
    assert "1 threads" in record["machine"]["blas"] or "unknown" in record["machine"]["blas"]
    assert record["contenders"][0]["gflops"] < record["gemm_gflops"]


# -- on the stand-in for a GPU ------------------------------------------------------------------


def measure_on_gpu(workers, against, **more):
    options = dict(preset="fredriksson-mnist", batch=4, width=2, what="step", precision="fp32")
    options |= dict(backend="cupy", device="cuda", avx2=False, threads=None, rounds=2)
    return step.measure(Namespace(**options, against=against), quiet, workers, **more)


@pytest.mark.slow
def test_on_a_gpu_both_ways_of_minigan_are_timed(device, tmp_path, capsys):
    torch_step = pytest.importorskip(
        "benchmarks.contenders.torch_step", exc_type=contenders.Missing
    )
    file = tmp_path / "r.json"
    arguments = ["--backend", "cupy", "--precision", "tf32", *SMALL, "--json", str(file)]
    assert not torch_step.torch.cuda.is_available()
    assert step.main([*arguments, "--against", "torch"]) == 0, capsys.readouterr().err
    printed = capsys.readouterr().out
    assert "torch           this PyTorch sees no GPU" in printed
    assert "mnist, width 2, batch 4, tf32: one step" in printed
    (record,) = results.load(file)
    assert record["precision"] == "tf32" and record["gemm_gflops"] > 0
    rows = {row["name"]: row for row in record["contenders"]}
    assert list(rows) == ["minigan", "minigan-graph", "torch"]
    for name in contenders.ALWAYS["cuda"]:
        assert [len(rows[name][kind]) for kind in ("seconds", "events", "launch")] == [4, 4, 4]
        assert 1e-4 < rows[name]["conv_error"] < 1e-3
        assert len(rows[name]["losses"]) == 3
    assert step.main([*arguments, "--precision", "fp32", "--against", ""]) == 0
    found = [each["precision"] for each in results.load(file)]
    assert found == ["tf32", "fp32"]  # two measurements, not one


@pytest.mark.slow
@pytest.mark.parametrize(
    "wrong, reason",
    (
        ("losses", "disagrees with minigan at the first step: losses "),
        ("precision", "does not compute in fp32: a convolution is 3.0e-04 off"),
        ("launch", "CUDA error: an illegal memory access"),
    ),
)
def test_a_wrong_or_broken_contender_is_left_out_and_named(wrong, reason, device, monkeypatch):
    replace(monkeypatch, torch=(ODD, {"wrong": wrong}))
    with Workers() as workers:
        record = measure_on_gpu(workers, ["torch", "jax"])
    rows = {row["name"]: row for row in record["contenders"]}
    assert rows["torch"]["absent"].startswith(reason) and "seconds" not in rows["torch"]
    assert len(rows["jax"]["seconds"]) == len(rows["minigan"]["seconds"]) == 4
    assert any(f"torch           {reason}" in line for line in step.table(record))


@pytest.mark.slow
def test_a_contender_that_comes_too_late_is_left_out(device, monkeypatch):
    """It must leave the others time for their turns."""
    replace(monkeypatch)
    monkeypatch.setattr(InProcessWorker, "pace", 1.0)  # s: 2 turns of 1 + 2·2 steps for each
    monkeypatch.setattr(step, "perf_counter", iter([0.0, 0.0, 79.0, 71.0]).__next__)
    with Workers() as workers:
        record = measure_on_gpu(workers, ["torch", "jax"], until=100.0)
    absent = [row.get("absent") for row in record["contenders"]]
    assert absent == [None, None, None, "no time was left for it"]  # jax at 71 s of 70


@pytest.mark.slow
def test_a_minigan_that_fails_ends_the_measurement(device, monkeypatch):
    replace(monkeypatch, minigan=(ODD, {"wrong": "precision"}))
    message = r"^minigan: does not compute in fp32"
    with Workers() as workers, pytest.raises(BenchmarkError, match=message):
        measure_on_gpu(workers, [])


def test_verdicts_take_the_fastest_of_each_side():
    def record(**milliseconds):
        rows = [
            {"name": name.replace("_", "-"), "seconds": [ms / 1000] * 3}
            for name, ms in milliseconds.items()
        ]
        return {"contenders": [*rows, {"name": "torch-cl", "absent": "not installed"}]}

    ours = dict(minigan=4, minigan_graph=2)
    found = record(**ours, torch=6, torch_graph=3, torch_example=5, jax=1)
    start = "minigan-graph runs {} times as many steps in the same time as PyTorch "
    assert list(step.verdicts(found)) == [
        start.format("1.50") + "at its fastest (torch-graph)",
        start.format("2.50") + "as its own example is written (torch-example)",
    ]
    assert list(step.verdicts(record(**ours, jax=1))) == []
