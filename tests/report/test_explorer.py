"""The explorer: G in a page gives NumPy's images, its controls work, and nothing else may run."""

import base64
import io
import json
import re
import time

import numpy as np
import pytest
from PIL import Image

import minigan as mg
from minigan.layers import BatchNorm
from minigan.presets import MODULES
from minigan.report import explorer
from minigan.report.explorer import float16_is_enough, page, save_explorer
from minigan.training.config import new_config
from minigan.training.game import Game


def make_game(preset="mnist", **options):
    """-> Game whose weights, gains and statistics are drawn at random: no 0 hides a mistake."""
    options = {"width": 4, "z_dim": 8, "batch_size": 8, "threads": 1, **options}
    game = Game(new_config({"preset": preset, **options}))
    rng = np.random.default_rng(3)
    for p in game.drawn_from.params.values():
        p[...] += rng.normal(0, 0.1, p.shape)
    for layer in game.drawn_from.layers:
        if isinstance(layer, BatchNorm):
            layer.running_mean[...] = rng.normal(0, 0.1, layer.running_mean.shape)
            layer.running_var[...] = rng.uniform(0.5, 2, layer.running_var.shape)
    return game


def data_of(text):
    """-> the JSON in a page."""
    return json.loads(
        re.search(r'<script type="application/json" id="run">(.*?)</script>', text)[1]
    )


def test_a_page_is_one_file_that_runs_its_own_script_only():
    text = page(make_game(), 'a<b>&"c"</script><script>alert(1)</script>', "float32")
    assert "alert(1)</script><script>" not in text.partition("<body>")[0]
    assert text.count("<script>") == 1 and "<script>alert" not in text
    policy = re.search(r'Security-Policy" content="([^"]*)"', text)[1]
    assert policy.startswith("default-src 'none'") and "unsafe-eval" not in policy
    assert re.search(r"script-src 'sha256-[^']+'; worker-src blob:$", policy)
    assert not re.search(r"\son\w+=|https?://", text)  # no inline handler, no address
    assert data_of(text)["name"].startswith("a<b>")


def test_weights_are_float16_where_no_pixel_changes_much():
    game = make_game()
    before = game.sample(64, game.stream("sample")).astype(int)
    assert float16_is_enough(game)
    after = game.sample(64, game.stream("sample")).astype(int)
    assert np.abs(after - before).max() <= 1
    for W in (p for p in game.drawn_from.params.values() if p.ndim > 1):
        np.testing.assert_array_equal(W, W.astype(np.float16))  # they stay rounded

    game = make_game()
    W = game.drawn_from.params["0.W"]
    W[...] = W * 1e6  # beyond the largest float16
    kept = W.copy()
    assert not float16_is_enough(game)
    np.testing.assert_array_equal(W, kept)


def test_a_single_pixel_that_changes_keeps_float32(monkeypatch):
    game, images = make_game(), np.zeros((2, 64, 28, 28, 1), np.uint8)
    images[1, 0, 0, 0] = 2
    samples = iter(images)
    monkeypatch.setattr(game, "sample", lambda n, rng: next(samples))
    assert not float16_is_enough(game)


def test_what_the_page_says_of_g():
    game = make_game("radford-mnist-conditional")
    text = page(game, "run", "float32")
    found = data_of(text)
    assert found["start"] == game.new_z(24, game.stream("fixed z")).round(4).tolist()  # the grids'
    assert (found["z"], found["black"]) == ("uniform", 0)
    count = sum(p.size for p in game.drawn_from.params.values())
    assert f"{count:,} numbers, float32" in text


