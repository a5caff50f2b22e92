"""minigan learns, as `minigan train` would."""

import numpy as np

from benchmarks import nets
from benchmarks.contenders.lesson import Lesson
from benchmarks.machine import versions

LOSSES = ("loss_d_real", "loss_d_fake", "loss_g")


class Learner:
    def __init__(self, config, images):
        self.lesson = Lesson(config, images)
        self.game, self.batches, self.steps = (
            self.lesson.game,
            self.lesson.batches,
            self.lesson.steps,
        )

    def share_z(self):
        """From here on z is what every contender draws."""
        draw = self.lesson.shared_z()
        self.game.fill_z = lambda z, generator: np.copyto(z, draw(len(z)))

    def losses(self, steps):
        self.share_z()
        results = (self.game.read(self.game.round(self.batches)) for _ in range(steps))
        return [[result[name] for name in LOSSES] for result in results]

    def probes(self):
        self.share_z()
        pictures = self.game.sample(self.game.config.batch_size, generator=None)
        return pictures.ravel()[:: nets.PROBE].tolist()

    def run(self, times):
        for _ in range(times):
            self.game.round(self.batches)

    def sample(self, n, path):
        np.save(path, self.game.sample(n, self.game.stream("evaluation")))

    def versions(self):
        return versions("numpy")
