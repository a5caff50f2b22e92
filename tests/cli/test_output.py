"""One rule for --out, in every command that writes a file."""

import errno
import os
from pathlib import Path

import pytest

from minigan.cli import show
from minigan.cli.output import output_file
from tests.support.commands import refused, run

COMMANDS = {  # words of a command -> the name of its file
    "sample RUN --n 4": "samples.png",
    "animate RUN": "progress.gif",
    "plot RUN": "losses.png",
    "compare RUN RUN": "compare.png",
    "report RUN": "report.html",
    "explore RUN": "explorer.html",
    "interpolate RUN": "interpolation.png",
    "arithmetic RUN --pick 1 2 3": "arithmetic.png",
    "filters RUN": "filters.png",
    "activations RUN --layer G": "activations.png",
    "features RUN --layer D.0": "features.png",
}


@pytest.fixture(autouse=True)
def quick(monkeypatch, images_of_noise):
    monkeypatch.setattr("minigan.inspection.features.UNITS", 1)
    monkeypatch.setattr("minigan.report.page.draw_losses", lambda history: b"")
    for name in ("draw_losses", "draw_comparison"):
        monkeypatch.setattr(show, name, lambda _: b"curves")


def found(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_writes_where_it_is_told(line, runs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = [str(runs["linear"]) if word == "RUN" else word for word in line.split()]
    name = COMMANDS[line]
    long = "é" * 120 + Path(name).suffix.upper()  # 245 bytes and more
    (tmp_path / "there").mkdir()
    (tmp_path / long).write_text("an older file, which is replaced")
    for out in (long, "there", "made/now/"):
        assert run(*words, "--out", out) == 0
    assert found(tmp_path) == {long, f"there/{name}", f"made/now/{name}"}
    assert (tmp_path / long).read_bytes() == (tmp_path / "there" / name).read_bytes() != b""
    for out in ("none/a" + Path(name).suffix, "a.xyz", "a" * 300 + Path(name).suffix):
        assert "--out" in refused(capsys, *words, "--out", out)
    assert len(found(tmp_path)) == 3


@pytest.mark.parametrize("line", COMMANDS)
def test_a_place_that_cannot_be_written_is_known_before_the_work(line, runs, monkeypatch, capsys):
    words = [str(runs["linear"]) if word == "RUN" else word for word in line.split()]

    def deny(**_):  # chmod does not stop root
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", deny)
    monkeypatch.setattr("minigan.files.replacing", None)  # a write would fail otherwise
    message = refused(capsys, *words, *["--out", "."] * ("sample" in words))
    assert "cannot write" in message and "Permission denied" in message


@pytest.mark.parametrize("line", (*COMMANDS, "export RUN"))
def test_an_older_file_stays_until_the_new_one_is_whole(line, runs, tmp_path, monkeypatch, capsys):
    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    words = [str(runs["plain"]) if word == "RUN" else word for word in line.split()]
    file = tmp_path / COMMANDS.get(line, "weights.safetensors")
    file.write_text("an older file")
    monkeypatch.setattr(os, "replace", fail)
    out = [file] if line.startswith("export") else ["--out", file]
    assert f"cannot write {file}: No space left" in refused(capsys, *words, *out, code=1)
    assert file.read_text() == "an older file" and list(tmp_path.iterdir()) == [file]


def test_what_is_no_file_is_not_replaced(runs, tmp_path, monkeypatch):
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.png")
    for name in ("pipe.png", "a\0.png", "\ud800.png"):
        with pytest.raises(OSError, match=r"cannot be the name|no regular file"):
            output_file(str(tmp_path / name), Path("a.png"), ".png")
    with pytest.raises(OSError, match="it is the record of a run"):
        output_file(str(runs["linear"] / "config.json"), Path("a.json"), ".json")
    assert output_file(str(tmp_path / "config.json"), Path("a.json"), ".json").name == "config.json"
