"""The sample grids of a run, one after the other: how G learned to draw, as a GIF or WebP that loops.

A GIF has 256 colours. Colour frames share one palette, made from pixels of all of them,
without dithering: a palette for each frame would flicker where nothing changes, and
dithered noise would crawl. Grey frames keep their greys, in steps that are too small to see.
"""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from minigan.checks import expect_number
from minigan.errors import ConfigError
from minigan.files import write_atomically
from minigan.report.history import History

if TYPE_CHECKING:
    from PIL.Image import Image

ENDINGS = {".gif": "GIF", ".webp": "WEBP"}
SECONDS = 8.0  # from the first grid to the last
LAST = 2.0  # seconds that the last grid stays
SHORTEST = 0.02  # seconds of a frame: what is shorter, browsers play slower, at ten frames a second
SIDES = (200, 640)  # pixels: smaller grids are enlarged, larger ones reduced
GREYS = 4  # the last two bits of a grey are noise: without them a GIF is smaller by a third
PALETTE_PIXELS = 2**15  # looked at for the common palette


def save_animation(path: str | Path, history: History, seconds: float = SECONDS) -> str:
    """Sample grids, the real ones beside them where there are -> a GIF or WebP, by the ending of path.

    seconds  from the first grid to the last, which stays for two more
    -> what was written, in words. Raises ConfigError, RunError.
    """
    path = Path(path)
    expect_ending(path)
    expect_number("seconds", seconds, "(0, 3600]")
    samples = history.samples
    each = max(seconds / max(len(samples) - 1, 1), SHORTEST)
    images = frames([(step, picture) for step, _, picture in samples], history.real)
    size, length = encode(path, images, [each] * (len(samples) - 1) + [LAST])
    return f"{path}: {len(samples)} grids, {length:.1f} s, {size / 2**20:.1f} MiB"


def expect_ending(path: Path) -> str:
    """-> "GIF" or "WEBP", by the ending of a file's name. Raises ConfigError for another."""
    if path.suffix.lower() not in ENDINGS:
        raise ConfigError(
            f"an animation's name must end in {' or '.join(ENDINGS)}, got {path.name!r}"
        )
    return ENDINGS[path.suffix.lower()]


def encode(path: Path, images: "list[Image]", seconds: list[float]) -> tuple[int, float]:
    """Images, "L" or "RGB", and how long each is shown -> a GIF or WebP that loops; -> its bytes and seconds."""
    kind = expect_ending(path)
    ends = np.round(np.cumsum([0, *(1000 * each for each in seconds)]), -1)  # a GIF counts in 10 ms
    durations = np.diff(ends).astype(int).tolist()
    options: dict[str, Any] = dict(save_all=True, duration=durations, loop=0)
    if kind == "GIF":
        images = with_palette(images)
    else:
        options |= dict(quality=80, method=0)
    memory = io.BytesIO()
    images[0].save(memory, kind, append_images=images[1:], **options)
    write_atomically(path, memory.getvalue())
    return len(memory.getvalue()), sum(durations) / 1000


def frames(samples: list[tuple[int, np.ndarray]], real: np.ndarray | None) -> "list[Image]":
    """-> one PIL image a grid, "L" or "RGB": its step written above it, the real pictures beside.

    samples  (step, picture) of each grid
    real     picture of the grid of real ones, or None
    """
    from PIL import Image, ImageDraw, ImageFont

    h, w, _ = samples[0][1].shape
    factor = -(-SIDES[0] // max(h, w)) if max(h, w) < SIDES[0] else min(1, SIDES[1] / max(h, w))
    size = (max(1, round(w * factor)), max(1, round(h * factor)))
    grey = all(
        picture.shape[2] == 1 for picture in (samples[0][1], *([] if real is None else [real]))
    )

    def image(picture: np.ndarray) -> Image.Image:
        made = Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture).convert(
            "L" if grey else "RGB"
        )
        if made.size == size:
            return made
        return made.resize(
            size, Image.Resampling.NEAREST if factor > 1 else Image.Resampling.LANCZOS
        )

    letters = min(max(size[0] // 15, 14), 28)
    font, white = ImageFont.load_default(letters), 255 if grey else (255, 255, 255)
    top, gap = round(1.5 * letters), letters // 2
    paper = Image.new(
        "L" if grey else "RGB", (size[0] if real is None else 2 * size[0] + gap, top + size[1])
    )
    if real is not None:
        paper.paste(image(real), (size[0] + gap, top))
        ImageDraw.Draw(paper).text((size[0] + gap + 2, top // 2), "real", white, font, anchor="lm")
    made = []
    for step, picture in samples:
        frame = paper.copy()
        frame.paste(image(picture), (0, top))
        text = f"step {step:,}" if real is None else f"generated, step {step:,}"
        ImageDraw.Draw(frame).text((2, top // 2), text, white, font, anchor="lm")
        made.append(frame)
    return made


def with_palette(images: "list[Image]") -> "list[Image]":
    """Frames -> frames of at most 256 colours, the same for all."""
    from PIL import Image

    if images[0].mode == "L":
        return [
            image.point([grey // GREYS * 255 // (255 // GREYS) for grey in range(256)])
            for image in images
        ]
    pixels = len(images) * images[0].width * images[0].height
    stride = max(1, pixels // PALETTE_PIXELS) | 1  # odd: it does not run down the columns of a grid
    seen = np.concatenate(
        [np.asarray(image).reshape(-1, 3)[i % stride :: stride] for i, image in enumerate(images)]
    )
    palette = Image.fromarray(seen[None]).quantize(256, method=Image.Quantize.MEDIANCUT, kmeans=1)
    return [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
