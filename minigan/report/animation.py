"""The sample grids of a run as a looping GIF or WebP: how G learned to draw.

A GIF has 256 colors. Color frames share one palette, made from pixels of all of them, without
dithering: a palette for each frame would flicker where nothing changes, and dithered noise would
crawl. Gray frames keep their grays, in steps that are too small to see.
"""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from minigan.checks import expect_number
from minigan.data.files.messages import counted
from minigan.data.files.png import MARK, mark
from minigan.errors import ConfigError
from minigan.files import write_atomically
from minigan.report.history import History

FORMATS = {".gif": "GIF", ".webp": "WEBP"}
SECONDS = 8.0  # from the first grid to the last
LAST = 2.0  # seconds that the last grid is shown
SHORTEST = 0.02  # seconds that a frame is shown: browsers play shorter ones at ten frames a second
SIDES = (200, 640)  # pixels: smaller grids are enlarged, larger ones reduced
GRAY_STEP = 4  # the last two bits of a gray are noise: without them a GIF is a third smaller
PALETTE_PIXELS = 2**15  # enough to make the common palette from


def save_animation(path: str | Path, history: History, seconds: float = SECONDS) -> str:
    """Sample grids, with the real ones beside them if there are any -> a GIF or WebP file.

    seconds  from the first grid to the last, which stays for two more
    -> a line for the user. Raises ConfigError, RunError.
    """
    expect_number("--seconds", seconds, "(0, 600]")
    samples = history.samples
    each = max(seconds / max(len(samples) - 1, 1), SHORTEST)
    images = frames([(step, picture) for step, _, picture in samples], history.real)
    size, length = encode(Path(path), images, [each] * (len(samples) - 1) + [LAST])
    return f"{path}: {counted(len(samples), 'grid')}, {length:.1f} s, {size / 2**20:.1f} MiB"


def encode(path: Path, images: list[Image.Image], seconds: list[float]) -> tuple[int, float]:
    """Images, "L" or "RGB", and how long each is shown -> the file; returns its bytes, seconds.

    Raises ConfigError if the file does not end in .gif or .webp; RunError.
    """
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        raise ConfigError(f"an animation must end in {' or '.join(FORMATS)}, got {path.name!r}")
    ends = np.round(np.cumsum([0, *(1000 * each for each in seconds)]), -1)  # a GIF counts in 10 ms
    durations = np.diff(ends).astype(int).tolist()
    options: dict[str, Any] = dict(save_all=True, duration=durations, loop=0)
    options |= dict(comment=MARK) if kind == "GIF" else dict(exif=mark(), quality=80, method=0)
    first, *others = with_palette(images) if kind == "GIF" else images
    memory = io.BytesIO()
    first.save(memory, kind, append_images=others, **options)
    write_atomically(path, memory.getvalue())
    return len(memory.getvalue()), sum(durations) / 1000


def frames(samples: list[tuple[int, np.ndarray]], real: np.ndarray | None) -> list[Image.Image]:
    """-> a PIL image for each grid, "L" or "RGB": its step above it, the real images beside it.

    samples  (step, picture) of each grid
    real     picture of the grid of real images, or None
    """
    first = samples[0][1]
    side = max(first.shape[:2])
    factor = -(-SIDES[0] // side) if side < SIDES[0] else min(1, SIDES[1] / side)
    h, w = (max(1, round(extent * factor)) for extent in first.shape[:2])
    gray = first.shape[2] == 1 and (real is None or real.shape[2] == 1)
    mode, white = ("L", 255) if gray else ("RGB", (255, 255, 255))
    resampling = Image.Resampling.NEAREST if factor > 1 else Image.Resampling.LANCZOS

    def to_image(picture: np.ndarray) -> Image.Image:
        pixels = picture[:, :, 0] if picture.shape[2] == 1 else picture
        scale = min(factor, h / len(pixels), w / len(pixels[0]))  # real images may be fewer
        size = [max(1, round(extent * scale)) for extent in pixels.shape[1::-1]]
        return Image.fromarray(pixels).convert(mode).resize(size, resampling)

    letters = min(max(w // 15, 14), 28)
    font = ImageFont.load_default(letters)
    top, gap = round(1.5 * letters), letters // 2

    def write(image: Image.Image, text: str, left: int) -> None:
        ImageDraw.Draw(image).text((left + 2, top // 2), text, white, font, anchor="lm")

    paper = Image.new(mode, (w if real is None else 2 * w + gap, top + h))
    if real is not None:
        paper.paste(to_image(real), (w + gap, top))
        write(paper, "real", w + gap)
    made = []
    for step, picture in samples:
        frame = paper.copy()
        frame.paste(to_image(picture), (0, top))
        write(frame, f"step {step:,}" if real is None else f"generated, step {step:,}", 0)
        made.append(frame)
    return made


def with_palette(images: list[Image.Image]) -> list[Image.Image]:
    """Frames -> frames of at most 256 colors, the same for all."""
    if images[0].mode == "L":
        levels = [gray // GRAY_STEP * 255 // (255 // GRAY_STEP) for gray in range(256)]
        return [image.point(levels) for image in images]
    pixels = len(images) * images[0].width * images[0].height
    stride = max(1, pixels // PALETTE_PIXELS) | 1  # odd: it does not run down a grid's columns
    seen = [np.asarray(each).reshape(-1, 3)[i % stride :: stride] for i, each in enumerate(images)]
    sample = Image.fromarray(np.concatenate(seen)[None])
    palette = sample.quantize(256, method=Image.Quantize.MEDIANCUT, kmeans=1)
    return [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