def test_a_batch_norm_becomes_a_scale_and_a_shift():
    net = make_game().drawn_from
    layers = [layer for layer in net.layers if isinstance(layer, BatchNorm)]
    described = [each for each in explorer.describe(net, "float32") if each["kind"] == "BatchNorm"]
    for layer, found in zip(layers, described, strict=True):
        scale, shift = (
            np.frombuffer(base64.b64decode(found[name]["data"]), "<f4")
            for name in ("scale", "shift")
        )
        x = np.random.default_rng(0).standard_normal((5, *layer.in_shape)).astype("f4")
        np.testing.assert_allclose(
            layer.forward(x, train=False), x * scale + shift, rtol=1e-4, atol=1e-5
        )


def test_an_unknown_layer_is_named(monkeypatch):
    class Double(mg.Layer):
        def forward(self, x, train=True):
            return 2 * x

    game = make_game()
    net = mg.Sequential([Double()], name="G")
    net.setup((3,), backend=game.backend, rng=np.random.default_rng(0))
    with pytest.raises(mg.ConfigError, match=r"^G.0 \(Double\): the explorer does not know this"):
        list(explorer.describe(net, "float32"))


def test_directions_are_those_that_the_first_layer_stretches_most():
    for preset in ("mnist", "pytorch-64", "radford-mnist-conditional"):
        game = make_game(preset)
        found = explorer.directions(game.G, 8)
        np.testing.assert_allclose(found @ found.T, np.eye(len(found)), atol=1e-6)
        z = np.zeros((len(found) + 1, 8), np.float32)
        z[1:] = found
        first = next(layer for layer in game.G.layers if hasattr(layer, "W"))
        labels = np.zeros((len(z), 10), np.float32)
        x = np.concatenate([z, labels], 1) if game.preset.classes else z
        if type(first) is mg.ConvTranspose2d:
            x = x.reshape(len(x), 1, 1, -1)
        y = first.forward(x).reshape(len(x), -1)
        stretched = np.linalg.norm(y[1:] - y[:1], axis=1)
        assert np.all(np.diff(stretched) < 1e-5) and stretched[0] > stretched[-1]


# -- in a browser ----------------------------------------------------------------------------------


def open_explorer(browser, file):
    browser.console(), browser.requests()
    browser.open(file)
    for _ in range(200):  # until the last image of the grid is there
        if browser.run("return waiting.size === 0 && $('time').textContent !== ''"):
            return
        time.sleep(0.05)
    raise AssertionError(browser.console())


@pytest.mark.slow
@pytest.mark.parametrize("preset", [*MODULES, "upsample"])
def test_images_are_numpys(preset, browser, tmp_path):
    options = dict(upsample="nearest", image_size="27x30") if preset == "upsample" else {}
    game = make_game("mnist" if options else preset, **options)
    file = tmp_path / "explorer.html"
    file.write_text(page(game, "run", "float32"))
    open_explorer(browser, file)
    z = np.array(data_of(file.read_text())["start"][:3], np.float32)
    numbers = np.arange(3) % max(game.preset.classes, 1) * 3
    net = game.sampled_net()
    expected = net.forward(z, train=False, labels=game.labels(numbers))
    for i in range(3):
        found = browser.run(
            f"return imageOf({json.dumps(z[i].tolist())}, {numbers[i]}).then(r => [...r.image])"
        )
        np.testing.assert_allclose(found, expected[i].ravel(), rtol=0, atol=1e-5)
    assert np.ptp(expected) > 0.05  # not a gray nothing
    pixels = np.asarray(shown(browser).convert("RGB" if game.config.channels == 3 else "L"))
    wanted = game.to_images(net.forward(z, train=False, labels=game.labels(numbers)))[0]
    difference = pixels.reshape(wanted.shape).astype(int) - wanted
    assert np.abs(difference).max() <= 1
    assert browser.console() == []
    assert [each for each in browser.requests() if not each.startswith("blob:")] == [file.as_uri()]


def shown(browser, canvas="image"):
    """-> the picture on a canvas."""
    data = browser.run(f"return $('{canvas}').toDataURL('image/png')").partition(",")[2]
    return Image.open(io.BytesIO(base64.b64decode(data)))


