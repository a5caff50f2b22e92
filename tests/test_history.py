"""What a run has recorded: damaged parts are left out and told, and whatever a stranger's files hold, it is one line."""

import io
import random

import numpy as np
import pytest
from PIL import Image

from minigan.data.files.png import load_png, save_png
from minigan.errors import RunError
from minigan.report.history import MOST, History, evenly
from tests.made_run import COLUMNS, make_run, picture


@pytest.fixture
def said():
    return []


@pytest.mark.parametrize("norms", (False, True))
def test_metrics(norms, tmp_path, said):
    metrics = History(make_run(tmp_path / "a", norms=norms), said.append).metrics
    np.testing.assert_array_equal(metrics["step"], np.arange(1, 21))
    assert (
        ("grad_norm_g" in metrics) is norms
        and (metrics["images_per_s"] == 1000).all()
        and said == []
    )


def test_damaged_rows_are_left_out_and_told(tmp_path, said):
    run = make_run(tmp_path / "a", steps=0)
    good, nan = "1,1,.1,.2,.3,.4,.5,900", "3,1,nan,inf,1e300,.4,.5,900"
    bad = [
        "2,1,.1,.2",
        "",
        "\0\0",
        good + ",9",
        *(f"{step},1,.1,.2,.3,.4,.5,9" for step in ("x", "nan", "-1", "1e99")),
    ]
    again = "1,1,.7,.2,.3,.4,.5,900"
    run.metrics_file.write_bytes(
        "\n".join([COLUMNS, nan, good, *bad, again]).encode() + b"\n\xff\xfe,\x80"
    )
    metrics = History(run, said.append).metrics
    assert metrics["step"].tolist() == [1, 3] and metrics["loss_d_real"][0] == 0.7
    assert np.isnan([metrics[name][1] for name in ("loss_d_real", "loss_d_fake", "loss_g")]).all()
    assert said == [f"left out {len(bad) + 1} damaged rows of {run.metrics_file}"]


@pytest.mark.parametrize(
    "content, message",
    (
        (None, "has no metrics.csv"),
        (b"", "has no column step"),
        (b"step,epoch\n1,1\n", "has no column loss_d_real"),
        (COLUMNS.encode() + b"\n", "has no rows yet"),
        (COLUMNS.encode() + b"\n1,1,.1", "has no rows yet"),
        (bytes(range(256)) * 9, "has no column step"),
    ),
)
def test_metrics_without_rows(content, message, tmp_path, said):
    run = make_run(tmp_path / "a")
    run.metrics_file.unlink()
    if content is not None:
        run.metrics_file.write_bytes(content)
    with pytest.raises(RunError, match=message):
        _ = History(run, said.append).metrics


def test_samples_in_order_of_step(tmp_path, said):
    run = make_run(tmp_path / "a", grids=(0, 999_999_999, 20, 3))
    (run.samples / "step-5.png.tmp").write_bytes(b"")
    (run.samples / "mine.png").write_bytes(b"")
    samples = History(run, said.append).samples
    assert [step for step, _, _ in samples] == [0, 3, 20, 999_999_999] and said == []
    for step, path, found in samples:
        np.testing.assert_array_equal(found, picture(step))
        assert path.name == f"step-{step:08d}.png"


def test_damaged_samples_are_left_out_and_told(tmp_path, said):
    run = make_run(tmp_path / "a", grids=range(6))
    whole = (run.samples / "step-00000001.png").read_bytes()
    (run.samples / "step-00000001.png").write_bytes(whole[: len(whole) // 2])
    save_png(run.samples / "step-00000002.png", picture(2, (9, 9, 1)))
    (run.samples / "step-00000007.png").mkdir()
    (run.samples / "step-00000008.png").write_bytes(b"GIF89a")
    history = History(run, said.append)
    assert [step for step, _, _ in history.samples] == [0, 3, 4, 5]
    assert (
        len(said) == 1
        and said[0].startswith("left out 4 sample grids: cannot read ")
        and "\n" not in said[0]
    )
    assert history.last_sample[0] == 5 and len(said) == 3


def test_no_samples(tmp_path, said):
    run = make_run(tmp_path / "a", grids=())
    with pytest.raises(RunError, match="holds no sample grids"):
        _ = History(run, said.append).samples
    (run.samples / "step-1.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    for part in ("samples", "last_sample"):
        with pytest.raises(RunError, match=r"none of the sample grids in .* can be read"):
            getattr(History(run, said.append), part)


def test_real_pictures_may_lack(tmp_path, said):
    run = make_run(tmp_path / "a")
    np.testing.assert_array_equal(History(run, said.append).real, picture(10**6))
    (run.folder / "real.png").write_bytes(b"no picture")
    assert History(run, said.append).real is None and len(said) == 1
    (run.folder / "real.png").unlink()
    assert History(run, said.append).real is None and len(said) == 1


@pytest.mark.parametrize("n, most", ((5, 100), (100, 100), (101, 100), (1000, 100), (7, 2)))
def test_evenly(n, most):
    chosen = evenly(list(range(n)), most)
    assert len(chosen) == min(n, most) and chosen[0] == 0 and chosen[-1] == n - 1
    gaps = np.diff(chosen)
    assert gaps.min() >= 1 and gaps.max() - gaps.min() <= 1


def test_of_many_grids_a_hundred_are_read(tmp_path, said):
    samples = History(make_run(tmp_path / "a", grids=range(0, 330, 3)), said.append).samples
    assert len(samples) == MOST and samples[0][0] == 0 and samples[-1][0] == 327


@pytest.mark.parametrize("mode", ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"))
def test_any_kind_of_png_is_read(mode, tmp_path):
    Image.new(mode, (5, 4)).save(tmp_path / "a.png")
    found = load_png(tmp_path / "a.png")
    assert found.dtype == np.uint8 and found.shape == (4, 5, 1 if mode == "L" else 3)


def test_damaged_png_is_an_error_of_one_line(tmp_path):
    """Bytes changed, cut away and put in at random: a picture or a RunError, never anything else."""
    memory, rng = io.BytesIO(), random.Random(0)
    Image.fromarray(picture(0, (20, 20, 3))).save(memory, "PNG")
    refused = 0
    for _ in range(300):
        content = bytearray(memory.getvalue())
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(60) if rng.random() < 0.7 else rng.randrange(len(content))
            content[at : at + rng.randint(0, 3)] = rng.randbytes(rng.randint(0, 3))
        (tmp_path / "a.png").write_bytes(content)
        try:
            assert load_png(tmp_path / "a.png").dtype == np.uint8
        except RunError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 200


@pytest.mark.filterwarnings("ignore")  # as it is outside of a test
def test_enormous_png_is_refused(tmp_path):
    from zlib import crc32

    memory = io.BytesIO()
    Image.new("L", (1, 1)).save(memory, "PNG")
    content = bytearray(memory.getvalue())
    for size in (12_000, 60_000):  # Pillow warns of the one, and refuses the other
        content[16:24] = size.to_bytes(4, "big") * 2
        content[29:33] = crc32(content[12:29]).to_bytes(4, "big")
        (tmp_path / "a.png").write_bytes(content)
        with pytest.raises(RunError, match="far too large"):
            load_png(tmp_path / "a.png")
