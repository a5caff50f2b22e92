"""minigan trains, as `minigan train` would."""

import numpy as np

from benchmarks import nets
from benchmarks.contenders.minigan_step import LOSSES
from benchmarks.machine import versions
from benchmarks.training_task import TrainingTask


class Learner:
    def __init__(self, config, images):
        self.task = TrainingTask(config, images)
        self.game, self.batches, self.steps = self.task.game, self.task.batches, self.task.steps

    def share_z(self):
        """From now on z is the one that all contenders draw."""
        draw = self.task.shared_z()
        self.game.fill_z = lambda z, generator: np.copyto(z, draw(len(z)))

    def losses(self, steps):
        self.share_z()
        results = (self.game.read(self.game.round(self.batches)) for _ in range(steps))
        return [[result[name] for name in LOSSES] for result in results]

    def probes(self):
        self.share_z()
        images = self.game.sample(self.game.config.batch_size, generator=None)
        return images.ravel()[:: nets.PROBE].tolist()

    def run(self, times):
        for _ in range(times):
            self.game.round(self.batches)

    def sample(self, n, path):
        np.save(path, self.game.sample(n, self.game.stream("evaluation")))

    def versions(self):
        return versions("numpy")
