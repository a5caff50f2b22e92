"""Mode collapse: a collapsed GAN keeps training as if nothing had happened. Four signs reveal it.

    D has won           its two losses together stay close to 0: G learns almost nothing
    D has lost          they stay large: the rates were too large, and both players are lost
    samples look alike  the standard deviation of their pixels is far below the real images'
    one class prevails  too many samples are closest to the mean image of the same class

Each is reported once. The last two are columns of metrics.csv, at each sample grid: sample_spread,
1 if the samples differ as much as real images do, and top_class, the share of the largest class, if
the data have labels.
"""

from typing import Any

import numpy as np

from minigan.data import Dataset

WON, STEPS, LOST, LOST_STEPS = 0.01, 500, 10, 50  # D's losses: below, for how many steps; above
ALIKE = 0.1  # of the real images' standard deviation
PREVAILS = 0.75  # of the samples in one class
GRACE = 1000  # steps before samples count: at first all samples of every run look alike
ENOUGH = 1000  # real images, to know their standard deviation and their means


class CollapseMonitor:
    """CollapseMonitor(data): call look() with the new rows of every reading, and samples."""

    def __init__(self, data: Dataset):
        # from the whole set: it may be sorted by class
        chosen = np.unique(np.linspace(0, len(data.images) - 1, ENOUGH).astype(int))
        images = data.images[chosen].reshape(len(chosen), -1).astype(np.float32)
        self.real_std = pixel_std(images)
        self.classes = data.classes
        self.prototypes: np.ndarray | None = None
        if data.labels is not None:
            labels = np.asarray(data.labels)[chosen]
            self.numbers = np.unique(labels)
            self.prototypes = np.stack([images[labels == k].mean(axis=0) for k in self.numbers])
        self.steps_won = self.steps_lost = 0
        self.reported: set[str] = set()

    def look(self, rows: list[dict[str, Any]], samples: np.ndarray | None) -> list[str]:
        """-> a line for each sign that is new.

        rows     of metrics.csv since the last look; the last one gets the columns about samples
        samples  (n, h, w, c) uint8, drawn after the last row, or None
        """
        lines = {}
        for row in rows:
            loss = row["loss_d_real"] + row["loss_d_fake"]
            self.steps_won = self.steps_won + 1 if loss < WON else 0
            self.steps_lost = self.steps_lost + 1 if loss > LOST else 0
        if self.steps_won >= STEPS:
            lines["won"] = (
                f"D's loss has been close to 0 for {STEPS} steps: it has won, and G hardly learns; "
                "try a smaller --lr-d"
            )
        if self.steps_lost >= LOST_STEPS:
            lines["lost"] = f"D's loss is above {LOST}: start again, with smaller --lr-g and --lr-d"
        if samples is not None:
            flat = samples.reshape(len(samples), -1).astype(np.float32)
            relative = pixel_std(flat) / max(self.real_std, 1e-6)
            rows[-1]["sample_spread"] = round(float(relative), 4)
            counts = rows[-1]["step"] >= GRACE
            if counts and relative < ALIKE:
                lines["alike"] = (
                    f"the samples look alike (their standard deviation is {relative:.0%} of the "
                    "real images'): G has collapsed; try a smaller --lr-g, or another --seed"
                )
            if self.prototypes is not None and len(self.numbers) > 1:
                share, number = self.largest_class(flat, self.prototypes)
                rows[-1]["top_class"] = round(share, 4)
                if counts and share > PREVAILS:
                    lines["class"] = (
                        f"{share:.0%} of the samples look like class {self.classes[number]!r}: "
                        "others have been lost; try another --seed"
                    )
        new = [line for kind, line in lines.items() if kind not in self.reported]
        self.reported |= lines.keys()
        return new

    def largest_class(self, flat: np.ndarray, prototypes: np.ndarray) -> tuple[float, int]:
        """-> the largest share of the samples that is closest to one class's mean; the class."""
        # |x - p|² = |x|² - 2 x·p + |p|², and |x|² is the same for all p
        distances = (prototypes**2).sum(axis=1) - 2 * flat @ prototypes.T
        counts = np.bincount(distances.argmin(axis=1), minlength=len(prototypes))
        return float(counts.max() / len(flat)), int(self.numbers[counts.argmax()])


def pixel_std(flat: np.ndarray) -> float:
    """Images (n, pixels) -> standard deviation of a pixel over the images, mean over all pixels."""
    return float(flat.std(axis=0).mean())
