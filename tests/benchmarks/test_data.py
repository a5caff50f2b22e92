"""data.py: preparing pictures, and waiting for batches."""

import pytest

from benchmarks import data, results
from tests.support.pictures import put


@pytest.fixture
def arguments(tmp_path):
    put(tmp_path / "pictures", [f"{i}.png" for i in range(5)])
    options = ["--edge", "4", "--batch", "2", "--presets", "mnist", "--many", "1500"]
    return ["--images", str(tmp_path / "pictures"), *options]


def test_it_measures_and_writes_a_record(arguments, tmp_path, capsys, monkeypatch, quick):
    monkeypatch.setattr(data, "SECONDS", 0.02)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = tmp_path / "result.json"
    assert data.main([*arguments, "--json", str(file)]) == 0, capsys.readouterr().err
    printed = capsys.readouterr().out
    assert "5 pictures as 4x4x3: prepared in " in printed
    assert "1,500 pictures as 4x4x3: prepared in " in printed
    assert "mnist, batch 2: waits " in printed
    (record,) = results.load(file)
    assert record["what"] == "data" and record["many"]["opened"]["peak_mib"] > 10
    draws = record["draws"]["mnist"]
    assert len(draws["waited"]) == len(draws["whole"]) > 0 and len(draws["there"]) > 0
    assert all(a < b for a, b in zip(draws["waited"], draws["whole"], strict=True))
    assert str(tmp_path) not in file.read_text()


@pytest.mark.slow
def test_each_measurement_is_a_process_with_its_own_cache(arguments, capsys, monkeypatch):
    monkeypatch.setattr(data, "SECONDS", 0.02)
    assert data.main([*arguments, "--presets", ""]) == 0, capsys.readouterr().err
    assert "opened in 0.0" in capsys.readouterr().out
