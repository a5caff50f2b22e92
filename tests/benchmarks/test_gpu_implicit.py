"""gpu.py --only implicit: all of it on the stand-in for a GPU, and the verdict."""

from itertools import count

import pytest

from benchmarks import contenders, gpu, gpu_implicit, gpu_parts, results, step
from benchmarks.interleaved import ROOT, BenchmarkError
from minigan.backends.gpu.kernels import source

NET = ("fredriksson-mnist", 32)  # the narrowest that has layers without columns


@pytest.fixture
def small(device, monkeypatch, tmp_path):
    """One narrow net, one run of each pass; a test of the device that passes."""
    (tmp_path / "test_nothing.py").write_text("def test_nothing():\n    pass\n")
    for module, name, value in (
        (gpu_parts, "NETS", dict([NET])),
        (gpu_parts, "BATCH", 2),
        (gpu_implicit, "TESTS", [*gpu_implicit.TESTS[:-1], str(tmp_path)]),
        (gpu_implicit, "TILES", gpu_implicit.TILES[-2:]),
        (gpu_implicit, "REPEATS", 1),
        (gpu_implicit, "VARIANTS", {"L1": ("", "")}),
        (step, "TURNS", 1),
    ):
        monkeypatch.setattr(module, name, value)
    return tmp_path / "r.json"


def test_one_command_decides(small, capsys):
    arguments = ["--only", "implicit", "--minutes", "5", "--against", "torch-graph"]
    assert gpu.main([*arguments, "--json", str(small)]) == 0, capsys.readouterr()
    printed = capsys.readouterr().out
    (record,) = results.load(small)
    assert record["verdict"] in printed and "1 passed" in printed
    assert record["passed"] and not record["failures"] and "1 passed" in record["checks"]
    rows = record["layers"]
    assert {row["layer"] for row in rows} == {"G.1", "D.1"}
    assert [row["pass"] for row in rows] == ["forward", "dx", "dW", "dx and dW"] * 2
    for row in rows:
        assert 1e-5 < row["error"] < 1e-3 and row["columns"] > 0 < row["implicit"]
        assert ("tile" in row) == (row["pass"] != "dx and dW") and row["variants"]["L1"] > 0
    assert rows[0]["tiles"].keys() == {"128x64", "64x64"} and rows[0]["gflop"] == rows[1]["gflop"]
    (found,) = record["steps"]
    assert [row["name"] for row in found["contenders"]] == [
        "minigan", "minigan-graph", "minigan-implicit", "torch-graph",
    ]  # fmt: skip
    implicit = found["contenders"][2]
    assert 1e-4 < implicit["conv_error"] < 1e-3 and len(implicit["seconds"]) == 2


def test_what_fails_is_recorded_and_the_rest_goes_on(small, capsys, monkeypatch):
    """Wrong tests, a layer that is off by more than TF32 may be, a step that breaks."""
    small.parent.joinpath("test_nothing.py").write_text("def test_wrong():\n    assert False\n")
    monkeypatch.setattr(gpu_implicit, "ERROR", 1e-9)

    def breaks(*arguments):
        raise RuntimeError("CUDA error: an illegal\nmemory access")

    monkeypatch.setattr(gpu_implicit.step, "measure", breaks)
    assert gpu.main(["--only", "implicit", "--json", str(small)]) == 2
    (record,) = results.load(small)
    assert not record["passed"] and not record["layers"] and not record["steps"]
    kinds = (
        "checks: 1 failed",
        "fredriksson-mnist G.1: layers: G.1 forward: ",
        "fredriksson-mnist D.1: ",
        "step of fredriksson-mnist: CUDA error: an illegal memory access",
    )
    for failure, kind in zip(record["failures"], kinds, strict=True):
        assert failure.startswith(kind)
    assert "NOT DECIDED" in record["verdict"] and "FAILED: checks: " in record["verdict"]


def steps(**milliseconds):
    """-> record of a whole part, from preset -> minigan-graph, minigan-implicit, torch-graph"""
    names = ("minigan-graph", "minigan-implicit", "torch-graph")
    found = []
    for preset, times in milliseconds.items():
        rows = zip(names, times, strict=True)
        rows = [{"name": name, "seconds": [each / 1000] * 3} for name, each in rows]
        found.append({"preset": preset.replace("_", "-"), "contenders": rows})
    return {"steps": found, "layers": [], "passed": True, "failures": []}


def test_the_verdict():
    record = steps(fredriksson_mnist=(1.44, 1.20, 1.79), pytorch_64=(3.3, 2.5, 3.28))
    assert gpu_implicit.verdict(record) == (
        "without columns FASTER: fredriksson-mnist 1.200 ms, 1.200 x as fast, "
        "1.492 x PyTorch (aim 1.3); pytorch-64 2.500 ms, 1.320 x as fast, "
        "1.312 x PyTorch (aim 1.2); aims reached"
    )
    slower = steps(fredriksson_mnist=(1.44, 1.50, 1.79), pytorch_64=(3.3, 2.5, 3.28))
    assert "NOT FASTER in every net" in gpu_implicit.verdict(slower)
    assert gpu_implicit.verdict(slower).endswith("aims not reached")
    one = steps(pytorch_64=(3.3, 2.5, 3.28))
    assert "NOT DECIDED for every net" in gpu_implicit.verdict(one)
    tiles = {"128x64": 1.0, "64x64": 0.9}
    row = dict(preset="pytorch-64", layer="D.2", tile="128x64", tiles=tiles, implicit=1.0)
    row["variants"] = {"L1": 0.8, "taps outside": 1.25}
    record["layers"] = [{**row, "pass": "dx"}, {"pass": "dx and dW"}]
    assert gpu_implicit.verdict(record).endswith(
        "; better tiles: pytorch-64 D.2 dx 64x64; L1 1.250 x as fast; taps outside 0.800 x as fast"
    )


def test_other_bits_in_another_run_are_found(small, monkeypatch):
    layers = gpu_implicit.Layers(NET[0], 2, NET[1])
    found = count()
    way = layers.ways["D.1"][1]
    run = way.run

    def uneven(use, f, arrays, *rest):
        run(use, f, arrays, *rest)
        arrays[-1].fill(float(next(found)))

    monkeypatch.setattr(way, "run", uneven)
    with pytest.raises(BenchmarkError, match=r"^D.1 forward: not the same bits in 3 runs$"):
        layers.check("D.1")


def test_variants_change_one_place_of_the_kernel():
    for text, other in gpu_implicit.VARIANTS.values():
        assert source().count(text) == 1 and text != other


def test_only_this_part_measures_the_way_without_columns():
    assert "minigan-implicit" in contenders.CONTENDERS["cuda"]
    assert "minigan-implicit" not in contenders.PEERS["cuda"]
    assert (ROOT / gpu_implicit.TESTS[-1]).exists()
    assert set(gpu_implicit.AIMS) == set(gpu_parts.NETS)
