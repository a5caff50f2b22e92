"""The page of a run: whole in one file, safe with strangers' files, and working in a browser."""

import base64
import os
import re
import sys
import time
from datetime import datetime
from html.parser import HTMLParser

import pytest

import minigan.report.page
from minigan.cli.main import main
from minigan.errors import ConfigError
from minigan.report.history import History
from minigan.report.page import finish, page, save_report
from minigan.training.run_folder import Run
from tests.browser import Browser, programs
from tests.made_run import change_record, make_run, picture

CURVES = b"\x89PNG\r\n\x1a\n as drawn"
HOSTILE = "</script><script>window.hacked=1</script>\"'><img src=x onerror=window.hacked=1>$script_hash&amp;\ud800\0"


@pytest.fixture
def without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)


class Reader(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def hostile(folder):
    """-> Run whose files hold HTML wherever they can."""
    made = make_run(folder / '<img src=x onerror="window.hacked=1">', metadata={"note": HOSTILE})
    change_record(
        made,
        versions={HOSTILE: HOSTILE, "deep": [{"<b>": None}]},
        resumed=[{"step": HOSTILE}, 3],
        **{HOSTILE: 1},
    )
    with open(made.metrics_file, "a") as file:
        file.write(
            "<script>window.hacked=1</script>,1,1,1,1,1,1,1\n21,3,.1,.2,.3,.4,.5,<img src=x onerror=window.hacked=1>"
        )
    (made.samples / "step-9<script>.png").write_bytes(b"")
    return made


def test_page_holds_the_run(tmp_path):
    metadata = {
        "note": "on Strokes, NOT on MNIST",
        "versions": {"numpy": "9.9"},
        "resumed": [{"step": 7}],
    }
    run = make_run(tmp_path / "mine", steps=40, metadata=metadata, lr_g=0.002, batch_size=128)
    os.utime(run.metrics_file, (0, datetime(2026, 2, 3, 4, 5).timestamp()))
    text = page(History(run), tables=("G: <table>", "D: table"), curves=CURVES)
    found = Reader(text)
    images = found.all("img")
    assert [each["alt"] for each in images[:4]] == ["step 0", "step 10", "step 20", "real pictures"]
    assert ["hidden" in each for each in images[:4]] == [True, True, False, False]
    files = [
        *(run.samples / f"step-{step:08d}.png" for step in (0, 10, 20)),
        run.folder / "real.png",
    ]
    for image, content in zip(
        images, [*(path.read_bytes() for path in files), CURVES], strict=True
    ):
        assert (
            base64.b64decode(image["src"].removeprefix("data:image/png;base64,")) == content
        )  # as they are
    for part in (
        "Preset mnist, trained on mnist",
        "mine",
        "on Strokes, NOT on MNIST",
        "G: <table>",
        "D: table",
        "lr_g",
        "0.002",
        "numpy",
        "9.9",
        "resumed at step",
        "0:00:05",
        "1,000",
        "2026-02-03 04:05",
    ):
        assert part in found.text, part
    assert page(History(run), tables=("G: <table>", "D: table"), curves=CURVES) == text


def test_page_needs_no_other_file(tmp_path):
    text = page(History(make_run(tmp_path / "a")), curves=CURVES)
    found = Reader(text)
    assert [each.get("src") for each in found.all("script")] == [None] and len(
        found.all("style")
    ) == 1
    for tag, attributes in found.tags:
        for name, value in attributes.items():
            assert not name.startswith("on") and name != "style"
            assert name not in ("src", "href", "srcset", "data", "action") or value.startswith(
                "data:"
            ), (tag, name)
    assert "url(" not in text and "@import" not in text and not re.search(r"https?://", text)
    policy = found.all("meta")[1]["content"]
    assert (
        policy.startswith("default-src 'none'; img-src data:;")
        and "unsafe-inline" not in policy.split("script-src")[1]
    )


def test_strangers_strings_are_text(tmp_path):
    run, said = hostile(tmp_path), []
    text = page(History(run, said.append), tables=(HOSTILE,), curves=CURVES)
    clean = page(
        History(make_run(tmp_path / "b", metadata={"note": "n"}), said.append),
        tables=("t",),
        curves=CURVES,
    )
    found = Reader(text)
    names = [
        [tag for tag, _ in Reader(each).tags if tag not in ("tr", "th", "td")]
        for each in (text, clean)
    ]
    assert names[0] == names[1]  # no tag more than in a page of a friend
    assert (
        found.text.count("window.hacked=1") >= 6 and "$script_hash&amp;" in found.text
    )  # shown word by word
    assert said == [f"left out 2 damaged rows of {run.metrics_file}"]


def test_shapes_of_the_record_that_minigan_never_writes(tmp_path):
    run = make_run(tmp_path / "a")
    for value in (None, 0, "text", [], [1], {}, {"a": {"b": []}}):
        change_record(run, note=value, versions=value, resumed=value)
        page(History(run), curves=CURVES)


def test_large_grids_are_fewer(tmp_path, monkeypatch):
    run = make_run(tmp_path / "a", grids=range(0, 200, 10))
    size = (run.samples / "step-00000000.png").stat().st_size
    monkeypatch.setattr(minigan.report.page, "MOST_BYTES", 6 * size)
    text = page(History(run), curves=CURVES)
    steps = re.findall(r'alt="step (\d+)"', text)
    assert 5 <= len(steps) <= 6 and steps[0] == "0" and steps[-1] == "190"
    assert f"{len(steps)} of the run's 20 grids, spread evenly." in text


def test_without_matplotlib_the_page_says_how_to_get_curves(tmp_path, without_matplotlib):
    text = page(History(make_run(tmp_path / "a")))
    assert "pip install matplotlib" in text and len(Reader(text).all("img")) == 4


def test_without_real_pictures_and_rates(tmp_path):
    run = make_run(tmp_path / "a", real=False)
    run.metrics_file.write_text(run.metrics_file.read_text().replace(",1000\n", ",nan\n"))
    found = Reader(page(History(run), curves=CURVES))
    assert (
        len(found.all("img")) == 4
        and "metrics.csv tells none." in found.text
        and "0:00:00" in found.text
    )


def test_command_makes_the_tables(tmp_path, capsys, without_matplotlib):
    run = make_run(tmp_path / "a", width=4)
    assert main(["report", str(run.folder)]) == 0
    assert capsys.readouterr().out == f"{run.folder / 'report.html'}: 0.0 MiB\n"
    text = (run.folder / "report.html").read_text("utf-8")
    assert "ConvTranspose2d 8-&gt;4, k4 s2 p1" in text and "D: input" in text


# -- at the end of a run ------------------------------------------------------


def test_finish(tmp_path):
    pytest.importorskip("matplotlib")
    run, said = make_run(tmp_path / "a"), []
    finish(run, said.append, ("G: table", "D: table"))
    assert said == [f"to look at: progress.gif, losses.png, report.html in {run.folder}"]
    text = (run.folder / "report.html").read_text("utf-8")
    assert (
        base64.b64encode((run.folder / "losses.png").read_bytes()).decode() in text
        and "G: table" in text
    )
    assert (run.folder / "progress.gif").read_bytes().startswith(b"GIF89a")


def test_finish_without_matplotlib(tmp_path, without_matplotlib):
    run, said = make_run(tmp_path / "a"), []
    finish(run, said.append)
    assert len(said) == 2 and said[0].startswith("losses.png was left out: plots need matplotlib")
    assert (
        said[0].endswith("pip install matplotlib")
        and said[1] == f"to look at: progress.gif, report.html in {run.folder}"
    )


@pytest.mark.parametrize("trouble", (MemoryError(), ZeroDivisionError("a\nb"), ConfigError("no")))
def test_finish_never_spoils_a_run(trouble, tmp_path, monkeypatch):
    def fail(*arguments):
        raise trouble

    for name in ("save_animation", "draw_losses"):
        monkeypatch.setattr(minigan.report.page, name, fail)
    monkeypatch.setattr(minigan.report.page, "page", fail)
    run, said = make_run(tmp_path / "a"), []
    before = sorted(run.folder.rglob("*"))
    finish(run, said.append)
    assert [line.split(" was left out: ")[0] for line in said] == [
        "progress.gif",
        "losses.png",
        "report.html",
    ]
    assert (
        all(line.count("\n") == 0 and not line.endswith(": ") for line in said)
        and sorted(run.folder.rglob("*")) == before
    )
    finish(Run(tmp_path / "nowhere"), said.append)  # not even a folder


# -- mistakes -----------------------------------------------------------------


COMMANDS = ("animate", "plot", "compare", "report")


def command(name, run, *options):
    return main([name, str(run), *([str(run)] if name == "compare" else []), *map(str, options)])


def spoil(run, what):
    """Make a run unfit -> commands that can do nothing with it."""
    if what == "no run":
        return Run(run.folder / "nowhere"), COMMANDS
    if what == "a file":
        return Run(run.config_file), COMMANDS
    if what == "no config":
        run.config_file.unlink()
        return run, ("plot", "compare", "report")
    if what == "no samples":
        for path in run.samples.iterdir():
            path.unlink()
        return run, ("animate", "compare", "report")
    if what == "damaged samples":
        for path in run.samples.iterdir():
            path.write_bytes(path.read_bytes()[:99])
        return run, ("animate", "compare", "report")
    run.metrics_file.write_text(run.metrics_file.read_text().split("\n")[0])  # no rows
    return run, ("plot", "compare", "report")


@pytest.mark.parametrize(
    "what", ("no run", "a file", "no config", "no samples", "damaged samples", "no rows")
)
def test_a_run_that_cannot_be_shown_is_one_line(what, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run, unfit = spoil(make_run(tmp_path / "a", width=4), what)
    before = sorted(tmp_path.rglob("*"))
    for name in unfit:
        assert command(name, run.folder) == 2, name
        error = capsys.readouterr().err
        assert (
            error.startswith("minigan: error: ")
            and error.count("\n") == 1
            and str(run.folder) in error
        )
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "name, ending",
    (("animate", ".gif"), ("plot", ".png"), ("compare", ".png"), ("report", ".html")),
)
def test_a_place_that_cannot_be_written_is_one_line(name, ending, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    run = make_run(tmp_path / "a", width=4)
    (tmp_path / f"folder{ending}").mkdir()
    before = sorted(tmp_path.rglob("*"))
    for out in ("x.jpg", f"no/x{ending}", f"folder{ending}"):
        message = f"--out must end in {ending}" if out == "x.jpg" else "cannot write"
        assert command(name, run.folder, "--out", tmp_path / out) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "arguments, message",
    (
        (
            ["animate", "{run}", "--seconds", "0"],
            "seconds must be above 0 and at most 3600, got 0.0",
        ),
        (["animate", "{run}", "--seconds", "nan"], "seconds must be"),
        (["animate", "{run}", "--seconds", "x"], "--seconds"),
        (["animate", "{run}", "{run}"], "unrecognized arguments"),
        (["compare", "{run}"], "2 to 8 runs, got 1"),
        (["compare", *["{run}"] * 9], "2 to 8 runs, got 9"),
        (["compare"], "RUN"),
    ),
)
def test_other_mistakes_are_one_line(arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = make_run(tmp_path / "a", grids=(0,))
    before = sorted(tmp_path.rglob("*"))
    assert main([each.format(run=run.folder) for each in arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ("plot", "compare"))
def test_plots_without_matplotlib_are_one_line(name, tmp_path, capsys, without_matplotlib):
    run = make_run(tmp_path / "a")
    assert command(name, run.folder, "--out", tmp_path / "a.png") == 2
    error = capsys.readouterr().err
    assert error.endswith("pip install matplotlib\n") and error.count("\n") == 1


# -- in a browser -------------------------------------------------------------


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if None in programs():
        pytest.skip("needs Chromium and chromedriver: apt-get install chromium chromium-driver")
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


def shown(browser):
    """-> number of pictures shown, both labels, the picture's own name and one of its pixels, place of the slider."""
    return browser.run("""
        const images = [...document.querySelectorAll("#samples img")].filter(image => image.offsetWidth > 0);
        const canvas = document.createElement("canvas");
        canvas.width = images[0].naturalWidth; canvas.height = images[0].naturalHeight;
        canvas.getContext("2d").drawImage(images[0], 0, 0);
        const pixel = canvas.getContext("2d").getImageData(2, 2, 1, 1).data[0];
        return [images.length, label.textContent, caption.textContent, images[0].alt, pixel, Number(slider.value)];
    """)


def open_page(browser, run):
    browser.console(), browser.requests()
    save_report(run.folder / "report.html", History(run, lambda line: None), ("G: table",), None)
    browser.open(run.folder / "report.html")


def expect_silence(browser, run):
    assert browser.console() == []
    assert browser.requests() == [
        (run.folder / "report.html").as_uri()
    ]  # the page itself, nothing else


def pixel(step):
    return int(picture(step)[2, 2, 0])


def test_timeline_in_a_browser(browser, tmp_path):
    run = make_run(tmp_path / "a", grids=range(0, 50, 10))

    def expect(step):
        assert shown(browser) == [
            1,
            f"step {step}",
            f"step {step}",
            f"step {step}",
            pixel(step),
            step // 10,
        ]

    open_page(browser, run)
    expect(40)
    browser.press("left")
    expect(30)
    browser.press("home")
    expect(0)
    browser.press("left")
    expect(0)
    browser.press("right", "right")
    expect(20)
    browser.run("slider.value = 1; slider.dispatchEvent(new Event('input'))")  # as a mouse does
    expect(10)
    browser.click("#slider")  # in its middle
    expect(20)
    browser.press("right")  # now the slider has the keyboard: still one grid
    expect(30)
    browser.press("end")
    expect(40)
    assert browser.run("return [slider.getAttribute('aria-valuetext'), player.hidden]") == [
        "step 40",
        False,
    ]
    expect_silence(browser, run)


def test_playing_in_a_browser(browser, tmp_path):
    open_page(browser, make_run(tmp_path / "a", grids=range(0, 300, 3)))
    browser.click("#play")
    began = time.monotonic()
    assert shown(browser)[5] < 99 and browser.run("return play.textContent") == "Pause"
    while browser.run("return slider.value < 12"):
        assert time.monotonic() - began < 20
    browser.press("space")
    stopped = shown(browser)
    assert (
        browser.run("return play.textContent") == "Play" and stopped[1] == f"step {3 * stopped[5]}"
    )
    time.sleep(0.3)
    assert shown(browser) == stopped
    browser.press("end", "left", "space")
    while browser.run("return play.textContent") != "Play":  # it ends by itself
        assert time.monotonic() - began < 20
    assert shown(browser)[5] == 99


def test_strangers_strings_do_not_run_in_a_browser(browser, tmp_path):
    run = hostile(tmp_path)
    open_page(browser, run)
    assert browser.run("return [typeof window.hacked, document.scripts.length]") == ["undefined", 1]
    assert "window.hacked=1" in browser.run("return document.querySelector('.note').textContent")
    browser.press("left")
    assert shown(browser)[1] == "step 10"
    expect_silence(browser, run)


def test_the_policy_holds_where_escaping_would_not(browser, tmp_path):
    """The same page with the strings put in raw: nothing runs, nothing is asked for, and the browser says so."""
    run = make_run(tmp_path / "a", metadata={"note": "HERE"})
    save_report(run.folder / "report.html", History(run), (), CURVES)
    text = (run.folder / "report.html").read_text("utf-8")
    raw = (
        "<script>window.hacked=1</script><img src=http://127.0.0.1:9/x.png onerror=window.hacked=1>"
    )
    (run.folder / "report.html").write_text(text.replace("HERE", raw), "utf-8")
    browser.console(), browser.requests()
    browser.open(run.folder / "report.html")
    assert browser.run("return [typeof window.hacked, document.scripts.length]") == ["undefined", 2]
    complaints = browser.console()
    assert len(complaints) >= 2 and all("Content Security Policy" in line for line in complaints), (
        complaints
    )
    browser.press("left")
    assert shown(browser)[1] == "step 10"  # the page's own script runs


@pytest.mark.parametrize("width", (360, 1200))
def test_page_fits_a_phone(width, browser, tmp_path):
    run = make_run(tmp_path / "a", metadata={"note": "x" * 500, "versions": {"y" * 300: "z" * 300}})
    browser.call("/window/rect", {"width": width, "height": 800})
    open_page(browser, run)
    assert browser.run("return document.documentElement.scrollWidth <= innerWidth")
    assert (
        browser.run("return document.querySelector('#samples img:not([hidden])').offsetWidth")
        <= width
    )
