"""The folder of a run from somebody else: whatever is in it, one line, and nothing elsewhere."""

import json
import os
import shutil
import signal

import pytest

from minigan.report import page
from minigan.training.run_folder import Run
from tests.support.commands import run
from tests.support.made_run import change_record
from tests.support.pictures import noise
from tests.support.training_runs import content, open_game_module, train

CHECKPOINT, GRID = "checkpoints/step-00000004.npz", "samples/step-00000004.png"
FILES = {  # that a command reads or writes
    "sample": ("config.json", "generator.npz"),
    "report": ("config.json", "metrics.csv", GRID, "real.png", "report.html"),
    "animate": (GRID, "real.png", "progress.gif"),
    "compare": ("metrics.csv", GRID),
    "resume": ("config.json", "metrics.csv", CHECKPOINT, GRID, "lock"),
    "filters": ("generator.npz", CHECKPOINT),
}
COMMANDS = {
    "sample": ("sample", "RUN", "--n", "2", "--out", "OUT.png"),
    "report": ("report", "RUN"),
    "animate": ("animate", "RUN"),
    "compare": ("compare", "RUN", "RUN", "--out", "OUT.png"),
    "resume": ("train", "--resume", "RUN", "--steps", "6"),
    "filters": ("filters", "RUN"),
}
FAST = [("pipe", "report"), ("pipe", "resume"), ("pipe", "sample")]
pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("strange") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(open_game_module, "load_dataset", noise(50))
        train(folder, steps=4, sample_every=2)
    return folder


@pytest.fixture
def folder(trained, tmp_path, monkeypatch):
    """-> a copy. Nothing may wait for ever, and curves need no drawing."""

    def too_long(number, frame):
        raise AssertionError("it hangs")

    monkeypatch.setattr(open_game_module, "load_dataset", noise(50))
    monkeypatch.setattr(page, "draw_losses", lambda history: b"")
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(60)
    yield shutil.copytree(trained, tmp_path / "run")
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def make_strange(path, kind, mine):
    """Put something else in the place of a file."""
    data = path.read_bytes() if path.exists() else b""
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    elif kind == "link":
        (mine / "file").write_bytes(data)
        path.symlink_to(mine / "file")
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "escapes":
        path.write_bytes("\x1b[31m\x9b\u202e\x07\n".encode() * 9)
    elif kind == "deep":
        path.write_bytes(b"[" * 100_000)


def expect_one_line(capsys, folder, command):
    """The command succeeds, or says why not in one line; nothing unprintable -> the line."""
    capsys.readouterr()
    out = str(folder.parent / "OUT.png")
    words = [{"RUN": str(folder), "OUT.png": out}.get(word, word) for word in COMMANDS[command]]
    code, printed = run(*words), capsys.readouterr()
    assert code in (0, 1, 2) and printed.err.count("\n") == (code > 0)
    assert all(line.isprintable() for line in (printed.out + printed.err).split("\n"))
    return printed.err


@pytest.mark.parametrize(
    "kind, command",
    [
        *FAST,
        *(
            pytest.param(kind, command, marks=pytest.mark.slow)
            for kind in ("pipe", "device", "folder", "link", "loop", "escapes", "deep")
            for command in COMMANDS
            if (kind, command) not in FAST
        ),
    ],
)
def test_whatever_is_in_the_place_of_a_file(kind, command, folder, tmp_path, capsys):
    mine = tmp_path / "mine"
    for name in FILES[command]:
        copy = shutil.copytree(folder, tmp_path / "copy")
        shutil.rmtree(mine, ignore_errors=True)
        mine.mkdir()
        make_strange(copy / name, kind, mine)
        before = content(mine)
        expect_one_line(capsys, copy, command)
        assert content(mine) == before
        shutil.rmtree(copy)


def test_names_and_texts_from_strangers_do_not_reach_the_terminal(folder, capsys):
    hostile = "\x1b]0;owned\x07\x9b31m\u202e"
    change_record(Run(folder), data=hostile, note=hostile, judge=hostile)
    line = expect_one_line(capsys, folder, "resume")
    assert r"\x1b]0;owned\x07\x9b31m\u202e" in line
    options = json.loads((folder / "config.json").read_text())["options"]
    for name in ("preset", "dataset", "fit", "image_size"):
        change_record(Run(folder), options={**options, name: hostile + "x" * 10**5})
        line = expect_one_line(capsys, folder, "sample")
        assert r"\x1b]0;owned\x07" in line and len(line) < 3000


@pytest.mark.parametrize("path", ("a\0b", "\ud800"))
def test_a_path_that_no_file_can_have(path, folder, capsys):
    options = json.loads((folder / "config.json").read_text())["options"]
    options |= {"dataset": "folder", "images": path}
    change_record(Run(folder), options=options)
    assert "cannot be the name of a file" in expect_one_line(capsys, folder, "resume")
    for words in (("sample", path, "--out", "a.png"), ("report", path), ("train", "--out", path)):
        assert run(*words) == 2
        assert "cannot be the name of a file" in capsys.readouterr().err
