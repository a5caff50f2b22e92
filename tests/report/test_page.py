"""The page of a run: one file, safe with files from strangers, and working in a browser."""

import base64
import os
import re
import sys
import time
from datetime import datetime
from html.parser import HTMLParser

import numpy as np
import pytest

from minigan.errors import ConfigError
from minigan.report import page as report_page
from minigan.report.history import History
from minigan.report.page import finish, page, rate, save_report
from minigan.training.run_folder import Run
from tests.support.made_run import change_record, make_run, picture

CURVES = b"\x89PNG\r\n\x1a\n as drawn"
SCRIPT = "<script>window.hacked=1</script>"
IMG = "<img src=x onerror=window.hacked=1>"
HOSTILE = f"</script>{SCRIPT}\"'>{IMG}$script_hash&amp;\ud800\0"


@pytest.fixture
def quick_curves(monkeypatch):
    """Curves that need no drawing."""
    monkeypatch.setattr(report_page, "draw_losses", lambda history: CURVES)


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
    """-> Run whose files contain HTML wherever they can."""
    run = make_run(folder / '<img src=x onerror="window.hacked=1">', metadata={"note": HOSTILE})
    versions, resumed = (
        {HOSTILE: HOSTILE, "deep": [{"<b>": None}]},
        [{"step": HOSTILE, "changed": {HOSTILE: [1, {}], "": 2}}, 3],
    )
    change_record(run, versions=versions, resumed=resumed, **{HOSTILE: 1})
    with open(run.metrics_file, "a") as file:
        file.write(f"{SCRIPT},1,1,1,1,1,1,1\n21,3,.1,.2,.3,.4,.5,{IMG}")
    (run.samples / "step-9<script>.png").write_bytes(b"")
    return run


RESUMED = [{"step": 7, "changed": {"lr_g": [0.002, 0.001]}}, {"step": 9, "changed": {}}]


def test_the_page_contains_the_run(tmp_path, quick_curves):
    note = "on Strokes, NOT on MNIST"
    metadata = {"note": note, "versions": {"numpy": "9.9"}, "ranks": 3, "resumed": RESUMED}
    run = make_run(tmp_path / "mine", steps=40, metadata=metadata, lr_g=0.002, batch_size=128)
    rows = run.metrics_file.read_text()
    run.metrics_file.write_text(rows.replace(",1000\n", ",3000\n", 5))
    os.utime(run.metrics_file, (0, datetime(2026, 2, 3, 4, 5).timestamp()))
    text = page(History(run))
    found = Reader(text)
    images = found.all("img")
    assert [each["alt"] for each in images[:4]] == ["step 0", "step 10", "step 20", "real images"]
    assert ["hidden" in each for each in images[:4]] == [True, True, False, False]
    files = [run.samples / f"step-{step:08d}.png" for step in (0, 10, 20)] + [run.real_file]
    contents = [*(path.read_bytes() for path in files), CURVES]  # embedded as they are
    for image, content in zip(images, contents, strict=True):
        assert base64.b64decode(image["src"].removeprefix("data:image/png;base64,")) == content
    parts = ["Preset mnist, trained on mnist", "mine", note, "G: input", "Flatten", "lr_g", "0.002"]
    parts += ["numpy9.9", "ranks3", "7, lr_g 0.002 → 0.001; 9", "From 0 to 3,000."]
    parts += ["steps40", "epochs5", "training time0:00:05", "images/s, median1,000"]
    parts += ["2026-02-03 04:05"]
    assert [part for part in parts if part not in found.text] == []
    assert found.text.index("G: input") < found.text.index("D: input")
    assert [each["max"] for each in found.all("input")] == ["2"]  # of the three grids
    assert page(History(run)) == text


def test_the_line_of_images_per_second():
    """From the first step to the last, and 0 is at the bottom of its 100."""
    metrics = {"step": np.array([11, 12, 13, 21]), "images_per_s": np.array([50, np.nan, 100, 25])}
    line, caption = rate(metrics)
    assert line == "0,50.0 200,2.0 1000,74.0 1000,74.0"
    assert caption.startswith("From 0 to 100.")


def test_the_page_needs_no_other_file(tmp_path, quick_curves):
    text = page(History(make_run(tmp_path / "a")))
    found = Reader(text)
    assert [each.get("src") for each in found.all("script")] == [None]
    assert len(found.all("style")) == 1
    for tag, attributes in found.tags:
        for name, value in attributes.items():
            assert not name.startswith("on") and name != "style"
            if name in ("src", "href", "srcset", "data", "action"):
                assert value.startswith("data:"), (tag, name)
    assert "url(" not in text and "@import" not in text and not re.search(r"https?://", text)
    policy = found.all("meta")[1]["content"]
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe-inline" not in policy.split("script-src")[1]


