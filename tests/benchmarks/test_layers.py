"""layers.py: each layer alone, in variants that agree with its definition."""

import pytest

from benchmarks import contenders, layers, results
from tests.support.in_process_worker import InProcessWorker

SMALL = ["--width", "4", "--batch", "3", "--rounds", "1", "--layers", "all"]


def test_the_backends_layers_agree_with_their_definitions(tmp_path, capsys, quick):
    file = tmp_path / "result.json"
    arguments = ["--preset", "mnist", *SMALL, "--variants", "definition,minigan,minigan-numba"]
    assert layers.main([*arguments, "--json", str(file)]) == 0, capsys.readouterr().err
    printed = capsys.readouterr().out
    assert "G.10 ConvTranspose2d 8->4, k4 s2 p1: 0.00 GFLOP a pass" in printed
    (record,) = results.load(file)
    passes = [(row["layer"], row["pass"]) for row in record["layers"]]
    assert passes[:5] == [
        *(("G.0", name) for name in ("forward", "dx", "dw")),  # Linear; G.1 only reshapes
        *(("G.2", name) for name in ("forward", "dx")),
    ]
    assert passes[-1] == ("D.12", "dw") and ("D.10", "dw") not in passes  # LeakyReLU
    for row in record["layers"]:
        assert row["errors"].pop("definition") == 0 and max(row["errors"].values()) < 1e-5


def test_a_wrong_variant_is_not_timed(capsys, quick, monkeypatch):
    def call(self, method, **arguments):
        found = InProcessWorker.call(self, method, **arguments)
        return {**found, "dx": 1e-3} if method == "check" and self.name == "minigan" else found

    worker = type("Wrong", (InProcessWorker,), {"call": call})
    monkeypatch.setattr("benchmarks.interleaved.Worker", worker)
    assert layers.main(["--preset", "mnist", *SMALL, "--variants", "minigan"]) == 2
    assert "G.0 (Linear 64->144): minigan differs from the definition" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["fredriksson-mnist", "shibuya-svhn"])
def test_layers_of_torch_agree_with_their_definitions(preset, capsys, quick):
    """Every layer alone, forward, dx and dW, in both layouts."""
    pytest.importorskip("benchmarks.contenders.torch_step", exc_type=contenders.Missing)
    arguments = ["--preset", preset, *SMALL, "--variants", "torch,torch-cl"]
    assert layers.main(arguments) == 0, capsys.readouterr().err
    assert "torch-cl" in capsys.readouterr().out


@pytest.mark.slow
def test_layers_on_the_stand_in_for_a_gpu(capsys, device):
    arguments = ["--preset", "mnist", *SMALL, "--backend", "cupy"]
    arguments += ["--variants", "definition,minigan"]
    assert layers.main(arguments) == 0, capsys.readouterr().err
