"""gpu.py: all parts by one command, on the stand-in for a GPU."""

import sys
import time
from types import SimpleNamespace

import pytest

from benchmarks import contenders, gpu, gpu_parts, kernel_times, results
from benchmarks.interleaved import ROOT, BenchmarkError
from tests.support import strict_cupy

PARTS = ["gpu checks", "roofline", "products", "kernels", "start", "epochs", *["step"] * 4]


class Profile:
    """Stands in for KernelTimes, which needs a GPU."""

    def __init__(self, precision):
        pass

    def kernels(self, preset, batch, width):
        return {"step_ms": 2.5, **kernel_times.table([(0, 2000, "void im2col<float>(int)")], 1)}


@pytest.mark.slow
def test_everything_by_one_command(device, tmp_path, capsys, monkeypatch):
    """Tests and trainings run in processes, on a backend that needs no GPU."""
    path = "benchmarks.contenders.torch_step"
    torch_step = pytest.importorskip(path, exc_type=contenders.Missing)
    monkeypatch.setattr(torch_step.torch.cuda, "is_available", lambda: False)
    (tmp_path / "test_nothing.py").write_text("def test_nothing():\n    pass\n")
    monkeypatch.setattr(gpu_parts, "TESTS", [*gpu_parts.TESTS[:-1], str(tmp_path)])
    monkeypatch.setattr(gpu_parts, "TRAIN", [*gpu_parts.TRAIN[:-1], "numpy"])
    trained, only_gpu = gpu_parts.trained, ("--precision", "tf32")
    monkeypatch.setattr(
        gpu_parts,
        "trained",
        lambda arguments, *rest, **more: trained(
            [each for each in arguments if each not in only_gpu], *rest, **more
        ),
    )
    monkeypatch.setattr(kernel_times, "KernelTimes", Profile)
    file = tmp_path / "r.json"
    assert gpu.main(["--against", "torch", "--json", str(file)]) == 0, capsys.readouterr()
    printed = capsys.readouterr().out
    for text in (
        "1 passed",
        "first step after ",
        "20 epochs on ",
        "without grids until the end ",
        f"everything is in {file}",
        "fredriksson-mnist, fp32: at least 1, aim 1.2",
        "pytorch-64, tf32: 2.500 ms, 1 nodes; us: columns 2,000",
    ):
        assert text in printed
    records = results.load(file)
    assert [record["what"] for record in records] == PARTS
    assert records[0]["passed"] and set(records[1]["product"]) == {"fp32", "tf32"}
    assert len(records[3]["steps"]) == 4 and records[4]["cold"] > 0
    assert str(tmp_path) not in file.read_text()


def test_a_part_that_fails_is_recorded_and_the_rest_goes_on(tmp_path, capsys, monkeypatch):
    def breaks(workers, options, until, log):
        raise RuntimeError("CUDA error: out of\nmemory")

    def tests_fail(workers, options, until, log):
        return {"what": "gpu checks", "passed": False}

    def works(workers, options, until, log):
        return {"what": "start", "cold": 3.0, "warm": 0.5}

    parts = {"checks": (10, tests_fail), "broken": (10, breaks), "start": (10, works)}
    worker = SimpleNamespace(call=lambda method: {"gpu": "Abacus 200"})
    monkeypatch.setattr(gpu, "PARTS", parts)
    monkeypatch.setattr(gpu, "ask_roofline", lambda workers, until, precision: worker)
    file = tmp_path / "r.json"
    assert gpu.main(["--json", str(file)]) == 2
    captured = capsys.readouterr()
    assert captured.err == f"gpu.py: error: failed: checks; broken: see {file}\n"
    assert "first step after 3.0 s, later 0.5 s: at most 10 and 1" in captured.out
    records = results.load(file)
    assert [record["what"] for record in records] == ["gpu checks", "failed", "start"]
    assert records[1]["why"] == "CUDA error: out of memory" and records[1]["part"] == "broken"
    assert {record["versions"]["gpu"] for record in records} == {"Abacus 200"}
    assert gpu.main(["--only", "start", "--json", str(file)]) == 0
    assert [record["what"] for record in results.load(file)] == ["start"]


def test_a_program_that_takes_too_long_is_ended():
    with pytest.raises(BenchmarkError, match=r"^not done within 1 s$"):
        gpu_parts.run(["-c", "import time; time.sleep(60)"], time.perf_counter() + 0.5)


def test_the_programs_exist():
    assert (ROOT / gpu_parts.TESTS[-1]).exists() and (ROOT / gpu_parts.TRAIN[0]).exists()


@pytest.mark.parametrize(
    "module, expected",
    [(None, "CuPy is not installed"), (strict_cupy.make_module(devices=0), "sees no NVIDIA GPU")],
)
def test_without_a_gpu_one_line(module, expected, capsys, monkeypatch, quick):
    monkeypatch.setitem(sys.modules, "cupy", module)
    assert gpu.main([]) == 2
    captured = capsys.readouterr()
    assert expected in captured.err and captured.err.count("\n") == 1 and not captured.out
