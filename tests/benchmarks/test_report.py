"""report.py: the README's tables, from new result files and from those of past measurements."""

import json
from argparse import Namespace
from pathlib import Path

import pytest

from benchmarks import report, results

RESULTS = sorted((Path(report.__file__).parent / "results").glob("*.json"))


def record_of(what, preset="mnist", **more):
    """more: fields of the record; contender=milliseconds."""
    fields = {name: more.pop(name) for name in ("backend", "precision", "gpu") if name in more}
    rows = [
        {
            "name": name.replace("_", "-"),
            "seconds": [ms / 1000] * 3,
            "gflops": 100.0,
            "peak_mib": 300.0,
            "versions": {"numpy": "2.0", "torch threads": "2"},
        }
        for name, ms in more.items()
    ]
    facts = {"cpu": "Abacus", "threads": 2, "blas": "openblas"}
    net = dict(preset=preset, width=32, batch=128, gemm_gflops=200.0, **fields)
    contenders = [*rows, {"name": "dezero", "absent": "not installed"}]
    return {"what": what, "machine": facts, **net, "contenders": contenders}


ROWS = [
    record_of("step", minigan=100, torch=150, torch_cl=120, keras=90),
    record_of("sample", minigan=1000),
    record_of("step", preset="pytorch-64", minigan=50, torch=100),
]


@pytest.fixture
def write(tmp_path):
    """-> function (records, *options) -> exit code, the document."""

    def written(records, *options, document=f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n"):
        file, readme = tmp_path / "2026-01-01-abacus.json", tmp_path / "README.md"
        file.write_text(json.dumps(records))
        readme.write_text(document)
        code = report.main([str(file), "--readme", str(readme), *options])
        return code, readme.read_text()

    return written


def test_the_table_is_written_and_nothing_else(write, tmp_path):
    code, text = write(ROWS)
    assert code == 0 and "old" not in text and str(tmp_path) not in text
    assert text.startswith("before\n") and text.endswith("\nafter\n")
    assert "minigan's own MNIST 28x28x1, k4, width 32, batch 128 | 100 ms | 100 (50%) | " in text
    assert "| 1.20 (torch-cl) | 0.90 | - | - | 300 / 300 MiB |" in text
    assert (
        "sampling 10,000 images" in text
        and "Measured on Abacus, 2 threads, openblas; numpy 2.0.\n" in text
    )
    assert "`2026-01-01-abacus.json`" in text and "torch threads" not in text
    assert write(ROWS, document=text) == (0, text)


def test_rows_are_listed_and_chosen(write, capsys):
    code, text = write(ROWS, "--list")
    assert code == 0 and "old" in text
    printed = capsys.readouterr().out.splitlines()
    assert [line.split(maxsplit=1)[0] for line in printed] == ["1", "2", "3"]
    code, text = write(ROWS, "--rows", "3,1")
    assert code == 0 and "sampling" not in text
    assert text.index("64x64x3") < text.index("own MNIST")
    assert write(ROWS, "--rows", "4")[0] == 2
    assert "--rows must be numbers from 1 to 3, as 1,3" in capsys.readouterr().err


def test_gpus_have_their_own_table(write):
    times = dict(minigan=4, minigan_graph=2, torch=6, torch_graph=3, torch_example=5, jax=1)
    gpu = {"before": {"name": "NVIDIA H200"}, "after": {}}
    on_gpu = dict(backend="cupy", precision="fp32", gpu=gpu, preset="pytorch-64")
    records = [{"what": "roofline", "machine": {}}, *ROWS, record_of("step", **on_gpu, **times)]
    code, text = write(records)
    first, second = text.split("\n\n|")
    assert code == 0 and "NVIDIA H200" not in first and "DeZero" not in second
    assert "64x64x3, k4, width 32, batch 128, fp32 | 2.00 ms (graph) | 100 (50%) |" in second
    assert "| 1.50 (torch-graph) | 2.50 | 0.50 |" in second and "NVIDIA H200" in second


def test_a_document_without_markers_stays(write, capsys):
    assert write(ROWS, document="nothing here\n") == (2, "nothing here\n")
    assert "has no <!-- performance:begin -->" in capsys.readouterr().err
    assert report.main(["no-such-file.json"]) == 2
    assert "no-such-file.json is not a result file" in capsys.readouterr().err


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_past_measurements_are_still_readable(path, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"{report.BEGIN}\n{report.END}\n")
    measured = [each for each in results.load(path) if each["what"] in ("step", "sample")]
    assert report.main([str(path), "--readme", str(readme)]) == 0
    text = readme.read_text()
    assert text.count("batch ") == len(measured) > 0 and f"`{path.name}`" in text


def test_a_repeated_measurement_replaces_the_earlier_one(tmp_path):
    path = tmp_path / "r.json"
    facts = {"cpu": "Abacus", "threads": 2}
    for precision, value in (("fp32", 1.0), ("tf32", 2.0), ("fp32", 1 / 3)):
        fields = dict(preset="mnist", precision=precision, value=[value])
        results.add(path, results.new_record("step", facts, **fields))
    found = [(record["precision"], record["value"]) for record in results.load(path)]
    assert found == [("tf32", [2.0]), ("fp32", [0.333333])]


def test_only_the_same_command_repeats_a_measurement(tmp_path):
    """And a record has no folders, nor what is no option."""
    path, facts = tmp_path / "r.json", {"cpu": "Abacus", "threads": 2}
    for steps, rate, value in ((400, (1 / 3,), 1), (1500, (1 / 3,), 2), (400, (1 / 3,), 3)):
        options = Namespace(steps=steps, rate=rate, images="/home/me", json=path, config=object())
        results.add(path, results.new_record("quality", facts, options, value=value))
    assert [record["value"] for record in results.load(path)] == [2, 3]
    assert results.load(path)[1]["asked"] == {"steps": 400, "rate": [0.333333]}
