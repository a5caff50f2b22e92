"""scaling.py: how time and memory grow with one size."""

import pytest

from benchmarks import results, scaling


def test_exponent():
    assert scaling.exponent([1, 2, 4], [3, 12, 48]) == pytest.approx(2)
    assert scaling.exponent([1], [3]) is None


def test_axes_are_measured_and_drawn(tmp_path, capsys, monkeypatch, quick):
    pytest.importorskip("matplotlib")
    axes = {"batch": (2, 4), "threads": (1,)}
    monkeypatch.setattr(scaling, "AXES", axes)
    file, picture = tmp_path / "result.json", tmp_path / "scaling.png"
    arguments = ["--preset", "mnist", "--rounds", "1", "--width", "2", "--batch", "4"]
    arguments += ["--axes", ",".join(axes), "--json", str(file), "--plot", str(picture)]
    assert scaling.main(arguments) == 0, capsys.readouterr().err
    assert "time per image ~ batch^" in capsys.readouterr().out
    (record,) = results.load(file)
    found = {
        axis: [point["size"] for point in each["points"]] for axis, each in record["axes"].items()
    }
    assert found == {axis: list(sizes) for axis, sizes in axes.items()}
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_an_axis_that_a_preset_does_not_have_loses_no_other(tmp_path, capsys, monkeypatch, quick):
    monkeypatch.setattr(scaling, "AXES", {"batch": (2,), "image": (32,)})
    file = tmp_path / "result.json"
    arguments = ["--preset", "pytorch-64", "--rounds", "1", "--width", "2", "--batch", "2"]
    assert scaling.main([*arguments, "--axes", "batch,image", "--json", str(file)]) == 0
    assert "left out: " in capsys.readouterr().out
    assert list(results.load(file)[0]["axes"]) == ["batch"]
