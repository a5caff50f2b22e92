"""Pictures with words: blocks, laid beside and below one another on white paper.

A block is an array (h, w, 3) uint8. Every function here takes blocks, or what becomes one, and gives a block,
so that a page is written as it is read:

    below([words("Samples", TITLE), beside([cells(samples, 3), cells(real, 3)])])
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigan.data.files.png import save_png

Block = NDArray[np.uint8]
PAPER, INK, SOFT = 255, 45, 120  # greys
TITLE, TEXT, SMALL = 20, 15, 13  # heights of letters in pixels
MARGIN, GAP = 20, 3  # pixels round the page, and between the pictures of a grid
CELL = 56  # pixels that a picture in a page should be wide, about


def enlargement(width: int, wanted: int = CELL) -> int:
    """-> by which whole number to enlarge pictures that are so many pixels wide, to be about as wide as wanted."""
    return max(1, round(wanted / width))


def picture(image: NDArray[Any], factor: int = 1) -> Block:
    """image (h, w, 1 or 3) uint8 -> block, every pixel a square."""
    return (
        np.broadcast_to(image, (*image.shape[:2], 3)).repeat(factor, axis=0).repeat(factor, axis=1)
    )


def signed(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Numbers of any range, of an image -> uint8: 0 is middle grey, the largest in size black or white."""
    pixels: NDArray[np.uint8] = np.rint(
        127.5 + 127.5 * (values / max(np.abs(values).max(), 1e-30))
    ).astype(np.uint8)
    return pixels


def cells(
    images: Sequence[NDArray[Any]] | NDArray[Any], columns: int, factor: int = 1, gap: int = GAP
) -> Block:
    """Images of one shape, row by row."""
    rows = [images[start : start + columns] for start in range(0, len(images), columns)]
    return below([beside([picture(image, factor) for image in row], gap) for row in rows], gap)


def words(
    text: str, size: int = TEXT, grey: int = INK, width: int | None = None, centred: bool = False
) -> Block:
    """Text -> block.

    width    pixels, where lines break and to which the block is filled up; not given: one line, as wide as it is
    centred  in that width
    """
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(size)
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}".strip()
        fits = width is None or font.getlength(longer) <= width or not lines[-1]
        lines[-1:] = [longer] if fits else [lines[-1], word]
    extent = width or int(max(font.getlength(line) for line in lines)) + 2
    step = round(1.3 * size)
    paper = Image.new("L", (extent, step * len(lines)), PAPER)
    draw = ImageDraw.Draw(paper)
    for i, line in enumerate(lines):
        draw.text(
            (extent / 2 if centred else 0, step * (i + 0.5)),
            line,
            grey,
            font,
            anchor="mm" if centred else "lm",
        )
    return picture(np.asarray(paper)[:, :, None])


def sign(operator: str, size: int = 24) -> Block:
    """The sign "+", "-" or "=" -> block, square; drawn, since the letters at hand have no minus."""
    block = space(size, size)
    middle, half, thick = size // 2, 2 * size // 5, max(1, size // 12)
    for offset in (-size // 7, size // 7) if operator == "=" else (0,):
        block[middle + offset - thick : middle + offset + thick, middle - half : middle + half] = (
            INK
        )
    if operator == "+":
        block[middle - half : middle + half, middle - thick : middle + thick] = INK
    return block


def space(height: int, width: int) -> Block:
    """-> empty paper."""
    return np.full((height, width, 3), PAPER, np.uint8)


def framed(block: Block, thickness: int = 2, grey: int = INK) -> Block:
    """The same with a line round it."""
    around = ((thickness, thickness), (thickness, thickness), (0, 0))
    return np.pad(block, around, constant_values=grey)


def beside(blocks: Sequence[Block], gap: int = 12, at: float = 0.0) -> Block:
    """Left to right. at: 0 with their tops on one line, 0.5 their middles, 1 their feet."""
    turned: Block = laid([block.swapaxes(0, 1) for block in blocks], gap, at).swapaxes(0, 1)
    return turned


def below(blocks: Sequence[Block], gap: int = 12, at: float = 0.0) -> Block:
    """Top to bottom. at: 0 with their left ends on one line, 0.5 their middles, 1 their right ends."""
    return laid(blocks, gap, at)


def laid(blocks: Sequence[Block], gap: int, at: float) -> Block:
    """One below the other."""
    height = sum(len(block) for block in blocks) + gap * (len(blocks) - 1)
    paper = space(height, max(block.shape[1] for block in blocks))
    top = 0
    for block in blocks:
        left = round(at * (paper.shape[1] - block.shape[1]))
        paper[top : top + len(block), left : left + block.shape[1]] = block
        top += len(block) + gap
    return paper


def save_page(path: str | Path, block: Block) -> None:
    """Block -> a PNG file with a margin, grey where nothing has a colour. Raises RunError."""
    page = framed(block, MARGIN, PAPER)
    grey = (page == page[:, :, :1]).all()
    save_png(path, page[:, :, :1] if grey else page)
