"""Warnings about a set of pictures, before hours are spent on it."""

import numpy as np

from minigan.data.base import Dataset

SAMPLE = 1 << 22  # numbers that are examined, in pictures from the whole set
HARDLY = 6.0  # of 255: a standard deviation of a picture's pixels below this is hardly visible
ALIKE = 2.0  # of 255: a pixel that deviates less than this looks the same in all pictures


def remarks(data: Dataset) -> list[str]:
    """-> a line for each thing that is probably a mistake, or surprising."""
    count, (h, w, _), traits, lines = len(data.images), data.images.shape[1:], data.traits, []
    if animated := traits.get("animated"):
        lines.append(f"{animated:,} of {count:,} pictures have several frames: the first is used")
    if traits.get("turned", 0) > 0.9 * count:
        lines.append(
            f"the pictures are {'higher than wide' if w > h else 'wider than high'}, and "
            f"--image-size is height first: {h}x{w} cuts or distorts them, {w}x{h} would fit"
        )
    if traits.get("small", 0) > 0.9 * count:
        lines.append(
            f"the pictures are smaller than {h}x{w}, and enlarged: with their own size as "
            "--image-size, training is faster and shows as much"
        )
    looked_at = max(2, SAMPLE // data.images[0].size)
    chosen = np.unique(np.linspace(0, count - 1, looked_at).astype(int))
    different = len(set(map(bytes, data.images[chosen])))
    images = data.images[chosen].astype(np.float32)
    deviation, spread = float(images.std(axis=(1, 2)).mean()), float(images.std(axis=0).mean())
    cure = "see the run's real.png; 16-bit files must use all bits, or declare fewer (sBIT)"
    if transparent := traits.get("transparent"):
        cure = (
            f"{transparent:,} of {count:,} pictures are transparent, so try --background black, "
            "white or R,G,B"
        )
    if deviation < HARDLY:
        lines.append(
            f"the pictures hardly vary: the standard deviation of their pixels is {deviation:.1f} "
            f"of 255: {cure}"
        )
    elif count > 1 and (2 * different < len(images) or spread < ALIKE):
        lines.append(
            f"the pictures are nearly all alike: {different:,} of {len(images):,} are distinct, "
            f"and a pixel's standard deviation over the pictures is {spread:.1f} of 255: {cure}"
        )
    return lines
