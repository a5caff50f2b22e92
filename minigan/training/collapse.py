"""A GAN that has collapsed goes on as if nothing had happened: three signs of it, each watched and said once.

    D has won           its two losses together stay next to 0: G learns next to nothing any more
    samples look alike  the spread of the samples, pixel by pixel, is a small part of the real images' spread
    one class takes over  too many samples are nearest to the mean image of one and the same class

The last two are columns of metrics.csv, at each sample grid: sample_spread, 1 where the samples differ
as much as real images do, and top_class, the largest class's share, where the data have labels.
"""

from typing import Any

import numpy as np

from minigan.data import Dataset

WON, STEPS = 0.01, 500  # D's losses below this for so many steps
ALIKE = 0.1  # of the real spread
TAKEN_OVER = 0.75  # of the samples in one class
GRACE = 1000  # steps before the samples are judged: at first all samples of every run look alike
ENOUGH = 1000  # real images are enough to know their spread and their means


class Alarms:
    """Alarms(data): look() at the rows of every reading, and at the samples where there are some."""

    def __init__(self, data: Dataset):
        chosen = np.unique(
            np.linspace(0, len(data.images) - 1, ENOUGH).astype(int)
        )  # from the whole set: it may be sorted by class
        images = data.images[chosen].reshape(len(chosen), -1).astype(np.float32)
        self.real_spread = spread(images)
        self.classes = data.classes
        self.prototypes: np.ndarray | None = None
        if data.labels is not None:
            labels = np.asarray(data.labels)[chosen]
            self.numbers = np.unique(labels)
            self.prototypes = np.stack(
                [images[labels == number].mean(axis=0) for number in self.numbers]
            )
        self.steps_won = 0
        self.said: set[str] = set()

    def look(self, rows: list[dict[str, Any]], pictures: np.ndarray | None) -> list[str]:
        """-> a line for each alarm that is new.

        rows      of metrics.csv since the last look; the last one gets the columns about the samples
        pictures  (n, h, w, c) uint8, samples after the last row, or None
        """
        lines = {}
        for row in rows:
            self.steps_won = (
                self.steps_won + 1 if row["loss_d_real"] + row["loss_d_fake"] < WON else 0
            )
        if self.steps_won >= STEPS:
            lines["won"] = (
                f"D's loss has been next to 0 for {STEPS} steps: it has won, and G hardly learns; try a smaller --lr-d"
            )
        if pictures is not None:
            flat = pictures.reshape(len(pictures), -1).astype(np.float32)
            relative = spread(flat) / max(self.real_spread, 1e-6)
            rows[-1]["sample_spread"] = round(float(relative), 4)
            judged = rows[-1]["step"] >= GRACE
            if judged and relative < ALIKE:
                lines["alike"] = (
                    f"the samples look alike (their spread is {relative:.0%} of the real images'): G has collapsed; "
                    "try a smaller --lr-g, or another --seed"
                )
            if self.prototypes is not None and len(self.numbers) > 1:
                share, number = self.largest_class(flat, self.prototypes)
                rows[-1]["top_class"] = round(share, 4)
                if judged and share > TAKEN_OVER:
                    lines["class"] = (
                        f"{share:.0%} of the samples are like class {self.classes[number]!r}: others have been lost; "
                        "try another --seed"
                    )
        new = [line for kind, line in lines.items() if kind not in self.said]
        self.said |= lines.keys()
        return new

    def largest_class(self, flat: np.ndarray, prototypes: np.ndarray) -> tuple[float, int]:
        """-> share of the samples that are nearest to one class's mean image, the largest such share, and which class."""
        # |x - p|² = |x|² - 2 x·p + |p|², and |x|² is the same for all p
        distances = (prototypes**2).sum(axis=1) - 2 * flat @ prototypes.T
        counts = np.bincount(distances.argmin(axis=1), minlength=len(prototypes))
        return float(counts.max() / len(flat)), int(self.numbers[counts.argmax()])


def spread(flat: np.ndarray) -> float:
    """Images (n, pixels) -> standard deviation of a pixel over the images, mean over all pixels."""
    return float(flat.std(axis=0).mean())
