"""The commands that show a run, and runs that cannot be shown."""

import sys

import pytest
from PIL import Image

from minigan.cli import show
from minigan.report import page
from minigan.training.run_folder import Run
from tests.support.commands import refused, run
from tests.support.made_run import make_run


def test_animate(tmp_path, capsys):
    made = make_run(tmp_path / "a", shape=(4, 4, 1))
    assert run("animate", made.folder) == 0
    gif = made.folder / "progress.gif"
    assert capsys.readouterr().out.startswith(f"{gif}: 3 grids, 10.0 s, ")
    assert run("animate", made.folder, "--out", tmp_path / "B.WEBP", "--seconds", 1) == 0
    with Image.open(tmp_path / "B.WEBP") as image:
        assert image.format == "WEBP"


def test_plot_and_compare(tmp_path, capsys, monkeypatch):
    a, b = (make_run(tmp_path / name, seed=seed).folder for seed, name in enumerate("ab"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(show, "draw_losses", lambda history: str(history.run.folder).encode())
    monkeypatch.setattr(
        show,
        "draw_comparison",
        lambda histories: " ".join(str(history.run.folder) for history in histories).encode(),
    )
    assert run("plot", a) == 0 and run("compare", a, b) == 0
    assert (a / "losses.png").read_text() == str(a)
    assert (tmp_path / "compare.png").read_text() == f"{a} {b}"
    lines = [f"{a / 'losses.png'}: curves of 20 steps", "compare.png: 2 runs"]
    assert capsys.readouterr().out.splitlines() == lines


def test_report(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(page, "draw_losses", lambda history: b"")
    made = make_run(tmp_path / "a", width=4)
    assert run("report", made.folder) == 0
    assert capsys.readouterr().out == f"{made.folder / 'report.html'}: 0.0 MiB\n"
    text = (made.folder / "report.html").read_text("utf-8")
    assert "ConvTranspose2d 8-&gt;4, k4 s2 p1" in text and "D: input" in text


def test_the_best_g_is_explored(with_best, tmp_path):
    for name, best in (("last", []), ("best", ["--best"])):
        assert run("explore", with_best, *best, "--out", tmp_path / f"{name}.html") == 0
    assert (tmp_path / "last.html").read_bytes() != (tmp_path / "best.html").read_bytes()


COMMANDS = {"animate": ".gif", "plot": ".png", "compare": ".png", "report": ".html"}


def words_for(name, made, *options):
    return [name, made.folder, *[made.folder] * (name == "compare"), *options]


def spoil(made, what):
    """Make a run unfit -> the run, and the commands that cannot show it."""
    if what == "no run":
        return Run(made.folder / "nowhere"), COMMANDS
    if what == "a file":
        return Run(made.config_file), COMMANDS
    if what == "no config":
        made.config_file.unlink()
        return made, ("plot", "compare", "report")
    if what == "no rows":
        made.metrics_file.write_text(made.metrics_file.read_text().split("\n")[0])
        return made, ("plot", "compare", "report")
    for path in made.samples.iterdir():
        if what == "no samples":
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[:99])
    return made, ("animate", "compare", "report")


@pytest.mark.parametrize(
    "what", ("no run", "a file", "no config", "no samples", "damaged samples", "no rows")
)
def test_a_run_that_cannot_be_shown_is_one_line(what, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made, unfit = spoil(make_run(tmp_path / "a", width=4), what)
    before = sorted(tmp_path.rglob("*"))
    for name in unfit:
        assert str(made.folder) in refused(capsys, *words_for(name, made))
    assert sorted(tmp_path.rglob("*")) == before


def test_a_place_that_cannot_be_written_is_one_line(tmp_path, capsys, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(page, "draw_losses", lambda history: b"")
    made = make_run(tmp_path / "a", width=4)
    for name, ending in COMMANDS.items():
        folder = tmp_path / f"folder{ending}"
        folder.mkdir(exist_ok=True)
        before = sorted(tmp_path.rglob("*"))
        nowhere = tmp_path / "nowhere" / f"x{ending}"
        for out, message in (("x.jpg", "--out must end in "), (nowhere, f"cannot write {nowhere}")):
            assert message in refused(capsys, *words_for(name, made, "--out", out))
        assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "words, message",
    (
        (["animate", "{run}", "--seconds", "0"], "--seconds must be above 0 and at most 600, got"),
        (["animate", "{run}", "--seconds", "x"], "argument --seconds: expected a number, got 'x'"),
        (["animate", "{run}", "{run}"], "(see minigan animate --help)"),
        (["compare", "{run}"], "a comparison shows 2 to 8 runs, got 1"),
        (["compare"], "the following arguments are required: RUN"),
    ),
)
def test_other_mistakes_are_one_line(words, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = make_run(tmp_path / "a", grids=(0,))
    before = sorted(tmp_path.rglob("*"))
    assert message in refused(capsys, *(word.format(run=made.folder) for word in words))
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ("plot", "compare"))
def test_plots_without_matplotlib_are_one_line(name, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    made = make_run(tmp_path / "a")
    line = refused(capsys, *words_for(name, made, "--out", tmp_path / "a.png"))
    assert line.startswith("plots need matplotlib") and line.endswith("pip install matplotlib")
