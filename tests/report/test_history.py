"""What a run recorded: damaged parts are left out and reported, whatever the files contain."""

import numpy as np
import pytest

from minigan.data.files.png import save_png
from minigan.errors import RunError
from minigan.report.history import MOST, History, evenly
from tests.support.made_run import COLUMNS, make_run, picture


@pytest.fixture
def lines():
    """-> list that gets the lines of the log."""
    return []


@pytest.mark.parametrize("norms", (False, True))
def test_metrics(norms, tmp_path, lines):
    metrics = History(make_run(tmp_path / "a", norms=norms), lines.append).metrics
    np.testing.assert_array_equal(metrics["step"], np.arange(1, 21))
    assert ("grad_norm_g" in metrics) is norms and (metrics["images_per_s"] == 1000).all()
    assert lines == []


def test_damaged_rows_are_left_out_and_reported(tmp_path, lines):
    run = make_run(tmp_path / "a", steps=0)
    good, nan = "1,1,.1,.2,.3,.4,.5,900", "3,1,nan,inf,1e300,,.5,900"
    bad = ["2,1,.1,.2", "", "\0\0", good + ",9"]
    bad += [f"{step},1,.1,.2,.3,.4,.5,9" for step in ("x", "nan", "-1", "1e99")]
    again = "1,1,.7,.2,.3,.4,.5,900"
    rows = "\n".join([COLUMNS, nan, good, *bad, again])
    run.metrics_file.write_bytes(rows.encode() + b"\n\xff\xfe,\x80")
    metrics = History(run, lines.append).metrics
    assert metrics["step"].tolist() == [1, 3] and metrics["loss_d_real"][0] == 0.7
    for name in ("loss_d_real", "loss_d_fake", "loss_g", "d_x"):
        assert np.isnan(metrics[name][1])
    assert lines == [f"left out {len(bad) + 1} damaged rows of {run.metrics_file}"]


@pytest.mark.parametrize(
    "content, message",
    (
        (None, "metrics.csv: No such file or directory: is this the folder of a run"),
        (b"", "has no column step"),
        (b"step,epoch\n1,1\n", "has no column loss_d_real"),
        (COLUMNS.encode() + b"\n", "has no rows yet"),
        (COLUMNS.encode() + b"\n1,1,.1", "has no rows yet"),
        (bytes(range(256)) * 9, "has no column step"),
    ),
)
def test_metrics_without_rows(content, message, tmp_path, lines):
    run = make_run(tmp_path / "a")
    run.metrics_file.unlink()
    if content is not None:
        run.metrics_file.write_bytes(content)
    with pytest.raises(RunError, match=message):
        _ = History(run, lines.append).metrics


def test_samples_in_order_of_step(tmp_path, lines):
    run = make_run(tmp_path / "a", grids=(0, 999_999_999, 20, 3))
    (run.samples / "step-5.png.tmp").write_bytes(b"")
    (run.samples / "mine.png").write_bytes(b"")
    samples = History(run, lines.append).samples
    assert [step for step, _, _ in samples] == [0, 3, 20, 999_999_999] and lines == []
    for step, path, found in samples:
        np.testing.assert_array_equal(found, picture(step))
        assert path.name == f"step-{step:08d}.png"


def test_damaged_samples_are_left_out_and_reported(tmp_path, lines):
    run = make_run(tmp_path / "a", grids=range(6))
    whole = (run.samples / "step-00000001.png").read_bytes()
    (run.samples / "step-00000001.png").write_bytes(whole[: len(whole) // 2])
    save_png(run.samples / "step-00000002.png", picture(2, (9, 9, 1)))
    (run.samples / "step-00000007.png").mkdir()
    (run.samples / "step-00000008.png").write_bytes(b"GIF89a")
    assert [step for step, _, _ in History(run, lines.append).samples] == [0, 3, 4, 5]
    (line,) = lines
    assert line.startswith("left out 4 of the sample grids: cannot read ") and "\n" not in line


def test_no_samples(tmp_path, lines):
    run = make_run(tmp_path / "a", grids=())
    with pytest.raises(RunError, match="has no sample grids"):
        _ = History(run, lines.append).samples
    (run.samples / "step-1.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(RunError, match=r"none of the sample grids in .* can be read"):
        _ = History(run, lines.append).samples


def test_real_images_may_be_missing(tmp_path, lines):
    run = make_run(tmp_path / "a")
    np.testing.assert_array_equal(History(run, lines.append).real, picture(10**6))
    run.real_file.write_bytes(b"no picture")
    assert History(run, lines.append).real is None and len(lines) == 1
    run.real_file.unlink()
    assert History(run, lines.append).real is None and len(lines) == 1


@pytest.mark.parametrize("n, most", ((5, 100), (100, 100), (101, 100), (1000, 100), (7, 2)))
def test_evenly(n, most):
    chosen = evenly(list(range(n)), most)
    assert len(chosen) == min(n, most) and chosen[0] == 0 and chosen[-1] == n - 1
    gaps = np.diff(chosen)
    assert gaps.min() >= 1 and gaps.max() - gaps.min() <= 1


def test_a_hundred_of_many_grids_are_read(tmp_path, lines):
    run = make_run(tmp_path / "a", grids=range(0, 330, 3), shape=(2, 2, 1))
    samples = History(run, lines.append).samples
    assert len(samples) == MOST and samples[0][0] == 0 and samples[-1][0] == 327


def test_the_last_grid_is_the_last_that_can_be_read(tmp_path, lines):
    run = make_run(tmp_path / "a", grids=(0, 10, 20))
    (run.samples / "step-00000020.png").write_bytes(b"damaged")
    assert History(run).last[0] == 10
    for path in run.samples.iterdir():
        path.write_bytes(b"damaged")
    with pytest.raises(RunError, match=r"none of the sample grids in .* can be read"):
        _ = History(run).last
