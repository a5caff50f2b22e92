"""Is a block on a page?"""

import numpy as np


def where(page, block):
    """-> columns where a block (h, w, 1 or c) begins on a page (H, W, c), one for each place."""
    channels = page.shape[2]
    block = np.broadcast_to(block, (*block.shape[:2], channels))
    h, w = block.shape[:2]
    k = int(np.argmin(block.sum(axis=(1, 2))))  # its darkest row is rare on white paper
    wanted, found = np.ascontiguousarray(block[k]).tobytes(), []
    for y in range(len(page) - h + 1):
        row, start = np.ascontiguousarray(page[y + k]).tobytes(), 0
        while (start := row.find(wanted, start)) >= 0:
            x, inside = divmod(start, channels)
            if not inside and np.array_equal(page[y : y + h, x : x + w], block):
                found.append(x)
            start += 1
    return found


def holds(page, block):
    """Is the block somewhere on the page?"""
    return bool(where(page, block))
