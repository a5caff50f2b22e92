"""Animations: the frames and colours that are promised, in the order and time that are promised."""

import numpy as np
import pytest
from PIL import Image, ImageSequence

from minigan.cli.main import main
from minigan.data.files.png import save_png
from minigan.report.animation import save_animation
from minigan.report.history import History
from tests.made_run import make_run, picture


def frames(path):
    """-> array (n, H, W) or (n, H, W, 3), milliseconds of each, header of the file."""
    with Image.open(path) as image:
        shown = [
            (np.asarray(frame.convert("RGB")).astype(int), frame.info["duration"])
            for frame in ImageSequence.Iterator(image)
        ]
        return (
            np.stack([pixels for pixels, _ in shown]),
            [time for _, time in shown],
            image.info.get("loop"),
        )


@pytest.mark.parametrize("ending", ("gif", "webp"))
@pytest.mark.parametrize("c", (1, 3))
def test_frames_are_the_grids(ending, c, tmp_path):
    run = make_run(tmp_path / "a", shape=(56, 56, c))
    save_animation(tmp_path / f"a.{ending}", History(run), seconds=1)
    pixels, times, loop = frames(tmp_path / f"a.{ending}")
    assert times == [500, 500, 2000] and loop == 0
    height, width, _ = picture(0, (56, 56, c)).shape  # 118 pixels: enlarged twice
    for frame, step in zip(pixels, (0, 10, 20), strict=True):
        left, right = frame[-2 * height :, : 2 * width], frame[-2 * height :, -2 * width :]
        for shown, i in ((left, step), (right, 10**6)):
            wanted = picture(i, (56, 56, c)).repeat(2, 0).repeat(2, 1)
            error = np.abs(shown - wanted).mean()
            assert error < (3 if c == 1 and ending == "gif" else 40), (
                step,
                error,
            )  # random colours are hard for 256
            assert (
                error < np.abs(shown - picture(1, (56, 56, c)).repeat(2, 0).repeat(2, 1)).mean() / 2
            )
    heading = pixels[:, : -2 * height]
    assert (
        heading.max((1, 2, 3)) > 200
    ).all()  # something is written, and not the same at each step
    assert not np.array_equal(heading[0], heading[1]) and not np.array_equal(heading[1], heading[2])


def test_grey_stays_grey_and_what_does_not_change_stays(tmp_path):
    save_animation(tmp_path / "grey.gif", History(make_run(tmp_path / "a")))
    pixels, _, _ = frames(tmp_path / "grey.gif")
    assert (pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 0] == pixels[..., 2]).all()
    save_animation(tmp_path / "colour.gif", History(make_run(tmp_path / "b", shape=(60, 60, 3))))
    pixels, _, _ = frames(tmp_path / "colour.gif")
    real = pixels[:, -200:, pixels.shape[2] // 2 + 10 :]
    assert (real == real[0]).all() and real.std() > 0


def test_black_and_white_are_exact(tmp_path):
    run = make_run(tmp_path / "a", real=False, grids=())
    for step, value in enumerate((0, 255)):
        save_png(run.samples / f"step-{step}.png", np.full((300, 300, 1), value, np.uint8))
    save_animation(tmp_path / "a.gif", History(run))
    pixels, _, _ = frames(tmp_path / "a.gif")
    assert pixels[0, -1, 0].tolist() == [0, 0, 0] and pixels[1, -1, 0].tolist() == [255, 255, 255]


def test_of_many_grids_a_hundred_with_the_first_and_last(tmp_path):
    run = make_run(tmp_path / "a", grids=range(0, 1300, 10), shape=(8, 8, 1))
    text = save_animation(tmp_path / "a.gif", History(run), seconds=9.9)
    assert "100 grids, 11.9 s" in text
    pixels, times, _ = frames(tmp_path / "a.gif")
    assert len(pixels) == 100 and times == [100] * 99 + [2000]
    factor = 10  # 22 pixels become at least 200
    for frame, step in ((pixels[0], 0), (pixels[-1], 1290)):
        wanted = picture(step, (8, 8, 1)).repeat(factor, 0).repeat(factor, 1)
        assert np.abs(frame[-len(wanted) :, : len(wanted)] - wanted).max() <= 4


@pytest.mark.parametrize(
    "size, width", (((3, 3, 1), 200), ((700, 700, 3), 640), ((4, 900, 1), 640), ((900, 4, 1), 3))
)
def test_frames_of_any_grid_have_a_sensible_size(size, width, tmp_path):
    run = make_run(tmp_path / "a", grids=(), real=False)
    save_png(run.samples / "step-1.png", np.full(size, 200, np.uint8))
    save_animation(tmp_path / "a.gif", History(run))
    pixels, times, _ = frames(tmp_path / "a.gif")
    assert (
        width <= pixels.shape[2] <= max(width + 3, 201)
        and pixels.shape[1] <= 1000
        and times == [2000]
    )


def test_a_real_grid_of_another_shape_is_shown_all_the_same(tmp_path):
    run = make_run(tmp_path / "a", shape=(60, 60, 1))
    save_png(run.folder / "real.png", picture(0, (31, 77, 3)))
    save_animation(tmp_path / "a.gif", History(run))
    assert frames(tmp_path / "a.gif")[0].std() > 0


def test_a_frame_is_never_too_short_for_a_browser(tmp_path):
    save_animation(tmp_path / "a.gif", History(make_run(tmp_path / "a")), seconds=0.001)
    assert frames(tmp_path / "a.gif")[1] == [20, 20, 2000]


def test_command(tmp_path, capsys):
    run = make_run(tmp_path / "a")
    assert main(["animate", str(run.folder)]) == 0
    assert capsys.readouterr().out.startswith(f"{run.folder / 'progress.gif'}: 3 grids, 10.0 s, ")
    assert (
        main(["animate", str(run.folder), "--out", str(tmp_path / "B.WEBP"), "--seconds", "1"]) == 0
    )
    with Image.open(tmp_path / "B.WEBP") as image:
        assert image.format == "WEBP"
