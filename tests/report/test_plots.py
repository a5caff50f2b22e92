"""Plots: what they must show, and numbers that must not break them. How they look, look."""

import io
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from minigan.errors import ConfigError
from minigan.report.comparison import differences, draw_comparison
from minigan.report.history import History
from minigan.report.plots import clean, draw_losses, limits, mark_epochs, smooth
from minigan.training.config import new_config
from tests.support.made_run import WITH_NORMS, make_run
from tests.support.ranks import ROOT

matplotlib = pytest.importorskip("matplotlib")


@pytest.fixture
def drawn(monkeypatch):
    """-> list that gets every Figure that is made."""
    from matplotlib import figure

    made = []
    init = figure.Figure.__init__

    def remember(self, *arguments, **options):
        init(self, *arguments, **options)
        made.append(self)

    monkeypatch.setattr(figure.Figure, "__init__", remember)
    return made


def size(png):
    with Image.open(io.BytesIO(png)) as image:
        image.load()
        return image.size


def test_equal_figures_in_threads_leave_the_whole_program_alone(tmp_path, monkeypatch):
    """Its style, its warnings, and the figures of its pyplot."""
    run = make_run(tmp_path / "run")
    style, filters = dict(matplotlib.rcParams), list(warnings.filters)
    monkeypatch.delitem(sys.modules, "matplotlib.pyplot", raising=False)  # to read its style
    draw = draw_losses.__wrapped__  # without its cache
    with ThreadPoolExecutor(3) as pool:
        history = History(run)
        pictures = [future.result() for future in [pool.submit(draw, history) for _ in range(3)]]
    assert pictures == [draw(history)] * 3
    assert "matplotlib.pyplot" not in sys.modules
    assert dict(matplotlib.rcParams) == style and list(warnings.filters) == filters


