"""Pages of images and text: blocks, placed beside and below one another on white paper.

A block is an array (h, w, 3) uint8. Every function here takes blocks, or makes one, so the code
of a page reads like the page:

    below([words("Samples", TITLE), beside([cells(samples, 3), cells(real, 3)])])
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from minigan.checks import ignore_float_errors
from minigan.data.files.png import save_png

Block = NDArray[np.uint8]
Images = Sequence[NDArray[Any]] | NDArray[Any]
PAPER, INK, SOFT = 255, 45, 120  # grays
TITLE, TEXT, SMALL = 20, 15, 13  # font sizes, in pixels
MARGIN, GAP = 20, 3  # pixels around the page, and between the images of a grid
CELL = 56  # approximate width of an image, in pixels


def enlargement(width: int, wanted: int = CELL) -> int:
    """-> the integer factor that makes images of this width roughly as wide as wanted."""
    return max(1, round(wanted / width))


def picture(image: NDArray[Any], factor: int = 1) -> Block:
    """image (h, w, 1 or 3) uint8 -> block, every pixel a square."""
    block = np.broadcast_to(image, (*image.shape[:2], 3))
    return block.repeat(factor, axis=0).repeat(factor, axis=1)


@ignore_float_errors
def signed(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Numbers of any range -> uint8: 0 is middle gray, the largest magnitude black or white."""
    scaled = 127.5 + 127.5 * (values / max(np.abs(values).max(), 1e-30))
    return np.asarray(np.rint(scaled).astype(np.uint8))


def cells(images: Images, columns: int, factor: int = 1, gap: int = GAP) -> Block:
    """Images of one shape, row by row."""
    rows = [images[start : start + columns] for start in range(0, len(images), columns)]
    return below([beside([picture(image, factor) for image in row], gap) for row in rows], gap)


def words(
    text: str, size: int = TEXT, gray: int = INK, width: int | None = None, centered: bool = False
) -> Block:
    """Text -> block.

    width     pixels; lines break there, and the block is as wide. None: one line
    centered  in that width
    """
    font = ImageFont.load_default(size)
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}".strip()
        fits = width is None or font.getlength(longer) <= width or not lines[-1]
        lines[-1:] = [longer] if fits else [lines[-1], word]
    extent = width or int(max(font.getlength(line) for line in lines)) + 2
    step = round(1.3 * size)
    left, anchor = (extent / 2, "mm") if centered else (0, "lm")
    paper = Image.new("L", (extent, step * len(lines)), PAPER)
    for i, line in enumerate(lines):
        ImageDraw.Draw(paper).text((left, step * (i + 0.5)), line, gray, font, anchor)
    return picture(np.asarray(paper)[:, :, None])


def sign(operator: str) -> Block:
    """ "+", "-" or "=" -> block (24, 24); drawn, because the font has no minus sign."""
    block = space(24, 24)
    for top in (7, 14) if operator == "=" else (10,):
        block[top : top + 4, 3:21] = INK
    if operator == "+":
        block[3:21, 10:14] = INK
    return block


def space(height: int, width: int) -> Block:
    """-> empty paper."""
    return np.full((height, width, 3), PAPER, np.uint8)


def framed(block: Block, thickness: int, gray: int) -> Block:
    """The block inside a line."""
    around = ((thickness, thickness), (thickness, thickness), (0, 0))
    return np.pad(block, around, constant_values=gray)


def beside(blocks: Sequence[Block], gap: int = 12, align: float = 0.0) -> Block:
    """Left to right. align: 0 at their tops, 0.5 at their middles, 1 at their bottoms."""
    turned: Block = below([block.swapaxes(0, 1) for block in blocks], gap, align).swapaxes(0, 1)
    return turned


def below(blocks: Sequence[Block], gap: int = 12, align: float = 0.0) -> Block:
    """Top to bottom. align: 0 at their left sides, 0.5 at their middles, 1 at their right sides."""
    height = sum(len(block) for block in blocks) + gap * (len(blocks) - 1)
    paper = space(height, max(block.shape[1] for block in blocks))
    top = 0
    for block in blocks:
        left = round(align * (paper.shape[1] - block.shape[1]))
        paper[top : top + len(block), left : left + block.shape[1]] = block
        top += len(block) + gap
    return paper


def titled(title: str, text: str, block: Block, gap: int = 16) -> Block:
    """The block below its title and a text, whose lines break at the block's width."""
    return below([words(title, TITLE), words(text, width=block.shape[1]), block], gap)


def save_page(path: str | Path, block: Block) -> None:
    """Block -> a PNG file with a margin; a gray one if it has no colors. Raises RunError."""
    page = framed(block, MARGIN, PAPER)
    gray = (page == page[:, :, :1]).all()
    save_png(path, page[:, :, :1] if gray else page)
