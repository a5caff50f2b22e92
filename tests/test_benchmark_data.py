"""The benchmark of pictures and batches runs and says what it should; its figures are not looked at here."""

import pytest
from PIL import Image

from benchmarks import data, results


def test_it_runs_and_writes_a_record(tmp_path, capsys):
    (tmp_path / "p").mkdir()
    for i in range(3):
        Image.new("RGB", (8, 8), (i, 0, 0)).save(tmp_path / "p" / f"{i}.png")
    file = tmp_path / "result.json"
    assert (
        data.main(
            [
                "--images",
                str(tmp_path / "p"),
                "--presets",
                "",
                "--many",
                "1500",
                "--edge",
                "4",
                "--json",
                str(file),
            ]
        )
        == 0
    )
    out = capsys.readouterr().out
    assert (
        out.startswith("3 pictures as 4x4x3: prepared in ")
        and "\n1,500 pictures as 4x4x3: prepared in " in out
    )
    (record,) = results.load(file)
    assert (
        record["what"] == "data"
        and record["many"]["opened"]["peak_mib"] > 10
        and str(tmp_path) not in file.read_text()
    )


@pytest.mark.parametrize(
    "arguments, said",
    (
        (
            ["--images", "no/such/folder"],
            "--images no/such/folder: there is no such folder or file",
        ),
        (["--images", ".", "--edge", "0"], "--edge must be at least 1"),
        (["--images", ".", "--batch", "1"], "--batch must be at least 2"),
        ([], "the following arguments are required: --images"),
    ),
)
def test_wrong_options_give_one_line(arguments, said, capsys):
    assert data.main(arguments) == 2
    captured = capsys.readouterr()
    assert said in captured.err and captured.err.count("\n") == 1 and not captured.out