def test_strings_from_strangers_are_text(tmp_path, quick_curves):
    run, lines = hostile(tmp_path), []
    text = page(History(run, lines.append))
    harmless = make_run(tmp_path / "b", metadata={"note": "n"})
    found, clean = Reader(text), Reader(page(History(harmless, lines.append)))

    def tags(reader):
        return [tag for tag, _ in reader.tags if tag not in ("tr", "th", "td")]

    assert tags(found) == tags(clean)  # no tag more than in a harmless page
    assert found.text.count("window.hacked=1") >= 6 and "$script_hash&amp;" in found.text
    assert lines == [f"left out 2 damaged rows of {run.metrics_file}"]


def test_records_of_shapes_that_minigan_never_writes(tmp_path, quick_curves):
    run = make_run(tmp_path / "a")
    for value in (None, 0, "text", [], [1], [{"changed": [1]}], {}, {"a": {"b": []}}):
        change_record(run, note=value, versions=value, resumed=value)
        page(History(run))


def test_of_large_grids_there_are_fewer(tmp_path, monkeypatch, quick_curves):
    run = make_run(tmp_path / "a", grids=range(0, 200, 10))
    size = (run.samples / "step-00000000.png").stat().st_size
    monkeypatch.setattr(report_page, "MOST_BYTES", 6 * size)
    text = page(History(run))
    steps = re.findall(r'alt="step (\d+)"', text)
    assert 5 <= len(steps) <= 6 and steps[0] == "0" and steps[-1] == "190"
    assert f"Shown: {len(steps)} of 20 grids." in text


def test_without_matplotlib_the_page_says_how_to_get_curves(tmp_path, without_matplotlib):
    text = page(History(make_run(tmp_path / "a")))
    assert "pip install matplotlib" in text and len(Reader(text).all("img")) == 4


def test_without_real_images_and_rates(tmp_path, quick_curves):
    run = make_run(tmp_path / "a", real=False)
    run.metrics_file.write_text(run.metrics_file.read_text().replace(",1000\n", ",nan\n"))
    found = Reader(page(History(run)))
    assert len(found.all("img")) == 4 and "metrics.csv has none." in found.text
    assert "0:00:00" in found.text


# -- at the end of a run ---------------------------------------------------------------------------


def test_finish(tmp_path):
    pytest.importorskip("matplotlib")
    run, lines = make_run(tmp_path / "a"), []
    finish(run, lines.append)
    assert lines == [f"to look at: progress.gif, losses.png, report.html in {run.folder}"]
    text = (run.folder / "report.html").read_text("utf-8")
    losses = (run.folder / "losses.png").read_bytes()
    assert base64.b64encode(losses).decode() in text and "G: input" in text
    assert (run.folder / "progress.gif").read_bytes().startswith(b"GIF89a")


def test_finish_without_matplotlib(tmp_path, without_matplotlib):
    run, lines = make_run(tmp_path / "a"), []
    finish(run, lines.append)
    left_out, made = lines
    assert left_out.startswith("losses.png was left out: plots need matplotlib")
    assert left_out.endswith("pip install matplotlib")
    assert made == f"to look at: progress.gif, report.html in {run.folder}"


@pytest.mark.parametrize("trouble", (MemoryError(), ZeroDivisionError("a\nb"), ConfigError("no")))
def test_finish_never_spoils_a_run(trouble, tmp_path, monkeypatch):
    def fail(*arguments):
        raise trouble

    for name in ("save_animation", "draw_losses", "page"):
        monkeypatch.setattr(report_page, name, fail)
    run, lines = make_run(tmp_path / "a"), []
    before = sorted(run.folder.rglob("*"))
    finish(run, lines.append)
    names = [line.split(" was left out: ")[0] for line in lines]
    assert names == ["progress.gif", "losses.png", "report.html"]
    assert all("\n" not in line and not line.endswith(": ") for line in lines)
    assert sorted(run.folder.rglob("*")) == before
    finish(Run(tmp_path / "nowhere"), lines.append)  # not even a folder


# -- in a browser ----------------------------------------------------------------------------------


def shown(browser):
    """-> number of images shown, both labels, the image's alt text, a pixel, the slider's value."""
    return browser.run("""
        const images = [...document.querySelectorAll("#samples img")].filter(x => x.offsetWidth);
        const canvas = document.createElement("canvas");
        canvas.width = images[0].naturalWidth; canvas.height = images[0].naturalHeight;
        canvas.getContext("2d").drawImage(images[0], 0, 0);
        const pixel = canvas.getContext("2d").getImageData(2, 2, 1, 1).data[0];
        const texts = [label.textContent, caption.textContent, images[0].alt];
        return [images.length, ...texts, pixel, Number(slider.value)];
    """)


