"""Animations: the promised frames and colors, in the promised order and time."""

import numpy as np
import pytest
from PIL import Image, ImageSequence

from minigan.data.files.png import save_png
from minigan.errors import ConfigError
from minigan.report import animation
from minigan.report.animation import save_animation
from minigan.report.history import History
from tests.support.made_run import make_run, picture


def frames(path):
    """-> pixels (n, H, W, 3), milliseconds of each, and how often it loops."""
    with Image.open(path) as image:
        shown = [
            (np.asarray(frame.convert("RGB")).astype(int), frame.info["duration"])
            for frame in ImageSequence.Iterator(image)
        ]
        loop = image.info.get("loop")
    return np.stack([pixels for pixels, _ in shown]), [time for _, time in shown], loop


@pytest.mark.parametrize("ending", ("gif", "webp"))
@pytest.mark.parametrize("c", (1, 3))
def test_frames_are_the_grids(ending, c, tmp_path):
    run = make_run(tmp_path / "a", shape=(56, 56, c))
    save_animation(tmp_path / f"a.{ending}", History(run), seconds=1)
    pixels, times, loop = frames(tmp_path / f"a.{ending}")
    assert times == [500, 500, 2000] and loop == 0

    def enlarged(i):  # 118 pixels: twice as large
        return picture(i, (56, 56, c)).repeat(2, 0).repeat(2, 1)

    height, width, _ = enlarged(0).shape
    limit = 3 if c == 1 and ending == "gif" else 40  # 256 colors are too few for random ones
    for frame, step in zip(pixels, (0, 10, 20), strict=True):
        left, right = frame[-height:, :width], frame[-height:, -width:]
        for shown, i in ((left, step), (right, 10**6)):
            error = np.abs(shown - enlarged(i)).mean()
            assert error < limit and error < np.abs(shown - enlarged(1)).mean() / 2
    heading = pixels[:, :-height]
    assert (heading.max((1, 2, 3)) > 200).all()  # it has a text, and another one at each step
    assert not np.array_equal(heading[0], heading[1]) and not np.array_equal(heading[1], heading[2])


@pytest.mark.parametrize("real", (None, picture(2)), ids=("alone", "beside real ones"))
def test_a_frame_tells_its_step(real):
    def draw(*steps):
        """-> frames of the same picture at these steps"""
        made = animation.frames([(step, picture(1)) for step in steps], real)
        return [frame.tobytes() for frame in made]

    (first,), (_, later), (other,) = draw(1500), draw(0, 1500), draw(1600)
    assert later == first != other


def test_gray_stays_gray_and_what_does_not_change_stays(tmp_path):
    save_animation(tmp_path / "gray.gif", History(make_run(tmp_path / "a")))
    pixels, _, _ = frames(tmp_path / "gray.gif")
    assert (pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 0] == pixels[..., 2]).all()
    save_animation(tmp_path / "color.gif", History(make_run(tmp_path / "b", shape=(60, 60, 3))))
    pixels, _, _ = frames(tmp_path / "color.gif")
    real = pixels[:, -200:, pixels.shape[2] // 2 + 10 :]
    assert (real == real[0]).all() and real.std() > 0


def test_black_and_white_are_exact(tmp_path):
    run = make_run(tmp_path / "a", real=False, grids=())
    for step, value in enumerate((0, 255)):
        save_png(run.samples / f"step-{step}.png", np.full((300, 300, 1), value, np.uint8))
    save_animation(tmp_path / "a.gif", History(run))
    pixels, _, _ = frames(tmp_path / "a.gif")
    assert pixels[0, -1, 0].tolist() == [0, 0, 0] and pixels[1, -1, 0].tolist() == [255, 255, 255]


def test_a_hundred_of_many_grids_with_the_first_and_last(tmp_path):
    run = make_run(tmp_path / "a", grids=range(0, 1300, 10), shape=(8, 8, 1))
    line = save_animation(tmp_path / "a.gif", History(run), seconds=9.9)
    assert "100 grids, 11.9 s" in line
    pixels, times, _ = frames(tmp_path / "a.gif")
    assert len(pixels) == 100 and times == [100] * 99 + [2000]
    for frame, step in ((pixels[0], 0), (pixels[-1], 1290)):
        wanted = picture(step, (8, 8, 1)).repeat(10, 0).repeat(10, 1)  # 22 pixels become 220
        assert np.abs(frame[-len(wanted) :, : len(wanted)] - wanted).max() <= 4


@pytest.mark.parametrize(
    "size, width", (((3, 3, 1), 200), ((700, 700, 3), 640), ((4, 900, 1), 640), ((900, 4, 1), 3))
)
def test_frames_of_any_grid_have_a_sensible_size(size, width, tmp_path):
    run = make_run(tmp_path / "a", grids=(), real=False)
    save_png(run.samples / "step-1.png", np.full(size, 200, np.uint8))
    save_animation(tmp_path / "a.gif", History(run))
    pixels, times, _ = frames(tmp_path / "a.gif")
    assert width <= pixels.shape[2] <= max(width + 3, 201) and pixels.shape[1] <= 1000
    assert times == [2000]


def test_a_real_grid_of_another_shape_is_shown_too(tmp_path):
    """White, beside samples of 126 x 126: neither stretched nor cut."""
    for h, w, wanted in ((42, 126, (1 / 3, 1)), (63, 31, (1 / 2, 1 / 4)), (252, 126, (1, 1 / 2))):
        run = make_run(tmp_path / f"{h}", shape=(60, 60, 1))
        save_png(run.real_file, np.full((h, w, 1), 255, np.uint8))
        save_animation(tmp_path / "a.gif", History(run))
        with Image.open(tmp_path / "a.gif") as image:
            shown = np.asarray(image.convert("L")) > 250
        side = (shown.shape[1] - 8) // 2
        rows, columns = (shown[:, -side:].mean(axis=axis) > 0.2 for axis in (1, 0))
        top = len(shown) - side
        assert rows[top:].mean() == pytest.approx(wanted[0], abs=0.03)
        assert columns.mean() == pytest.approx(wanted[1], abs=0.03)


def test_a_frame_is_never_too_short_for_a_browser(tmp_path):
    save_animation(tmp_path / "a.gif", History(make_run(tmp_path / "a")), seconds=0.001)
    assert frames(tmp_path / "a.gif")[1] == [20, 20, 2000]


def test_mistakes(tmp_path):
    history = History(make_run(tmp_path / "a"))
    for seconds in (0, float("nan"), 3601):
        with pytest.raises(ConfigError, match="--seconds must be above 0 and at most 600, got"):
            save_animation(tmp_path / "a.gif", history, seconds)
    with pytest.raises(ConfigError, match=r"must end in \.gif or \.webp, got 'a.png'"):
        save_animation(tmp_path / "a.png", history)