def settle(browser):
    for _ in range(100):
        if browser.run("return !busy && waiting.size === 0"):
            return
        time.sleep(0.02)


def pixels_of(browser, game, z):
    settle(browser)
    wanted = game.images_of(np.array([z], np.float32), np.zeros(1, int))[0, :, :, 0].astype(int)
    return np.abs(np.asarray(shown(browser).convert("L")).astype(int) - wanted).max()


@pytest.mark.slow
def test_the_controls(browser, tmp_path):
    """Each control moves z as it says, by mouse or key, and the picture follows, pixel by pixel."""
    game, file = make_game(), tmp_path / "explorer.html"
    assert "weights as float16" in save_explorer(file, game, "run")
    open_explorer(browser, file)
    run = data_of(file.read_text())
    start, directions = np.array(run["start"]), np.array(run["directions"])
    assert pixels_of(browser, game, start[0]) <= 1

    browser.run("document.getElementById('direction0').focus()")
    browser.press("right", "right")
    assert browser.run("return Number(sliders[0].value)") == pytest.approx(0.1)
    assert pixels_of(browser, game, start[0] + 0.1 * directions[0]) <= 1

    browser.click("#grid button:nth-child(5)")
    assert pixels_of(browser, game, start[4]) <= 1
    browser.click("#setA")
    browser.click("#grid button:nth-child(7)")
    browser.click("#setB")
    browser.click("#grid button:nth-child(9)")
    browser.click("#setC")
    browser.click("#calculate")
    assert pixels_of(browser, game, start[4] - start[6] + start[8]) <= 1
    assert browser.run("return $('walk').value = 100, $('walk').dispatchEvent(new Event('input'))")
    assert pixels_of(browser, game, start[6]) <= 1

    browser.run("$('index').value = 3; $('index').dispatchEvent(new Event('input'))")
    browser.run("$('number').value = 2; $('number').dispatchEvent(new Event('input'))")
    changed = start[6].copy()
    changed[3] = 2
    assert pixels_of(browser, game, changed) <= 1
    browser.click("#zero")
    assert pixels_of(browser, game, 0 * start[0]) <= 1
    browser.click("#random")
    settle(browser)
    z = browser.run("return currentZ()")
    assert pixels_of(browser, game, z) <= 1 and np.ptp(z) > 0
    browser.click("#more")
    settle(browser)
    assert browser.run("return choices.every((each, i) => each.z !== run.start[i])")
    assert browser.console() == []


@pytest.mark.slow
def test_a_class_is_chosen(browser, tmp_path):
    game, file = make_game("radford-mnist-conditional", width=2), tmp_path / "explorer.html"
    save_explorer(file, game, "run")
    open_explorer(browser, file)
    before = np.asarray(shown(browser))
    browser.run("$('class').selectedIndex = 7; $('class').dispatchEvent(new Event('change'))")
    settle(browser)
    z = np.array(data_of(file.read_text())["start"][:1], np.float32)
    wanted = game.images_of(z, np.array([7]))[0, :, :, 0].astype(int)
    found = np.asarray(shown(browser).convert("L")).astype(int)
    assert np.abs(found - wanted).max() <= 1
    assert not np.array_equal(np.asarray(shown(browser)), before)


@pytest.mark.slow
def test_it_fits_a_phone_and_both_color_schemes(browser, tmp_path):
    file = tmp_path / "explorer.html"
    save_explorer(file, make_game(), "run")
    open_explorer(browser, file)
    colors = []
    for scheme in ("light", "dark"):
        browser.emulate(width=360, height=800, scheme=scheme)
        wide = browser.run("return [innerWidth, document.documentElement.scrollWidth]")
        assert wide == [360, 360]
        colors.append(browser.run("return getComputedStyle(document.body).backgroundColor"))
    browser.emulate()
    assert colors == ["rgb(255, 255, 255)", "rgb(18, 18, 18)"]