def open_page(browser, run):
    browser.console(), browser.requests()
    save_report(run.folder / "report.html", History(run, lambda line: None))
    browser.open(run.folder / "report.html")


def expect_silence(browser, run):
    """No message on the console, and no request except for the page itself."""
    assert browser.console() == []
    assert browser.requests() == [(run.folder / "report.html").as_uri()]


@pytest.mark.slow
def test_timeline_in_a_browser(browser, tmp_path, quick_curves):
    run = make_run(tmp_path / "a", grids=range(0, 50, 10))

    def expect(step):
        pixel = int(picture(step)[2, 2, 0])
        assert shown(browser) == [1, *[f"step {step}"] * 3, pixel, step // 10]

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
    browser.press("right")  # the slider has the focus now: still one grid
    expect(30)
    browser.press("end")
    expect(40)
    value = browser.run("return [slider.getAttribute('aria-valuetext'), player.hidden]")
    assert value == ["step 40", False]
    browser.run("document.querySelector('.curves').remove()")  # no real PNG
    expect_silence(browser, run)


@pytest.mark.slow
def test_playing_in_a_browser(browser, tmp_path, quick_curves):
    open_page(browser, make_run(tmp_path / "a", grids=range(0, 120, 3)))
    last = 39
    browser.click("#play")
    began = time.monotonic()
    assert shown(browser)[5] < last and browser.run("return play.textContent") == "Pause"
    while browser.run("return slider.value < 3"):
        assert time.monotonic() - began < 20
    browser.press("space")
    stopped = shown(browser)
    assert browser.run("return play.textContent") == "Play"
    assert stopped[1] == f"step {3 * stopped[5]}"
    time.sleep(0.3)
    assert shown(browser) == stopped
    browser.press("end", "left", "space")
    while browser.run("return play.textContent") != "Play":  # it ends by itself
        assert time.monotonic() - began < 20
    assert shown(browser)[5] == last


@pytest.mark.slow
def test_strings_from_strangers_do_not_run_in_a_browser(browser, tmp_path, quick_curves):
    run = hostile(tmp_path)
    open_page(browser, run)
    assert browser.run("return [typeof window.hacked, document.scripts.length]") == ["undefined", 1]
    assert "window.hacked=1" in browser.run("return document.querySelector('.note').textContent")
    browser.press("left")
    assert shown(browser)[1] == "step 10"
    expect_silence(browser, run)


def test_the_policy_holds_even_without_escaping(browser, tmp_path, quick_curves):
    """The same page with raw strings: nothing runs or is requested, and the browser complains."""
    run = make_run(tmp_path / "a", metadata={"note": "HERE"})
    file = run.folder / "report.html"
    save_report(file, History(run))
    raw = f"{SCRIPT}<img src=http://127.0.0.1:9/x.png onerror=window.hacked=1>"
    file.write_text(file.read_text("utf-8").replace("HERE", raw), "utf-8")
    browser.console(), browser.requests()
    browser.open(file)
    assert browser.run("return [typeof window.hacked, document.scripts.length]") == ["undefined", 2]
    messages = browser.console()
    assert len(messages) >= 2, messages
    assert all("Content Security Policy" in line for line in messages), messages
    browser.press("left")
    assert shown(browser)[1] == "step 10"  # the page's script runs


@pytest.mark.parametrize("width", (360, 1200))
def test_the_page_fits_a_phone(width, browser, tmp_path, quick_curves):
    run = make_run(tmp_path / "a", metadata={"note": "x" * 500, "versions": {"y" * 300: "z" * 300}})
    browser.call("/window/rect", {"width": width, "height": 800})
    open_page(browser, run)
    assert browser.run("return document.documentElement.scrollWidth <= innerWidth")
    image = "document.querySelector('#samples img:not([hidden])')"
    assert browser.run(f"return {image}.offsetWidth") <= width


def test_the_training_time_of_steps_with_several_batches(tmp_path, quick_curves):
    """The rate counts the images of all of them."""
    times = []
    for name, more in (("one", {}), ("three", {"d_steps": 3})):
        shown = page(History(make_run(tmp_path / name, steps=95, batch_size=1000, **more)))
        times.append(re.search("training time</dt><dd>(.*?)</dd>", shown)[1])
    assert times == ["0:01:35", "0:04:45"]


def test_the_training_time_of_epochs_that_end_with_a_smaller_batch(tmp_path, quick_curves):
    """Each step of make_run has a rate of 1,000 images a second."""
    times = []
    for images in (2000, 2002, 2001, 3):  # a last batch of 1 is left out; 3 are repeated
        made = make_run(
            tmp_path / str(images), steps=99, batch_size=1000, metadata={"images": images}
        )
        times.append(re.search("training time</dt><dd>(.*?)</dd>", page(History(made)))[1])
    assert times == ["0:01:39", "0:01:06", "0:01:39", "0:01:39"]