def test_the_first_figure_of_a_program_leaves_pyplot_out():
    """It would settle which window the program's own figures get."""
    code = (
        "import sys; from minigan.report.plots import drawing\n"
        "with drawing(1, 1): print('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True) == "False\n"


def test_smooth():
    values = np.array([1, 2, 6, np.nan, 4, np.inf, 0])
    np.testing.assert_allclose(smooth(values, 3), [1.5, 3, 4, 5, 4, 2, 0])
    np.testing.assert_array_equal(smooth(values[:3], 1), values[:3])
    assert np.isnan(smooth(np.full(3, np.nan), 3)).all()


@pytest.mark.parametrize("n, window", ((1, 1), (3, 5), (9, 9), (100, 7), (100, 33)))
def test_smooth_is_the_mean_of_the_neighbors_that_are_there(n, window):
    values, half = np.random.default_rng(n).standard_normal(n), window // 2
    values[1::5] = np.nan
    expected = [np.nanmean(values[max(0, i - half) : i + half + 1]) for i in range(n)]
    np.testing.assert_allclose(smooth(values, window), expected, rtol=1e-12)


def test_a_huge_number_changes_the_mean_of_its_neighbors_only():
    values = np.full(100, 0.7)
    values[3] = 1e20
    np.testing.assert_allclose(smooth(values, 5)[6:], 0.7, rtol=1e-12)


def test_a_rare_peak_does_not_flatten_the_rest():
    values = np.ones(1000)
    values[500] = 1000
    low, high = limits(values, np.full(1000, np.nan), window=33)
    assert low == 0 and 1 < high < 50
    assert limits(np.full(3, np.nan), window=1) == (0, 1)
    assert limits(np.linspace(-5, 0, 50), window=1)[0] < -4.9


def test_text_of_any_kind_becomes_one_short_line():
    assert clean("a\nb\0") == "a b " and clean(3) == "3"
    assert clean("x" * 30 + "y" * 40, 20) == "x" * 10 + "…" + "y" * 10


CURVES = {  # title -> label -> column
    "Losses": {"D on real": "loss_d_real", "D on generated": "loss_d_fake", "G": "loss_g"},
    "Outputs of D": {"D(x), real": "d_x", "D(G(z)), generated": "d_gz"},
    "Gradient norms": {"D": "grad_norm_d", "G": "grad_norm_g"},
}


@pytest.mark.parametrize("norms", (False, True))
def test_losses_show_what_was_logged(norms, tmp_path, drawn):
    history = History(make_run(tmp_path / "a", steps=300, norms=norms, dataset="strokes"))
    assert size(draw_losses(history))[0] == 1280
    (figure,) = drawn
    assert figure.get_suptitle() == "Preset mnist, trained on strokes"
    assert [axes.get_title("left") for axes in figure.axes] == list(CURVES)[: 2 + norms]
    for axes in figure.axes:
        columns, is_log = CURVES[axes.get_title("left")], axes.get_yscale() == "log"
        assert is_log == (axes.get_title("left") == "Gradient norms")
        assert [text.get_text() for text in axes.get_legend().get_texts()] == list(columns)
        thin_lines = axes.lines[: 2 * len(columns) : 2]
        thick_lines = axes.lines[1 : 2 * len(columns) : 2]
        for label, thin, thick in zip(columns, thin_lines, thick_lines, strict=True):
            values = history.metrics[columns[label]]
            mean = np.exp(smooth(np.log(values), 11)) if is_log else smooth(values, 11)
            assert thick.get_label() == label
            np.testing.assert_array_equal(thin.get_ydata(), values)
            np.testing.assert_allclose(thick.get_ydata(), mean)
    low, high = figure.axes[0].get_ylim()
    assert low == 0 and history.metrics["loss_g"].max() < high < 3
    assert [0.5, 0.5] in [list(line.get_ydata()) for line in figure.axes[1].lines]
    assert "mean over 11 steps" in figure.get_supxlabel()


@pytest.mark.parametrize("epochs, marked", ((1, False), (3, True), (12, True), (13, False)))
def test_epochs_are_marked_where_they_begin_if_they_are_few(epochs, marked):
    from matplotlib.figure import Figure

    axes, steps = Figure().subplots(2), np.arange(1, 10 * epochs)
    mark_epochs(axes, steps, 1 + steps // 10)
    begin = range(10, 10 * epochs, 10) if marked else ()
    for each in axes:
        assert [list(line.get_xdata()) for line in each.lines] == [[step] * 2 for step in begin]
    numbers = [text.get_text().removeprefix("epoch ") for text in axes[1].texts]
    assert numbers == [str(1 + step // 10) for step in begin]


def test_distances_are_shown_where_they_were_measured(tmp_path, drawn):
    run = make_run(tmp_path / "a", steps=30)
    header, *lines = run.metrics_file.read_text().splitlines()
    measured = {10: "30.5", 20: "8", 30: "4.25"}
    lines = [line + "," + measured.get(int(line.split(",")[0]), "") for line in lines]
    run.metrics_file.write_text("\n".join([header + ",frechet", *lines]) + "\n")
    draw_losses(History(run))
    assert len(drawn[0].axes) == 3
    axes = drawn[0].axes[-1]
    assert axes.get_title("left") == "LeNet Fréchet distance" and axes.get_yscale() == "log"
    np.testing.assert_array_equal(axes.lines[0].get_xydata(), [[10, 30.5], [20, 8], [30, 4.25]])


STRANGE_ROWS = (
    ["1,1,.1,.2,.3,.4,.5,0,0,900"],
    ["1,1,nan,nan,nan,nan,nan,nan,nan,nan", "2,1,nan,nan,nan,nan,nan,nan,nan,nan"],
    ["1,1,1e300,-1e300,inf,5,-5,-1,1e-300,0", "900000000000000,4e9,1,1,1,1,1,1e14,1,1"],
    [f"{i},{i},-3,{i * 1e12},.3,.4,.5,{10.0**-i},{10.0 ** (i % 14)},900" for i in range(1, 90)],
)


@pytest.mark.slow
def test_numbers_that_no_training_gives(tmp_path):
    histories = []
    for i, rows in enumerate(STRANGE_ROWS):
        run = make_run(tmp_path / str(i), norms=True)
        run.metrics_file.write_text("\n".join([WITH_NORMS, *rows]))
        histories.append(History(run))
        size(draw_losses(histories[-1]))
    size(draw_comparison(histories))


def test_differences():
    def labels(*options):
        found = differences([new_config(each) for each in options])
        return [label.replace("\u00a0", " ") for label in found]

    assert labels({"seed": 1}, {"seed": 2}) == ["seed 1", "seed 2"]
    assert labels({"lr_g": 0.1, "seed": 1}, {"lr_g": 0.2, "seed": 1}) == ["lr_g 0.1", "lr_g 0.2"]
    assert labels({"steps": 5}, {"epochs": 7, "sample_every": 3}) == ["", ""]
    assert labels({"dataset": "mnist"}, {"dataset": "strokes"}) == ["mnist", "strokes"]


def test_comparison_of_unlike_runs(tmp_path, drawn):
    runs = [
        make_run(tmp_path / "a", steps=50),
        make_run(tmp_path / "b", steps=1, norms=True, grids=(0,), shape=(9, 20, 3), seed=1),
        make_run(tmp_path / "$c_{$", steps=9, seed=1),
        make_run(tmp_path / "d\u4e2d", width=8, dataset="strokes"),
    ]
    histories = [History(run) for run in runs]
    size(draw_comparison(histories))
    (figure,) = drawn
    assert not figure.subfigs[0].get_suptitle()  # they are of unlike data
    grids = [axes for axes in figure.axes if axes.images]
    labels = [axes.get_title("left").replace("\n", " ").replace("\u00a0", " ") for axes in grids]
    assert labels[1:3] == ["b: mnist, width 16, seed 1", "$c_{$: mnist, width 16, seed 1"]
    assert labels[3].endswith("strokes, width 8, seed 0")
    assert [axes.get_xlabel() for axes in grids] == ["step 20", "step 0", "step 20", "step 20"]
    for_d, for_g, outputs = figure.axes[:3]
    for i, (history, grid) in enumerate(zip(histories, grids, strict=True)):
        metrics, of_d = history.metrics, for_d.lines[i]
        np.testing.assert_array_equal(
            of_d.get_ydata(), metrics["loss_d_real"] + metrics["loss_d_fake"]
        )
        np.testing.assert_array_equal(for_g.lines[i].get_ydata(), metrics["loss_g"])
        for name, style, line in zip(
            ("d_x", "d_gz"), ("-", "--"), outputs.lines[2 * i : 2 * i + 2], strict=True
        ):
            np.testing.assert_array_equal(line.get_ydata(), metrics[name])
            assert line.get_linestyle() == style
        frame = grid.spines["top"].get_edgecolor()
        assert matplotlib.colors.same_color(frame, of_d.get_color())


def test_a_comparison_shows_running_means(tmp_path, drawn):
    histories = [History(make_run(tmp_path / name, steps=300)) for name in "ab"]
    draw_comparison(histories)
    wanted = smooth(histories[0].metrics["loss_g"], 11)
    np.testing.assert_array_equal(drawn[0].axes[1].lines[0].get_ydata(), wanted)


def test_eight_runs_have_eight_colors_and_nine_are_too_many(tmp_path, drawn):
    runs = [History(make_run(tmp_path / str(i), seed=i)) for i in range(9)]
    size(draw_comparison(runs[:8]))
    assert drawn[0].subfigs[0].get_suptitle() == "Preset mnist, trained on mnist"
    assert len({line.get_color() for line in drawn[0].axes[0].lines}) == 8
    for some in (runs, runs[:1]):
        with pytest.raises(ConfigError, match=f"shows 2 to 8 runs, got {len(some)}"):
            draw_comparison(some)
