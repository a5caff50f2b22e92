"""What a user should know of a set of pictures before hours are spent on it."""

from collections import Counter

import numpy as np

from minigan.data.base import Dataset

SAMPLE = 1 << 22  # numbers that are looked at, in pictures from the whole set
HARDLY = 8.0  # of 255: a standard deviation of all pixels below this is hardly visible
ALIKE = 2.0  # of 255: below this standard deviation of a pixel over the pictures, none is seen
MOSTLY = 0.5  # of the pictures


def remarks(data: Dataset) -> list[str]:
    """-> a line for each thing that is probably a mistake, or surprising."""
    count, (h, w, _), traits, lines = len(data.images), data.images.shape[1:], data.traits, []
    if animated := traits.get("animated"):
        lines.append(f"{animated:,} of {count:,} pictures have several frames: the first is used")
    if traits.get("turned", 0) > 0.9 * count:
        lines.append(
            f"the pictures are {'higher than wide' if w > h else 'wider than high'}, and "
            f"--image-size is height first: {h}x{w} cuts them, {w}x{h} would fit"
        )
    looked_at = max(2, SAMPLE // data.images[0].size)
    chosen = np.unique(np.linspace(0, count - 1, looked_at).astype(int))
    images = data.images[chosen].reshape(len(chosen), -1)
    share = max(Counter(map(bytes, images)).values()) / len(images)
    images = images.astype(np.float32)
    deviation, spread = float(images.std()), float(images.std(axis=0).mean())
    cure = "look at real.png in the run's folder"
    if transparent := traits.get("transparent"):
        cure = (
            f"{transparent:,} of {count:,} pictures are transparent, so try --background black, "
            "white or R,G,B"
        )
    if deviation < HARDLY:
        lines.append(
            f"the pictures hardly vary: the standard deviation of all pixels is {deviation:.1f} of "
            f"255: {cure}; 16-bit pictures must use all bits, or declare how many (PNG: sBIT)"
        )
    elif (share > MOSTLY and len(images) > 2) or spread < ALIKE:
        lines.append(
            f"the pictures are nearly all alike: {share:.0%} are equal, and a pixel's standard "
            f"deviation over the pictures is {spread:.1f} of 255: {cure}"
        )
    return lines
